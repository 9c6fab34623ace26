"""Base classes of every type that a user writes: strict, frozen, camelCase, with the CEL rules of the API server.

What pydantic checks offline (`modelship validate`, the trainer) and what kube-apiserver checks (the CRD) comes from the same
class: field bounds go through JSON schema, cross-field rules are stated once as `Rule` beside the validator that mirrors them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.alias_generators import to_camel, to_snake
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

RULES = "x-kubernetes-validations"


class Rule(NamedTuple):
    """A CEL rule of the API server (`x-kubernetes-validations`): expression over `self`, and the message that a user reads."""

    rule: str
    message: str


DNS_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
"""Part of a pattern: the name of a Kubernetes object (RFC 1123)."""


def cel_list(texts: Iterable[str]) -> str:
    """A list of texts in CEL."""
    return "[" + ", ".join(f"'{text}'" for text in texts) + "]"


def raise_broken(rules: Sequence[Rule], broken: Sequence[bool]) -> None:
    """Raise the message of the first rule that is broken: the offline mirror of what the API server evaluates."""
    for rule, is_broken in zip(rules, broken, strict=True):
        if is_broken:
            raise PydanticCustomError("rule", "{message}", {"message": rule.message})


class Model(BaseModel):
    """A part of a spec: unknown fields are errors, values never change, JSON names are camelCase."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    """CEL rules that the CRD generator attaches to this object; each has a pydantic validator that mirrors it."""

    def to_json(self) -> dict[str, Any]:
        """The canonical JSON object: camelCase names, unset optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json_text(self) -> str:
        """The same as one line of JSON."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class OneOf(Model):
    """A union with a field per variant, of which exactly one is set (Kubernetes API conventions, 'Unions')."""

    @classmethod
    def variants(cls) -> list[str]:
        """JSON names of the variants."""
        return [field.alias or name for name, field in cls.model_fields.items()]

    @classmethod
    def one_of_rule(cls) -> Rule:
        """The CEL rule that says the same as the validator below."""
        names = cls.variants()
        terms = ", ".join(f"has(self.{name})" for name in names)
        return Rule(f"[{terms}].filter(x, x).size() == 1", f"set exactly one of {', '.join(names)}")

    @model_validator(mode="before")
    @classmethod
    def _an_object(cls, given: Any) -> Any:
        """The usual slips, `optimizer: adam` and `model: {mlp: }`, are answered with what to write: `{adam: {}}`."""
        name = next(iter(given)) if isinstance(given, dict) and list(given.values()) == [None] else given
        if isinstance(name, str) and name in cls._objects():
            raise PydanticCustomError("one_of", "{message}", {"message": f"write {{{name}: {{}}}}"})
        if not isinstance(given, dict | cls):
            raise PydanticCustomError("one_of", "{message}", {"message": cls.one_of_rule().message})
        return given

    @classmethod
    def _objects(cls) -> list[str]:
        """JSON names of the variants that have fields of their own."""
        return [
            field.alias or name
            for name, field in cls.model_fields.items()
            if any(isinstance(kind, type) and issubclass(kind, Model) for kind in get_args(field.annotation))
        ]

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        chosen = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise PydanticCustomError("one_of", "{message}", {"message": type(self).one_of_rule().message})
        return self

    @property
    def kind(self) -> str:
        """JSON name of the variant that is set."""
        name = next(name for name in type(self).model_fields if getattr(self, name) is not None)
        return type(self).model_fields[name].alias or name

    @property
    def value(self) -> Any:
        """The variant that is set."""
        return next(value for name in type(self).model_fields if (value := getattr(self, name)) is not None)


@dataclass(frozen=True)
class Distinct:
    """Marks a list in which nothing is named twice, there and in the CRD: list type set; with `keys` (JSON names) map, by them."""

    keys: tuple[str, ...]

    def __init__(self, *keys: str) -> None:
        object.__setattr__(self, "keys", keys)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        kind = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self.keys)}
        return handler(schema) | (kind if self.keys else {"x-kubernetes-list-type": "set"})

    def _check(self, values: Sequence[Any]) -> Sequence[Any]:
        seen: set[object] = set()
        for value in values:
            name = tuple(getattr(value, to_snake(key)) for key in self.keys) if self.keys else value
            if name in seen:
                shown = ", ".join(map(str, name)) if isinstance(name, tuple) else str(name)
                raise PydanticCustomError("distinct", "{shown} is there twice", {"shown": shown})
            seen.add(name)
        return values


@dataclass(frozen=True)
class Obeys:
    """Marks a value that has a rule of its own: `self` in CEL, the argument of `kept`, which says the same."""

    rule: Rule
    kept: Callable[[Any], bool]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        return made | {RULES: [*made.get(RULES, []), self.rule._asdict()]}

    def _check(self, value: Any) -> Any:
        raise_broken([self.rule], [not self.kept(value)])
        return value


@dataclass(frozen=True)
class Told:
    """Marks a text with a pattern: who breaks it is told `message`, not the regular expression."""

    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            if any(finding["type"] == "string_pattern_mismatch" for finding in error.errors()):
                raise PydanticCustomError("told", "{message}", {"message": self.message}) from error
            raise


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces, so that equal values have equal bytes (after RFC 8785)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"

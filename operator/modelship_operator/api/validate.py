"""What the API server would refuse, found without one: YAML text in, problems with field paths out. Pure."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from modelship_operator.api.common import API_VERSION, GROUP, NAME_LENGTH
from modelship_operator.api.crd import structural_schema
from modelship_operator.api.kinds import BY_NAME, Kind

Json = dict[str, Any]
Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong, and where: `spec.model.mlp.hidden[0]`; empty for the document itself."""

    path: str
    message: str

    def __str__(self) -> str:
        """As a line of text."""
        return f"{self.path}: {self.message}" if self.path else self.message


class Document(NamedTuple):
    """One document of a file, checked."""

    number: int
    """From 1, as in the file; empty documents are not counted."""
    title: str
    """`ModelTraining churn`."""
    problems: list[Problem]
    ours: bool
    """Whether it is of a Modelship kind; others are not checked."""


class YamlError(Exception):
    """The text is no YAML; the message has the line."""


def check(text: str) -> Iterator[Document]:
    """Check every document of a YAML (or JSON) text.

    Raises:
        YamlError: from the document that cannot be read on.
    """
    number = 0
    try:
        for value in yaml.load_all(text, Loader=KubectlLoader):
            if value is not None:
                number += 1
                yield _document(number, value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise YamlError(f"{line}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(str(error).splitlines()[0]) from error


def _document(number: int, value: object) -> Document:
    if not isinstance(value, dict):
        return Document(
            number, "no object", [Problem("", "a document must be an object with apiVersion, kind, metadata and spec")], True
        )
    group, _, _ = str(value.get("apiVersion", "")).rpartition("/")
    metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
    name = (metadata or {}).get("name") or (metadata or {}).get("generateName", "")
    title = f"{value.get('kind', 'no kind')} {name}".strip()
    if group != GROUP:
        # A kind of ours with a wrong apiVersion is a slip; other kinds are none of our business.
        wrong = [Problem("apiVersion", f"must be {API_VERSION}, not {_shown(value.get('apiVersion'))}")]
        return Document(number, title, wrong, True) if value.get("kind") in BY_NAME else Document(number, title, [], False)
    return Document(number, title, problems_of(value), True)


def problems_of(resource: Json) -> list[Problem]:
    """What is wrong with a resource of our group, as the API server with `fieldValidation=Strict` would judge it on creation."""
    kind = BY_NAME.get(str(resource.get("kind")))
    if kind is None:
        return [Problem("kind", f"unknown kind{_did_you_mean(str(resource.get('kind')), BY_NAME)}")]
    found = []
    if resource.get("apiVersion") != API_VERSION:
        found.append(Problem("apiVersion", f"must be {API_VERSION}, not {_shown(resource.get('apiVersion'))}"))
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    found += [Problem(str(field), f"unknown field{_did_you_mean(str(field), known)}") for field in resource if field not in known]
    return [*found, *_metadata(kind, resource.get("metadata")), *_spec(kind, resource.get("spec"))]


def _metadata(kind: Kind, metadata: object) -> list[Problem]:
    if not isinstance(metadata, dict):
        return [Problem("metadata", "must be an object with a name")]
    if metadata.get("name") is None and metadata.get("generateName"):
        return []
    name = metadata.get("name")
    if not isinstance(name, str):
        return [Problem("metadata.name", "required" if name is None else f"must be a string, not {_shown(name)}")]
    if len(name) > NAME_LENGTH:
        return [Problem("metadata.name", f"must have at most {NAME_LENGTH} characters, not {len(name)}")]
    if not re.fullmatch(kind.name_pattern, name):
        return [Problem("metadata.name", f"must match {kind.name_pattern}, which {name!r} does not")]
    return []


def _spec(kind: Kind, spec: object) -> list[Problem]:
    if spec is None:
        return [Problem("spec", "required")]
    try:
        text = json.dumps(as_sent(spec, ("spec",)), allow_nan=False)
        kind.spec.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except _NotJson as error:
        return [error.problem]
    except ValidationError as error:
        return [_problem(kind, details) for details in error.errors(include_url=False)]
    return []


# --- YAML as kubectl reads it -------------------------------------------------------------------------------------------------


class _NotJson(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def as_sent(value: Any, path: Path = ()) -> Any:
    """The value as the API server gets to see it: null fields are as if left out, 1.0 is 1."""
    if isinstance(value, dict):
        return {_key(key): as_sent(item, (*path, _key(key))) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [as_sent(item, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise _NotJson(Problem(_text(path), f"must be a finite number, not {value}"))
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _key(key: Hashable) -> str:
    return key if isinstance(key, str) else json.dumps(key)


class KubectlLoader(yaml.SafeLoader):
    """YAML as kubectl reads it: `1e-3` is a number, dates and 12:30 are text, a key that is there twice is an error."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name and type

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; a key that is there twice raises, as it does in the API server."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in seen:
                    raise yaml.constructor.ConstructorError(None, None, f'key "{key.value}" is there twice', key.start_mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


_DECIMAL = r"(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9_]+)?"
_SCALARS = (
    ("bool", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("int", r"[-+]?(0[bB][01_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", "-+0123456789"),
    ("float", rf"[-+]?{_DECIMAL}|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
    ("merge", r"<<", "<"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
)
"""As sigs.k8s.io/yaml resolves plain scalars, first match first."""
for _name, _pattern, _first in _SCALARS:
    KubectlLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


def _construct_bool(loader: KubectlLoader, node: yaml.ScalarNode) -> bool:
    return node.value.lower() in ("y", "yes", "true", "on")


def _construct_int(loader: KubectlLoader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    return int(text, 8) if re.fullmatch(r"[-+]?0[0-7]+", text) else int(text, 0)


def _construct_float(loader: KubectlLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


KubectlLoader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
KubectlLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
KubectlLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


# --- messages -----------------------------------------------------------------------------------------------------------------


def _problem(kind: Kind, error: ErrorDetails) -> Problem:
    path = ("spec", *error["loc"])
    if error["type"] == "extra_forbidden":
        return Problem(
            _text(path), f"unknown field{_did_you_mean(str(path[-1]), _schema_at(kind, error['loc'][:-1]).get('properties', {}))}"
        )
    if error["type"] == "missing":
        return Problem(_text(path), "required")
    return Problem(_text(path), _message(kind, error))


_REWORDED = (
    ("Input should be ", "must be "),
    ("String should ", "must "),
    ("List should ", "must "),
    ("Dictionary should ", "must "),
    ("a valid integer", "an integer"),
    ("a valid ", "a "),
    ("'", '"'),
)
_TYPES = ("string_type", "bool_type", "int_type", "float_type", "int_from_float")


def _message(kind: Kind, error: ErrorDetails) -> str:
    given = error["input"]
    if error["type"] == "string_pattern_mismatch":
        description = _schema_at(kind, error["loc"]).get("description")
        return f"{_shown(given)} is not accepted: {description or error['ctx']['pattern']}"
    message = error["msg"]
    if not message.startswith(("Input should ", "String should ", "List should ", "Dictionary should ")):
        return message
    for pydantic, ours in _REWORDED:
        message = message.replace(pydantic, ours)
    if isinstance(given, dict | list) or "at most" in message or "at least" in message:
        return message
    return f"{message}, not {_shown(given)}{_hint(given) if error['type'] in _TYPES else ''}"


def _hint(given: object) -> str:
    if isinstance(given, bool):
        return "; YAML reads y, yes, on, n, no and off as true or false: quote it"
    return "; quote it" if isinstance(given, int | float) else ""


def _text(path: Sequence[str | int]) -> str:
    """`spec.gates[0].min`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    names = list(known)
    folded = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.replace("_", "").lower(), folded, n=1)
    if close:
        return f"; did you mean {folded[close[0]]}?"
    return f"; fields here: {', '.join(names)}" if names else "; nothing can be set here"


def _schema_at(kind: Kind, path: Sequence[str | int]) -> Json:
    schema = _schema(kind)
    for part in path:
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
    return schema


@cache
def _schema(kind: Kind) -> Json:
    return structural_schema(kind.spec)

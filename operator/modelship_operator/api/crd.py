"""CRDs from the pydantic models: JSON schema made structural, with CEL rules, defaults, list types and printer columns.

`python -m modelship_operator.api.crd --write` (in `make generate`) writes `crds/` and `docs/api.md`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import core_schema

from modelship_operator.api.common import GROUP, NAME_LENGTH, VERSION
from modelship_operator.api.kinds import KINDS, Column, Kind
from modelship_trainer.schema import RULES, Model, OneOf, Rule

Json = dict[str, Any]

ROOT = Path(__file__).parents[3]
HEADER = "# Generated from operator/modelship_operator/api by `make generate`; not to be edited.\n"
_KEPT = (
    "type", "description", "enum", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
    "minProperties", "minimum", "maximum", "required", "default", "not", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields", RULES,
)  # fmt: skip
"""Keywords that a structural schema takes over as they are."""


def crd(kind: Kind) -> Json:
    """The whole CustomResourceDefinition."""
    version: Json = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "subresources": {"status": {}} | ({"scale": _SCALE} if kind.scale else {}),
        "schema": {"openAPIV3Schema": _root(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.singular,
                "shortNames": [kind.short],
                "categories": ["modelship"],
            },
            "versions": [version],
        },
    }


_SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def _column(column: Column) -> Json:
    entry = {"name": column.name, "type": column.type, "jsonPath": column.path, "description": column.description}
    return entry | ({"priority": 1} if column.wide else {})


def _root(kind: Kind) -> Json:
    spec, status = structural_schema(kind.spec), structural_schema(kind.status)
    if kind.mutable is not None:
        spec[RULES] = [*spec.get(RULES, []), *_immutability(kind, spec)]
    # A fresh object has a status at once that says it was not looked at yet, and so is never mistaken for done (kstatus).
    status["default"] = {"observedGeneration": -1}
    name = {"type": "string", "maxLength": NAME_LENGTH, "pattern": kind.name_pattern}
    return {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind.name}."},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": spec,
            "status": status,
        },
    }


def _immutability(kind: Kind, spec: Json) -> list[Json]:
    """One transition rule per field, at the spec, where a field that was left out can be told from one that was added."""
    always = {*spec["required"], *(name for name, schema in spec["properties"].items() if "default" in schema)}
    rules = []
    for name in spec["properties"]:
        if name in cast(frozenset[str], kind.mutable):
            continue
        same = f"self.{name} == oldSelf.{name}"
        if name not in always:
            same = f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || {same})"
        message = f"{name} cannot change once created; create a new {kind.name} instead"
        rules.append({"rule": same, "message": message, "fieldPath": f".{name}", "reason": "FieldValueForbidden"})
    return rules


# --- structural schema --------------------------------------------------------------------------------------------------------


def structural_schema(model: type[BaseModel]) -> Json:
    """The model's schema as `openAPIV3Schema` takes it: nothing but structural keywords, every reference resolved."""
    schema = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _structural(schema, schema.get("$defs", {}))


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with the models' CEL rules, and defaults that are made by a factory."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """A model, with its rules."""
        made = super().model_schema(schema)
        cls = schema["cls"]
        rules: list[Rule] = list(cls.rules) if issubclass(cls, Model) else []
        if issubclass(cls, OneOf):
            rules.append(cls.one_of_rule())
        return made | ({RULES: [rule._asdict() for rule in rules]} if rules else {})

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """A factory's value in full: the API server evaluates rules on a default before it fills in nested defaults."""
        factory = schema.get("default_factory")
        if factory is None:
            return super().get_default_value(schema)
        value = factory()  # type: ignore[call-arg]
        # Empty says no more than nothing at all.
        return (value.to_json() if isinstance(value, Model) else value) or NoDefault


def _structural(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, in_list: bool = False) -> Json:
    """`in_list`: below a list the API server fills in no default, and the description says it instead.

    Whoever applies a list replaces it whole: with defaults of the API server in it, what is stored would differ from every file.
    `kubectl apply` would send it anew each time, and a second manager's apply of the same file would conflict.
    """
    schema = _flat(schema, definitions)
    made: Json = {key: schema[key] for key in _KEPT if key in schema}
    if "const" in schema:
        made["enum"] = [schema["const"]]
    if made.get("default", ...) is None:
        del made["default"]
    if in_list and "default" in made:
        made["description"] = f"{made.get('description', '')} Default: {json.dumps(made.pop('default'))}.".lstrip()
    if properties := schema.get("properties"):
        made["properties"] = {name: _structural(value, definitions, in_list=in_list) for name, value in properties.items()}
    elif isinstance(values := schema.get("additionalProperties"), Mapping) or values is True:
        made["additionalProperties"] = _structural(values if isinstance(values, Mapping) else {}, definitions, in_list=in_list)
    if "items" in schema:
        made["items"] = _structural(schema["items"], definitions, in_list=True)
        made.setdefault("x-kubernetes-list-type", "atomic")
    if "type" not in made:
        made["x-kubernetes-preserve-unknown-fields"] = True
    return made | _numeric(schema)


def _flat(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Json:
    """Without `$ref` and without `null` among the alternatives; what stands beside them (a field's description) goes first."""
    outer = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
    if reference := schema.get("$ref"):
        return _flat(definitions[reference.rsplit("/", 1)[1]], definitions) | outer
    if alternatives := schema.get("anyOf"):
        (only,) = [each for each in alternatives if each.get("type") != "null"]
        return _flat(only, definitions) | outer
    return outer


def _numeric(schema: Mapping[str, Any]) -> Json:
    """Bounds as in OpenAPI 3.0, where exclusiveness is a flag; the integer's size."""
    made: Json = {}
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in schema:
            made |= {bound: schema[exclusive], exclusive: True}
    if schema.get("type") == "integer":
        made["format"] = "int32" if schema.get("maximum", 2**63) < 2**31 else "int64"
    return made


# --- files --------------------------------------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """No anchors and aliases: a schema that is used twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True


def generated() -> dict[Path, str]:
    """Every file that is made from the API's types, by its path below the repository's root."""
    from modelship_operator.api import reference

    crds = {kind: crd(kind) for kind in KINDS}
    files = {
        Path(f"crds/{kind.plural}.yaml"): HEADER
        + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
        for kind, definition in crds.items()
    }
    return files | {Path("docs/api.md"): reference.document(crds)}


def main() -> int:
    """Write the generated files, or name those that differ."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the files; without it only say which would change")
    write = parser.parse_args().write
    stale = [path for path, text in generated().items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    for path in stale:
        if write:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(generated()[path])
        print(f"{'wrote' if write else 'stale'} {path}")
    return 0 if write or not stale else 1


if __name__ == "__main__":
    raise SystemExit(main())

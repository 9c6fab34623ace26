"""The API reference in `docs/api.md`: a table per object of the CRDs, and the reasons of conditions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modelship_operator.api.kinds import Kind
from modelship_operator.api.reasons import REASONS, Scope

Json = dict[str, Any]

_INTRODUCTION = """# API reference

<!-- Generated from operator/modelship_operator/api by `make generate`; not to be edited. -->

Group `modelship.dev`, version `v1alpha1`. `kubectl explain mt.spec.training.optimizer` shows the same in a terminal, and
`modelship validate FILE...` checks files without a cluster.
"""


def document(crds: Mapping[Kind, Json]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION, *(_kind(kind, crd) for kind, crd in crds.items()), _reasons()]
    return "\n".join(parts)


def _kind(kind: Kind, crd: Json) -> str:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    heading = f"## {kind.name}\n\n{schema['description']} Short name `{kind.short}`.\n"
    objects = [*_objects("spec", schema["properties"]["spec"]), *_objects("status", schema["properties"]["status"])]
    return "\n".join([heading, *(_table(path, each) for path, each in objects)])


def _objects(path: str, schema: Json) -> Iterator[tuple[str, Json]]:
    """This object and those below it, depth first; objects without fields are left out."""
    if "items" in schema:
        yield from _objects(f"{path}[]", schema["items"])
    elif schema.get("properties"):
        yield path, schema
        for name, value in schema["properties"].items():
            yield from _objects(f"{path}.{name}", value)


def _table(path: str, schema: Json) -> str:
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", []) if "fieldPath" not in rule]
    fixed = [rule["fieldPath"][1:] for rule in schema.get("x-kubernetes-validations", []) if "fieldPath" in rule]
    lines = [f"### `{path}`", "", "| field | type | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for name, value in schema["properties"].items():
        default = "**required**" if name in required else _default(value)
        lines.append(f"| `{name}` | {_cell(_type(value))} | {default} | {_cell(value.get('description', ''))} |")
    notes = [f"- Rule: {rule}." for rule in rules]
    notes += [f"- Rule: `{name}`: {rule}." for name, value in schema["properties"].items() for rule in _rules_of_value(value)]
    if fixed:
        notes.append(f"- Cannot change once created: {', '.join(f'`{name}`' for name in fixed)}.")
    return "\n".join([*lines, *(["", *notes] if notes else []), ""])


def _rules_of_value(schema: Json) -> list[str]:
    """Rules of a field that has no table of its own."""
    return [] if schema.get("properties") else [rule["message"] for rule in schema.get("x-kubernetes-validations", [])]


def _default(value: Json) -> str:
    return f"`{json.dumps(value['default'])}`" if "default" in value else ""


def _type(value: Json) -> str:
    if "items" in value:
        return f"list of {_type(value['items'])}{_limits(value, 'minItems', 'maxItems', 'items')}"
    if "additionalProperties" in value:
        return f"map to {_type(value['additionalProperties'])}"
    if "enum" in value:
        return " or ".join(f"`{each}`" for each in value["enum"])
    if "type" not in value and "pattern" in value:
        return "quantity"
    name: str = value.get("type", "any value")
    return name + (_limits(value, "minimum", "maximum") if name in ("integer", "number") else "")


def _limits(value: Json, low: str, high: str, unit: str = "") -> str:
    """`, 1 to 16 items`, or only the one that is set."""
    least, most = value.get(low), value.get(high)
    above = "above " if value.get("exclusiveMinimum") else ""
    below = "below " if value.get("exclusiveMaximum") else ""
    unit = f" {unit}" if unit else ""
    if least is not None and most is not None:
        return f", {above}{_number(least)} to {below}{_number(most)}{unit}"
    if least is not None:
        return f", {above or 'at least '}{_number(least)}{unit}"
    return f", {below or 'at most '}{_number(most)}{unit}" if most is not None else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _reasons() -> str:
    lines = [
        "## Reasons",
        "",
        "`Ready=True`: done, or serving. `Reconciling=True`: it goes on by itself. `Stalled=True`: it does not, until you act.",
    ]
    for scope in Scope:
        lines += ["", f"### {scope.value}", "", "| reason | meaning | what to do |", "|---|---|---|"]
        chosen = ((reason, facts) for reason, facts in REASONS.items() if facts.scope is scope)
        lines += [f"| `{reason}` | {_cell(facts.meaning)} | {_cell(facts.cure)} |" for reason, facts in chosen]
    return "\n".join([*lines, ""])

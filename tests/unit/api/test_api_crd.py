"""The generated CRDs by the API conventions' rules (after kube-api-linter), and that the files are what is generated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.controlplane import ROOT

from modelship_operator.api.crd import crd, generated
from modelship_operator.api.kinds import KINDS, Kind
from modelship_trainer.recipe import Recipe

pytestmark = pytest.mark.unit
Json = dict[str, Any]


def fields() -> Iterator[tuple[str, Json]]:
    """Every field of every kind, by its path."""
    for kind in KINDS:
        root = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            yield from below(f"{kind.name}.{part}", root["properties"][part])


def below(path: str, schema: Json) -> Iterator[tuple[str, Json]]:
    yield path, schema
    for name, value in schema.get("properties", {}).items():
        yield from below(f"{path}.{name}", value)
    for part in ("items", "additionalProperties"):
        if part in schema:
            yield from below(f"{path}[]", schema[part])


FIELDS = dict(fields())


def offenders(broken: Any) -> list[str]:
    return [path for path, schema in FIELDS.items() if broken(path, schema)]


def test_every_field_is_described() -> None:
    def broken(path: str, schema: Json) -> bool:
        return not path.endswith("[]") and not schema.get("description", "").endswith((".", ")"))

    assert offenders(broken) == []


def test_every_string_is_bounded() -> None:
    def broken(path: str, schema: Json) -> bool:
        text = schema.get("type") == "string" or "pattern" in schema
        return text and "maxLength" not in schema and "enum" not in schema

    assert offenders(broken) == []


def test_every_list_is_bounded_and_typed() -> None:
    def broken(path: str, schema: Json) -> bool:
        return schema.get("type") == "array" and not ("maxItems" in schema and "x-kubernetes-list-type" in schema)

    assert offenders(broken) == []


def test_every_map_is_bounded() -> None:
    assert offenders(lambda path, schema: "additionalProperties" in schema and "maxProperties" not in schema) == []


def test_every_whole_number_has_a_lower_bound_and_a_size() -> None:
    def broken(path: str, schema: Json) -> bool:
        return schema.get("type") == "integer" and not ("minimum" in schema and "format" in schema)

    assert offenders(broken) == []


def test_everything_has_a_type_but_quantities_and_the_users_own_arguments() -> None:
    def broken(path: str, schema: Json) -> bool:
        return "type" not in schema and "pattern" not in schema

    assert offenders(broken) == ["ModelTraining.spec.model.custom.args[]"]


def test_names_are_camel_case() -> None:
    assert offenders(lambda path, schema: re.search(r"[_-]|\.[A-Z]", path.split(".", 1)[1])) == []


def test_keys_of_map_lists_are_there() -> None:
    def broken(path: str, schema: Json) -> bool:
        item = schema.get("items", {})
        there = {*item.get("required", []), *(name for name, value in item.get("properties", {}).items() if "default" in value)}
        return not {*schema.get("x-kubernetes-list-map-keys", [])} <= there

    assert offenders(broken) == []


def test_status_defaults_nothing() -> None:
    """What the operator has not said is not there; but for observedGeneration, which says just that."""

    def broken(path: str, schema: Json) -> bool:
        return path.split(".")[1] == "status" and "default" in schema and not path.endswith((".status", ".observedGeneration"))

    assert offenders(broken) == []


def test_the_recipe_is_embedded() -> None:
    """`kubectl explain mt.spec` shows the trainer's own words."""
    for name, field in Recipe.model_fields.items():
        assert FIELDS[f"ModelTraining.spec.{name}"]["description"] == field.description


@pytest.mark.parametrize("path", generated(), ids=str)
def test_no_drift(path: Any) -> None:
    assert (ROOT / path).read_text() == generated()[path], f"{path} is stale: run make generate"


def test_crds_has_no_other_file() -> None:
    assert {path.name for path in (ROOT / "crds").iterdir()} == {path.name for path in generated() if path.parts[0] == "crds"}


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_no_default_lies_below_a_list(kind: Kind) -> None:
    """What the API server fills into a list differs from every file that is applied again."""

    def found(schema: Any, path: str, in_list: bool) -> list[str]:
        here = [path] if in_list and "default" in schema else []
        below = [(f".{name}", value, in_list) for name, value in schema.get("properties", {}).items()]
        below += [("[]", schema["items"], True)] if "items" in schema else []
        below += [("{}", schema["additionalProperties"], in_list)] if "additionalProperties" in schema else []
        return [*here, *(each for name, value, listed in below for each in found(value, path + name, listed))]

    assert found(crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "", False) == []

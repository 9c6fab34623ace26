"""What pydantic finds wrong with what a person wrote, in the words of that person: `must be an integer, not "12"`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelship_trainer.yaml_text import Problem, text_of

Json = dict[str, Any]

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


def problems(error: ValidationError, model: type[BaseModel] | None = None, prefix: Sequence[str | int] = ()) -> list[Problem]:
    """All that pydantic found wrong with a value at `prefix` of a document.

    `model`, which the value should have been, is asked for names and descriptions of its fields.
    """
    return [Problem(text_of((*prefix, *details["loc"])), _message(details, model)) for details in error.errors(include_url=False)]


def _message(error: ErrorDetails, model: type[BaseModel] | None) -> str:
    given = error["input"]
    if error["type"] == "extra_forbidden":
        *parents, name = error["loc"]
        return f"unknown field{did_you_mean(str(name), _schema_at(model, parents).get('properties', {}))}"
    if error["type"] == "missing":
        return "required"
    if error["type"] == "string_pattern_mismatch":
        description = _schema_at(model, error["loc"]).get("description")
        return f"{shown_value(given)} is not accepted: {description or error['ctx']['pattern']}"
    message = error["msg"]
    if not message.startswith(("Input should ", "String should ", "List should ", "Dictionary should ")):
        return message
    for pydantic, ours in _REWORDED:
        message = message.replace(pydantic, ours)
    if isinstance(given, dict | list) or "at most" in message or "at least" in message:
        return message
    return f"{message}, not {shown_value(given)}{_hint(given) if error['type'] in _TYPES else ''}"


def _hint(given: object) -> str:
    if isinstance(given, bool):
        return "; YAML reads y, yes, on, n, no and off as true or false: quote it"
    return "; quote it" if isinstance(given, int | float) else ""


def shown_value(value: object) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that is not known: the one that was meant, or those that there are."""
    names = list(known)
    folded = {each.lower(): each for each in names}
    close = difflib.get_close_matches(name.replace("_", "").lower(), folded, n=1)
    if close:
        return f"; did you mean {folded[close[0]]}?"
    return f"; fields here: {', '.join(names)}" if names else "; nothing can be set here"


def _schema_at(model: type[BaseModel] | None, path: Sequence[str | int]) -> Json:
    """JSON schema of the field at `path`; empty where there is none."""
    whole = _schema(model) if model else {}
    at = whole
    for part in path:
        at = _resolved(at.get("items", {}) if isinstance(part, int) else at.get("properties", {}).get(part, {}), whole)
    return at


def _resolved(schema: Json, whole: Json) -> Json:
    """The schema itself, of one that is optional or stands elsewhere; its own description goes before that of the type."""
    inner = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), None)
    inner = inner or (whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else None)
    return schema if inner is None else _resolved(inner, whole) | ({k: v for k, v in schema.items() if k == "description"})


@cache
def _schema(model: type[BaseModel]) -> Json:
    return model.model_json_schema(by_alias=True)

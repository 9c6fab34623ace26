"""What the API server would refuse, found without one: YAML text in, problems with field paths out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

from pydantic import ValidationError

from modelship_operator.api.common import API_VERSION, GROUP, NAME_LENGTH
from modelship_operator.api.kinds import BY_NAME, Kind
from modelship_trainer.findings import did_you_mean, problems, shown_value
from modelship_trainer.yaml_text import NotJson, Path, Problem, as_sent, documents, text_of

Json = dict[str, Any]


class Document(NamedTuple):
    """One document of a file, checked."""

    number: int
    """From 1, as in the file; empty documents are not counted."""
    title: str
    """`ModelTraining churn`."""
    problems: list[Problem]
    ours: bool
    """Whether it is of a Modelship kind; others are not checked."""


def check(text: str) -> Iterator[Document]:
    """Check every document of a YAML (or JSON) text, and every item of a `kind: List`.

    Raises:
        YamlError: from the document that cannot be read on.
    """
    for number, value in enumerate(documents(text), 1):
        if isinstance(value, Problem):
            yield Document(number, "no object", [value], True)
        else:
            yield from _documents(number, value)


def _documents(number: int, value: object, path: Path = ()) -> Iterator[Document]:
    """The document; of a list, as kubectl takes it apart, each item, at its path."""
    if not _is_list(value):
        yield _document(number, value, path)
        return
    items = value.get("items") or []
    if not isinstance(items, list):
        yield Document(number, str(value["kind"]), [Problem(text_of((*path, "items")), "must be a list")], True)
        return
    if not items:
        yield Document(number, str(value["kind"]), [], False)
    for index, item in enumerate(items):
        yield from _documents(number, item, (*path, "items", index))


def _is_list(value: object) -> TypeGuard[Json]:
    if not isinstance(value, dict):
        return False
    kind, group = value.get("kind"), str(value.get("apiVersion")).rpartition("/")[0]
    return kind == "List" or (group == GROUP and kind in [f"{name}List" for name in BY_NAME])


def _document(number: int, value: object, path: Path) -> Document:
    if not isinstance(value, dict):
        what = "an item" if path else "a document"
        wrong = [Problem(text_of(path), f"{what} must be an object with apiVersion, kind, metadata and spec")]
        return Document(number, "no object", wrong, True)
    group, _, _ = str(value.get("apiVersion", "")).rpartition("/")
    metadata = value.get("metadata") if isinstance(value.get("metadata"), dict) else {}
    name = (metadata or {}).get("name") or (metadata or {}).get("generateName", "")
    title = f"{value.get('kind', 'no kind')} {name}".strip()
    if group != GROUP:
        # A kind of ours with a wrong apiVersion is a slip; other kinds are none of our business.
        if str(value.get("kind")) not in BY_NAME:
            return Document(number, title, [], False)
        problems = [Problem("apiVersion", f"must be {API_VERSION}, not {shown_value(value.get('apiVersion'))}")]
    else:
        problems = problems_of(value)
    return Document(number, title, [problem.below(path) for problem in problems], True)


def problems_of(resource: Json) -> list[Problem]:
    """What is wrong with a resource of our group, as the API server with `fieldValidation=Strict` would judge it on creation."""
    kind = BY_NAME.get(str(resource.get("kind")))
    if kind is None:
        return [Problem("kind", f"unknown kind{did_you_mean(str(resource.get('kind')), BY_NAME)}")]
    found = []
    if resource.get("apiVersion") != API_VERSION:
        found.append(Problem("apiVersion", f"must be {API_VERSION}, not {shown_value(resource.get('apiVersion'))}"))
    known = ("apiVersion", "kind", "metadata", "spec", "status")
    found += [Problem(str(field), f"unknown field{did_you_mean(str(field), known)}") for field in resource if field not in known]
    return [*found, *_metadata(kind, resource.get("metadata")), *_spec(kind, resource.get("spec"))]


def _metadata(kind: Kind, metadata: object) -> list[Problem]:
    if not isinstance(metadata, dict):
        return [Problem("metadata", "must be an object with a name")]
    if metadata.get("name") is None and metadata.get("generateName"):
        return []
    name = metadata.get("name")
    if not isinstance(name, str):
        return [Problem("metadata.name", "required" if name is None else f"must be a string, not {shown_value(name)}")]
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
    except NotJson as error:
        return [error.problem]
    except ValidationError as error:
        return problems(error, kind.spec, ("spec",))
    return []

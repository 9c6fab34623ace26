"""Who wrote which part of an object, by its field managers (`metadata.managedFields`): how others' additions are found. Pure.

What an admission webhook changes in a request of ours counts as ours; a default of the API server belongs to nobody.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

Json = dict[str, Any]


def additions(obj: Json, part: str, ours: Collection[str], subresource: str = "") -> list[str]:
    """JSON pointers of what managers other than `ours` have put below `part`, in an order in which they can be removed.

    A field that we set, too, is none, whoever changed its value. `subresource`: through which others wrote it.
    """
    own: Json = {}
    foreign: list[Json] = []
    for entry in obj["metadata"].get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get(f"f:{part}")
        if fields is None:
            continue
        if entry.get("manager") in ours:
            _merge(own, fields)
        elif entry.get("subresource", "") == subresource:
            foreign.append(fields)
    found = {path for fields in foreign for path in _beyond(fields, own, obj.get(part), (part,))}
    return ["".join(f"/{_escaped(step)}" for step in path) for path in sorted(found, key=_order, reverse=True)]


def _merge(into: Json, fields: Json) -> None:
    for key, below in fields.items():
        _merge(into.setdefault(key, {}), below)


def _beyond(theirs: Json, ours: Json, live: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    for key, below in theirs.items():
        step = None if key == "." else _step(key, live)
        if step is None:
            continue
        if key not in ours:
            yield (*path, step)
        else:
            yield from _beyond(below, ours[key], live[step], (*path, step))


def _step(key: str, live: Any) -> str | int | None:
    """The field's name or the item's index that a key of `fieldsV1` means; None where it is not there any more."""
    kind, _, rest = key.partition(":")
    if kind == "f":
        return rest if isinstance(live, dict) and rest in live else None
    if not isinstance(live, list):
        return None
    wanted = json.loads(rest)
    if kind == "i":
        return int(wanted)
    if kind == "v":
        return live.index(wanted) if wanted in live else None
    return next((index for index, item in enumerate(live) if wanted.items() <= item.items()), None)


def _order(path: tuple[str | int, ...]) -> list[tuple[int, str]]:
    """Later items of a list go before earlier ones, whose indexes they would move."""
    return [(step, "") if isinstance(step, int) else (-1, step) for step in path]


def _escaped(step: str | int) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")

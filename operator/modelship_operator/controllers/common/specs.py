"""Specs as their pydantic models, each parsed once: a resource is looked at many times in its life, and its spec rarely changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeVar

from pydantic import BaseModel

_REMEMBERED = 256
Spec = TypeVar("Spec", bound=BaseModel)
_parsed: OrderedDict[tuple[type, str], tuple[Any, BaseModel]] = OrderedDict()


def spec_of(model: type[Spec], obj: dict[str, Any]) -> Spec:
    """The spec of a stored resource. A function of its arguments: what was parsed before is used for an equal spec only.

    Raises:
        pydantic.ValidationError: the stored spec is not what this version knows.
    """
    key = (model, obj["metadata"]["uid"])
    raw, known = _parsed.get(key, (None, None))
    if isinstance(known, model) and raw == obj["spec"]:
        _parsed.move_to_end(key)
        return known
    spec = model.model_validate(obj["spec"])
    _parsed[key] = (obj["spec"], spec)
    _parsed.move_to_end(key)
    if len(_parsed) > _REMEMBERED:
        _parsed.popitem(last=False)
    return spec

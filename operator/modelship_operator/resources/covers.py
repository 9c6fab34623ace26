"""Whether an object in the cluster still says what it was applied with: how a change by somebody else is found. Pure."""

from __future__ import annotations

from typing import Any

from modelship_operator.api.quantity import amount

_ATOMIC = frozenset({"selector", "matchLabels", "podSelector", "namespaceSelector", "nodeSelector"})
"""Maps that server-side apply replaces as a whole (`x-kubernetes-map-type: atomic`): a key more is another selection."""


def covers(live: Any, desired: Any) -> bool:
    """Whether `live` is `desired`, apart from what the API server adds and how it writes the same.

    It adds fields with defaults, leaves out empty ones, and writes quantities in their shortest form (1024Mi is 1Gi). Lists have
    the same length: an item more, say a peer of a network policy, is a change.
    """
    if isinstance(desired, dict):
        return isinstance(live, dict) and all(_field_covers(live, key, value) for key, value in desired.items())
    if isinstance(desired, list):
        return isinstance(live, list) and len(live) == len(desired) and all(map(covers, live, desired))
    return bool(live == desired) or _same_amount(live, desired)


def _field_covers(live: dict[str, Any], key: str, desired: Any) -> bool:
    if key not in live:
        return _is_empty(desired)
    return bool(live[key] == desired) if key in _ATOMIC else covers(live[key], desired)


def _is_empty(value: Any) -> bool:
    """As `omitempty` has it for what we send: no field of ours is a plain false or zero whose absence means the same."""
    return value is None or value in ({}, [], "")


def _same_amount(live: Any, desired: Any) -> bool:
    if not (isinstance(live, str) and isinstance(desired, str)):
        return False
    return (quantity := amount(desired)) is not None and quantity == amount(live)

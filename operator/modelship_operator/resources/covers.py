"""Whether an object in the cluster still says what it was applied with: how a change by somebody else is found. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGT", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGT", start=1)},
}
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
    return bool(live == desired) or ((quantity := _amount(desired)) is not None and quantity == _amount(live))


def _field_covers(live: dict[str, Any], key: str, desired: Any) -> bool:
    if key not in live:
        return _is_empty(desired)
    return bool(live[key] == desired) if key in _ATOMIC else covers(live[key], desired)


def _is_empty(value: Any) -> bool:
    """As `omitempty` has it for what we send: no field of ours is a plain false or zero whose absence means the same."""
    return value is None or value in ({}, [], "")


def _amount(value: Any) -> Decimal | None:
    """The number that a Kubernetes quantity means; None where it is none."""
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return Decimal(found[1]) * _FACTORS[found[2] or ""] if found else None

"""Conditions as kstatus reads them: Ready always; Reconciling or Stalled only while it is True, and never both.

`lastTransitionTime` moves when a condition's status does, not with its words; so the same state said again is the same object, and
no write.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

Json = dict[str, Any]

MESSAGE_LIMIT = 2048
"""Characters of a condition's message (`api.common.Text`)."""


class Mark(StrEnum):
    """What a resource's state means to a machine."""

    DONE = "Done"
    """Ready: what was asked for is there."""
    RECONCILING = "Reconciling"
    """Not there yet; it will be, or becomes so when what is waited for comes."""
    STALLED = "Stalled"
    """It will not be, unless a person changes something."""
    HELD = "Held"
    """Not there, and nothing goes on, because a person wants it so."""


class State(NamedTuple):
    """Where a resource stands: what machines, printer columns and people read."""

    phase: str
    mark: Mark
    reason: str
    message: str


def conditions(state: State, previous: Sequence[Json], *, generation: int, now: datetime) -> list[Json]:
    """The whole list of conditions for `state`; `previous` is the list that is stored."""

    def condition(kind: str, status: bool) -> Json:
        value = str(status)
        stored = find(previous, kind)
        since = stored["lastTransitionTime"] if stored and stored["status"] == value else timestamp(now)
        return {
            "type": kind,
            "status": value,
            "reason": state.reason,
            "message": state.message[:MESSAGE_LIMIT],
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }

    ready = condition("Ready", state.mark is Mark.DONE)
    return [ready, condition(state.mark.value, True)] if state.mark in (Mark.RECONCILING, Mark.STALLED) else [ready]


def find(stored: Sequence[Json], kind: str) -> Json | None:
    """The condition of this type."""
    return next((condition for condition in stored if condition["type"] == kind), None)


def stored_reason(status: Json) -> str | None:
    """The reason that a status gives for the state it is in."""
    ready = find(status.get("conditions", []), "Ready")
    return ready["reason"] if ready else None


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Conditions: what kstatus asks for, and times that move only with a status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from modelship_operator.controllers.common.conditions import Mark, State, conditions, stored_reason, timestamp

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def of(mark: Mark, reason: str = "Because", message: str = "so.") -> State:
    return State("Phase", mark, reason, message)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        (Mark.DONE, {"Ready": "True"}),
        (Mark.RECONCILING, {"Ready": "False", "Reconciling": "True"}),
        (Mark.STALLED, {"Ready": "False", "Stalled": "True"}),
        (Mark.HELD, {"Ready": "False"}),
    ],
)
def test_the_marks(mark: Mark, expected: dict[str, str]) -> None:
    said = conditions(of(mark), [], generation=3, now=NOW)
    assert {condition["type"]: condition["status"] for condition in said} == expected
    assert {condition["observedGeneration"] for condition in said} == {3}
    assert {(condition["reason"], condition["message"]) for condition in said} == {("Because", "so.")}


def test_other_words_keep_the_time_and_another_status_does_not() -> None:
    first = conditions(of(Mark.RECONCILING), [], generation=1, now=NOW)
    waiting = conditions(of(Mark.RECONCILING, "Else", "other."), first, generation=1, now=LATER)
    assert [condition["lastTransitionTime"] for condition in waiting] == [timestamp(NOW)] * 2
    done = conditions(of(Mark.DONE), waiting, generation=1, now=LATER)
    assert [condition["lastTransitionTime"] for condition in done] == [timestamp(LATER)]
    stalled = conditions(of(Mark.STALLED), waiting, generation=1, now=LATER)
    assert [condition["lastTransitionTime"] for condition in stalled] == [timestamp(NOW), timestamp(LATER)]


def test_the_same_said_again_is_the_same() -> None:
    first = conditions(of(Mark.STALLED), [], generation=1, now=NOW)
    assert conditions(of(Mark.STALLED), first, generation=1, now=LATER) == first


def test_a_message_fits_the_api() -> None:
    said = conditions(of(Mark.STALLED, message="x" * 5000), [], generation=1, now=NOW)
    assert {len(condition["message"]) for condition in said} == {2048}


def test_the_reason_of_a_status() -> None:
    assert stored_reason({}) is None
    assert stored_reason({"conditions": conditions(of(Mark.HELD, "Suspended"), [], generation=1, now=NOW)}) == "Suspended"


def test_times_are_utc() -> None:
    assert timestamp(datetime(2026, 7, 1, 16, 2, 3, 999, tzinfo=timezone(timedelta(hours=2)))) == "2026-07-01T14:02:03Z"

"""Nobody is fought at full speed, and another operator is yielded to while it is alive."""

from __future__ import annotations

from typing import Any

import pytest

from modelship_operator.runtime.rivals import ABANDONED, LAST_WAIT, QUIET, Corrections, Yielding

pytestmark = pytest.mark.unit


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def resource(generation: int, observed: int) -> Any:
    return {"metadata": {"uid": "u", "generation": generation}, "status": {"observedGeneration": observed}}


def test_the_first_correction_is_made_at_once_and_the_next_wait_twice_as_long() -> None:
    corrections, waits = Corrections(clock := Clock()), []
    for _ in range(10):
        waits.append(corrections.wait("child"))
        clock.at += waits[-1]
        assert corrections.wait("child") == 0
        corrections.made("child")
    assert waits == [0, 1, 2, 4, 8, 16, 32, LAST_WAIT, LAST_WAIT, LAST_WAIT]
    assert corrections.wait("another") == 0


def test_after_a_quiet_time_it_is_the_first_again() -> None:
    corrections = Corrections(clock := Clock())
    for _ in range(5):
        corrections.made("child")
    clock.at += QUIET
    assert corrections.wait("child") == 0
    corrections.made("child")
    assert corrections.wait("child") == 1


def test_a_resource_is_yielded_once_and_is_ours_when_the_other_observes_nothing_for_a_minute() -> None:
    yielding = Yielding(clock := Clock())
    assert [yielding.begin(resource(1, 1), "b/b") for _ in range(2)] == [True, False]
    assert len(yielding) == 1
    assert not yielding.is_abandoned(resource(1, 1))
    assert not yielding.is_abandoned(resource(2, 1))
    clock.at += ABANDONED - 1
    assert not yielding.is_abandoned(resource(2, 1))
    assert not yielding.is_abandoned(resource(3, 1)), "a later change has a minute of its own"
    clock.at += ABANDONED
    assert yielding.is_abandoned(resource(3, 1))
    assert not yielding.is_abandoned(resource(3, 3))
    yielding.end("u")
    assert len(yielding) == 0

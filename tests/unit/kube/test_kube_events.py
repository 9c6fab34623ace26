"""Events: equal ones are a series, and a flood is cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelship_operator.kube.events import BURST, REFILL_SECONDS, SERIES_SECONDS, Recorder

pytestmark = pytest.mark.unit

ABOUT = {"apiVersion": "modelship.dev/v1alpha1", "kind": "ModelTraining", "metadata": {"namespace": "n", "name": "a", "uid": "u"}}


class Sent:
    """Takes the place of the API server for what is sent, not for what is decided: `test_training_lifecycle` has the real one."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.patched: list[dict[str, Any]] = []

    async def create(self, resource: Any, namespace: str, event: dict[str, Any]) -> None:
        self.created.append(event)

    async def merge(self, resource: Any, namespace: str, name: str, patch: dict[str, Any]) -> None:
        assert name == self.created[0]["metadata"]["name"]
        self.patched.append(patch)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def send(recorder: Recorder) -> None:
    task = asyncio.create_task(recorder.run())
    await recorder.flush()
    task.cancel()


async def test_equal_events_become_a_series_written_now_and_then() -> None:
    sent, clock = Sent(), Clock()
    recorder = Recorder(sent, "me", clock)  # type: ignore[arg-type]
    for _ in range(100):
        recorder.record(ABOUT, type="Warning", reason="Retried", action="Train", note="worker 0 ended")
        clock.now += SERIES_SECONDS / 10
    await send(recorder)
    assert len(sent.created) == 1
    assert 9 <= len(sent.patched) <= 11
    counts = [patch["series"]["count"] for patch in sent.patched]
    assert counts[0] == 2
    assert counts == sorted(counts)
    assert sent.created[0]["regarding"]["uid"] == "u"


async def test_different_events_about_one_resource_are_cut_and_let_through_slowly() -> None:
    sent, clock, dropped = Sent(), Clock(), []
    recorder = Recorder(sent, "me", clock, lambda: dropped.append(1))  # type: ignore[arg-type]
    for number in range(BURST + 5):
        recorder.record(ABOUT, type="Normal", reason="R", action="A", note=str(number))
    clock.now += REFILL_SECONDS
    recorder.record(ABOUT, type="Normal", reason="R", action="A", note="later")
    await send(recorder)
    assert len(sent.created) == BURST + 1
    assert len(dropped) == 5
    assert sent.created[-1]["note"] == "later"


async def test_an_api_server_that_hangs_stops_no_worker() -> None:
    clock, dropped = Clock(), []
    recorder = Recorder(None, "me", clock, lambda: dropped.append(1))  # type: ignore[arg-type]
    for number in range(2000):
        about = {**ABOUT, "metadata": {**ABOUT["metadata"], "uid": str(number)}}
        recorder.record(about, type="Normal", reason="R", action="A", note="n")
    assert len(dropped) == 1000

"""Events about our resources (events.k8s.io/v1): equal ones become a series, and never a flood.

Sent in the background: no worker waits for one, and when the API server cannot keep up they are dropped, which loses no state.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from modelship_operator.kube.client import Client
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.resources import Resource

Json = dict[str, Any]
log = logging.getLogger(__name__)

EVENT = Resource("events.k8s.io/v1", "Event")
CONTROLLER = "modelship.dev/operator"
QUEUED = 1000
SERIES_SECONDS = 30.0
"""A series is written at most this often."""
FORGET_SECONDS = 360.0
"""After this long without another, an equal event starts anew, as in client-go."""
BURST, REFILL_SECONDS = 10, 60.0
"""Events per resource: this many at once, and one more for every so many seconds."""
REMEMBERED = 4096


class Said(NamedTuple):
    """What makes two events equal."""

    uid: str
    type: str
    reason: str
    action: str
    note: str


@dataclass(slots=True)
class _Series:
    namespace: str
    name: str
    count: int
    last: float
    written: float


class Recorder:
    """Sends events for as long as `run` runs."""

    def __init__(
        self, client: Client, instance: str, clock: Callable[[], float], dropped: Callable[[], None] | None = None
    ) -> None:
        self._client = client
        self._instance = instance
        self._clock = clock
        """Seconds, monotonic."""
        self._dropped = dropped or (lambda: None)
        self._series: OrderedDict[Said, _Series] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._queue: asyncio.Queue[tuple[str, Json | None, Json]] = asyncio.Queue(QUEUED)

    def record(self, regarding: Json, *, type: str, reason: str, action: str, note: str) -> None:
        """Say something about `regarding`, one of our resources. Returns at once."""
        metadata = regarding["metadata"]
        said = Said(metadata["uid"], type, reason, action, note[:1024])
        now = self._clock()
        series = self._series.get(said)
        if series is not None and now - series.last < FORGET_SECONDS:
            self._repeat(said, series, now)
        elif self._allowed(said.uid, now):
            name = f"{metadata['name'][:200]}.{secrets.token_hex(8)}"
            self._remember(said, _Series(metadata["namespace"], name, 1, now, now))
            self._put(metadata["namespace"], None, self._event(regarding, name, said))
        else:
            self._dropped()

    async def run(self) -> None:
        """Send what is recorded, one after the other."""
        while True:
            namespace, patch, event = await self._queue.get()
            try:
                if patch is None:
                    await self._client.create(EVENT, namespace, event)
                else:
                    await self._client.merge(EVENT, namespace, event["metadata"]["name"], patch)
            except ApiError as error:
                if not error.gone and not error.terminating:
                    log.warning("event not sent", extra={"reason": event.get("reason"), "error": error.message})
                self._dropped()
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Wait until everything recorded was sent or refused."""
        await self._queue.join()

    def _repeat(self, said: Said, series: _Series, now: float) -> None:
        series.count += 1
        series.last = now
        self._series.move_to_end(said)
        if series.count == 2 or now - series.written >= SERIES_SECONDS:
            series.written = now
            patch = {"series": {"count": series.count, "lastObservedTime": _micro_time()}}
            self._put(series.namespace, patch, {"metadata": {"name": series.name}, "reason": said.reason})

    def _remember(self, said: Said, series: _Series) -> None:
        self._series[said] = series
        while len(self._series) > REMEMBERED:
            self._series.popitem(last=False)

    def _allowed(self, uid: str, now: float) -> bool:
        tokens, since = self._tokens.get(uid, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - since) / REFILL_SECONDS)
        self._tokens[uid] = (max(0.0, tokens - 1), now)
        self._tokens.move_to_end(uid)
        while len(self._tokens) > REMEMBERED:
            self._tokens.popitem(last=False)
        return tokens >= 1

    def _put(self, namespace: str, patch: Json | None, event: Json) -> None:
        try:
            self._queue.put_nowait((namespace, patch, event))
        except asyncio.QueueFull:
            self._dropped()

    def _event(self, regarding: Json, name: str, said: Said) -> Json:
        metadata = regarding["metadata"]
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": _micro_time(),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
            "type": said.type,
            "reason": said.reason,
            "action": said.action,
            "note": said.note,
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

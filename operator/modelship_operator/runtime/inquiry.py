"""Why a Job has no pod: asked of the Job controller's events, as a status does not tell. Only of a Job that lacks it for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from modelship_operator.controllers.common.pods import time_of
from modelship_operator.controllers.framework import ObjectKey, RefusedPod
from modelship_operator.kube.client import Client
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.resources import Resource
from modelship_operator.runtime.store import Store

Json = dict[str, Any]
log = logging.getLogger(__name__)

EVENTS = Resource("events.k8s.io/v1", "Event")
REST_SECONDS = 25.0
"""Between two lists of one namespace: it reads all of the namespace's events on the server, and answers for all Jobs in it."""
LIMIT = "500"


class Inquiry:
    """Lists the events FailedCreate of Jobs, a namespace at a time."""

    def __init__(self, client: Client, store: Store, now: Callable[[], float] | None = None) -> None:
        self._client = client
        self._store = store
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._asked: dict[str, float] = {}

    async def ask(self, job: ObjectKey) -> bool:
        """Whether there is news of why Jobs of this namespace have no pods; it is in the store then.

        What cannot be listed is left unsaid: the resource names the command that shows it.
        """
        now = self._now()
        if now < self._asked.get(job.namespace, float("-inf")) + REST_SECONDS:
            return False
        self._asked = {namespace: at for namespace, at in self._asked.items() if now < at + REST_SECONDS} | {job.namespace: now}
        try:
            page = await self._client.list_page(
                EVENTS, job.namespace, {"fieldSelector": "reason=FailedCreate,regarding.kind=Job", "limit": LIMIT}
            )
        except ApiError as error:
            log.warning("cannot list events", extra={"namespace": job.namespace, "code": error.code, "error": error.message})
            return False
        found = sorted(page["items"], key=_last)
        for event in found:
            self._store.set_refused_pod(event["regarding"].get("uid", ""), RefusedPod(event.get("note", ""), _last(event)))
        return bool(found)


def _last(event: Json) -> datetime:
    """When the event was last seen: which field tells depends on who wrote it, and with which API."""
    times = (
        (event.get("series") or {}).get("lastObservedTime"),
        event.get("deprecatedLastTimestamp"),
        event.get("eventTime"),
        event["metadata"]["creationTimestamp"],
    )
    return max(time_of(time) for time in times if time)

"""After the end of a run: its Jobs go when their time has come, the result stays, and nothing is started again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from modelship_operator.controllers.common.pods import time_of
from modelship_operator.controllers.common.sidecars import end_job
from modelship_operator.controllers.framework import ObjectKey, Plan

Json = dict[str, Any]


def after_the_end(resource: Json, jobs: Sequence[Json], pods: Sequence[Json], now: datetime) -> Plan:
    """Of a finished run: delete those of its Jobs that are left once `ttlSecondsAfterFinished` is over; wake up for it until then.

    A Job that would go on for a foreign container is ended. An edit of a field that may be edited is observed: the same status,
    about the new generation.
    """
    left = _seconds_left(resource, jobs, time_of(resource["status"]["completionTime"]), now)
    status = _observed_again(resource)
    if left == 0:
        return Plan(delete=tuple(_key(job) for job in jobs), status=status)
    ends = [end_job(job, pods) for job in jobs]
    return Plan(
        apply=tuple(job for end in ends for job in end.apply),
        delete=tuple(key for end in ends for key in end.delete),
        status=status,
        requeue_after=left,
    )


def first_look(resource: Json, jobs: Sequence[Json], pods: Sequence[Json], completed: datetime, now: datetime) -> float | None:
    """Seconds from the end that is written down now to the first look at what it left: nobody tells a reconcile of its write."""
    return 0.0 if any(end_job(job, pods) for job in jobs) else _seconds_left(resource, jobs, completed, now)


def _key(job: Json) -> ObjectKey:
    return ObjectKey("Job", job["metadata"]["namespace"], job["metadata"]["name"])


def _seconds_left(resource: Json, jobs: Sequence[Json], completed: datetime, now: datetime) -> float | None:
    """Until the Jobs of a run that was `completed` then are to go; None where they stay, or are gone."""
    ttl = resource["spec"].get("ttlSecondsAfterFinished")
    if ttl is None or not jobs:
        return None
    return max((completed + timedelta(seconds=ttl) - now).total_seconds(), 0.0)


def _observed_again(resource: Json) -> Json | None:
    generation, status = resource["metadata"].get("generation", 1), resource["status"]
    if status.get("observedGeneration") == generation:
        return None
    stored = [{**condition, "observedGeneration": generation} for condition in status["conditions"]]
    return {**status, "observedGeneration": generation, "conditions": stored}

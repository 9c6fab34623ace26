"""How a Job of ours goes: what its conditions and its pods' statuses say together.

Jobs and pods are watched apart, so one may be seen ahead of the other: where a Job says that it ended and its pods have not been
seen to, `GRACE` is given before the pods are taken for lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.outcome import parse_outcome
from modelship_operator.controllers.common.pods import (
    Ending,
    Finding,
    Json,
    clock,
    describe_ending,
    ending,
    late_at,
    refused_pod,
    time_of,
    why_waiting,
)
from modelship_operator.controllers.framework import RefusedPod
from modelship_operator.resources.pod import CONTAINER
from modelship_trainer.protocol import ExitCode, Failure, FailureReason

GRACE = timedelta(seconds=30)
"""How long a Job's end waits for the end of its pods to be seen; and a Job without a pod, for one."""
JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"


def pods_of(job: Json | None, pods: Iterable[Json]) -> list[Json]:
    """Those of `pods` that this very Job made: one of the same name before it does not count."""
    if job is None:
        return []
    return [pod for pod in pods if pod["metadata"].get("labels", {}).get(JOB_UID_LABEL) == job["metadata"]["uid"]]


def condition_of(job: Json, kind: str) -> Json | None:
    """The Job's condition of this type (Complete, Failed) where it is True."""
    stored = job.get("status", {}).get("conditions") or []
    return next((condition for condition in stored if condition["type"] == kind and condition["status"] == "True"), None)


def finished_indexes(job: Json) -> set[int]:
    """Completion indexes whose pods succeeded, by the Job's own account (`0-2,4`)."""
    spans = (span.split("-") for span in (job.get("status", {}).get("completedIndexes") or "").split(",") if span)
    return {index for span in spans for index in range(int(span[0]), int(span[-1]) + 1)}


def endings_of(pods: Iterable[Json]) -> list[Ending]:
    """How the pods that ended did so, oldest first."""
    ends = (end for pod in pods if (end := ending(pod, CONTAINER)))
    return sorted(ends, key=lambda end: end.finished_at)


def is_free(ended: Ending) -> bool:
    """Whether the Job's failure policy ignores this end: a disruption, or a clean stop on SIGTERM."""
    return ended.disruption is not None or ended.exit_code == ExitCode.INTERRUPTED


def counted(endings: Iterable[Ending]) -> list[Ending]:
    """The ends that count against retryLimit."""
    return [end for end in endings if not end.succeeded and not is_free(end)]


def failure_of(ended: Ending, worker: str, oom_cure: str) -> Finding:
    """Why this pod failed. `worker` names it ("worker 0", "fold 3"); `oom_cure` says what helps where memory ran out."""
    said = parse_outcome(ended.text)
    if isinstance(said, Failure):
        return Finding(said.reason, said.message)
    if ended.out_of_memory:
        return Finding(FailureReason.OUT_OF_MEMORY, f"{worker} was killed at its {oom_cure}.")
    if ended.exit_code == ExitCode.INTERRUPTED and ended.disruption is None:
        return Finding(Reason.DISRUPTED, f"{worker} was stopped after a checkpoint.")
    return Finding(Reason.DISRUPTED if ended.disruption else Reason.WORKER_FAILED, f"{worker} {describe_ending(ended)}.")


def next_look(job: Json, pods: Sequence[Json], now: datetime) -> float | None:
    """Seconds until something that nothing else tells of: a pod that should be there, or should have started."""
    return until_late(pods, now) if podless_since(job, pods) is None else GRACE.total_seconds()


def podless_since(job: Json, pods: Sequence[Json]) -> datetime | None:
    """Since when a started Job has had no pod at work; None where it has one, or is not started."""
    started, endings = job.get("status", {}).get("startTime"), endings_of(pods)
    if not started or len(endings) < len(pods):
        return None
    return max([time_of(started), *(end.finished_at for end in endings)])


def lacks_pod(job: Json, pods: Sequence[Json], now: datetime) -> bool:
    """Whether it has been without one for longer than making one takes: it is worth asking why."""
    since = podless_since(job, pods)
    return since is not None and now >= since + GRACE


def until_late(pods: Sequence[Json], now: datetime) -> float | None:
    """Seconds until the first of those pods that have not started counts as late."""
    return min(((at - now).total_seconds() for pod in pods if (at := late_at(pod)) and at > now), default=None)


def why_job_waits(job: Json, pods: Sequence[Json], refused: RefusedPod | None, now: datetime) -> Finding | None:
    """Why a Job that should run has no running pod: its queue, what forbids the pod, or what the newest pod waits for."""
    queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
    if queue and job.get("spec", {}).get("suspend"):
        since = clock(time_of(job["metadata"]["creationTimestamp"]), now)
        return Finding(Reason.QUEUED, f'waiting in queue "{queue}" since {since}.')
    live = [pod for pod in pods if ending(pod, CONTAINER) is None]
    if live:
        return next((why for pod in live if (why := why_waiting(pod, now))), None)
    return _why_podless(job, pods, refused, now)


def _why_podless(job: Json, pods: Sequence[Json], refused: RefusedPod | None, now: datetime) -> Finding | None:
    since = podless_since(job, pods)
    if since is None or now < since + GRACE:
        return None
    if refused is not None and refused.at >= since:
        why = refused_pod(refused.message)
    elif pods:
        return None  # after a failure the Job controller waits, up to ten minutes, before it makes the next
    else:
        why = f"kubectl describe job {job['metadata']['name']} has the reason"
    return Finding(Reason.POD_NOT_CREATED, f"no pod can be created since {clock(since, now)}: {why}.")

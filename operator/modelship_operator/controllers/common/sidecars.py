"""What is done about a container that somebody else puts into our pods, as a service mesh does. Pure.

It does not end with our work, so that neither the pod nor its Job ever would. The work's own container says how it ended
(`pods.ending`); then what is left has to be ended by us:

- The result is written down, or the folds are all done: the Job is suspended, so that the Job controller deletes its pods and
  starts no other, whatever exit status the foreign container has. A queue owns its Jobs' `suspend`: there the Job is deleted.
- The work failed: its pod is deleted, and the Job's own rules say whether another follows.
- A fold is done and another has no room: its pod is deleted. Otherwise it stays until all are done, since a foreign container that
  is killed makes a failure of a pod that did its work.

Native sidecars (init containers with restartPolicy Always) need none of it: kubelet ends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.jobs import condition_of, finished_indexes, pods_of
from modelship_operator.controllers.common.pods import ending, index_of, is_outlived, why_waiting
from modelship_operator.controllers.framework import Json, ObjectKey
from modelship_operator.resources.common import QUEUE_LABEL
from modelship_operator.resources.job import suspended
from modelship_operator.resources.pod import CONTAINER


class Ends(NamedTuple):
    """What ends that would not end by itself, as parts of a plan."""

    apply: tuple[Json, ...] = ()
    delete: tuple[ObjectKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.apply or self.delete)


def end_job(job: Json | None, pods: Sequence[Json]) -> Ends:
    """Of a Job whose work is done: end it where foreign containers keep it."""
    if job is None or "deletionTimestamp" in job["metadata"] or not outlived(pods_of(job, pods)):
        return Ends()
    if condition_of(job, "Complete") or condition_of(job, "Failed") or job["spec"].get("suspend"):
        return Ends()
    if QUEUE_LABEL in job["metadata"].get("labels", {}):
        return Ends(delete=(_key(job, "Job"),))
    return Ends(apply=(suspended(job),))


def end_pods(job: Json, pods: Sequence[Json], now: datetime) -> tuple[ObjectKey, ...]:
    """Of a Job that goes on: those of its pods to delete, so that it can."""
    held = [(pod, end) for pod in outlived(pods) if (end := ending(pod, CONTAINER))]
    room = _wants_room(job, pods, now)
    return tuple(_key(pod, "Pod") for pod, end in held if room or not end.succeeded)


def outlived(pods: Sequence[Json]) -> list[Json]:
    """Those whose work has ended, and which go on for a foreign container."""
    return [pod for pod in pods if is_outlived(pod, CONTAINER)]


def _wants_room(job: Json, pods: Sequence[Json], now: datetime) -> bool:
    """Whether an index of the Job has no pod yet, or one that finds no node."""
    placed = {index_of(pod) for pod in pods if (why := why_waiting(pod, now)) is None or why.reason != Reason.UNSCHEDULABLE}
    completions: int = job["spec"].get("completions", 1)
    return len(placed | finished_indexes(job)) < completions


def _key(obj: Json, kind: str) -> ObjectKey:
    return ObjectKey(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])

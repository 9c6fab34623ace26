"""Why a pod does not run, and how one ended: `Pod.status` as the sentence that a user reads.

The texts of scheduler and kubelet quoted here were seen on Kubernetes 1.36. What they say is turned into one sentence that stays
the same while nothing changes (a back-off and the error behind it read alike), so that a status is not written for noise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.outcome import last_line, shorten
from modelship_operator.resources.common import annotation

Json = dict[str, Any]

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
_PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
_CREATE_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_DISRUPTIONS = {
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "EvictionByEvictionAPI": "was evicted, as when a node is drained",
    "DeletionByTaintManager": "was removed from a node with a taint that it does not tolerate",
    "DeletionByPodGC": "was lost with its node",
    "TerminationByKubelet": "was stopped by its node",
}


LATE = timedelta(minutes=2)
"""A pod that has a node, and of which nothing runs for this long, is said to wait: most images and volumes are there by then."""


class Finding(NamedTuple):
    """A reason (CamelCase, of `api.reasons`) and the sentence for it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a pod ended."""

    index: int
    """Completion index: the worker or fold."""
    exit_code: int | None
    """Of the main container; None where it never started or nobody saw it end."""
    text: str
    """Termination message, or the crash's last log lines (FallbackToLogsOnError), or what kubelet said."""
    out_of_memory: bool
    disruption: str | None
    """What took the pod away, as words that follow "worker 0"; None where it ended by itself."""
    finished_at: datetime

    @property
    def succeeded(self) -> bool:
        """Whether it ended with exit status 0."""
        return self.exit_code == 0


def index_of(pod: Json) -> int:
    """Completion index of a pod of an Indexed Job."""
    return int(annotation(pod, INDEX_ANNOTATION) or 0)


def container_statuses(pod: Json) -> list[Json]:
    """Of all containers, those that start first before the others."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def time_of(text: str) -> datetime:
    """The instant in an RFC 3339 time of the API server."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def clock(since: datetime, now: datetime) -> str:
    """`14:02`, in UTC; with the date once that is no longer today's."""
    return since.strftime("%H:%M" if since.date() == now.date() else "%Y-%m-%d %H:%M")


# --- not running --------------------------------------------------------------------------------------------------------------


def why_waiting(pod: Json, now: datetime) -> Finding | None:
    """Why a pending pod does not run; None where it is on its way, runs, or has ended."""
    if pod["status"].get("phase", "Pending") != "Pending":
        return None
    return _unscheduled(pod, now) or _not_started(pod) or _late(pod, now)


def late_at(pod: Json) -> datetime | None:
    """When a pod that has a node, but of which nothing has run yet, counts as late: nothing else tells of that moment."""
    condition = _condition(pod, "PodScheduled")
    scheduled = condition is not None and condition["status"] == "True"
    if pod["status"].get("phase", "Pending") != "Pending" or not scheduled or _has_begun(pod):
        return None
    assert condition is not None  # noqa: S101 - for the type checker
    return time_of(condition["lastTransitionTime"]) + LATE


def refused_pod(text: str) -> str:
    """Why no pod can be made (a quota, a policy, a priority class), without the name that each trial invents, nor a full stop."""
    why = text.strip().removeprefix("Error creating: ")
    return shorten(re.sub(r'^[Pp]ods? "[^"]*" is', "a pod is", why).rstrip("."))


def _late(pod: Json, now: datetime) -> Finding | None:
    late = late_at(pod)
    if late is None or now < late:
        return None
    name = pod["metadata"]["name"]
    return Finding(
        Reason.CONTAINER_NOT_STARTED,
        f"pod {name} has had a node since {clock(late - LATE, now)} and has not started: its image is still being pulled, or a "
        f"volume cannot be attached; kubectl describe pod {name} says which.",
    )


def _has_begun(pod: Json) -> bool:
    states = [status.get("state", {}) for status in container_statuses(pod)]
    return any("running" in state or "terminated" in state for state in states)


def _unscheduled(pod: Json, now: datetime) -> Finding | None:
    condition = _condition(pod, "PodScheduled")
    if condition is None or condition["status"] != "False":
        return None
    text = condition.get("message", "")
    claim = re.search(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted)', text)
    if claim:
        what = "does not exist yet" if claim[2] == "not found" else "is being deleted"
        return Finding(Reason.WAITING_FOR_CLAIM, f'PersistentVolumeClaim "{claim[1]}" {what}.')
    if "unbound immediate PersistentVolumeClaims" in text:
        names = " or ".join(f'"{name}"' for name in _claims(pod))
        return Finding(Reason.WAITING_FOR_CLAIM, f"PersistentVolumeClaim {names} is not bound to a volume yet.")
    since = clock(time_of(condition["lastTransitionTime"]), now)
    return Finding(Reason.UNSCHEDULABLE, f"{_scheduler_sentence(text)}; waiting since {since}.")


def _scheduler_sentence(text: str) -> str:
    """`0/3 nodes fit: 3 Insufficient nvidia.com/gpu` of the scheduler's message, without what it says of preemption."""
    nodes = re.match(
        r"(\d+/\d+) nodes are available: (.*?)\.?(?: (?:no new claims|preemption:|No preemption).*)?$", text, re.DOTALL
    )
    return shorten(f"{nodes[1]} nodes fit: {nodes[2]}" if nodes else (text.rstrip(".") or "no node was found"))


def _not_started(pod: Json) -> Finding | None:
    for status in container_statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        reason, text = waiting.get("reason"), waiting.get("message", "")
        if reason in _PULL_REASONS:
            return Finding(Reason.IMAGE_PULL_FAILED, f'image "{status["image"]}" cannot be pulled: {_pull_error(reason, text)}.')
        if reason in _CREATE_REASONS:
            return _container_error(status["name"], text)
    return None


def _pull_error(reason: str, text: str) -> str:
    """The last part of kubelet's chain of errors: the parts before it repeat the image's name and carry changing port numbers."""
    if reason == "ErrImageNeverPull":
        return "it is not on the node and the pull policy is Never"
    return shorten(text.rsplit(": ", 1)[-1].rstrip(".")) or "the registry gave no reason"


def _container_error(container: str, text: str) -> Finding:
    secret = re.search(r'secret "([^"]+)" not found', text)
    if secret:
        return Finding(Reason.WAITING_FOR_SECRET, f'Secret "{secret[1]}" does not exist yet.')
    return Finding(Reason.CONTAINER_NOT_STARTED, f"container {container} cannot be started: {shorten(text.rstrip('.'))}.")


# --- ended --------------------------------------------------------------------------------------------------------------------


def ending(pod: Json, container: str) -> Ending | None:
    """How the work in a pod that is never restarted ended; None where it has not.

    `container` is the one whose exit status and message count: with its end the work is over, whatever a foreign container does.
    A failure of a pod without one is told when the pod has ended, as only then kubelet says whether it was disrupted.
    """
    terminated = _terminated(pod, container)
    if not _is_over(pod) and not (_end_of(pod, container) and (_has_others(pod) or terminated["exitCode"] == 0)):
        return None
    text = terminated.get("message") or pod["status"].get("message", "")
    return Ending(
        index=index_of(pod),
        exit_code=terminated.get("exitCode"),
        text=text,
        out_of_memory=terminated.get("reason") == "OOMKilled",
        disruption=_disruption(pod),
        finished_at=time_of(terminated.get("finishedAt") or pod["metadata"]["creationTimestamp"]),
    )


def is_running(pod: Json, container: str) -> bool:
    """Whether the work in the pod goes on."""
    return pod["status"].get("phase") == "Running" and ending(pod, container) is None


def is_outlived(pod: Json, container: str) -> bool:
    """Whether the work has ended while a container that is not ours goes on, and with it the pod."""
    if _is_over(pod) or "deletionTimestamp" in pod["metadata"] or not _end_of(pod, container):
        return False
    others = [status for status in pod["status"].get("containerStatuses", []) if status["name"] != container]
    return any("running" in status.get("state", {}) for status in others)


def describe_ending(ended: Ending) -> str:
    """What happened to the worker, as words that go on after "worker 0" and end without a full stop."""
    if ended.disruption:
        return ended.disruption
    line = last_line(ended.text)
    said = f": {line.rstrip('.')}" if line else ""
    if ended.exit_code is None:
        return f"ended without an exit status{said}"
    if ended.exit_code > 128 and not line:
        return f"was killed by signal {ended.exit_code - 128}"
    return f"ended with exit status {ended.exit_code}{said}"


def _is_over(pod: Json) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _has_others(pod: Json) -> bool:
    return len(pod["status"].get("containerStatuses", [])) > 1


def _end_of(pod: Json, container: str) -> Json | None:
    ends = (
        status.get("state", {}).get("terminated")
        for status in pod["status"].get("containerStatuses", [])
        if status["name"] == container
    )
    return next(ends, None)


def _terminated(pod: Json, container: str) -> Json:
    ends: list[Json] = [end for status in container_statuses(pod) if (end := status.get("state", {}).get("terminated"))]
    failed = [end for end in ends if end.get("exitCode")]
    return _end_of(pod, container) or next(iter(failed or ends), {})


def _disruption(pod: Json) -> str | None:
    condition = _condition(pod, "DisruptionTarget")
    if condition is None or condition["status"] != "True":
        return None
    words = _DISRUPTIONS.get(condition.get("reason", ""), "was disrupted")
    why = pod["status"].get("message") if condition.get("reason") == "TerminationByKubelet" else None
    return f"{words}: {shorten(why.strip().rstrip('.'))}" if why else words


def _condition(pod: Json, kind: str) -> Json | None:
    return next((condition for condition in pod["status"].get("conditions", []) if condition["type"] == kind), None)


def _claims(pod: Json) -> list[str]:
    volumes = pod.get("spec", {}).get("volumes", [])
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]

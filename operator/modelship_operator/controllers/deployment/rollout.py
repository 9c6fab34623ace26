"""How far a Deployment's pods are, and what keeps them from serving. Pure: Kubernetes objects in, facts out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from modelship_operator.controllers.common.outcome import last_line, parse_outcome
from modelship_operator.controllers.common.pods import Finding, container_statuses, refused_pod, why_waiting
from modelship_operator.resources.common import annotation
from modelship_operator.resources.serving import DIGEST_ANNOTATION, REPOSITORY
from modelship_trainer.protocol import ExitCode, Failure, FailureReason

Json = dict[str, Any]


class Trouble(NamedTuple):
    """What keeps a pod from serving."""

    finding: Finding
    final: bool
    """Whether waiting cannot help: the user has to change something."""


class Rollout(NamedTuple):
    """What the pods of a Deployment do."""

    replicas: int
    """Pods that the Deployment's controller has made, old and new."""
    ready: int
    """Pods that answer, old and new."""
    updated: int
    """Pods of the newest template that answer."""
    served_digest: str | None
    """What the ready pods serve; while two digests are served, the one served before."""
    done: bool
    """Every wanted pod is there, of the newest template, and ready; no other is left."""
    trouble: Trouble | None


def observe_rollout(deployment: Json | None, pods: Sequence[Json], served_before: str | None, now: datetime) -> Rollout:
    """Judge a rollout by the Deployment's own status and its pods."""
    if deployment is None:
        return Rollout(0, 0, 0, None, False, None)
    status = deployment.get("status", {})
    return Rollout(
        replicas=status.get("replicas", 0),
        ready=status.get("readyReplicas", 0),
        updated=min(
            status.get("updatedReplicas", 0), sum(is_ready(pod) and digest_of(pod) == digest_of(deployment) for pod in pods)
        ),
        served_digest=_served(pods, served_before),
        done=_done(deployment),
        trouble=_trouble(deployment, pods, now),
    )


def digest_of(deployment_or_pod: Json) -> str | None:
    """The digest that the template of a Deployment, or a pod, names."""
    return annotation(deployment_or_pod.get("spec", {}).get("template", deployment_or_pod), DIGEST_ANNOTATION)


def _done(deployment: Json) -> bool:
    """As `kubectl rollout status` judges."""
    spec, status = deployment["spec"], deployment.get("status", {})
    wanted = spec.get("replicas", 1)
    counts = (status.get("updatedReplicas", 0), status.get("replicas", 0), status.get("availableReplicas", 0))
    return status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0) and counts == (wanted,) * 3


def _served(pods: Sequence[Json], before: str | None) -> str | None:
    digests = sorted({digest for pod in pods if is_ready(pod) and (digest := digest_of(pod))})
    if before in digests:
        return before
    return digests[0] if digests else None


def is_ready(pod: Json) -> bool:
    """Whether the pod answers, and is not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


# --- trouble ------------------------------------------------------------------------------------------------------------------


def _trouble(deployment: Json, pods: Sequence[Json], now: datetime) -> Trouble | None:
    """Of the pods of the newest template, what keeps the first (by name, so that the sentence stays the same) from serving."""
    digest = digest_of(deployment)
    waiting = [
        pod for pod in pods if digest_of(pod) == digest and not is_ready(pod) and not pod["metadata"].get("deletionTimestamp")
    ]
    late = _progress_deadline_exceeded(deployment)
    none = _replica_failure(deployment)
    found = [trouble for pod in sorted(waiting, key=_name) if (trouble := _trouble_of(pod, now))]
    found.sort(key=lambda trouble: not trouble.final)
    if found:
        return found[0]._replace(final=found[0].final or late is not None)
    if none:
        return Trouble(none, final=late is not None)
    return Trouble(late, final=True) if late else None


def _name(pod: Json) -> str:
    return str(pod["metadata"]["name"])


def _trouble_of(pod: Json, now: datetime) -> Trouble | None:
    if failure := _repository_failure(pod):
        return failure
    if finding := why_waiting(pod, now):
        return Trouble(finding, final=False)
    return next((trouble for status in container_statuses(pod) if (trouble := _crash(pod, status))), None)


def _repository_failure(pod: Json) -> Trouble | None:
    """What the init step said when it refused; its exit status is the contract's."""
    status = next((entry for entry in container_statuses(pod) if entry["name"] == REPOSITORY), {})
    ended = _last_end(status)
    if not ended.get("exitCode"):
        return None
    said = parse_outcome(ended.get("message"))
    if not isinstance(said, Failure):
        return _crash(pod, status)
    return Trouble(Finding(said.reason.value, said.message), final=ended["exitCode"] != ExitCode.TEMPORARY)


def _crash(pod: Json, status: Json) -> Trouble | None:
    ended = _last_end(status)
    if not ended or status.get("ready") or ended.get("exitCode") == 0:
        return None
    name = status["name"]
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, name)
        return Trouble(
            Finding(FailureReason.OUT_OF_MEMORY.value, f"{name} was killed at its limit of {limit}; raise compute.memory."),
            final=False,
        )
    line = last_line(ended.get("message"))
    said = f": {line.rstrip('.')}" if line else ""
    return Trouble(
        Finding("ContainerCrashed", f"{name} ended with exit status {ended.get('exitCode')}{said}; it is started again."),
        final=False,
    )


def _last_end(status: Json) -> Json:
    """How a container last ended: now, or before it was started again."""
    ended: Json = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    return ended


def _memory_limit(pod: Json, container: str) -> str:
    spec = pod.get("spec", {})
    for entry in [*spec.get("initContainers", []), *spec.get("containers", [])]:
        if entry["name"] == container:
            return str(entry.get("resources", {}).get("limits", {}).get("memory", "memory"))
    return "memory"


def _replica_failure(deployment: Json) -> Finding | None:
    """Why no pod can be made."""
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return Finding("PodNotCreated", f"no pod can be created: {refused_pod(condition.get('message', ''))}.")
    return None


def _progress_deadline_exceeded(deployment: Json) -> Finding | None:
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
            return Finding("ProgressDeadlineExceeded", f"no new pod became ready within {seconds} s.")
    return None

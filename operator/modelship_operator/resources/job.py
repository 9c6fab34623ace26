"""Jobs of ours: Indexed, so that a pod has a stable number; failures told apart by the contract's exit codes."""

from __future__ import annotations

from modelship_operator.resources.common import QUEUE_LABEL, Json, metadata
from modelship_operator.resources.pod import CONTAINER, Work, pod_template
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import ExitCode

RECIPE_ANNOTATION = "modelship.dev/recipe-digest"
"""On the Job of a training: of the recipe that it was made from."""
FAIL_CODES = (ExitCode.INVALID, ExitCode.DIGEST_MISMATCH)
"""The same run would fail again: fail now."""
FREE_CODES = (ExitCode.INTERRUPTED,)
"""Somebody stopped the pod, which wrote a checkpoint: the next one goes on from it, and retryLimit is not touched."""


def indexed_job(
    settings: PodSettings,
    work: Work,
    *,
    name: str,
    retry_limit: int,
    annotations: dict[str, str] | None = None,
    completions: int = 1,
    parallelism: int = 1,
    deadline_seconds: int | None = None,
    suspend: bool = False,
) -> Json:
    """The whole Job.

    Its TTL is ours to keep (`controllers/common/finished.py`): the TTL controller could delete a Job whose result nobody has read.
    `suspend` is left out for a queue, whose owner (Kueue) sets it.
    """
    queue = work.compute.queue
    spec: Json = {
        "completionMode": "Indexed",
        "completions": completions,
        "parallelism": min(parallelism, completions),
        "backoffLimit": retry_limit,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _failure_policy(),
        "template": pod_template(settings, work),
    }
    if deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = deadline_seconds
    if queue is None:
        spec["suspend"] = suspend
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(work.owner, name, {QUEUE_LABEL: queue} if queue else None, annotations),
        "spec": spec,
    }


def suspended(observed: Json) -> Json:
    """The Job as it is, but without pods: none runs on, and none is started."""
    metadata = observed["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in metadata}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": kept, "spec": {**observed["spec"], "suspend": True}}


def _failure_policy() -> Json:
    """First match counts; what matches nothing counts against backoffLimit."""

    def exits(action: str, codes: tuple[ExitCode, ...]) -> Json:
        values = sorted(int(code) for code in codes)
        return {"action": action, "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": values}}

    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {"rules": [exits("FailJob", FAIL_CODES), disrupted, exits("Ignore", FREE_CODES)]}

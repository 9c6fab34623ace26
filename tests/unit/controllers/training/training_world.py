"""A training and its surroundings as the store holds them: builders for tables, and an API server that does what a plan says."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelship_operator.controllers.framework import Failure, Json, ObjectKey, Plan
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import ArtifactRef, Progress, TrainResult
from modelship_trainer.recipe import Recipe

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)
UID, JOB_UID = "11111111-aaaa", "22222222-bbbb"
SETTINGS = PodSettings("trainer:1", "triton:1", "gateway:1", "operator:1", progress_url="http://operator:8090/v1/progress")
KEY = ObjectKey("Job", "default", "churn-train")
RECIPE: Json = {
    "data": {"source": "pvc://datasets/churn.parquet", "target": "churned"},
    "model": {"mlp": {"hidden": [64, 32]}},
    "training": {"task": "classification", "epochs": 30},
}
RECIPE_DIGEST = Recipe.model_validate(RECIPE).digest()
DIGEST, DATA_DIGEST = "sha256:" + "9f" * 32, "sha256:" + "da" * 32
RESULT = TrainResult(
    artifact=ArtifactRef(uri=f"pvc://models/artifacts/{DIGEST.replace(':', '-')}", digest=DIGEST),
    size_bytes=4096,
    recipe_digest=RECIPE_DIGEST,
    data_digest=DATA_DIGEST,
    epochs=30,
    steps=3000,
    metrics={"loss": "0.2114", "val_loss": "0.25", "val_accuracy": "0.9"},
    parameters=4321,
    duration_seconds=61.4,
    samples_per_second=1234.5,
)
PROGRESS = Progress(
    phase="Training", epoch=12, epochs=30, step=1200, steps=3000, loss="0.4", samples_per_second="1200", eta_seconds=130
)


def at(seconds: float) -> str:
    """The time `seconds` after NOW (before it, when negative), as Kubernetes writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def training(status: Json | None = None, *, generation: int = 1, **spec: Any) -> Json:
    metadata = {"namespace": "default", "name": "churn", "uid": UID, "generation": generation, "creationTimestamp": at(-3600)}
    return {"kind": "ModelTraining", "metadata": metadata, "spec": {**copy.deepcopy(RECIPE), **spec}, "status": status or {}}


def job(
    *conditions: Json,
    uid: str = JOB_UID,
    owner: str = UID,
    labels: Json | None = None,
    annotations: Json | None = None,
    gone: bool = False,
    **parts: Any,
) -> Json:
    """A pruned Job. `parts`: `suspend` of its spec, and fields of its status."""
    metadata: Json = {
        "namespace": "default",
        "name": "churn-train",
        "uid": uid,
        "creationTimestamp": at(-600),
        "labels": {"modelship.dev/uid": owner, **(labels or {})},
        "annotations": annotations or {},
    }
    if gone:
        metadata["deletionTimestamp"] = at(-1)
    spec = {"suspend": parts.pop("suspend", False)}
    status = {"startTime": at(-600), **parts, **({"conditions": list(conditions)} if conditions else {})}
    return {"kind": "Job", "metadata": metadata, "spec": spec, "status": {k: v for k, v in status.items() if v is not None}}


def over(kind: str, reason: str = "", message: str = "", seconds: float = -60) -> Json:
    """A Job's condition of its end."""
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(seconds)}


BACKOFF = over("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
POLICY = over(
    "Failed", "PodFailurePolicy", "Container trainer for pod default/p failed with exit code 64 matching FailJob rule at index 0"
)


def pod(name: str = "churn-train-0-a", phase: str = "Running", *, job_uid: str = JOB_UID, **status: Any) -> Json:
    metadata = {
        "namespace": "default",
        "name": name,
        "uid": name,
        "creationTimestamp": at(-500),
        "labels": {"batch.kubernetes.io/controller-uid": job_uid, "modelship.dev/uid": UID},
        "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
    }
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "trainer"}]},
        "status": {"phase": phase, **status},
    }


def ended(exit_code: int, message: str = "", reason: str = "Error", name: str = "churn-train-0-a", seconds: float = -60) -> Json:
    end = {"exitCode": exit_code, "message": message, "reason": reason, "finishedAt": at(seconds)}
    statuses = [{"name": "trainer", "state": {"terminated": end}}]
    return pod(name, "Failed" if exit_code else "Succeeded", containerStatuses=statuses)


def disrupted(reason: str, name: str = "churn-train-0-a", **status: Any) -> Json:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason}
    return pod(name, "Failed", conditions=[condition], **status)


def pending(message: str = "", seconds: float = -300) -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(phase="Pending", conditions=[{**condition, "lastTransitionTime": at(seconds)}])


def waiting(reason: str, message: str, image: str = "trainer:1") -> Json:
    return pod(
        phase="Pending",
        containerStatuses=[{"name": "trainer", "image": image, "state": {"waiting": {"reason": reason, "message": message}}}],
    )


def seen(
    *pods: Json,
    status: Json | None = None,
    has: Json | None = None,
    progress: Progress | None = None,
    refusal: Failure | None = None,
    generation: int = 1,
    **spec: Any,
) -> Observed:
    return Observed(training(status, generation=generation, **spec), SETTINGS, has, pods, progress, refusal)


def says(phase: str, mark: str | None, reason: str, message: str, *, generation: int = 1, since: float = 0, **facts: Any) -> Json:
    """A whole status. `mark`: the condition that is True besides (or instead of) Ready."""

    def condition(kind: str, status: bool) -> Json:
        return {
            "type": kind,
            "status": str(status),
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": at(since),
        }

    conditions = [condition("Ready", mark == "Ready")] + ([condition(mark, True)] if mark in ("Reconciling", "Stalled") else [])
    head = {"observedGeneration": generation, "phase": phase, "conditions": conditions, "recipeDigest": RECIPE_DIGEST}
    return {**head, **{key: value for key, value in facts.items() if value is not None}}


def act(before: Observed, plan: Plan) -> Observed:
    """What the store holds once the plan was carried out, as far as a Job's spec and the training's status go."""
    after, named = {**before.training, "status": plan.status or before.status}, before.named
    for applied in plan.apply:
        if named is None:
            named = job(uid="33333333-cccc", startTime=None, suspend=applied["spec"].get("suspend", False))
        named = {**named, "spec": {**named["spec"], **{k: v for k, v in applied["spec"].items() if k == "suspend"}}}
    if KEY in plan.delete:
        named = None
    return replace(before, training=after, named=named, refusal=None)

"""The chain in a namespace of a test's API server: what the pods of training and evaluation, the Job and the Deployment controller
would write."""

from __future__ import annotations

from typing import Any

from modelship_trainer.judgement import Metric, summarize
from modelship_trainer.protocol import ArtifactRef, EvaluateResult, TrainResult
from tests.support.builders import make_training
from tests.support.kubelet import Json, Namespace, now

DIGEST, OTHER = "sha256:" + "9f31" * 16, "sha256:" + "77aa" * 16
RECIPE, DATA, REPORT = (f"sha256:{character * 64}" for character in "abc")
SERVED = ("Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget")


def train(here: Namespace, name: str = "churn", digest: str = DIGEST, **spec: Any) -> None:
    """A training that published an artifact."""
    here.create(make_training(name, **spec))
    here.pod(here.job(f"{name}-train"), f"{name}-train-0")
    result = TrainResult(
        artifact=ArtifactRef(uri=f"pvc://models/artifacts/{digest.replace(':', '-')}", digest=digest),
        size_bytes=4096,
        recipe_digest=RECIPE,
        data_digest=DATA,
        epochs=2,
        steps=20,
        metrics={"loss": "0.2"},
        parameters=97,
        duration_seconds=3.2,
        samples_per_second=800.0,
    )
    here.end(f"{name}-train-0", 0, result.model_dump_json(by_alias=True), "Completed")
    here.reason("ModelTraining", name, "Succeeded")


def fold(here: Namespace, name: str, folds: int, done: int) -> None:
    """The folds' Job has brought `done` of `folds` to their end."""
    indexes = "0" if done == 1 else f"0-{done - 1}"
    status: Json = {"succeeded": done, "completedIndexes": indexes, "active": min(1, folds - done)}
    if done == folds:
        status |= _complete()
    here.patch("Job", f"{name}-folds", {"status": status}, "status")


def score(here: Namespace, name: str, *values: float, test: float, digest: str = DIGEST) -> None:
    """The scoring pod has measured roc_auc."""
    here.pod(here.job(f"{name}-score"), f"{name}-score-0")
    result = EvaluateResult(
        artifact_digest=digest,
        recipe_digest=RECIPE,
        data_digest=DATA,
        results=[summarize(Metric.ROC_AUC, values, test)],
        report="pvc://models/evaluations/u/report.html",
        report_digest=REPORT,
        rows=114,
    )
    here.end(f"{name}-score-0", 0, result.model_dump_json(by_alias=True, exclude_none=True), "Completed")


def complete_score(here: Namespace, name: str) -> None:
    """The scoring Job has been over for a while, with success."""
    long_ago = "2026-01-01T00:00:00Z"
    here.patch("Job", f"{name}-score", {"status": {"startTime": long_ago}}, "status")
    here.patch("Job", f"{name}-score", {"status": {"succeeded": 1, "active": 0, **_complete(long_ago)}}, "status")


def _complete(at: str | None = None) -> Json:
    at = at or now()
    said = {"status": "True", "reason": "CompletionsReached", "message": "", "lastTransitionTime": at, "lastProbeTime": at}
    return {"completionTime": at, "conditions": [{"type": "SuccessCriteriaMet", **said}, {"type": "Complete", **said}]}


def served(here: Namespace, name: str = "churn") -> dict[str, Json]:
    """The children of a ModelDeployment that are there, by kind."""
    return {kind: child for kind in SERVED if (child := here.get(kind, name))}


def serving_pod(here: Namespace, deployment: Json, name: str, *, ready: bool = True, **status: Any) -> None:
    """A pod that the Deployment's controllers would make, and its status."""
    template = deployment["spec"]["template"]
    metadata = {"name": name, "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"]}
    spec = {**template["spec"], "serviceAccountName": "default"}
    here.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
    here.pod_status(name, **{"phase": "Running" if ready else "Pending", "conditions": [condition], **status})


def roll(here: Namespace, name: str, replicas: int, ready: int | None = None) -> None:
    """The Deployment's controller has made `replicas` pods of the newest template, and no other is left."""
    generation = served(here, name)["Deployment"]["metadata"]["generation"]
    up = replicas if ready is None else ready
    counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": up, "availableReplicas": up}
    here.patch("Deployment", name, {"status": {"observedGeneration": generation, **counts}}, "status")

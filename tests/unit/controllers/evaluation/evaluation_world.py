"""A ModelEvaluation and its surroundings as the store holds them: builders for tables."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelship_operator.controllers.evaluation.observed import Observed
from modelship_operator.controllers.evaluation.plan import plan
from modelship_operator.controllers.framework import Failure, Json, Plan
from modelship_operator.kube.pruning import prune
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.judgement import Metric, summarize
from modelship_trainer.protocol import EvaluateResult, Progress

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)
UID, FOLDS_UID, SCORE_UID = "11111111-aaaa", "22222222-ffff", "33333333-5555"
SETTINGS = PodSettings("trainer:1", "triton:1", "gateway:1", "operator:1", progress_url="http://operator:8090/v1/progress")
DIGEST, OTHER = "sha256:9f31" + "0" * 60, "sha256:77aa" + "0" * 60
RECIPE_DIGEST, DATA_DIGEST, REPORT_DIGEST = (f"sha256:{character * 64}" for character in "abc")
URI = f"pvc://models/artifacts/{DIGEST.replace(':', '-')}"
FOLDED: Json = {
    "modelRef": {"training": "churn"},
    "method": {"kFold": {"folds": 5, "stratified": True, "parallelism": 2}},
    "metrics": ["accuracy", "roc_auc"],
    "gates": [{"metric": "roc_auc", "min": 0.8}],
}
HELD_OUT: Json = {**FOLDED, "method": {"holdout": {}}}


def at(seconds: float) -> str:
    """The time `seconds` after NOW (before it, when negative), as Kubernetes writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def evaluation(status: Json | None = None, *, generation: int = 1, **spec: Any) -> Json:
    metadata = {"namespace": "default", "name": "churn-cv", "uid": UID, "generation": generation, "creationTimestamp": at(-3600)}
    merged = {key: value for key, value in {**copy.deepcopy(FOLDED), **spec}.items() if value is not None}
    return {"kind": "ModelEvaluation", "metadata": metadata, "spec": merged, "status": status or {}}


def training(status: Json | None = None, **spec: Any) -> Json:
    recipe = {
        "data": {"source": "pvc://datasets/churn.parquet", "target": "churned"},
        "model": {"mlp": {}},
        "training": {"task": "classification"},
        "output": {"store": "pvc://models"},
    }
    return {"kind": "ModelTraining", "metadata": {"name": "churn"}, "spec": {**recipe, **spec}, "status": status or {}}


def trained(digest: str = DIGEST, **spec: Any) -> Json:
    return training({"artifact": {"uri": URI, "digest": digest, "sizeBytes": 1}}, **spec)


def stalled(message: str) -> Json:
    return {"conditions": [{"type": "Stalled", "status": "True", "reason": "R", "message": message}]}


def seen(
    *pods: Json,
    status: Json | None = None,
    training: Json | None = None,
    baseline: Json | None = None,
    folds: Json | None = None,
    score: Json | None = None,
    progress: Progress | None = None,
    refusal: Failure | None = None,
    generation: int = 1,
    **spec: Any,
) -> Observed:
    resource = evaluation(status, generation=generation, **spec)
    return Observed(resource, SETTINGS, training, baseline, folds, score, pods, progress, refusal)


def ready(*pods: Json, **parts: Any) -> Observed:
    """With a training that has published."""
    return seen(*pods, **{"training": trained(), **parts})


def job(
    kind: str,
    *conditions: Json,
    uid: str | None = None,
    gone: bool = False,
    suspend: bool = False,
    compute: Json | None = None,
    **status: Any,
) -> Json:
    """The Job that the plan makes, as the store keeps it. `kind`: folds or score."""
    spec = {"compute": compute, **({} if kind == "folds" else {"method": {"holdout": {}}})}
    (planned,) = plan(ready(**spec), NOW).apply
    metadata = {**planned["metadata"], "name": f"churn-cv-{kind}", "uid": uid or {"folds": FOLDS_UID, "score": SCORE_UID}[kind]}
    metadata["creationTimestamp"] = at(-600)
    if gone:
        metadata["deletionTimestamp"] = at(-1)
    state = {"startTime": at(-600), **status, **({"conditions": list(conditions)} if conditions else {})}
    state = {key: value for key, value in state.items() if value is not None}
    return prune({**planned, "metadata": metadata, "spec": {**planned["spec"], "suspend": suspend}, "status": state})


def over(kind: str, reason: str = "", message: str = "", seconds: float = -60) -> Json:
    """A Job's condition of its end."""
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(seconds)}


COMPLETE = over("Complete", "CompletionsReached")
BACKOFF = over("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


def pod(kind: str, phase: str = "Running", *, index: int = 0, job_uid: str | None = None, **status: Any) -> Json:
    uid = job_uid or {"folds": FOLDS_UID, "score": SCORE_UID}[kind]
    metadata = {
        "namespace": "default",
        "name": f"churn-cv-{kind}-{index}-a",
        "uid": f"{kind}-{index}",
        "creationTimestamp": at(-500),
        "labels": {"batch.kubernetes.io/controller-uid": uid, "modelship.dev/uid": UID},
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "trainer"}]},
        "status": {"phase": phase, **status},
    }


def ended(kind: str, exit_code: int, message: str = "", reason: str = "Error", index: int = 0, seconds: float = -60) -> Json:
    end = {"exitCode": exit_code, "message": message, "reason": reason, "finishedAt": at(seconds)}
    statuses = [{"name": "trainer", "state": {"terminated": end}}]
    return pod(kind, "Failed" if exit_code else "Succeeded", index=index, containerStatuses=statuses)


def scored(*values: float, test: float | None = 0.86, digest: str = DIGEST, **parts: Any) -> Json:
    """The scoring pod, with what it measured of roc_auc; `parts` are other fields of its result."""
    fields: Json = {
        "artifact_digest": digest,
        "recipe_digest": RECIPE_DIGEST,
        "data_digest": DATA_DIGEST,
        "results": [summarize(Metric.ROC_AUC, values, test)],
        "report": f"pvc://models/evaluations/{UID}/report.html",
        "report_digest": REPORT_DIGEST,
        "rows": 114,
    }
    result = EvaluateResult.model_validate(fields | parts)
    return ended("score", 0, result.model_dump_json(by_alias=True, exclude_none=True), "Completed")


def failure(reason: str, message: str) -> str:
    return f'{{"schemaVersion":1,"result":"Failed","reason":"{reason}","message":"{message}"}}'


def unscheduled(kind: str) -> Json:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": at(-300)}
    return pod(kind, "Pending", conditions=[{**condition, "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}])


def ready_of(planned: Plan) -> Json:
    assert planned.status is not None
    found: Json = planned.status["conditions"][0]
    return found


def mark_of(planned: Plan) -> str:
    """The condition that is True; empty: none, as while it is suspended."""
    assert planned.status is not None
    return next((entry["type"] for entry in planned.status["conditions"] if entry["status"] == "True"), "")


def task_of(planned_job: Json) -> Json:

    (container,) = planned_job["spec"]["template"]["spec"]["containers"]
    task: Json = json.loads(next(entry["value"] for entry in container["env"] if entry["name"] == "MODELSHIP_TASK"))
    return task

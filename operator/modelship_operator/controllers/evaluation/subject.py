"""What an evaluation measures: the artifact, and the data, image and store that its pods need. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from modelship_operator.api.common import Compute
from modelship_operator.api.evaluation import ModelEvaluationSpec
from modelship_operator.api.training import ModelTrainingSpec
from modelship_operator.controllers.common.conditions import Mark, State, find
from modelship_operator.resources.evaluation import Subject
from modelship_trainer.judgement import MetricResult, metrics_of
from modelship_trainer.protocol import ArtifactRef
from modelship_trainer.recipe import Task

Json = dict[str, Any]


def subject_of(name: str, spec: ModelEvaluationSpec, training: Json | None, baseline: Json | None) -> Subject | State:
    """What the evaluation `name` is to measure, or the state of waiting for it."""
    found = _of_training(spec, training) if spec.model_ref.training else _of_artifact(spec)
    if isinstance(found, State) or spec.baseline_ref is None:
        return found
    compared = _baseline(name, spec.baseline_ref.evaluation, baseline)
    return compared if isinstance(compared, State) else found.model_copy(update={"baseline": compared})


def _of_artifact(spec: ModelEvaluationSpec) -> Subject:
    artifact, data = spec.model_ref.artifact, spec.data
    assert artifact is not None and data is not None  # noqa: S101, PT018 - rules of the spec
    return Subject(
        artifact=ArtifactRef(uri=artifact.uri, digest=artifact.digest),
        store=_store_of(artifact.uri),
        sources=(data.source, artifact.uri),
        credentials_secret=data.credentials_secret,
        compute=spec.compute or Compute(),
    )


def _of_training(spec: ModelEvaluationSpec, training: Json | None) -> Subject | State:
    name = spec.model_ref.training or ""
    artifact = artifact_of(name, training)
    if isinstance(artifact, State):
        return artifact
    trained = ModelTrainingSpec.model_validate((training or {})["spec"])
    if strange := _of_another_task(spec, trained.training.task):
        message = f'{strange} is not a metric of {trained.training.task}, and ModelTraining "{name}" is one; measure '
        return State("Failed", Mark.STALLED, "SpecInvalid", f"{message}{', '.join(metrics_of(trained.training.task))}.")
    compute = spec.compute or trained.compute
    return Subject(
        artifact=artifact,
        store=trained.output.store,
        sources=(spec.data.source if spec.data else trained.data.source, artifact.uri),
        credentials_secret=_credentials(spec, trained),
        compute=compute.model_copy(update={"image": compute.image or trained.compute.image}),
    )


def _of_another_task(spec: ModelEvaluationSpec, task: Task) -> str | None:
    named = [*(spec.metrics or []), *(gate.metric for gate in spec.gates)]
    return next((metric.value for metric in named if metric not in metrics_of(task)), None)


def _credentials(spec: ModelEvaluationSpec, trained: ModelTrainingSpec) -> str | None:
    if spec.data is None:
        return trained.data.credentials_secret
    if spec.data.credentials_secret or not _same_server(spec.data.source, trained.data.source):
        return spec.data.credentials_secret
    return trained.data.credentials_secret


def _same_server(one: str, other: str) -> bool:
    """Whether what logs in to one source may be shown to the other: over https, to the very same host and port."""
    first, second = urlsplit(one), urlsplit(other)
    return first.scheme == second.scheme == "https" and first.netloc == second.netloc


def artifact_of(name: str, training: Json | None) -> ArtifactRef | State:
    """What the training has published, or the state of a resource that waits for it."""
    if training is None:
        return State("Waiting", Mark.RECONCILING, "WaitingForReference", f'ModelTraining "{name}" does not exist yet.')
    status = training.get("status", {})
    if published := status.get("artifact"):
        return ArtifactRef(uri=published["uri"], digest=published["digest"])
    stalled = find(status.get("conditions", []), "Stalled")
    if stalled and stalled["status"] == "True":
        return State("Waiting", Mark.STALLED, "TrainingFailed", f"{name}: {stalled['message']}")
    progress = status.get("progressText")
    return State(
        "Waiting", Mark.RECONCILING, "WaitingForTraining", f"{name} is not trained yet{f' ({progress})' if progress else ''}."
    )


def _baseline(own_name: str, name: str, evaluation: Json | None) -> list[MetricResult] | State:
    """What gates compare with; or the state of waiting for it."""
    if name == own_name:
        message = "spec.baselineRef.evaluation is this evaluation itself; name the one to compare with."
        return State("Failed", Mark.STALLED, "SpecInvalid", message)
    if evaluation is None:
        return State("Waiting", Mark.RECONCILING, "WaitingForReference", f'ModelEvaluation "{name}" does not exist yet.')
    status = evaluation.get("status", {})
    if results := status.get("results"):
        return [MetricResult.model_validate(result) for result in results]
    stalled = find(status.get("conditions", []), "Stalled")
    if stalled and stalled["status"] == "True":
        return State("Waiting", Mark.STALLED, "BaselineFailed", f"{name} could not be measured: {stalled['message']}")
    return State("Waiting", Mark.RECONCILING, "WaitingForBaseline", f"{name} has no results to compare with yet.")


def _store_of(uri: str) -> str:
    """The store in which an artifact lies (`<store>/artifacts/<folder>`); of another layout, the folder that holds it."""
    parent = uri.rstrip("/").rpartition("/")[0]
    store = parent.removesuffix("/artifacts")
    return uri if store.endswith(":/") else store

"""What an evaluation measures: the artifact, and the data, image and store that its pods need. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from modelship_operator.api.evaluation import ModelEvaluationSpec
from modelship_operator.api.training import ModelTrainingSpec
from modelship_operator.controllers.common.conditions import Mark, State, find
from modelship_operator.resources.common import Owner
from modelship_operator.resources.evaluation import PINNED_ANNOTATION, Pinned
from modelship_operator.resources.pod import Work
from modelship_trainer.judgement import MetricResult
from modelship_trainer.protocol import ArtifactRef, EvaluateTask, RunRef

Json = dict[str, Any]


class Subject(NamedTuple):
    """What is measured, and what its pods need besides."""

    artifact: ArtifactRef
    store: str
    """Store of the artifact, in which the evaluation's own folder is made."""
    sources: tuple[str, ...]
    credentials_secret: str | None
    image: str | None


def subject_of(spec: ModelEvaluationSpec, training: Json | None) -> Subject | State:
    """The subject, or the state of an evaluation that has to wait for it."""
    other_data = (spec.data.source,) if spec.data else ()
    if spec.model_ref.artifact:
        artifact = ArtifactRef(uri=spec.model_ref.artifact.uri, digest=spec.model_ref.artifact.digest)
        return Subject(artifact, _store_of(artifact.uri), (*other_data, artifact.uri), None, spec.compute.image)
    name = spec.model_ref.training or ""
    found = artifact_of(name, training)
    if isinstance(found, State):
        return found
    trained = ModelTrainingSpec.model_validate((training or {})["spec"])
    sources = (*(other_data or (trained.data.source,)), found.uri)
    image = spec.compute.image or trained.compute.image
    secret = trained.data.credentials_secret
    if spec.data and not _same_server(spec.data.source, trained.data.source):
        secret = None
    return Subject(found, trained.output.store, sources, secret, image)


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


def baseline_of(spec: ModelEvaluationSpec, evaluation: Json | None) -> list[MetricResult] | State | None:
    """What gates compare with; None without a baseline; or the state of waiting for it."""
    if spec.baseline_ref is None:
        return None
    name = spec.baseline_ref.evaluation
    if evaluation is None:
        return State("Waiting", Mark.RECONCILING, "WaitingForReference", f'ModelEvaluation "{name}" does not exist yet.')
    status = evaluation.get("status", {})
    if results := status.get("results"):
        return [MetricResult.model_validate(result) for result in results]
    stalled = find(status.get("conditions", []), "Stalled")
    if stalled and stalled["status"] == "True":
        return State("Waiting", Mark.STALLED, "BaselineFailed", f"{name} could not be measured: {stalled['message']}")
    return State("Waiting", Mark.RECONCILING, "WaitingForBaseline", f"{name} has no results to compare with yet.")


def pinned(job: Json | None) -> Pinned | None:
    """What a Job of this evaluation was started with: it stays that, whatever becomes of training and baseline since."""
    noted = (job or {}).get("metadata", {}).get("annotations", {}).get(PINNED_ANNOTATION)
    return Pinned.model_validate_json(noted) if noted else None


def work_of(owner: Owner, spec: ModelEvaluationSpec, subject: Subject, baseline: list[MetricResult] | None) -> Work:
    """What the pods of this evaluation are told."""
    task = EvaluateTask(
        run=RunRef(kind="ModelEvaluation", namespace=owner.namespace, name=owner.name, uid=owner.uid),
        artifact=subject.artifact,
        source=spec.data.source if spec.data else None,
        method=spec.method,
        metrics=spec.metrics or [],
        gates=spec.gates,
        baseline=baseline,
        store=f"{subject.store.rstrip('/')}/evaluations/{owner.uid}",
    )
    compute = spec.compute.model_copy(update={"image": subject.image})
    return Work(owner, task, compute, subject.sources, subject.credentials_secret)


def _store_of(uri: str) -> str:
    """The store in which an artifact lies (`<store>/artifacts/<folder>`); of another layout, the folder that holds it."""
    parent = uri.rstrip("/").rpartition("/")[0]
    store = parent.removesuffix("/artifacts")
    return uri if store.endswith(":/") else store

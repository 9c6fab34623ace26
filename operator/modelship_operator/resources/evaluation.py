"""The Jobs of an evaluation: one that retrains each fold, one that scores the artifact and gathers."""

from __future__ import annotations

from modelship_operator.api.common import Compute
from modelship_operator.api.evaluation import ModelEvaluationSpec
from modelship_operator.resources.common import Json, Owner, annotation
from modelship_operator.resources.job import indexed_job
from modelship_operator.resources.pod import Work
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.judgement import MetricResult
from modelship_trainer.protocol import ArtifactRef, EvaluateTask, RunRef
from modelship_trainer.schema import Model, canonical_json

PINNED_ANNOTATION = "modelship.dev/pinned"
"""On the Jobs: what they were started with, where the operator can see it (it keeps no pod template of a Job)."""


class Subject(Model):
    """What an evaluation measures, with what and where: decided when its first Job is made, whatever becomes of the training."""

    artifact: ArtifactRef
    baseline: list[MetricResult] | None = None
    store: str
    """In which the evaluation's own folder is made."""
    sources: tuple[str, ...]
    """URIs that the pods read: data, artifact."""
    credentials_secret: str | None = None
    compute: Compute


def folds_name(evaluation: str) -> str:
    """Name of the Job whose pods share the folds."""
    return f"{evaluation}-folds"


def score_name(evaluation: str) -> str:
    """Name of the Job that scores the artifact."""
    return f"{evaluation}-score"


def subject_of_job(job: Json | None) -> Subject | None:
    """What a Job of an evaluation was started with."""
    noted = annotation(job, PINNED_ANNOTATION)
    return Subject.model_validate_json(noted) if noted else None


def work_of(owner: Owner, spec: ModelEvaluationSpec, subject: Subject, fold_pods: int | None = None) -> Work:
    """What the pods of this evaluation are told."""
    task = EvaluateTask(
        run=RunRef(kind="ModelEvaluation", namespace=owner.namespace, name=owner.name, uid=owner.uid),
        artifact=subject.artifact,
        source=spec.data.source if spec.data else None,
        method=spec.method,
        metrics=spec.metrics or [],
        gates=spec.gates,
        baseline=subject.baseline,
        store=f"{subject.store.rstrip('/')}/evaluations/{owner.uid}",
        fold_pods=fold_pods,
    )
    return Work(owner, task, subject.compute, subject.sources, subject.credentials_secret)


def folds_job(settings: PodSettings, owner: Owner, spec: ModelEvaluationSpec, subject: Subject) -> Json:
    """`parallelism` pods, each of which trains its share of the folds in one process; retries are counted over all of them.

    Not with backoffLimitPerIndex: its failed pods keep their finalizer until a replacement exists, which a namespace that is being
    deleted never gets (Kubernetes 1.33 and newer delete pods first, and wait): its deletion would hang for ever.
    """
    folds = spec.method.k_fold
    assert folds is not None  # noqa: S101 - asked for only then
    return _job(settings, owner, spec, subject, folds_name(owner.name), fold_pods=min(folds.parallelism, folds.folds))


def score_job(settings: PodSettings, owner: Owner, spec: ModelEvaluationSpec, subject: Subject) -> Json:
    """One pod, whose termination message is the whole result. Not Indexed: a completion index would tell it to train a fold."""
    job = _job(settings, owner, spec, subject, score_name(owner.name))
    return {**job, "spec": {**job["spec"], "completionMode": "NonIndexed"}}


def _job(
    settings: PodSettings,
    owner: Owner,
    spec: ModelEvaluationSpec,
    subject: Subject,
    name: str,
    *,
    fold_pods: int | None = None,
) -> Json:
    return indexed_job(
        settings,
        work_of(owner, spec, subject, fold_pods),
        name=name,
        annotations={PINNED_ANNOTATION: canonical_json(subject.to_json()).decode()},
        retry_limit=spec.retry_limit,
        completions=fold_pods or 1,
        parallelism=fold_pods or 1,
        suspend=spec.suspend,
    )

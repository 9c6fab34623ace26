"""The Jobs of an evaluation: one that retrains each fold, one that scores the artifact and gathers."""

from __future__ import annotations

from modelship_operator.resources.common import Json
from modelship_operator.resources.job import indexed_job
from modelship_operator.resources.pod import Work
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.judgement import KFold, MetricResult
from modelship_trainer.protocol import ArtifactRef, EvaluateTask
from modelship_trainer.schema import Model, canonical_json

PINNED_ANNOTATION = "modelship.dev/pinned"
"""On the Jobs: what they were started with, where the operator can see it (it keeps no pod template of a Job)."""


class Pinned(Model):
    """What an evaluation measures and compares with, decided when its first Job is made."""

    artifact: ArtifactRef
    baseline: list[MetricResult] | None = None


def folds_name(evaluation: str) -> str:
    """Name of the Job whose completions are the folds."""
    return f"{evaluation}-folds"


def score_name(evaluation: str) -> str:
    """Name of the Job that scores the artifact."""
    return f"{evaluation}-score"


def folds_job(settings: PodSettings, work: Work, folds: KFold, *, retry_limit: int, suspend: bool) -> Json:
    """A completion per fold; retries are counted over all of them.

    Not with backoffLimitPerIndex: its failed pods keep their finalizer until a replacement exists, which a namespace that is being
    deleted never gets (Kubernetes 1.33 and newer delete pods first, and wait): its deletion would hang for ever.
    """
    name = folds_name(work.owner.name)
    job = indexed_job(
        settings, work, name=name, retry_limit=retry_limit, completions=folds.folds, parallelism=folds.parallelism, suspend=suspend
    )
    return _pinned(job, work)


def score_job(settings: PodSettings, work: Work, *, retry_limit: int, suspend: bool) -> Json:
    """One pod, whose termination message is the whole result. Not Indexed: a completion index would tell it to train a fold."""
    job = indexed_job(settings, work, name=score_name(work.owner.name), retry_limit=retry_limit, suspend=suspend)
    return _pinned({**job, "spec": {**job["spec"], "completionMode": "NonIndexed"}}, work)


def _pinned(job: Json, work: Work) -> Json:
    assert isinstance(work.task, EvaluateTask)  # noqa: S101 - Work of an evaluation
    noted = canonical_json(Pinned(artifact=work.task.artifact, baseline=work.task.baseline).to_json()).decode()
    return {**job, "metadata": {**job["metadata"], "annotations": {PINNED_ANNOTATION: noted}}}

"""What an evaluation's plan is made from: the resource, what it names, its Jobs, their pods, what they pushed, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from modelship_operator.api.evaluation import ModelEvaluationSpec
from modelship_operator.controllers.common.jobs import endings_of, pods_of
from modelship_operator.controllers.common.pods import Ending
from modelship_operator.controllers.framework import Failure, Json, ObjectKey, RefusedPod, StoreView
from modelship_operator.resources.common import UID_LABEL, Owner
from modelship_operator.resources.evaluation import Subject, folds_name, score_name, subject_of_job
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import Progress

KIND = "ModelEvaluation"


class Run(NamedTuple):
    """One of the two Jobs, and its pods."""

    key: ObjectKey
    named: Json | None
    """The Job of that name, whoever made it."""
    job: Json | None
    """Ours; None also where the name is taken."""
    pods: list[Json]
    """Pods of our Job, oldest first."""

    @property
    def endings(self) -> list[Ending]:
        """How those that ended did so, oldest first."""
        return endings_of(self.pods)


@dataclass(frozen=True)
class Observed:
    """All that `plan` knows besides the time."""

    evaluation: Json
    settings: PodSettings
    training: Json | None = None
    baseline: Json | None = None
    named_folds: Json | None = None
    named_score: Json | None = None
    all_pods: tuple[Json, ...] = ()
    """Pods of this evaluation, of deleted Jobs too, oldest first."""
    progress: Progress | None = None
    """Of the pod that is youngest."""
    refusal: Failure | None = None
    refused_pods: Mapping[str, RefusedPod] = field(default_factory=dict)
    """By a Job's uid: why it has no pod, where that was looked up."""
    trained: Mapping[str, int] = field(default_factory=dict)
    """By a pod's name: the fold that it said it trains."""

    @cached_property
    def owner(self) -> Owner:
        """The evaluation as its children name it."""
        metadata = self.evaluation["metadata"]
        return Owner(KIND, metadata["namespace"], metadata["name"], metadata["uid"])

    @cached_property
    def spec(self) -> ModelEvaluationSpec:
        """The spec, read strictly. Raises pydantic.ValidationError where the stored one is not what this version knows."""
        return ModelEvaluationSpec.model_validate(self.evaluation["spec"])

    @property
    def status(self) -> Json:
        """The stored status."""
        status: Json = self.evaluation.get("status") or {}
        return status

    @property
    def generation(self) -> int:
        """Of the evaluation's metadata."""
        return int(self.evaluation["metadata"].get("generation", 1))

    @cached_property
    def folds(self) -> Run:
        """The Job whose pods share the folds."""
        return self._run(folds_name(self.owner.name), self.named_folds)

    @cached_property
    def score(self) -> Run:
        """The Job that scores the artifact."""
        return self._run(score_name(self.owner.name), self.named_score)

    @property
    def started_with(self) -> Subject | None:
        """What it measures since its first Job was made; None before."""
        return subject_of_job(self.folds.job) or subject_of_job(self.score.job)

    @property
    def jobs(self) -> tuple[Json, ...]:
        """Those of our Jobs that are there."""
        return tuple(run.job for run in (self.folds, self.score) if run.job is not None)

    def _run(self, name: str, named: Json | None) -> Run:
        ours = named is not None and named["metadata"].get("labels", {}).get(UID_LABEL) == self.owner.uid
        job = named if ours else None
        return Run(ObjectKey("Job", self.owner.namespace, name), named, job, pods_of(job, self.all_pods))

    @property
    def finished(self) -> bool:
        """Whether the status holds the end. Then nothing is run again, whatever becomes of the training, the Jobs and the pods."""
        return "completionTime" in self.status


def references(evaluation: Json) -> list[ObjectKey]:
    """The training that it measures, and its baseline."""
    namespace, spec = evaluation["metadata"]["namespace"], evaluation.get("spec", {})
    training = spec.get("modelRef", {}).get("training")
    baseline = spec.get("baselineRef", {}).get("evaluation")
    return [
        *([ObjectKey("ModelTraining", namespace, training)] if training else []),
        *([ObjectKey(KIND, namespace, baseline)] if baseline else []),
    ]


def observe(store: StoreView, evaluation: Json, settings: PodSettings) -> Observed:
    """Read the store, once for each thing; of a finished evaluation only its Jobs and their pods."""
    metadata = evaluation["metadata"]
    namespace, name, uid = metadata["namespace"], metadata["name"], metadata["uid"]
    folds, score = (store.get(ObjectKey("Job", namespace, child)) for child in (folds_name(name), score_name(name)))
    pods = tuple(store.children(uid, "Pod"))
    jobs = Observed(evaluation, settings, named_folds=folds, named_score=score, all_pods=pods)
    if jobs.finished:
        return jobs
    found = {key.kind: store.get(key) for key in references(evaluation)}
    pushed = store.progress(uid)
    return replace(
        jobs,
        training=found.get("ModelTraining"),
        baseline=found.get(KIND),
        progress=next((pushed[pod].progress for each in reversed(pods) if (pod := each["metadata"]["name"]) in pushed), None),
        refusal=store.failure(uid),
        refused_pods={job: why for job in (each["metadata"]["uid"] for each in jobs.jobs) if (why := store.refused_pod(job))},
        trained={pod: said.fold for pod, said in pushed.items() if said.fold is not None},
    )

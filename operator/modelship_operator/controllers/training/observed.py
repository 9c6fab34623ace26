"""What a training's plan is made from: the resource, its Job, the Job's pods, what they pushed, what was refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from modelship_operator.api.training import ModelTrainingSpec
from modelship_operator.controllers.common.jobs import endings_of, pods_of
from modelship_operator.controllers.common.pods import Ending
from modelship_operator.controllers.framework import Failure, Json, ObjectKey, RefusedPod, StoreView
from modelship_operator.resources.common import UID_LABEL, Owner, annotation
from modelship_operator.resources.job import RECIPE_ANNOTATION
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import Progress


@dataclass(frozen=True)
class Observed:
    """All that `plan` knows besides the time."""

    training: Json
    settings: PodSettings
    named: Json | None = None
    """The Job of our child's name, whoever made it."""
    all_pods: tuple[Json, ...] = ()
    """Pods of this training, of earlier Jobs too, oldest first."""
    progress: Progress | None = None
    refusal: Failure | None = None
    refused_pod: RefusedPod | None = None
    """Why our Job has no pod, where it was looked up."""

    @cached_property
    def owner(self) -> Owner:
        """The training as its children name it."""
        metadata = self.training["metadata"]
        return Owner("ModelTraining", metadata["namespace"], metadata["name"], metadata["uid"])

    @cached_property
    def spec(self) -> ModelTrainingSpec:
        """The spec, read strictly. Raises pydantic.ValidationError where the stored one is not what this version knows."""
        return ModelTrainingSpec.model_validate(self.training["spec"])

    @property
    def suspended(self) -> bool:
        """`spec.suspend`. Read as it is stored, like `queue`: most looks at a run need no more of its spec."""
        return bool(self.training["spec"].get("suspend"))

    @property
    def queue(self) -> str | None:
        """`spec.compute.queue`."""
        queue: str | None = self.training["spec"].get("compute", {}).get("queue")
        return queue

    @property
    def recipe_digest(self) -> str:
        """Of the recipe that is run, as noted once: a spec is immutable, and reading it anew at each look is dear."""
        return self.status.get("recipeDigest") or annotation(self.job, RECIPE_ANNOTATION) or self.spec.digest()

    @property
    def status(self) -> Json:
        """The stored status."""
        status: Json = self.training.get("status") or {}
        return status

    @property
    def generation(self) -> int:
        """Of the training's metadata."""
        return int(self.training["metadata"].get("generation", 1))

    @property
    def job_key(self) -> ObjectKey:
        """Where our Job is or would be."""
        return job_key(self.owner.namespace, self.owner.name)

    @property
    def job(self) -> Json | None:
        """Our Job; None also where the name is taken."""
        return None if self.name_taken else self.named

    @property
    def jobs(self) -> tuple[Json, ...]:
        """Our Job, where it is there."""
        return (self.job,) if self.job else ()

    @property
    def name_taken(self) -> bool:
        """Whether the Job of our child's name belongs to somebody else: mostly to a deleted training of the same name."""
        return self.named is not None and self.named["metadata"].get("labels", {}).get(UID_LABEL) != self.owner.uid

    @cached_property
    def pods(self) -> list[Json]:
        """Pods of our Job, oldest first."""
        return pods_of(self.job, self.all_pods)

    @cached_property
    def endings(self) -> list[Ending]:
        """How those that ended did so, oldest first."""
        return endings_of(self.pods)

    @property
    def finished(self) -> bool:
        """Whether the status holds the run's end. Then nothing is run again, whatever has become of Job and pods."""
        return "completionTime" in self.status


def job_key(namespace: str, name: str) -> ObjectKey:
    """The Job of the training `name`."""
    return ObjectKey("Job", namespace, f"{name}-train")


def observe(store: StoreView, training: dict[str, Any], settings: PodSettings) -> Observed:
    """Read the store, once for each thing."""
    metadata = training["metadata"]
    named = store.get(job_key(metadata["namespace"], metadata["name"]))
    pods = tuple(store.children(metadata["uid"], "Pod"))
    seen = Observed(training, settings, named, pods, refusal=store.failure(metadata["uid"]))
    if seen.finished:
        return seen
    pushed = store.progress(metadata["uid"])
    latest = next((pushed[name].progress for pod in reversed(pods) if (name := pod["metadata"]["name"]) in pushed), None)
    return replace(seen, progress=latest, refused_pod=store.refused_pod(named["metadata"]["uid"]) if named else None)

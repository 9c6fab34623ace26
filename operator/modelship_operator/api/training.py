"""ModelTraining: one run, from data to an artifact."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator

from modelship_operator.api.common import Compute, Digest, Output, Status, Text, Time, raise_broken
from modelship_trainer.protocol import WARNINGS, Progress
from modelship_trainer.recipe import Recipe
from modelship_trainer.schema import Model, Rule

_IN_THE_CLUSTER = (
    Rule(
        "!self.data.source.startsWith('file:')",
        "data.source: a pod has no files of your machine; use pvc://claim/path, https://... or sklearn://name",
    ),
)

MUTABLE = frozenset({"suspend", "ttlSecondsAfterFinished"})
"""Fields of a run's spec that may change after creation."""


class ModelTrainingSpec(Recipe):
    """What to train, on what, and where. Cannot change once created, except suspend and ttlSecondsAfterFinished."""

    rules: ClassVar[tuple[Rule, ...]] = (*Recipe.rules, *_IN_THE_CLUSTER)

    compute: Compute = Field(default_factory=Compute, description="Where the pod runs: accelerators, CPU, memory, nodes, queue.")
    output: Output = Field(default_factory=Output, description="Where the artifact goes.")
    suspend: bool = Field(False, description="true: stop after a checkpoint and hold; false: go on.")
    retry_limit: int = Field(
        3, ge=0, le=100, description="Restarts after failures that are not yours to fix; disruptions are free."
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="Give up so many seconds after the start; waiting for a node or an image counts."
    )
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, le=31_536_000, description="Delete the Job this long after the end; the result stays in status."
    )

    @model_validator(mode="after")
    def _in_the_cluster(self) -> Self:
        raise_broken(_IN_THE_CLUSTER, (self.data.source.startswith("file:"),))
        return self


class PublishedArtifact(Model):
    """The artifact of a finished run."""

    uri: Text = Field(description="Folder of the artifact in its store.")
    digest: Digest = Field(description="SHA-256 of its manifest.json, which names every file's.")
    size_bytes: int = Field(ge=0, description="Size of all files, in bytes.")


class ModelTrainingStatus(Status):
    """What became of the run."""

    progress: Progress | None = Field(None, description="How far the run is.")
    progress_text: Annotated[str, StringConstraints(max_length=63)] | None = Field(
        None, description="For kubectl get: epochs done of epochs planned."
    )
    eta: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None, description="For kubectl get: estimated time to the end."
    )
    artifact: PublishedArtifact | None = Field(None, description="What was published.")
    recipe_digest: Digest | None = Field(None, description="SHA-256 of the recipe's canonical JSON.")
    data_digest: Digest | None = Field(None, description="SHA-256 of the data's bytes.")
    metrics: Annotated[dict[str, Annotated[str, StringConstraints(max_length=32)]], Field(max_length=32)] | None = Field(
        None, description="Losses and validation metrics of the kept epoch."
    )
    parameters: int | None = Field(None, ge=0, description="Trainable parameters of the model.")
    warnings: Annotated[list[Text], Field(max_length=WARNINGS)] | None = Field(
        None, description="What to know of a run that succeeded: files left out, a validation part too small to decide."
    )
    job: Annotated[str, StringConstraints(max_length=63)] | None = Field(None, description="Name of the Job.")
    attempts: int | None = Field(None, ge=0, description="Pods that failed or were disrupted so far.")
    start_time: Time | None = Field(None, description="When the Job started.")
    completion_time: Time | None = Field(None, description="When the run ended.")

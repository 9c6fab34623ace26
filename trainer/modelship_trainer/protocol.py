"""The contract between the operator and the pods it starts: environment, files, exit codes, progress, the result.

The operator writes the environment and reads the result; the trainer does the reverse. Both import this file and nothing else of
each other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Annotated, Literal

from pydantic import Field

from modelship_trainer.judgement import Gate, Method, Metric, MetricResult
from modelship_trainer.recipe import Recipe
from modelship_trainer.schema import Model

# --- environment of the pods --------------------------------------------------------------------------------------------------
ENV_TASK = "MODELSHIP_TASK"
"""JSON of a `TrainTask` or `EvaluateTask`: everything the pod must do."""
ENV_PVC_ROOT = "MODELSHIP_PVC_ROOT"
"""Folder in which each claim is mounted: `pvc://claim/path` is `$MODELSHIP_PVC_ROOT/claim/path`."""
PVC_ROOT = "/mnt/pvc"
ENV_FOLD = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in pods of an Indexed Job: which share of the folds is this pod's (`EvaluateTask.share`)."""
ENV_POD_NAME = "MODELSHIP_POD_NAME"
"""The pod's own name, for its pushes: the host name of an Indexed Job's pod is that of its index, and stays over its successors."""
ENV_PROGRESS_URL = "MODELSHIP_PROGRESS_URL"
"""Where `ProgressReport`s are POSTed; unset: nowhere."""
ENV_TOKEN_FILE = "MODELSHIP_TOKEN_FILE"  # noqa: S105 - a path
"""File with the projected service-account token of the audience `modelship`, sent as a bearer token; re-read for each push."""
TOKEN_FILE = "/var/run/secrets/modelship.dev/token"  # noqa: S105 - a path
ENV_TERMINATION_LOG = "MODELSHIP_TERMINATION_LOG"
TERMINATION_LOG = "/dev/termination-log"
TERMINATION_LIMIT = 4096
"""Bytes of a termination message that kubelet keeps."""
ENV_CREDENTIALS_PREFIX = "MODELSHIP_DATA_"
"""Keys of `data.credentialsSecret` arrive as environment variables with this prefix: MODELSHIP_DATA_token, ..."""
AUDIENCE = "modelship"
METRICS_PORT = 9090
"""Port of the trainer's Prometheus endpoint."""


class ExitCode(IntEnum):
    """How a pod of ours ends. `podFailurePolicy` of the Job knows these numbers."""

    OK = 0
    INVALID = 64
    """The user has to change something: the same run would fail again. Never retried."""
    DIGEST_MISMATCH = 66
    """Bytes are not the ones that were recorded. Never retried."""
    TEMPORARY = 75
    """A store or server did not answer: retried, counted against retryLimit."""
    INTERRUPTED = 143
    """SIGTERM; a checkpoint was written, and the next pod goes on from it."""


# --- what a pod is told -------------------------------------------------------------------------------------------------------


class RunRef(Model):
    """The resource that a pod works for."""

    kind: Literal["ModelTraining", "ModelEvaluation"]
    namespace: str
    name: str
    uid: str


Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
"""What every reader of JSON holds exactly: it goes into a status."""
Decimal = Annotated[str, Field(max_length=32, pattern=r"^-?([0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|inf|nan)$")]
"""A number as text: Kubernetes keeps floating point numbers out of its APIs."""
Duration = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
"""What a status can hold: a number beyond it would make the API server refuse the whole result."""


class ArtifactRef(Model):
    """Where an artifact lies, and what it must be."""

    uri: str = Field(max_length=2048, description="Folder of the artifact.")
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="SHA-256 of its manifest.json, which names every file's.")

    @classmethod
    def in_store(cls, store: str, digest: str) -> ArtifactRef:
        """Where an artifact of this digest lies in a store: nowhere else does the trainer publish it."""
        return cls(uri=f"{store.rstrip('/')}/artifacts/{digest.replace(':', '-')}", digest=digest)


class TrainTask(Model):
    """Train `recipe`, publish the artifact in `store`."""

    task: Literal["train"] = "train"
    run: RunRef
    recipe: Recipe
    store: str


class EvaluateTask(Model):
    """Measure `artifact`.

    As a pod of an Indexed Job (`ENV_FOLD` set): train and score its share of the folds, write each to `store`.
    Without: score the artifact on its test split, gather the folds, write the report to `store`.
    """

    task: Literal["evaluate"] = "evaluate"
    run: RunRef
    artifact: ArtifactRef
    source: str | None = None
    """Other data than the artifact's own recipe names; its rows are all test rows."""
    method: Method
    metrics: list[Metric]
    """All metrics of the recipe's task when empty."""
    gates: list[Gate]
    baseline: list[MetricResult] | None = None
    store: str
    """Folder of this evaluation: `folds/<i>.json`, `report.html`, `results.json`."""
    fold_pods: Annotated[int, Field(ge=1)] | None = None
    """Pods that share the folds; None: a pod for each, as Jobs of earlier versions have it."""

    def share(self, index: int) -> list[int]:
        """Folds, from 0, of the pod with this completion index."""
        folds = self.method.k_fold.folds if self.method.k_fold else 0
        return [index] if self.fold_pods is None else list(range(index, folds, self.fold_pods))


# --- what a pod answers -------------------------------------------------------------------------------------------------------


class Progress(Model):
    """How far a run is."""

    phase: Annotated[str, Field(max_length=63)] = Field(
        description="Loading, Preprocessing, Training, Exporting, Scoring or Publishing."
    )
    fold: Count | None = Field(None, description="The fold that is trained, from 0.")
    epoch: Count | None = Field(None, description="Epochs done.")
    epochs: Count | None = Field(None, description="Epochs planned.")
    step: Count | None = Field(None, description="Optimiser steps done.")
    steps: Count | None = Field(None, description="Optimiser steps planned.")
    loss: Decimal | None = Field(None, description="Training loss of the last epoch.")
    val_loss: Decimal | None = Field(None, description="Validation loss of the last epoch.")
    samples_per_second: Decimal | None = Field(None, description="Training rows per second.")
    eta_seconds: Count | None = Field(None, description="Estimated seconds to the end.")


class ProgressReport(Model):
    """Body of a progress push. The token tells who pushes; `run` must match the pod's owner."""

    run: RunRef
    pod: str = Field(max_length=253)
    fold: Count | None = None
    progress: Progress


class FailureReason(StrEnum):
    """Why a run failed, in its termination message and in the resource's conditions."""

    RECIPE_INVALID = "RecipeInvalid"
    DATA_NOT_FOUND = "DataNotFound"
    DATA_INVALID = "DataInvalid"
    NON_FINITE_LOSS = "NonFiniteLoss"
    OUT_OF_MEMORY = "OutOfMemory"
    EXPORT_MISMATCH = "ExportMismatch"
    DIGEST_MISMATCH = "DigestMismatch"
    STORE_UNAVAILABLE = "StoreUnavailable"
    USER_CODE_FAILED = "UserCodeFailed"
    INTERNAL_ERROR = "InternalError"


class Failure(Model):
    """Termination message of a run that failed; `message` is one sentence that says what to change."""

    schema_version: Literal[1] = 1
    result: Literal["Failed"] = "Failed"
    reason: FailureReason
    message: str


WARNINGS = 8
"""Warnings that a result has, at most."""
Sentence = Annotated[str, Field(max_length=300)]


def few(warnings: Sequence[str]) -> list[str]:
    """Warnings as a result may have them: `WARNINGS` at most, each cut to its length; the log has them whole."""
    told = [text if len(text) <= 300 else f"{text[:297]}..." for text in warnings[:WARNINGS]]
    if len(warnings) > WARNINGS:
        told[-1] = f"{len(warnings) - WARNINGS + 1} more are in the log."
    return told


class TrainResult(Model):
    """Termination message of a training that succeeded."""

    schema_version: Literal[1] = 1
    result: Literal["Trained"] = "Trained"
    artifact: ArtifactRef
    size_bytes: Count
    recipe_digest: Sha256
    data_digest: Sha256
    epochs: Count
    steps: Count
    metrics: Annotated[dict[str, Decimal], Field(max_length=32)]
    """Last training loss and the validation metrics of the kept epoch, as decimal strings."""
    parameters: Count
    duration_seconds: Duration
    samples_per_second: Duration
    warnings: Annotated[list[Sentence], Field(max_length=WARNINGS)] = Field(default_factory=list)
    """What a person should know of the run though it succeeded, such as files left out; a sentence each."""


class FoldResult(Model):
    """What one fold was scored with: part of `folds/<i>.json`."""

    schema_version: Literal[1] = 1
    result: Literal["FoldScored"] = "FoldScored"
    fold: int
    metrics: dict[str, str]
    data_digest: str


class FoldsResult(Model):
    """Termination message of a pod that trained its share of the folds; what it measured is in the store, fold by fold."""

    schema_version: Literal[1] = 1
    result: Literal["FoldsScored"] = "FoldsScored"
    folds: list[int]


class EvaluateResult(Model):
    """Termination message of the scoring pod: all that the verdict is made of."""

    schema_version: Literal[1] = 1
    result: Literal["Evaluated"] = "Evaluated"
    artifact_digest: str
    recipe_digest: str
    data_digest: str
    results: list[MetricResult]
    report: str
    """URI of the HTML report."""
    report_digest: str
    """SHA-256 of its bytes, `sha256:<hex>`; also in `report.sha256` beside it."""
    rows: Count
    """Test rows that the artifact was scored on."""


class Outcome(Model):
    """Any termination message, told apart by `result`."""

    message: Annotated[TrainResult | FoldsResult | EvaluateResult | Failure, Field(discriminator="result")]

"""The three kinds: names, specs and statuses, what may change, and what `kubectl get` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from modelship_operator.api import training
from modelship_operator.api.common import NAME_PATTERN, SERVICE_NAME_PATTERN, Status
from modelship_operator.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelship_operator.api.evaluation import ModelEvaluationSpec, ModelEvaluationStatus
from modelship_operator.api.training import ModelTrainingSpec, ModelTrainingStatus
from modelship_trainer.schema import Model


class Column(NamedTuple):
    """A printer column of `kubectl get`; `wide`: only with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False


_WHY = Column("Message", '.status.conditions[?(@.type=="Ready")].message', "What happened, and what to do.", wide=True)
_REASON = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is as it is, in a word.")
_AGE = Column("Age", ".metadata.creationTimestamp", "Time since creation.", type="date")


@dataclass(frozen=True, slots=True)
class Kind:
    """A custom resource."""

    name: str
    plural: str
    short: str
    description: str
    spec: type[Model]
    status: type[Status]
    columns: tuple[Column, ...]
    name_pattern: str = NAME_PATTERN
    mutable: frozenset[str] | None = None
    """Fields of the spec that may change after creation; None: all."""
    scale: bool = False
    """Whether `kubectl scale` and autoscalers set its replicas."""

    @property
    def singular(self) -> str:
        """As in `kubectl get modeltraining`."""
        return self.name.lower()


KINDS: tuple[Kind, ...] = (
    Kind(
        "ModelTraining",
        "modeltrainings",
        "mt",
        "A training run: data to an artifact that is addressed by its content. Runs once; a new run is a new ModelTraining.",
        ModelTrainingSpec,
        ModelTrainingStatus,
        (
            Column("Phase", ".status.phase", "Where the run is."),
            Column("Progress", ".status.progressText", "Epochs done of epochs planned."),
            Column("Loss", ".status.progress.loss", "Training loss of the last epoch."),
            Column("ETA", ".status.eta", "Estimated time to the end."),
            Column("Digest", ".status.digestText", "First digits of the artifact's digest."),
            _REASON,
            _WHY,
            _AGE,
        ),
        mutable=training.MUTABLE,
    ),
    Kind(
        "ModelEvaluation",
        "modelevaluations",
        "me",
        "A measurement of an artifact and a verdict that is bound to its digest. Runs once; a new one is a new ModelEvaluation.",
        ModelEvaluationSpec,
        ModelEvaluationStatus,
        (
            Column("Verdict", ".status.verdict", "Whether all gates passed."),
            Column("Method", ".status.method", "How it is measured."),
            Column("Score", ".status.score", "The first gate's metric, or else the first measured."),
            Column("Digest", ".status.digestText", "First digits of the digest of the artifact that was scored."),
            Column("Progress", ".status.progressText", "Folds done of folds planned.", wide=True),
            _REASON,
            _WHY,
            _AGE,
        ),
        mutable=training.MUTABLE,
    ),
    Kind(
        "ModelDeployment",
        "modeldeployments",
        "md",
        "A model served on Triton: the bytes that were proven, and no others.",
        ModelDeploymentSpec,
        ModelDeploymentStatus,
        (
            Column("Ready", ".status.ready", "Ready pods of wanted pods."),
            Column("Serving", ".status.digestText", "First digits of the digest of the artifact that is served."),
            Column("Gate", ".status.gate", "Whether the evaluations passed for the artifact that is asked for."),
            Column("URL", ".status.endpoint.url", "Where to ask, from inside the cluster."),
            _REASON,
            _WHY,
            _AGE,
        ),
        name_pattern=SERVICE_NAME_PATTERN,
        scale=True,
    ),
)
BY_NAME = {kind.name: kind for kind in KINDS}

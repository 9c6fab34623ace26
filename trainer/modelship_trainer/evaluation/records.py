"""What the pods of an evaluation leave in its folder: `folds/<i>.json`, and `results.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from modelship_trainer.judgement import Gate, Method, MetricResult
from modelship_trainer.protocol import FoldResult
from modelship_trainer.schema import Model


class Epoch(Model):
    """A point of a training curve."""

    epoch: int
    loss: float
    val_loss: float | None = None


def epochs_of(history: Iterable[Mapping[str, float]]) -> list[Epoch]:
    """The training loop's records, less what no plot shows."""
    return [Epoch(epoch=int(record["epoch"]), loss=record["loss"], val_loss=record.get("val_loss")) for record in history]


class FoldRecord(Model):
    """`folds/<i>.json`: one fold, retrained and scored on the rows that it left out."""

    schema_version: Literal[1] = 1
    identity: str
    """Digest of what decides the numbers: recipe, data, method, metrics. A record with another identity is not this fold's."""
    result: FoldResult
    train_rows: int
    validation_rows: int
    rows: int
    """Rows that the fold was scored on."""
    classes: list[str] = Field(default_factory=list)
    confusion: list[list[int]] | None = None
    """(C, C) counts, row = true class; None for regression."""
    history: list[Epoch]


class GateOutcome(Model):
    """A gate and what came of it."""

    gate: Gate
    passed: bool
    message: str


class Results(Model):
    """`results.json`: all numbers of the evaluation and what they are bound to."""

    schema_version: Literal[1] = 1
    name: str
    verdict: Literal["Passed", "Failed"]
    artifact_digest: str
    recipe_digest: str
    data_digest: str
    method: Method
    rows: int
    """Test rows that the artifact was scored on."""
    results: list[MetricResult]
    gates: list[GateOutcome]
    classes: list[str] = Field(default_factory=list)
    confusion: list[list[int]] | None = None

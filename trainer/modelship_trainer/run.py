"""A training, from task to published artifact: load, split, prepare, fit, export, check, publish."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import modelship_trainer
from modelship_trainer.artifact import contents
from modelship_trainer.artifact.files import naming
from modelship_trainer.artifact.manifest import Lineage
from modelship_trainer.artifact.publish import publish
from modelship_trainer.data.dataset import Dataset, Rows
from modelship_trainer.data.fit import distinct
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import Prepared, prepare
from modelship_trainer.data.split import Parts, split
from modelship_trainer.export.check import check
from modelship_trainer.export.onnx import export
from modelship_trainer.export.session import OnnxModel
from modelship_trainer.export.signature import sample_request, signature
from modelship_trainer.locations import local_path
from modelship_trainer.protocol import Progress, TrainResult, TrainTask, few
from modelship_trainer.recipe import Recipe
from modelship_trainer.training.checkpoint import Checkpoints, identity_of
from modelship_trainer.training.device import choose_device
from modelship_trainer.training.loop import Trained, fit
from modelship_trainer.training.validation import final_metrics

Report = Callable[[Progress], None]
ShouldStop = Callable[[], bool]
CHECKED_ROWS = 512
"""Held-out rows on which the ONNX graph is compared with PyTorch."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with all that it takes to predict from raw rows."""

    recipe: Recipe
    prepared: Prepared
    trained: Trained

    def onnx_bytes(self) -> bytes:
        """The graph from raw rows to predictions."""
        data: bytes = export(self.trained.module, self.prepared.fitted, self.prepared.target).SerializeToString(deterministic=True)
        return data


def train_on(
    recipe: Recipe,
    dataset: Dataset,
    train: Rows,
    validation: Rows,
    *,
    held_out: Rows,
    checkpoints: Checkpoints | None = None,
    should_stop: ShouldStop = lambda: False,
    report: Report = lambda progress: None,
) -> TrainedModel:
    """Fit preprocessing and model on the rows `train`; `validation` is for val_loss and early stopping, `held_out` for later.

    Raises:
        UserError: see `prepare` and `fit`.
        Interrupted: `should_stop` said so; a checkpoint was written.
    """
    report(Progress(phase="Preprocessing"))
    prepared = prepare(recipe, dataset, train, validation, held_out)
    trained = fit(recipe, prepared, device=choose_device(), checkpoints=checkpoints, should_stop=should_stop, report=report)
    return TrainedModel(recipe, prepared, trained)


def train(task: TrainTask, *, should_stop: ShouldStop, report: Report) -> TrainResult:
    """Do what a TrainTask says.

    Raises:
        UserError, Interrupted: see `train_on`.
        OSError: the store cannot be written.
    """
    recipe = task.recipe
    store = local_path(task.store)
    report(Progress(phase="Loading"))
    dataset = distinct(load(recipe.data, task=recipe.training.task), recipe.data.preprocessing)
    warn(dataset.notes)
    parts = split(dataset, recipe.data.split, recipe.training.task)
    folder = store / "checkpoints" / task.run.uid
    checkpoints = Checkpoints(folder, identity_of(recipe, dataset.digest))
    model = train_on(
        recipe,
        dataset,
        parts.train,
        parts.validation,
        held_out=parts.test,
        checkpoints=checkpoints,
        should_stop=should_stop,
        report=report,
    )
    lineage = Lineage(
        recipe_digest=recipe.digest(),
        data_digest=dataset.digest,
        trainer=f"modelship {modelship_trainer.__version__}, torch {torch.__version__}",
    )
    with TemporaryDirectory(prefix="modelship-artifact-") as work:
        report(Progress(phase="Exporting"))
        metrics = write_artifact(Path(work), model, dataset, parts)
        report(Progress(phase="Publishing"))
        artifact = publish(Path(work), task.store, lineage)
        size = sum(path.stat().st_size for path in Path(work).iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    trained = model.trained
    warn(trained.warnings)
    return TrainResult(
        artifact=artifact,
        size_bytes=size,
        recipe_digest=lineage.recipe_digest,
        data_digest=lineage.data_digest,
        epochs=len(trained.history),
        steps=trained.steps,
        metrics={name: f"{value:.6g}" for name, value in metrics.items()},
        parameters=trained.parameters,
        duration_seconds=round(trained.seconds, 3),
        samples_per_second=round(trained.rows_seen / trained.seconds, 1) if trained.rows_seen else 0.0,
        warnings=few([*dataset.notes, *trained.warnings]),
    )


def warn(sentences: Sequence[str]) -> None:
    """Write warnings to the log."""
    for sentence in sentences:
        print(f"warning: {sentence}", flush=True)


def write_artifact(folder: Path, model: TrainedModel, dataset: Dataset, parts: Parts) -> dict[str, float]:
    """Write all files but the manifest, the graph checked against PyTorch on held-out rows; returns the kept epoch's metrics.

    Nothing in them depends on time or place: the same recipe, data and machine type give the same bytes.
    """
    fitted, target, trained = model.prepared.fitted, model.prepared.target, model.trained
    held_out = _held_out(parts)
    rows = dataset.take(held_out[fitted.usable(dataset.take(held_out))][:CHECKED_ROWS])
    graph = model.onnx_bytes()
    check(OnnxModel(graph, fitted), trained.module, fitted, target, rows, dataset.source)
    metrics = {"loss": trained.history[trained.kept_epoch - 1]["loss"]}
    if len(model.prepared.validation.x):
        metrics |= {"val_loss": trained.history[trained.kept_epoch - 1]["val_loss"]}
        metrics |= final_metrics(trained.module, model.prepared.validation, target)
    with naming(folder / contents.ONNX):
        (folder / contents.ONNX).write_bytes(graph)
    contents.write_weights(trained.module, folder / contents.WEIGHTS)
    contents.write_json(folder / contents.PREPROCESSING, fitted.model_copy(update={"target": target}).to_json())
    contents.write_json(folder / contents.SIGNATURE, signature(fitted, target).to_json())
    contents.write_json(folder / contents.SAMPLE, sample_request(fitted, rows))
    contents.write_json(folder / contents.RECIPE, model.recipe.to_json())
    contents.write_json(folder / contents.METRICS, _metrics(model, parts, metrics))
    return metrics


def _held_out(parts: Parts) -> Rows:
    """Rows that the model was not trained on, where there are any."""
    held_out: Rows = np.concatenate([parts.test, parts.validation])
    return held_out if len(held_out) else parts.train


def _metrics(model: TrainedModel, parts: Parts, metrics: dict[str, float]) -> dict[str, Any]:
    trained = model.trained
    return {
        "schemaVersion": 1,
        "metrics": metrics,
        "keptEpoch": trained.kept_epoch,
        "epochs": len(trained.history),
        "steps": trained.steps,
        "parameters": trained.parameters,
        "features": int(np.prod(model.prepared.fitted.input_shape())),
        "rows": {"train": len(model.prepared.train.x), "validation": len(model.prepared.validation.x), "test": len(parts.test)},
        "history": trained.history,
    }

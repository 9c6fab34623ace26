"""Predictions of a module, the validation numbers of an epoch, and which epoch is best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modelship_trainer.data.prepare import Examples
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.metrics import Scores, class_scores, measure, value_scores
from modelship_trainer.judgement import METRICS, Metric, metrics_of
from modelship_trainer.recipe import EarlyStopping, Task, Training

EpochRecord = dict[str, float]
"""`epoch` (from 1), `loss`, `learningRate`, `val_loss`, and `val_<metric>`s."""
VAGUE = 0.1
"""Share of val_loss above which its standard error says that the validation rows are few."""
ROWS = 1024
"""Rows of a batch without gradients."""


@dataclass(frozen=True)
class Watch:
    """What early stopping looks at."""

    stopping: EarlyStopping | None
    metric: Metric | None
    """None: val_loss."""

    @classmethod
    def of(cls, spec: Training) -> Watch:
        """What the recipe says; its own rules keep the metric one of the task."""
        if spec.early_stopping is None or spec.early_stopping.metric == "val_loss":
            return cls(spec.early_stopping, None)
        return cls(spec.early_stopping, Metric(spec.early_stopping.metric.removeprefix("val_")))

    def better(self, record: EpochRecord, best: EpochRecord | None) -> bool:
        """Whether an epoch is better than the best one before it, by minDelta at least."""
        assert self.stopping is not None  # noqa: S101 - asked only then
        if best is None:
            return True
        sign = 1 if self.metric is not None and METRICS[self.metric].higher_is_better else -1
        return sign * (record[self.stopping.metric] - best[self.stopping.metric]) > self.stopping.min_delta


def predict(module: nn.Module, x: npt.NDArray[np.float32], device: torch.device) -> npt.NDArray[np.float32]:
    """Outputs of the module in eval mode, in fp32: `[N, ...]` to `[N, O]` logits or standardised values."""
    module.eval()
    with torch.no_grad():
        parts = [module(torch.from_numpy(x[start : start + ROWS]).to(device)).float().cpu() for start in range(0, len(x), ROWS)]
    result: npt.NDArray[np.float32] = torch.cat(parts).numpy()
    return result


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax over the last axis."""
    result: npt.NDArray[np.float32] = torch.softmax(torch.from_numpy(logits), dim=-1).numpy()
    return result


def scores_of(outputs: npt.NDArray[np.float32], y: npt.NDArray[Any], target: Target) -> Scores:
    """Outputs `[N, O]` and encoded targets `[N]` as what metrics measure, values in the target's own unit."""
    if target.classes is not None:
        return class_scores(y, probabilities(outputs), target.classes)
    return value_scores(y * target.scale + target.mean, outputs[:, 0] * target.scale + target.mean)


def validate(module: nn.Module, examples: Examples, target: Target, watch: Watch, device: torch.device) -> EpochRecord:
    """val_loss, val_accuracy or val_rmse, and the metric that early stopping watches.

    Raises:
        UserError: DataInvalid where that metric is not defined on the validation rows.
    """
    outputs = predict(module, examples.x, device)
    if not np.isfinite(outputs).all():
        return {"val_loss": float("nan")}
    record: EpochRecord = {}
    if target.task is Task.CLASSIFICATION:
        record["val_loss"] = float(nn.functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(examples.y)))
        record["val_accuracy"] = float((outputs.argmax(axis=1) == examples.y).mean())
    else:
        record["val_loss"] = float(((outputs[:, 0] - examples.y) ** 2).mean())
        record["val_rmse"] = record["val_loss"] ** 0.5 * target.scale
    if watch.metric is not None and f"val_{watch.metric.value}" not in record:
        scores = scores_of(outputs, examples.y, target)
        record[f"val_{watch.metric.value}"] = measure([watch.metric], scores, "the validation split")[watch.metric]
    return record


def losses_of(outputs: npt.NDArray[np.float32], examples: Examples, task: Task) -> npt.NDArray[np.float32]:
    """The loss of each row, `[N]`; their mean is val_loss."""
    if task is Task.REGRESSION:
        squares: npt.NDArray[np.float32] = (outputs[:, 0] - examples.y) ** 2
        return squares
    losses: npt.NDArray[np.float32] = nn.functional.cross_entropy(
        torch.from_numpy(outputs), torch.from_numpy(examples.y), reduction="none"
    ).numpy()
    return losses


def doubts_of(kept: npt.NDArray[np.float32], last: npt.NDArray[np.float32], kept_epoch: int, last_epoch: int) -> tuple[str, ...]:
    """A sentence where the validation rows are too few to choose an epoch by, given their losses after the kept epoch and the last.

    `kept`, `last`: `[N]`. Too few are they where val_loss has a standard error above `VAGUE` of it, and above what the last
    epoch is worse by.
    """
    loss = float(kept.mean())
    error = float(kept.std(ddof=1)) / math.sqrt(len(kept)) if len(kept) > 1 else math.inf
    if error <= VAGUE * loss or float(last.mean()) - loss >= error:
        return ()
    return (
        f"early stopping kept epoch {kept_epoch} of {last_epoch} by {len(kept):,} validation rows, too few to tell "
        f"them apart: val_loss is {loss:.3g} and {float(last.mean()):.3g}, its standard error {error:.2g}; raise "
        "data.split.validation, or leave training.earlyStopping out and choose training.epochs.",
    )


def final_metrics(module: nn.Module, examples: Examples, target: Target) -> dict[str, float]:
    """`val_<metric>` of every metric of the task that the validation rows define."""
    scores = scores_of(predict(module, examples.x, torch.device("cpu")), examples.y, target)
    found: dict[str, float] = {}
    for metric in metrics_of(target.task):
        try:
            found[f"val_{metric.value}"] = measure([metric], scores, "the validation split")[metric]
        except UserError:  # undefined on these rows: left out
            continue
    return found

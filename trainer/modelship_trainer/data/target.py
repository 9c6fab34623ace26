"""The target as the model sees it: class indices, or standardised values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from modelship_trainer.data.dataset import Array, Dataset, Rows
from modelship_trainer.errors import UserError, listing, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Task
from modelship_trainer.schema import Model


class Target(Model):
    """What the model's outputs mean."""

    task: Task
    classes: list[int | str] | None = None
    """Classification: label of each output, sorted."""
    mean: float = 0.0
    scale: float = Field(1.0, gt=0)
    """Regression: the model learns (y - mean) / scale, so that one learning rate suits euros and percentages alike."""

    @property
    def output_size(self) -> int:
        """Outputs of the model: one per class, or one."""
        return len(self.classes) if self.classes is not None else 1

    def encode(self, values: Array, source: str) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
        """Raw target `[N]` as class indices, int64 `[N]`, or standardised values, float32 `[N]`.

        Raises:
            UserError: DataInvalid where a label is none of the classes.
        """
        if self.classes is None:
            return ((values.astype(np.float64) - self.mean) / self.scale).astype(np.float32)
        index = {label: number for number, label in enumerate(self.classes)}
        classes = {str(label) for label in self.classes}
        unknown = sorted(
            {str(label) for label in values.tolist() if label not in index}, key=lambda label: (label in classes, label)
        )
        if unknown:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"label {quote(unknown[0])} in {source} is not a class of the model; its classes: "
                f"{listing([str(label) for label in self.classes])}.",
            )
        return np.fromiter((index[label] for label in values.tolist()), dtype=np.int64, count=len(values))


def fit_target(dataset: Dataset, train: Rows, task: Task) -> Target:
    """Classes of the whole dataset (which labels exist is its schema), or mean and deviation of the training rows.

    Raises:
        UserError: DataInvalid where there is one class only, a class per row, or a class without a training row.
    """
    if task is Task.REGRESSION:
        values = dataset.target[train].astype(np.float64)
        deviation = float(values.std())
        return Target(task=task, mean=float(values.mean()), scale=deviation if deviation > 0 else 1.0)
    classes = sorted(set(dataset.target.tolist()))
    if len(classes) < 2:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(dataset.target_name)} of {dataset.source} has the one class {quote(classes[0])}; classification "
            "needs two.",
        )
    if len(classes) > 20 and len(classes) > dataset.rows // 2:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(dataset.target_name)} has {len(classes):,} classes in {dataset.rows:,} rows; set training.task: "
            "regression, or choose another target.",
        )
    unseen = min(set(classes) - set(dataset.target[train].tolist()), default=None)
    if unseen is not None:
        seen = int((dataset.target == unseen).sum())
        raise UserError(
            FailureReason.DATA_INVALID,
            f"class {quote(unseen)} of {quote(dataset.target_name)} has {'one row' if seen == 1 else f'{seen:,} rows'} in "
            f"{dataset.source}, and none to train on; set data.split.stratify: true, add rows with it, or remove it.",
        )
    return Target(task=task, classes=classes)

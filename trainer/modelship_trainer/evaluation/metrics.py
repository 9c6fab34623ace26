"""Metrics of predictions, as scikit-learn defines them. What these rows do not define is an error that names it, never a NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelship_trainer.errors import UserError, listing, quote
from modelship_trainer.evaluation.curves import area_under, roc_curve
from modelship_trainer.judgement import METRICS, Gate, Metric, metrics_of
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Task

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class ClassScores(NamedTuple):
    """Predictions of a classifier, N rows, C classes."""

    truth: Ints
    """(N,) index into `classes` of each row's true label."""
    probabilities: Floats
    """(N, C), as the model gave them: rows sum to 1 within FP32. Not normalised, which would break ties."""
    classes: tuple[str, ...]
    """Names of the C classes."""

    @property
    def predicted(self) -> Ints:
        """(N,) index of the most probable class; the first one in a tie, as in model.onnx."""
        indices: Ints = self.probabilities.argmax(axis=1)
        return indices


class ValueScores(NamedTuple):
    """Predictions of a regression, N rows."""

    truth: Floats
    """(N,) true values."""
    predicted: Floats
    """(N,) predicted values, in the same unit."""


Scores = ClassScores | ValueScores


def class_scores(truth: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[object]) -> ClassScores:
    """Predictions in float64.

    Raises:
        UserError: there is no row, or a probability is not finite.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    _usable(values)
    return ClassScores(np.asarray(truth, dtype=np.int64), values, tuple(str(name) for name in classes))


def value_scores(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> ValueScores:
    """Predictions in float64, flattened from (N,) or (N, 1).

    Raises:
        UserError: there is no row, or a prediction is not finite.
    """
    values = np.asarray(predicted, dtype=np.float64).reshape(-1)
    _usable(values)
    return ValueScores(np.asarray(truth, dtype=np.float64).reshape(-1), values)


def _usable(predictions: Floats) -> None:
    if not len(predictions):
        raise UserError(FailureReason.DATA_INVALID, "there are no rows to score; raise data.split.test, or name data with rows.")
    if bad := int((~np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1)).sum()):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"the model's output is not finite for {bad} of {len(predictions)} rows; impute missing values and clip outliers in "
            "data.preprocessing.",
        )


def wanted(metrics: Sequence[Metric], gates: Sequence[Gate], task: Task) -> list[Metric]:
    """What to measure: the metrics asked for (all of the task's when none is), and those that gates look at, in table order.

    Raises:
        UserError: a metric does not fit the task (RecipeInvalid); the message names those that do.
    """
    fitting = metrics_of(task)
    asked = {metric: "metrics" for metric in metrics} | {gate.metric: "gates" for gate in gates if gate.metric not in metrics}
    for metric, where in asked.items():
        if metric not in fitting:
            raise UserError(
                FailureReason.RECIPE_INVALID, f"{where}: {metric.value} does not fit {task.value}; use {', '.join(fitting)}."
            )
    return [metric for metric in fitting if metric in asked or not metrics]


def measure(metrics: Sequence[Metric], scores: Scores, where: str) -> dict[Metric, float]:
    """Each metric's value. `where` names the rows in errors, such as "the test split".

    Averages over classes are macro averages over the classes that occur; precision of a class that is never predicted is 0.

    Raises:
        UserError: a metric is not defined on these rows (DataInvalid); the message names metric, cause and cure.
    """
    return {metric: _measure_one(metric, scores, where) for metric in metrics}


def _measure_one(metric: Metric, scores: Scores, where: str) -> float:
    table: Mapping[Metric, Callable[[Any], float]] = _CLASS_METRICS if isinstance(scores, ClassScores) else _VALUE_METRICS
    if metric not in table:
        raise ValueError(f"{metric.value} is a metric of {METRICS[metric].task.value}")
    if cause := _undefined(metric, scores):
        raise UserError(FailureReason.DATA_INVALID, f"{metric.value} is undefined on {where}: {cause}.")
    return float(table[metric](scores))


def _undefined(metric: Metric, scores: Scores) -> str | None:
    """Why these rows do not define `metric`, and what to do; None where they do."""
    if metric is Metric.ROC_AUC and isinstance(scores, ClassScores):
        present = np.bincount(scores.truth, minlength=len(scores.classes))
        missing = [name for name, count in zip(scores.classes, present, strict=True) if not count]
        if missing:
            labels = listing([quote(name) for name in missing], 3)
            return f"no row has the label {labels}; stratify, use more rows, or leave out roc_auc"
    if metric is Metric.R2 and (len(scores.truth) < 2 or np.ptp(scores.truth) == 0):
        return "all of its true values are equal; use more rows, or leave out r2"
    return None


class _Counts(NamedTuple):
    """Of each class, (C,): rows that are of it, rows that were said to be, and rows where both hold."""

    true: Ints
    said: Ints
    right: Ints

    @property
    def precision(self) -> Floats:
        """Right of those said to be; 0 where none was."""
        return _shares(self.right, self.said)

    @property
    def recall(self) -> Floats:
        """Right of those that are; 0 where none is."""
        return _shares(self.right, self.true)

    @property
    def f1(self) -> Floats:
        """Their harmonic mean."""
        return _shares(2 * self.right, self.true + self.said)


def _counts(scores: ClassScores) -> _Counts:
    size, said = len(scores.classes), scores.predicted
    right = np.bincount(scores.truth[scores.truth == said], minlength=size)
    return _Counts(np.bincount(scores.truth, minlength=size), np.bincount(said, minlength=size), right)


def _shares(part: Ints, whole: Ints) -> Floats:
    shares: Floats = part / np.maximum(whole, 1)
    return shares


def _macro(of_classes: Callable[[_Counts], Floats]) -> Callable[[ClassScores], float]:
    """Mean over the classes that occur: as truth or as prediction."""

    def mean(scores: ClassScores) -> float:
        counts = _counts(scores)
        return float(of_classes(counts)[counts.true + counts.said > 0].mean())

    return mean


def _auc(scores: ClassScores) -> float:
    """Of the second of two classes; else the mean of each class against the rest."""
    which = [1] if len(scores.classes) == 2 else range(len(scores.classes))
    return float(np.mean([area_under(*roc_curve(scores.truth == k, scores.probabilities[:, k])) for k in which]))


def _log_loss(scores: ClassScores) -> float:
    shares = scores.probabilities / scores.probabilities.sum(axis=1, keepdims=True)
    least = np.finfo(np.float64).eps
    return float(-np.log(shares[np.arange(len(shares)), scores.truth].clip(least, 1 - least)).mean())


def _r2(scores: ValueScores) -> float:
    return float(1 - ((scores.truth - scores.predicted) ** 2).sum() / ((scores.truth - scores.truth.mean()) ** 2).sum())


_CLASS_METRICS: Mapping[Metric, Callable[[ClassScores], float]] = {
    Metric.ACCURACY: lambda s: float((s.truth == s.predicted).mean()),
    Metric.PRECISION: _macro(lambda counts: counts.precision),
    Metric.RECALL: _macro(lambda counts: counts.recall),
    Metric.F1: _macro(lambda counts: counts.f1),
    Metric.ROC_AUC: _auc,
    Metric.LOG_LOSS: _log_loss,
}
_VALUE_METRICS: Mapping[Metric, Callable[[ValueScores], float]] = {
    Metric.MAE: lambda s: float(np.abs(s.truth - s.predicted).mean()),
    Metric.RMSE: lambda s: float(np.sqrt(((s.truth - s.predicted) ** 2).mean())),
    Metric.R2: _r2,
}


class ClassRow(NamedTuple):
    """How well one class is told."""

    name: str
    precision: float
    recall: float
    f1: float
    rows: int


def confusion(scores: ClassScores) -> list[list[int]]:
    """(C, C) counts: row = true class, column = predicted class."""
    size = len(scores.classes)
    cells = np.bincount(scores.truth * size + scores.predicted, minlength=size * size)
    counts: list[list[int]] = cells.reshape(size, size).tolist()
    return counts


def confusion_of(scores: Scores) -> list[list[int]] | None:
    """`confusion` of a classifier."""
    return confusion(scores) if isinstance(scores, ClassScores) else None


def class_names(scores: Scores) -> list[str]:
    """Of a classifier; none of a regression."""
    return list(scores.classes) if isinstance(scores, ClassScores) else []


def per_class(scores: ClassScores) -> list[ClassRow]:
    """Precision, recall, F1 and number of true rows of each class."""
    counts = _counts(scores)
    columns = (counts.precision.tolist(), counts.recall.tolist(), counts.f1.tolist(), counts.true.tolist())
    return [ClassRow(*row) for row in zip(scores.classes, *columns, strict=True)]

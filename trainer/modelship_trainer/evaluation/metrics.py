"""Metrics of predictions, by scikit-learn. A metric that these rows do not define is an error that names it, never a NaN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

from modelship_trainer.errors import UserError, listing, quote
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


def _auc(scores: ClassScores) -> float:
    if len(scores.classes) == 2:
        return float(sk.roc_auc_score(scores.truth, scores.probabilities[:, 1]))
    return float(sk.roc_auc_score(scores.truth, scores.probabilities, multi_class="ovr", average="macro"))


def _log_loss(scores: ClassScores) -> float:
    shares = scores.probabilities / scores.probabilities.sum(axis=1, keepdims=True)
    return float(sk.log_loss(scores.truth, shares, labels=range(len(scores.classes))))


_CLASS_METRICS: Mapping[Metric, Callable[[ClassScores], float]] = {
    Metric.ACCURACY: lambda s: sk.accuracy_score(s.truth, s.predicted),
    Metric.PRECISION: lambda s: sk.precision_score(s.truth, s.predicted, average="macro", zero_division=0),
    Metric.RECALL: lambda s: sk.recall_score(s.truth, s.predicted, average="macro", zero_division=0),
    Metric.F1: lambda s: sk.f1_score(s.truth, s.predicted, average="macro", zero_division=0),
    Metric.ROC_AUC: _auc,
    Metric.LOG_LOSS: _log_loss,
}
_VALUE_METRICS: Mapping[Metric, Callable[[ValueScores], float]] = {
    Metric.MAE: lambda s: sk.mean_absolute_error(s.truth, s.predicted),
    Metric.RMSE: lambda s: sk.root_mean_squared_error(s.truth, s.predicted),
    Metric.R2: lambda s: sk.r2_score(s.truth, s.predicted),
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
    counts: Ints = sk.confusion_matrix(scores.truth, scores.predicted, labels=range(len(scores.classes)))
    return [[int(count) for count in row] for row in counts]


def per_class(scores: ClassScores) -> list[ClassRow]:
    """Precision, recall, F1 and number of true rows of each class."""
    columns = sk.precision_recall_fscore_support(scores.truth, scores.predicted, labels=range(len(scores.classes)), zero_division=0)
    return [ClassRow(name, float(p), float(r), float(f), int(n)) for name, p, r, f, n in zip(scores.classes, *columns, strict=True)]

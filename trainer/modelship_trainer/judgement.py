"""What an evaluation measures and how its numbers become a verdict. Pure; shared by the operator, the trainer and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import fmean, stdev
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from modelship_trainer.recipe import Task
from modelship_trainer.schema import Model, OneOf, Rule


class Metric(StrEnum):
    """Names of metrics. Averages over classes are macro averages; roc_auc is one-vs-rest."""

    ACCURACY = "accuracy"
    PRECISION = "precision"
    RECALL = "recall"
    F1 = "f1"
    ROC_AUC = "roc_auc"
    LOG_LOSS = "log_loss"
    MAE = "mae"
    RMSE = "rmse"
    R2 = "r2"


class MetricFacts(NamedTuple):
    """What is known of a metric."""

    task: Task
    higher_is_better: bool


METRICS: Mapping[Metric, MetricFacts] = {
    Metric.ACCURACY: MetricFacts(Task.CLASSIFICATION, True),
    Metric.PRECISION: MetricFacts(Task.CLASSIFICATION, True),
    Metric.RECALL: MetricFacts(Task.CLASSIFICATION, True),
    Metric.F1: MetricFacts(Task.CLASSIFICATION, True),
    Metric.ROC_AUC: MetricFacts(Task.CLASSIFICATION, True),
    Metric.LOG_LOSS: MetricFacts(Task.CLASSIFICATION, False),
    Metric.MAE: MetricFacts(Task.REGRESSION, False),
    Metric.RMSE: MetricFacts(Task.REGRESSION, False),
    Metric.R2: MetricFacts(Task.REGRESSION, True),
}


def metrics_of(task: Task) -> list[Metric]:
    """All metrics of a task, in the order of the table."""
    return [metric for metric, facts in METRICS.items() if facts.task is task]


class Holdout(Model):
    """Score the artifact on the test split that its training never saw."""


class KFold(Model):
    """Retrain the recipe k times, each time scoring the fold left out; the test split stays untouched by all of them."""

    folds: int = Field(5, ge=2, le=20, description="Number of folds.")
    stratified: bool | None = Field(
        None, description="Keep the classes' proportions in each fold; default: true for classification."
    )
    shuffle: bool = Field(True, description="Shuffle rows before cutting folds.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the shuffle.")
    parallelism: int = Field(1, ge=1, le=20, description="Folds that train at the same time.")


class Method(OneOf):
    """How the model is measured."""

    holdout: Holdout | None = Field(None, description="Score the artifact on its test split.")
    k_fold: KFold | None = Field(None, description="Cross-validate the recipe, and score the artifact on its test split too.")


class Statistic(StrEnum):
    """Which number of the folds a gate looks at."""

    MEAN = "mean"
    LOWER_BOUND = "lowerBound"
    UPPER_BOUND = "upperBound"
    WORST = "worst"
    TEST = "test"


class Gate(Model):
    """A condition that the model must meet."""

    rules = (
        Rule("has(self.min) || has(self.max) || has(self.maxRegression)", "a gate needs min, max or maxRegression"),
        Rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
    )

    metric: Metric = Field(description="Metric to look at; it is measured even if spec.metrics leaves it out.")
    min: float | None = Field(None, description="Lowest value that passes.")
    max: float | None = Field(None, description="Highest value that passes.")
    max_regression: float | None = Field(
        None, ge=0, description="How much worse than spec.baselineRef's value (same metric and statistic) still passes."
    )
    statistic: Statistic = Field(
        Statistic.MEAN,
        description="mean of the folds (the test score for holdout); lowerBound/upperBound: one-sided 95% confidence bound of that mean "
        "(Student's t); worst fold; test: the artifact's own score on the test split.",
    )

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None and self.max_regression is None:
            raise PydanticCustomError("gate", "{message}", {"message": self.rules[0].message})
        if self.min is not None and self.max is not None and self.min > self.max:
            raise PydanticCustomError("gate", "{message}", {"message": self.rules[1].message})
        return self


class MetricResult(Model):
    """A metric's values. For holdout `folds` is empty and `mean` is the test score."""

    metric: Metric = Field(description="Name of the metric.")
    mean: float = Field(description="Mean over folds, or the test score for holdout.")
    std: float | None = Field(None, description="Sample standard deviation over folds.")
    folds: Annotated[list[float], Field(max_length=20)] = Field(default_factory=list, description="Value of each fold.")
    test: float | None = Field(None, description="The artifact's own score on the test split.")


class GateResult(NamedTuple):
    """One gate's outcome; `message` is a sentence such as `roc_auc 0.74 is below 0.80`."""

    passed: bool
    message: str


# One-sided 95% quantiles of Student's t for 1 to 19 degrees of freedom (2 to 20 folds).
_T95 = (
    6.314,
    2.920,
    2.353,
    2.132,
    2.015,
    1.943,
    1.895,
    1.860,
    1.833,
    1.812,
    1.796,
    1.782,
    1.771,
    1.761,
    1.753,
    1.746,
    1.740,
    1.734,
    1.729,
)


def summarize(metric: Metric, folds: Sequence[float], test: float | None) -> MetricResult:
    """Mean and sample standard deviation of the folds' values; without folds, the test score."""
    if not folds:
        if test is None:
            raise ValueError(f"{metric}: neither folds nor a test score")
        return MetricResult(metric=metric, mean=test, test=test)
    return MetricResult(
        metric=metric, mean=fmean(folds), std=stdev(folds) if len(folds) > 1 else None, folds=list(folds), test=test
    )


def statistic_of(result: MetricResult, statistic: Statistic) -> float | None:
    """The number that a gate compares; None where the result has no such number."""
    match statistic:
        case Statistic.MEAN:
            return result.mean
        case Statistic.TEST:
            return result.test
        case Statistic.WORST:
            worst = min if METRICS[result.metric].higher_is_better else max
            return worst(result.folds) if result.folds else result.mean
        case Statistic.LOWER_BOUND | Statistic.UPPER_BOUND:
            if result.std is None:
                return None
            margin = _T95[len(result.folds) - 2] * result.std / math.sqrt(len(result.folds))
            return result.mean - margin if statistic is Statistic.LOWER_BOUND else result.mean + margin


def judge(gate: Gate, results: Sequence[MetricResult], baseline: Sequence[MetricResult] | None = None) -> GateResult:
    """Whether `results` meet `gate`. A number that is missing or not finite never passes."""
    label = gate.metric.value if gate.statistic is Statistic.MEAN else f"{gate.metric.value} ({gate.statistic.value})"
    value = _value(gate, results)
    if value is None or not math.isfinite(value):
        return GateResult(False, f"{label} was not measured")
    if gate.min is not None and value < gate.min:
        return GateResult(False, f"{label} {_short(value)} is below {_short(gate.min)}")
    if gate.max is not None and value > gate.max:
        return GateResult(False, f"{label} {_short(value)} is above {_short(gate.max)}")
    if gate.max_regression is not None:
        before = _value(gate, baseline or ())
        if before is None or not math.isfinite(before):
            return GateResult(False, f"{label} has no baseline value to compare with")
        worse = before - value if METRICS[gate.metric].higher_is_better else value - before
        if worse > gate.max_regression:
            return GateResult(
                False,
                f"{label} {_short(value)} is worse than the baseline's {_short(before)} by more than {_short(gate.max_regression)}",
            )
    return GateResult(True, f"{label} {_short(value)} passes")


def _value(gate: Gate, results: Sequence[MetricResult]) -> float | None:
    result = next((result for result in results if result.metric is gate.metric), None)
    return statistic_of(result, gate.statistic) if result else None


def _short(value: float) -> str:
    """Enough digits to tell a near miss: 0.7996 below 0.8 must not read '0.80 is below 0.80'."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.6g}"

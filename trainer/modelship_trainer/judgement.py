"""What an evaluation measures and how its numbers become a verdict. Pure; shared by the operator, the trainer and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, stdev
from typing import Annotated, NamedTuple, Self

from pydantic import Field, model_validator

from modelship_trainer.recipe.task import METRICS as METRICS
from modelship_trainer.recipe.task import Metric as Metric
from modelship_trainer.recipe.task import metrics_of as metrics_of
from modelship_trainer.schema import Model, OneOf, Rule, cel_list, raise_broken

MAX_FOLDS = 20


class Holdout(Model):
    """Score the artifact on the test split that its training never saw."""


class KFold(Model):
    """Retrain the recipe k times, each time scoring the fold left out; the test split stays untouched by all of them."""

    folds: int = Field(5, ge=2, le=MAX_FOLDS, description="Number of folds.")
    stratified: bool | None = Field(
        None, description="Keep the classes' proportions in each fold; default: true for classification."
    )
    shuffle: bool = Field(True, description="Shuffle rows before cutting folds.")
    seed: int = Field(
        0, ge=0, le=2**31 - 1, description="Seed of the shuffle, and, shuffled or not, of each fold's validation rows."
    )
    parallelism: int = Field(
        1,
        ge=1,
        le=MAX_FOLDS,
        description="Pods that share the folds; each trains its own one after the other, on data that it loads once.",
    )


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


_SHARES = [metric for metric, facts in METRICS.items() if (facts.lowest, facts.highest) == (0, 1)]
_ERRORS = [metric for metric, facts in METRICS.items() if not facts.higher_is_better]


class Gate(Model):
    """A condition that the model must meet."""

    rules = (
        Rule("has(self.min) || has(self.max) || has(self.maxRegression)", "a gate needs min, max or maxRegression"),
        Rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not be above max"),
        Rule(
            f"!(self.metric in {cel_list(_SHARES)}) || (!has(self.min) || self.min >= 0.0 && self.min <= 1.0)"
            " && (!has(self.max) || self.max >= 0.0 && self.max <= 1.0) && (!has(self.maxRegression) || self.maxRegression <= 1.0)",
            f"{', '.join(_SHARES)} are between 0 and 1: write 0.80 for 80 %",
        ),
        Rule(
            f"!(self.metric in {cel_list(_ERRORS)}) || (!has(self.min) || self.min >= 0.0) && (!has(self.max) || self.max >= 0.0)",
            f"{', '.join(_ERRORS)} are never below 0: min and max must be 0 or more",
        ),
        Rule(
            "self.metric != 'r2' || (!has(self.min) || self.min <= 1.0) && (!has(self.max) || self.max <= 1.0)",
            "r2 is at most 1: write 0.80 for 80 %",
        ),
    )

    metric: Metric = Field(description="Metric to look at; it is measured even if spec.metrics leaves it out.")
    min: float | None = Field(None, allow_inf_nan=False, description="Lowest value that passes.")
    max: float | None = Field(None, allow_inf_nan=False, description="Highest value that passes.")
    max_regression: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="How much worse than spec.baselineRef's value (same metric and statistic) still passes.",
    )
    statistic: Statistic = Field(
        Statistic.MEAN,
        description="mean of the folds (the test score for holdout); lowerBound/upperBound: one-sided 95% confidence bound of that "
        "mean (Student's t, kFold only); worst fold; test: the artifact's own score on the test split.",
    )

    @model_validator(mode="after")
    def _can_be_missed_and_met(self) -> Self:
        facts = METRICS[self.metric]
        beyond = any(bound is not None and not facts.lowest <= bound <= facts.highest for bound in (self.min, self.max))
        broken = (
            self.min is None and self.max is None and self.max_regression is None,
            self.min is not None and self.max is not None and self.min > self.max,
            self.metric in _SHARES and (beyond or (self.max_regression or 0) > 1),
            self.metric in _ERRORS and beyond,
            self.metric is Metric.R2 and beyond,
        )
        raise_broken(self.rules, broken)
        return self


Finite = Annotated[float, Field(allow_inf_nan=False)]


class MetricResult(Model):
    """A metric's values, as `summarize` makes them: finite, in six significant digits. For holdout `folds` is empty."""

    metric: Metric = Field(description="Name of the metric.")
    mean: Finite = Field(description="Mean over folds, or the test score for holdout.")
    std: Finite | None = Field(None, ge=0, description="Sample standard deviation over folds.")
    folds: Annotated[list[Finite], Field(max_length=MAX_FOLDS)] = Field(default_factory=list, description="Value of each fold.")
    test: Finite | None = Field(None, description="The artifact's own score on the test split.")


class GateResult(NamedTuple):
    """One gate's outcome; `message` is a sentence such as `roc_auc 0.74 is below 0.80`."""

    passed: bool
    message: str


# One-sided 95% quantiles of Student's t for 1 to 19 degrees of freedom (2 to 20 folds). A table: the operator has no scipy.
_T95 = (
    6.313752, 2.919986, 2.353363, 2.131847, 2.015048, 1.943180, 1.894579, 1.859548, 1.833113, 1.812461,
    1.795885, 1.782288, 1.770933, 1.761310, 1.753050, 1.745884, 1.739607, 1.734064, 1.729133,
)  # fmt: skip


def summarize(metric: Metric, folds: Sequence[float], test: float | None) -> MetricResult:
    """Mean and sample standard deviation of the folds' values; without folds, the test score.

    Rounded here, once, to six significant digits, so that report, status and verdict look at the very same numbers.

    Raises:
        ValueError: there is neither a fold nor a test score, or one of them is not finite.
    """
    named = {f"fold {index}": value for index, value in enumerate(folds)} | ({} if test is None else {"the test split": test})
    if not named:
        raise ValueError(f"{metric}: neither folds nor a test score")
    for where, value in named.items():
        if not math.isfinite(value):
            raise ValueError(f"{metric} of {where} is {value}")
    return MetricResult(
        metric=metric,
        mean=_six_digits(fmean(folds) if folds else named["the test split"]),
        std=_six_digits(stdev(folds)) if len(folds) > 1 else None,
        folds=[_six_digits(value) for value in folds],
        test=None if test is None else _six_digits(test),
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
            return worst(result.folds, default=result.mean)
        case Statistic.LOWER_BOUND | Statistic.UPPER_BOUND:
            if result.std is None or len(result.folds) < 2:
                return None
            margin = _T95[len(result.folds) - 2] * result.std / math.sqrt(len(result.folds))
            return result.mean - margin if statistic is Statistic.LOWER_BOUND else result.mean + margin


def judge(gate: Gate, results: Sequence[MetricResult], baseline: Sequence[MetricResult] | None = None) -> GateResult:
    """Whether `results` meet `gate`, and the sentence that says so.

    A number that is missing or not finite never passes; one that equals its bound (but for float rounding) does.
    """
    label = gate.metric.value if gate.statistic is Statistic.MEAN else f"{gate.metric.value} ({gate.statistic.value})"
    value = _value(gate, results)
    if value is None:
        return GateResult(False, f"{label} was not measured{_cure(gate, results)}")
    if not math.isfinite(value):
        return GateResult(False, f"{label} is {value}")
    if gate.min is not None and _exceeds(gate.min, value):
        return GateResult(False, "{} {} is below {}".format(label, *_texts(value, gate.min)))
    if gate.max is not None and _exceeds(value, gate.max):
        return GateResult(False, "{} {} is above {}".format(label, *_texts(value, gate.max)))
    if gate.max_regression is None:
        return GateResult(True, _passing(label, value, gate))
    before = _value(gate, baseline or ())
    if before is None or not math.isfinite(before):
        return GateResult(False, f"{label} has no baseline value to compare with")
    higher = METRICS[gate.metric].higher_is_better
    # The bound is moved, not the difference taken: 0.8 - 0.75 is more than 0.05 in floats.
    bound = before - gate.max_regression if higher else before + gate.max_regression
    now, was, by = *_texts(value, before, bound)[:2], _texts(gate.max_regression)[0]
    if _exceeds(bound, value) if higher else _exceeds(value, bound):
        return GateResult(False, f"{label} {now} is worse than the baseline's {was} by more than {by}")
    return GateResult(True, f"{label} {now} is within {by} of the baseline's {was}, or better")


def _passing(label: str, value: float, gate: Gate) -> str:
    bounds = {"at least": gate.min, "at most": gate.max}
    given = {word: bound for word, bound in bounds.items() if bound is not None}
    now, *limits = _texts(value, *given.values())
    return f"{label} {now} is " + " and ".join(f"{word} {limit}" for word, limit in zip(given, limits, strict=True))


def _cure(gate: Gate, results: Sequence[MetricResult]) -> str:
    if not any(result.metric is gate.metric for result in results):
        return ""
    if gate.statistic is Statistic.TEST:
        return ": the test split was not scored"
    return ": a confidence bound needs method.kFold"


def _value(gate: Gate, results: Sequence[MetricResult]) -> float | None:
    result = next((result for result in results if result.metric is gate.metric), None)
    return statistic_of(result, gate.statistic) if result else None


def _exceeds(a: float, b: float) -> bool:
    return a > b and not math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def _texts(*values: float) -> list[str]:
    """Numbers for one sentence: at least four significant digits, and so many that 0.79996 below 0.8 does not read as 0.80."""
    for digits in range(4, 18):
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return [_two_decimals(text) for text in texts]


def _two_decimals(text: str) -> str:
    """`0.8` as `0.80`, `1` as `1.00`: scores line up. Larger numbers and exponents stay."""
    if "e" in text or abs(float(text)) > 1:
        return text
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals:0<2}"

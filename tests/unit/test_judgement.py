import math
from statistics import fmean, stdev

import pytest
from pydantic import ValidationError
from scipy.stats import t

from modelship_trainer.judgement import (
    METRICS,
    Gate,
    KFold,
    Method,
    Metric,
    MetricResult,
    Statistic,
    judge,
    metrics_of,
    statistic_of,
    summarize,
)
from modelship_trainer.recipe import Task

pytestmark = pytest.mark.unit

FOLDS = [0.80, 0.84, 0.79, 0.86, 0.81]
AUC = summarize(Metric.ROC_AUC, FOLDS, 0.83)
RMSE = summarize(Metric.RMSE, [10.0, 12.0, 11.0], 11.5)
HOLDOUT = summarize(Metric.F1, [], 0.7)


def gate(metric: Metric = Metric.ROC_AUC, **bounds: object) -> Gate:
    return Gate.model_validate({"metric": metric, **bounds})


def accuracy(value: float) -> MetricResult:
    return summarize(Metric.ACCURACY, [], value)


# --- metrics and summaries ----------------------------------------------------------------------------------------------------


def test_every_metric_has_facts_and_belongs_to_one_task():
    assert set(METRICS) == set(Metric)
    assert metrics_of(Task.REGRESSION) == [Metric.MAE, Metric.RMSE, Metric.R2]
    assert set(metrics_of(Task.CLASSIFICATION)) == set(Metric) - set(metrics_of(Task.REGRESSION))
    assert {m for m in Metric if not METRICS[m].higher_is_better} == {Metric.LOG_LOSS, Metric.MAE, Metric.RMSE}


def test_summary_of_folds_is_mean_and_sample_deviation():
    assert AUC.mean == pytest.approx(fmean(FOLDS))
    assert AUC.std == pytest.approx(stdev(FOLDS), rel=1e-5)
    assert (AUC.folds, AUC.test) == (FOLDS, 0.83)


def test_summary_of_holdout_is_the_test_score():
    assert (HOLDOUT.mean, HOLDOUT.std, HOLDOUT.folds, HOLDOUT.test) == (0.7, None, [], 0.7)


def test_summary_rounds_to_six_digits_after_averaging():
    result = summarize(Metric.MAE, [123456.7, 1e-7 / 3], 1 / 3)
    assert (result.folds, result.test) == ([123457.0, 3.33333e-08], 0.333333)
    assert result.mean == float(f"{(123456.7 + 1e-7 / 3) / 2:.6g}")


@pytest.mark.parametrize(
    ("folds", "test", "says"),
    [
        ([], None, "neither folds nor a test score"),
        ([0.5, math.nan], 0.5, "f1 of fold 1 is nan"),
        ([math.inf, 0.5], None, "f1 of fold 0 is inf"),
        ([], math.nan, "f1 of the test split is nan"),
        ([0.5], -math.inf, "f1 of the test split is -inf"),
    ],
)
def test_summary_refuses_what_is_no_number(folds, test, says):
    with pytest.raises(ValueError, match=says):
        summarize(Metric.F1, folds, test)


@pytest.mark.parametrize(
    "text", ['"mean": NaN', '"mean": Infinity', '"mean": 0.5, "folds": [0.5, NaN]', '"mean": 0.5, "std": -0.1']
)
def test_a_result_read_from_json_is_finite(text):
    with pytest.raises(ValidationError):
        MetricResult.model_validate_json(f'{{"metric": "f1", {text}}}')


# --- statistics ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", range(2, 21))
def test_confidence_bounds_are_students_t(folds):
    values = [math.sin(i) for i in range(folds)]
    result = summarize(Metric.R2, values, None)
    margin = t.ppf(0.95, folds - 1) * stdev(values) / math.sqrt(folds)
    assert statistic_of(result, Statistic.LOWER_BOUND) == pytest.approx(fmean(values) - margin, rel=1e-4, abs=1e-5)
    assert statistic_of(result, Statistic.UPPER_BOUND) == pytest.approx(fmean(values) + margin, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("result", "statistic", "value"),
    [
        (AUC, Statistic.MEAN, 0.82),
        (AUC, Statistic.WORST, 0.79),
        (RMSE, Statistic.WORST, 12.0),
        (HOLDOUT, Statistic.WORST, 0.7),
        (AUC, Statistic.TEST, 0.83),
        (summarize(Metric.F1, FOLDS, None), Statistic.TEST, None),
        (HOLDOUT, Statistic.LOWER_BOUND, None),
        (summarize(Metric.F1, [0.5], None), Statistic.UPPER_BOUND, None),
        (MetricResult(metric=Metric.F1, mean=0.5, std=0.1), Statistic.LOWER_BOUND, None),
        (summarize(Metric.F1, [0.5, 0.5], None), Statistic.LOWER_BOUND, 0.5),
    ],
)
def test_statistic(result, statistic, value):
    assert statistic_of(result, statistic) == value


# --- gates --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "passed", "message"),
    [
        ({"min": 0.8}, True, "roc_auc 0.82 is at least 0.80"),
        ({"min": 0.82}, True, "roc_auc 0.82 is at least 0.82"),
        ({"min": 0.83}, False, "roc_auc 0.82 is below 0.83"),
        ({"min": 1}, False, "roc_auc 0.82 is below 1.00"),
        ({"max": 0.9}, True, "roc_auc 0.82 is at most 0.90"),
        ({"max": 0.8}, False, "roc_auc 0.82 is above 0.80"),
        ({"min": 0.8, "max": 0.9}, True, "roc_auc 0.82 is at least 0.80 and at most 0.90"),
        ({"min": 0.8, "statistic": "worst"}, False, "roc_auc (worst) 0.79 is below 0.80"),
        ({"min": 0.83, "statistic": "test"}, True, "roc_auc (test) 0.83 is at least 0.83"),
        ({"min": 0.8, "statistic": "lowerBound"}, False, "roc_auc (lowerBound) 0.7922 is below 0.80"),
        ({"max": 0.85, "statistic": "upperBound"}, True, "roc_auc (upperBound) 0.8478 is at most 0.85"),
    ],
)
def test_gate_on_folds(bounds, passed, message):
    assert judge(gate(**bounds), [RMSE, AUC]) == (passed, message)


@pytest.mark.parametrize(
    ("asked", "results", "message"),
    [
        (gate(Metric.F1, min=0), [AUC], "f1 was not measured"),
        (gate(Metric.F1, min=0), [], "f1 was not measured"),
        (
            gate(Metric.F1, min=0, statistic="lowerBound"),
            [HOLDOUT],
            "f1 (lowerBound) was not measured: a confidence bound needs method.kFold",
        ),
        (
            gate(Metric.F1, min=0, statistic="test"),
            [summarize(Metric.F1, FOLDS, None)],
            "f1 (test) was not measured: the test split was not scored",
        ),
        (gate(Metric.F1, min=0), [MetricResult.model_construct(metric=Metric.F1, mean=math.nan, folds=[])], "f1 is nan"),
        (gate(Metric.F1, max=1), [MetricResult.model_construct(metric=Metric.F1, mean=-math.inf, folds=[])], "f1 is -inf"),
    ],
)
def test_what_was_not_measured_never_passes(asked, results, message):
    assert judge(asked, results) == (False, message)


@pytest.mark.parametrize(
    ("value", "minimum", "message"),
    [
        (0.7996, 0.8, "mae 0.7996 is below 0.80"),
        (0.79996, 0.8, "mae 0.79996 is below 0.80"),
        (0.799999, 0.8, "mae 0.799999 is below 0.80"),
        (0.00001234, 0.00002, "mae 1.234e-05 is below 2e-05"),
        (-0.5, 0, "mae -0.50 is below 0.00"),
        (54.25, 60, "mae 54.25 is below 60"),
        (123456, 123457, "mae 123456 is below 123457"),
    ],
)
def test_a_near_miss_reads_as_one(value, minimum, message):
    assert judge(gate(Metric.MAE, min=minimum), [summarize(Metric.MAE, [], value)]) == (False, message)


@pytest.mark.parametrize(("value", "bounds"), [(0.1 + 0.2, {"max": 0.3}), (0.3, {"min": 0.1 + 0.2}), (-1e-15, {"min": 0})])
def test_equal_but_for_rounding_passes(value, bounds):
    assert judge(gate(Metric.ACCURACY, **bounds), [MetricResult(metric=Metric.ACCURACY, mean=value)]).passed


@pytest.mark.parametrize(
    ("metric", "before", "now", "allowed", "passed", "message"),
    [
        (Metric.F1, 0.8, 0.75, 0.05, True, "f1 0.75 is within 0.05 of the baseline's 0.80, or better"),
        (Metric.F1, 0.8, 0.9, 0.0, True, "f1 0.90 is within 0.00 of the baseline's 0.80, or better"),
        (Metric.F1, 0.8, 0.8, 0.0, True, "f1 0.80 is within 0.00 of the baseline's 0.80, or better"),
        (Metric.F1, 0.8, 0.74, 0.05, False, "f1 0.74 is worse than the baseline's 0.80 by more than 0.05"),
        (Metric.F1, 0.8, 0.79999, 0.0, False, "f1 0.79999 is worse than the baseline's 0.80 by more than 0.00"),
        (Metric.RMSE, 10.0, 10.5, 0.5, True, "rmse 10.5 is within 0.50 of the baseline's 10, or better"),
        (Metric.RMSE, 10.0, 9.0, 0.0, True, "rmse 9 is within 0.00 of the baseline's 10, or better"),
        (Metric.RMSE, 10.0, 10.6, 0.5, False, "rmse 10.6 is worse than the baseline's 10 by more than 0.50"),
    ],
)
def test_no_worse_than_the_baseline(metric, before, now, allowed, passed, message):
    results, baseline = [summarize(metric, [], now)], [summarize(metric, [], before)]
    assert judge(gate(metric, maxRegression=allowed), results, baseline) == (passed, message)


@pytest.mark.parametrize("baseline", [None, [], [AUC], [MetricResult(metric=Metric.F1, mean=0.5)]])
def test_without_a_baseline_value_regression_is_not_passed(baseline):
    asked = gate(Metric.F1, maxRegression=0.1, statistic="test")
    assert judge(asked, [HOLDOUT], baseline) == (False, "f1 (test) has no baseline value to compare with")


def test_an_absolute_bound_holds_beside_a_baseline():
    asked = gate(Metric.F1, min=0.75, maxRegression=0.5)
    assert judge(asked, [HOLDOUT], [HOLDOUT]) == (False, "f1 0.70 is below 0.75")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "a gate needs min, max or maxRegression"),
        ({"min": 0.9, "max": 0.8}, "min must not be above max"),
        ({"min": math.nan}, "finite"),
        ({"max": math.inf}, "finite"),
        ({"maxRegression": math.nan}, "finite|greater"),
        ({"maxRegression": -0.1}, "greater than or equal to 0"),
        ({"min": 80}, "between 0 and 1: write 0.80 for 80 %"),
        ({"max": -0.1}, "between 0 and 1"),
        ({"maxRegression": 2}, "between 0 and 1"),
        ({"max": -1, "metric": "rmse"}, "never below 0"),
        ({"min": 80, "metric": "r2"}, "r2 is at most 1"),
        ({"min": 0.5, "metric": "auc"}, "roc_auc"),
        ({"min": 0.5, "statistic": "median"}, "worst"),
        ({"minimum": 0.5}, "minimum"),
    ],
)
def test_a_gate_that_says_nothing_is_refused(fields, says):
    with pytest.raises(ValidationError, match=says):
        Gate.model_validate({"metric": "f1", **fields})


@pytest.mark.parametrize("method", [{}, {"holdout": {}, "kFold": {}}, {"kFold": {"folds": 1}}, {"kFold": {"folds": 21}}])
def test_a_method_is_exactly_one_within_bounds(method):
    with pytest.raises(ValidationError):
        Method.model_validate(method)


def test_defaults_of_k_fold():
    assert Method.model_validate({"kFold": {}}).value == KFold(folds=5, stratified=None, shuffle=True, seed=0, parallelism=1)

import math

import numpy as np
import pytest

from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.metrics import class_scores, confusion, measure, per_class, value_scores, wanted
from modelship_trainer.judgement import Gate, Metric, metrics_of
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Task

pytestmark = pytest.mark.unit

# Four rows, two classes: predicted 0, 1, 1, 1; so one false positive of class 1.
BINARY = class_scores([0, 0, 1, 1], [[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.45, 0.55]], ["no", "yes"])
# Six rows, three classes: predicted 0, 0, 1, 2, 2, 0.
THREE = class_scores(
    [0, 0, 1, 1, 2, 2],
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6], [0.1, 0.1, 0.8], [0.5, 0.1, 0.4]],
    ["a", "b", "c"],
)
VALUES = value_scores([1.0, 2.0, 3.0, 6.0], [[1.5], [2.0], [2.0], [7.0]])


@pytest.mark.parametrize(
    ("scores", "metric", "value"),
    [
        (BINARY, Metric.ACCURACY, 3 / 4),
        (BINARY, Metric.PRECISION, (1 + 2 / 3) / 2),
        (BINARY, Metric.RECALL, (1 / 2 + 1) / 2),
        (BINARY, Metric.F1, (2 / 3 + 4 / 5) / 2),
        # Pairs (negative, positive): 0.2 < 0.7, 0.2 < 0.55, 0.6 < 0.7 are in order, 0.6 > 0.55 is not.
        (BINARY, Metric.ROC_AUC, 3 / 4),
        (BINARY, Metric.LOG_LOSS, -(math.log(0.8) + math.log(0.4) + math.log(0.7) + math.log(0.55)) / 4),
        (THREE, Metric.ACCURACY, 4 / 6),
        (THREE, Metric.PRECISION, (2 / 3 + 1 + 1 / 2) / 3),
        (THREE, Metric.RECALL, (1 + 1 / 2 + 1 / 2) / 3),
        (THREE, Metric.F1, (4 / 5 + 2 / 3 + 1 / 2) / 3),
        # One against the rest, 8 pairs each: a: 8, b: 0.7 beats 4 and 0.3 beats 3 and ties 1, c: 0.8 beats 4 and 0.4 beats 3.
        (THREE, Metric.ROC_AUC, (8 / 8 + 7.5 / 8 + 7 / 8) / 3),
        (THREE, Metric.LOG_LOSS, -sum(map(math.log, [0.7, 0.6, 0.7, 0.3, 0.8, 0.4])) / 6),
        (VALUES, Metric.MAE, (0.5 + 0 + 1 + 1) / 4),
        (VALUES, Metric.RMSE, math.sqrt((0.25 + 0 + 1 + 1) / 4)),
        (VALUES, Metric.R2, 1 - 2.25 / 14),
    ],
)
def test_value_worked_out_by_hand(scores, metric, value):
    assert measure([metric], scores, "the test split")[metric] == pytest.approx(value, abs=1e-12)


def test_confusion_and_classes_by_hand():
    assert confusion(THREE) == [[2, 0, 0], [0, 1, 1], [1, 0, 1]]
    rows = per_class(THREE)
    assert [(row.name, row.rows) for row in rows] == [("a", 2), ("b", 2), ("c", 2)]
    assert [row.precision for row in rows] == pytest.approx([2 / 3, 1, 1 / 2])


def test_a_class_that_is_never_predicted_has_precision_zero():
    scores = class_scores([0, 1], [[0.9, 0.1], [0.9, 0.1]], ["a", "b"])
    assert measure([Metric.PRECISION], scores, "fold 0")[Metric.PRECISION] == 0.25


def test_log_loss_takes_probabilities_that_sum_to_one_only_in_fp32(recwarn):
    scores = class_scores([0, 1], np.array([[0.1, 0.90001], [0.3, 0.7]], dtype=np.float32), ["a", "b"])
    expected = -(math.log(0.1 / 1.00001) + math.log(0.7)) / 2
    assert measure([Metric.LOG_LOSS], scores, "fold 0")[Metric.LOG_LOSS] == pytest.approx(expected, rel=1e-6)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("scores", "metric", "says"),
    [
        (
            class_scores([1, 1], [[0.2, 0.8], [0.4, 0.6]], ["no", "yes"]),
            Metric.ROC_AUC,
            'roc_auc is undefined on fold 2: no row has the label "no"',
        ),
        (class_scores([0, 0], np.full((2, 3), 1 / 3), ["a", "b", "c"]), Metric.ROC_AUC, 'no row has the label "b", "c"; stratify'),
        (value_scores([3, 3, 3], [1, 2, 3]), Metric.R2, "r2 is undefined on fold 2: all of its true values are equal"),
        (value_scores([3], [3]), Metric.R2, "r2 is undefined on fold 2"),
    ],
)
def test_an_undefined_metric_is_an_error_that_names_it(scores, metric, says):
    with pytest.raises(UserError) as caught:
        measure([metric], scores, "fold 2")
    assert caught.value.reason is FailureReason.DATA_INVALID
    assert says in str(caught.value)
    assert f"leave out {metric}" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: class_scores([], np.empty((0, 2)), ["a", "b"]), "no rows to score; raise data.split.test"),
        (lambda: value_scores([], []), "no rows to score"),
        (lambda: value_scores([1, 2], [1, math.nan]), "not finite for 1 of 2 rows"),
        (lambda: value_scores([1, 2], [math.inf, -math.inf]), "not finite for 2 of 2 rows"),
        (lambda: class_scores([0, 1], [[math.nan, math.nan], [0.5, 0.5]], ["a", "b"]), "not finite for 1 of 2 rows"),
    ],
)
def test_predictions_that_cannot_be_scored(make, says):
    with pytest.raises(UserError, match=says) as caught:
        make()
    assert caught.value.reason is FailureReason.DATA_INVALID


@pytest.mark.parametrize(
    ("metrics", "gates", "task", "expected"),
    [
        ([], [], Task.REGRESSION, metrics_of(Task.REGRESSION)),
        ([], [Gate(metric=Metric.R2, min=0)], Task.REGRESSION, metrics_of(Task.REGRESSION)),
        ([Metric.F1, Metric.ACCURACY, Metric.F1], [], Task.CLASSIFICATION, [Metric.ACCURACY, Metric.F1]),
        ([Metric.F1], [Gate(metric=Metric.ROC_AUC, min=0)], Task.CLASSIFICATION, [Metric.F1, Metric.ROC_AUC]),
    ],
)
def test_what_is_measured(metrics, gates, task, expected):
    assert wanted(metrics, gates, task) == expected


@pytest.mark.parametrize(
    ("metrics", "gates", "task", "says"),
    [
        (
            [Metric.RMSE],
            [],
            Task.CLASSIFICATION,
            "metrics: rmse does not fit classification; use accuracy, precision, recall, f1, roc_auc, log_loss.",
        ),
        ([], [Gate(metric=Metric.F1, min=0)], Task.REGRESSION, "gates: f1 does not fit regression; use mae, rmse, r2."),
    ],
)
def test_a_metric_of_the_other_task_is_refused(metrics, gates, task, says):
    with pytest.raises(UserError) as caught:
        wanted(metrics, gates, task)
    assert (caught.value.reason, str(caught.value)) == (FailureReason.RECIPE_INVALID, says)


def test_a_metric_of_the_other_kind_of_scores_is_a_programming_error():
    with pytest.raises(ValueError, match="rmse is a metric of regression"):
        measure([Metric.RMSE], BINARY, "fold 0")

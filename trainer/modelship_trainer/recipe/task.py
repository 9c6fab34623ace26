"""What is predicted, and what can be measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Task(StrEnum):
    """What is predicted."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


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
    lowest: float
    """No value is below this, and none above `highest`."""
    highest: float


METRICS: Mapping[Metric, MetricFacts] = {
    Metric.ACCURACY: MetricFacts(Task.CLASSIFICATION, True, 0, 1),
    Metric.PRECISION: MetricFacts(Task.CLASSIFICATION, True, 0, 1),
    Metric.RECALL: MetricFacts(Task.CLASSIFICATION, True, 0, 1),
    Metric.F1: MetricFacts(Task.CLASSIFICATION, True, 0, 1),
    Metric.ROC_AUC: MetricFacts(Task.CLASSIFICATION, True, 0, 1),
    Metric.LOG_LOSS: MetricFacts(Task.CLASSIFICATION, False, 0, math.inf),
    Metric.MAE: MetricFacts(Task.REGRESSION, False, 0, math.inf),
    Metric.RMSE: MetricFacts(Task.REGRESSION, False, 0, math.inf),
    Metric.R2: MetricFacts(Task.REGRESSION, True, -math.inf, 1),
}


def metrics_of(task: Task) -> list[Metric]:
    """All metrics of a task, in the order of the table."""
    return [metric for metric, facts in METRICS.items() if facts.task is task]

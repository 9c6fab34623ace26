"""Numbers become a verdict: every gate counts, each with its sentence, bound to the digests that were measured."""

from __future__ import annotations

from typing import Any

import pytest

from modelship_operator.controllers.evaluation.verdict import failing_gates, method_text, score_of, verdict_of
from modelship_trainer.judgement import Gate, Method, Metric, MetricResult, summarize
from modelship_trainer.protocol import EvaluateResult

pytestmark = pytest.mark.unit

DIGEST, RECIPE, DATA, REPORT = (f"sha256:{character * 64}" for character in "9abc")
CV = (
    summarize(Metric.ROC_AUC, [0.85, 0.87, 0.863], 0.86),
    summarize(Metric.F1, [0.7, 0.72, 0.74], 0.71),
)
HOLDOUT = (summarize(Metric.ACCURACY, [], 0.9583), summarize(Metric.LOG_LOSS, [], 0.12))


def measured(*results: MetricResult) -> EvaluateResult:
    return EvaluateResult(
        artifact_digest=DIGEST,
        recipe_digest=RECIPE,
        data_digest=DATA,
        results=list(results),
        report="pvc://models/evaluations/u/report.html",
        report_digest=REPORT,
        rows=100,
    )


def gate(**fields: Any) -> Gate:
    return Gate.model_validate(fields)


@pytest.mark.parametrize(
    ("gates", "results", "baseline", "verdict", "failing"),
    [
        ([], CV, None, "Passed", ""),
        ([gate(metric="roc_auc", min=0.8)], CV, None, "Passed", ""),
        ([gate(metric="roc_auc", min=0.9)], CV, None, "Failed", "roc_auc 0.861 is below 0.90"),
        ([gate(metric="roc_auc", min=0.8), gate(metric="f1", min=0.8)], CV, None, "Failed", "f1 0.72 is below 0.80"),
        (
            [gate(metric="roc_auc", min=0.9), gate(metric="f1", min=0.8)],
            CV,
            None,
            "Failed",
            "roc_auc 0.861 is below 0.90; f1 0.72 is below 0.80",
        ),
        ([gate(metric="f1", min=0.7, statistic="lowerBound")], CV, None, "Failed", "f1 (lowerBound) 0.6863 is below 0.70"),
        ([gate(metric="roc_auc", min=0.86, statistic="test")], CV, None, "Passed", ""),
        ([gate(metric="accuracy", min=0.5)], CV, None, "Failed", "accuracy was not measured"),
        ([gate(metric="log_loss", max=0.1)], HOLDOUT, None, "Failed", "log_loss 0.12 is above 0.10"),
        ([gate(metric="accuracy", max_regression=0.01)], HOLDOUT, HOLDOUT, "Passed", ""),
        (
            [gate(metric="accuracy", max_regression=0.01)],
            HOLDOUT,
            (summarize(Metric.ACCURACY, [], 0.98),),
            "Failed",
            "accuracy 0.9583 is worse than the baseline's 0.98 by more than 0.01",
        ),
        ([gate(metric="accuracy", max_regression=0.01)], HOLDOUT, None, "Failed", "accuracy has no baseline value to compare with"),
    ],
)
def test_every_gate_counts(
    gates: list[Gate], results: tuple[MetricResult, ...], baseline: tuple[MetricResult, ...] | None, verdict: str, failing: str
) -> None:
    status = verdict_of(gates, measured(*results), baseline)
    assert status["verdict"] == verdict
    assert failing_gates(status) == failing
    assert len(status["gates"]) == len(gates)


def test_the_verdict_names_what_it_is_bound_to() -> None:
    status = verdict_of([], measured(*HOLDOUT), None)
    assert status["subject"] == {"artifactDigest": DIGEST, "recipeDigest": RECIPE, "dataDigest": DATA}
    assert status["report"] == {"uri": "pvc://models/evaluations/u/report.html", "digest": REPORT}
    assert status["results"][0] == {"metric": "accuracy", "mean": 0.9583, "folds": [], "test": 0.9583}


@pytest.mark.parametrize(
    ("gates", "results", "score"),
    [
        ([], CV, "roc_auc 0.861±0.010"),
        ([gate(metric="f1", min=0)], CV, "f1 0.720±0.020"),
        ([gate(metric="accuracy", min=0)], CV, "roc_auc 0.861±0.010"),
        ([], HOLDOUT, "accuracy 0.958"),
        ([], (summarize(Metric.RMSE, [54.321, 56.5], None),), "rmse 55.41±1.54"),
        ([], (summarize(Metric.MAE, [], 12345.6),), "mae 12346"),
        ([], (), ""),
    ],
)
def test_the_score_is_the_first_gates_metric(gates: list[Gate], results: tuple[MetricResult, ...], score: str) -> None:
    assert score_of(gates, results) == score


@pytest.mark.parametrize(
    ("method", "text"),
    [({"kFold": {}}, "5-fold"), ({"kFold": {"folds": 10}}, "10-fold"), ({"holdout": {}}, "holdout")],
)
def test_the_method_in_words(method: dict[str, Any], text: str) -> None:
    assert method_text(Method.model_validate(method)) == text

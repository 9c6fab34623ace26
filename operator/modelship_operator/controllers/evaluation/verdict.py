"""What the scoring pod measured, as the verdict in the status. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from modelship_operator.controllers.common.outcome import short_digest
from modelship_trainer.judgement import Gate, Method, MetricResult, judge
from modelship_trainer.protocol import EvaluateResult

Json = dict[str, Any]

PASSED, FAILED = "Passed", "Failed"


def verdict_of(gates: Sequence[Gate], measured: EvaluateResult, baseline: Sequence[MetricResult] | None) -> Json:
    """The status fields that a finished evaluation has: verdict, results, gates, subject, report, score.

    Without gates it is Passed: nothing was asked of the model but to be measured.
    """
    judged = [judge(gate, measured.results, baseline) for gate in gates]
    return {
        "verdict": PASSED if all(result.passed for result in judged) else FAILED,
        "score": score_of(gates, measured.results),
        "results": [result.to_json() for result in measured.results],
        "gates": [
            {"metric": gate.metric.value, "statistic": gate.statistic.value, "passed": result.passed, "message": result.message}
            for gate, result in zip(gates, judged, strict=True)
        ],
        "subject": {
            "artifactDigest": measured.artifact_digest,
            "recipeDigest": measured.recipe_digest,
            "dataDigest": measured.data_digest,
        },
        "digestText": short_digest(measured.artifact_digest),
        "report": {"uri": measured.report, "digest": measured.report_digest},
    }


def failing_gates(status: Json) -> str:
    """`roc_auc 0.74 is below 0.80; f1 0.50 is below 0.70`: the gates that a Failed verdict failed."""
    return "; ".join(gate["message"] for gate in status.get("gates", []) if not gate["passed"])


def score_of(gates: Sequence[Gate], results: Sequence[MetricResult]) -> str:
    """`roc_auc 0.861±0.012`: the first gate's metric, else the first measured; no spread where there are no folds."""
    wanted = gates[0].metric if gates else None
    shown = next((result for result in results if result.metric is wanted), results[0] if results else None)
    if shown is None:
        return ""
    digits = _decimals(shown.mean)
    spread = "" if shown.std is None else f"±{shown.std:.{digits}f}"
    return f"{shown.metric.value} {shown.mean:.{digits}f}{spread}"


def method_text(method: Method) -> str:
    """`5-fold` or `holdout`."""
    return f"{method.k_fold.folds}-fold" if method.k_fold else "holdout"


def _decimals(value: float) -> int:
    """Three decimals for scores; fewer for large errors, so that four digits are shown."""
    return 3 if abs(value) < 10 else max(0, 3 - math.floor(math.log10(abs(value))))

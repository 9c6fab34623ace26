"""What may be served: digests are compared, and every refusal is a sentence that names the evaluation."""

from __future__ import annotations

from typing import Any

import pytest

from modelship_operator.controllers.deployment.gate import Ruling, rule

pytestmark = pytest.mark.unit

DIGEST = "sha256:9f31" + "0" * 60
OTHER = "sha256:77aa" + "0" * 60


def evaluated(verdict: str, digest: str = DIGEST, *failing: str) -> dict[str, Any]:
    gates = [{"metric": "roc_auc", "passed": False, "message": message} for message in failing]
    return {"status": {"verdict": verdict, "subject": {"artifactDigest": digest}, "gates": gates}}


def unfinished(progress: str = "", reason: str = "R", **conditions: str) -> dict[str, Any]:
    listed = [{"type": kind, "status": "True", "reason": reason, "message": message} for kind, message in conditions.items()]
    return {"status": {"conditions": listed, **({"progressText": progress} if progress else {})}}


PASSED = Ruling("Passed")


@pytest.mark.parametrize(
    ("evaluations", "ruling"),
    [
        ({}, PASSED),
        ({"churn-cv": evaluated("Passed")}, PASSED),
        ({"a": evaluated("Passed"), "b": evaluated("Passed")}, PASSED),
        ({"churn-cv": None}, Ruling("Waiting", "WaitingForReference", 'ModelEvaluation "churn-cv" does not exist yet.')),
        (
            {"churn-cv": unfinished("fold 3 of 5", "Running", Reconciling="fold 3 of 5.")},
            Ruling("Waiting", "WaitingForVerdict", "no passed evaluation for sha256:9f31…; churn-cv is running (fold 3 of 5)."),
        ),
        (
            {"churn-cv": unfinished("fold 1 of 5", "Unschedulable", Reconciling="0/3 nodes fit: 3 Insufficient cpu.")},
            Ruling(
                "Waiting",
                "WaitingForVerdict",
                "no passed evaluation for sha256:9f31…; churn-cv waits: 0/3 nodes fit: 3 Insufficient cpu.",
            ),
        ),
        (
            {"churn-cv": {}},
            Ruling("Waiting", "WaitingForVerdict", "no passed evaluation for sha256:9f31…; churn-cv has not started."),
        ),
        (
            {"churn-cv": unfinished(Reconciling="suspended.")},
            Ruling("Waiting", "WaitingForVerdict", "no passed evaluation for sha256:9f31…; churn-cv waits: suspended."),
        ),
        (
            {"churn-cv": evaluated("Failed", DIGEST, "roc_auc 0.74 is below 0.80")},
            Ruling("Failed", "GateFailed", "churn-cv: roc_auc 0.74 is below 0.80."),
        ),
        (
            {"churn-cv": evaluated("Failed", DIGEST, "roc_auc 0.74 is below 0.80", "f1 0.50 is below 0.70")},
            Ruling("Failed", "GateFailed", "churn-cv: roc_auc 0.74 is below 0.80; f1 0.50 is below 0.70."),
        ),
        (
            {"churn-cv": evaluated("Passed", OTHER)},
            Ruling(
                "Failed",
                "DigestNotProven",
                "churn-cv measured sha256:77aa…, not sha256:9f31…; name an evaluation of the artifact to be served.",
            ),
        ),
        (
            {"churn-cv": evaluated("Failed", OTHER, "x")},
            Ruling(
                "Failed",
                "DigestNotProven",
                "churn-cv measured sha256:77aa…, not sha256:9f31…; name an evaluation of the artifact to be served.",
            ),
        ),
        (
            {"churn-cv": unfinished(Stalled='column "incme" is not in the data.')},
            Ruling("Failed", "EvaluationFailed", 'churn-cv could not be measured: column "incme" is not in the data.'),
        ),
        # What can never pass is said first, whatever the order.
        (
            {"a": None, "b": evaluated("Failed", DIGEST, "f1 0.1 is below 0.70")},
            Ruling("Failed", "GateFailed", "b: f1 0.1 is below 0.70."),
        ),
        (
            {"a": evaluated("Passed"), "b": None},
            Ruling("Waiting", "WaitingForReference", 'ModelEvaluation "b" does not exist yet.'),
        ),
        # Without a subject nothing is proven.
        (
            {"a": {"status": {"verdict": "Passed"}}},
            Ruling(
                "Failed",
                "DigestNotProven",
                "a measured no known artifact, not sha256:9f31…; name an evaluation of the artifact to be served.",
            ),
        ),
    ],
)
def test_the_gate(evaluations: dict[str, Any], ruling: Ruling) -> None:
    assert rule(DIGEST, evaluations) == ruling

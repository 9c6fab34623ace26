"""A status that somebody else writes: restored while the operator runs, never believed, and never a reason to run again."""

from __future__ import annotations

import pytest
from tests.support import chain
from tests.support.builders import make_deployment, make_evaluation, make_training
from tests.support.controlplane import ControlPlane
from tests.support.kubelet import Namespace, operator_process

pytestmark = pytest.mark.integration

HOLDOUT = {"method": {"holdout": {}}}
KIND = "ModelEvaluation"


def test_a_forged_verdict_is_restored_and_opens_nothing(here: Namespace) -> None:
    chain.train(here)
    here.create(make_evaluation(**HOLDOUT))
    chain.score(here, "churn-cv", test=0.5)
    failed = here.reason(KIND, "churn-cv", "GatesFailed")
    here.patch(KIND, "churn-cv", {"status": {"verdict": "Passed", "progressText": "forged"}}, "status")
    here.event("StatusRestored")
    found = here.wait(KIND, "churn-cv", lambda found: found["status"].get("verdict") == "Failed")
    assert found["status"] == failed


def test_what_was_written_while_no_operator_ran_is_not_believed(plane: ControlPlane) -> None:
    """As a backup's restore does it, too: the training is not run again."""
    with Namespace.made(plane) as here:
        here.create(make_training())
        digest = chain.DIGEST
        done = {"completionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1, "conditions": []}
        artifact = {"uri": f"pvc://models/artifacts/{digest.replace(':', '-')}", "digest": digest, "sizeBytes": 1}
        here.patch("ModelTraining", "churn", {"status": {**done, "phase": "Succeeded", "artifact": artifact}}, "status")
        here.create(make_evaluation(**HOLDOUT))
        passed = {
            "phase": "Finished",
            "verdict": "Passed",
            "subject": {"artifactDigest": digest, "recipeDigest": digest, "dataDigest": digest},
        }
        here.patch(KIND, "churn-cv", {"status": {**done, **passed}}, "status")
        here.create(make_deployment())
        with operator_process(plane, MODELSHIP_NAMESPACES=here.name, MODELSHIP_POD_NAMESPACE=here.name):
            status = here.reason("ModelDeployment", "churn", "VerdictNotOurs")
        assert status["phase"] == "Gated"
        assert here.list("Job") == []

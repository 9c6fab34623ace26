"""A ModelEvaluation against a real API server and a real operator process; the tests are kubelet and Job controller."""

from __future__ import annotations

import pytest
from tests.support import chain
from tests.support.builders import make_evaluation
from tests.support.controlplane import ControlPlane
from tests.support.kubelet import Namespace

from modelship_trainer.protocol import EvaluateTask

pytestmark = pytest.mark.integration

KIND = "ModelEvaluation"
HOLDOUT = {"method": {"holdout": {}}}


def test_folds_then_score_then_verdict(plane: ControlPlane, here: Namespace) -> None:
    here.create(make_evaluation(method={"kFold": {"folds": 3, "parallelism": 3}}))
    waiting = here.reason(KIND, "churn-cv", "WaitingForReference")
    assert waiting["conditions"][1]["message"] == 'ModelTraining "churn" does not exist yet.'
    chain.train(here)
    folds = here.job("churn-cv-folds")
    assert (folds["spec"]["completions"], folds["spec"]["completionMode"]) == (3, "Indexed")
    assert folds["spec"]["backoffLimit"] == 3
    assert "backoffLimitPerIndex" not in folds["spec"], "it would keep a namespace from being deleted"
    here.pod(folds, "fold-0")
    here.run("fold-0")
    assert here.reason(KIND, "churn-cv", "Running")["progressText"] == "fold 1 of 3"
    chain.fold(here, "churn-cv", 3, 2)
    here.wait(KIND, "churn-cv", lambda found: found["status"].get("progressText") == "fold 3 of 3")
    here.end("fold-0", 0, "", "Completed")
    chain.fold(here, "churn-cv", 3, 3)

    job = here.job("churn-cv-score")
    assert job["spec"]["completionMode"] == "NonIndexed", "a completion index would make the scoring pod train fold 0"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    task = EvaluateTask.model_validate_json(next(entry["value"] for entry in container["env"] if entry["name"] == "MODELSHIP_TASK"))
    assert (task.artifact.digest, task.method.k_fold is not None) == (chain.DIGEST, True)
    chain.score(here, "churn-cv", 0.85, 0.87, 0.863, test=0.86)
    status = here.reason(KIND, "churn-cv", "GatesPassed")
    assert status["verdict"] == "Passed"
    assert status["subject"] == {"artifactDigest": chain.DIGEST, "recipeDigest": chain.RECIPE, "dataDigest": chain.DATA}
    assert status["results"][0]["folds"] == [0.85, 0.87, 0.863]
    table = plane.kubectl("get", "me", "churn-cv", "-n", here.name).stdout.split("\n")
    assert table[1].split()[:6] == ["churn-cv", "Passed", "3-fold", "roc_auc", "0.861±0.010", "sha256:9f31…"]


def test_a_verdict_stays_whatever_is_deleted(here: Namespace) -> None:
    chain.train(here)
    here.create(make_evaluation(ttlSecondsAfterFinished=0, **HOLDOUT))
    chain.score(here, "churn-cv", test=0.7)
    status = here.reason(KIND, "churn-cv", "GatesFailed")
    assert (status["verdict"], status["gates"][0]["message"]) == ("Failed", "roc_auc 0.70 is below 0.80")
    assert [(entry["type"], entry["status"]) for entry in status["conditions"]] == [("Ready", "True")]
    here.wait("Job", "churn-cv-score", lambda job: True, gone=True)
    here.delete("Pod", "churn-cv-score-0")
    here.delete("ModelTraining", "churn")
    here.create(make_evaluation("later"))
    here.reason(KIND, "later", "WaitingForReference")
    found = here.get(KIND, "churn-cv")
    assert found is not None
    assert found["status"] == status
    assert here.get("Job", "churn-cv-score") is None


def test_a_lost_result_is_measured_again(here: Namespace) -> None:
    """The pod was deleted before the operator read it: the Job goes, and another one scores."""
    chain.train(here)
    here.create(make_evaluation(**HOLDOUT))
    first = here.wait("Job", "churn-cv-score", lambda job: True)
    chain.complete_score(here, "churn-cv")
    here.wait("Job", "churn-cv-score", lambda job: job["metadata"]["uid"] != first["metadata"]["uid"])
    chain.score(here, "churn-cv", test=0.9)
    here.reason(KIND, "churn-cv", "GatesPassed")


def test_suspend_and_resume(here: Namespace) -> None:
    chain.train(here)
    here.create(make_evaluation(suspend=True, **HOLDOUT))
    here.reason(KIND, "churn-cv", "Suspended")
    assert here.get("Job", "churn-cv-score") is None
    here.patch(KIND, "churn-cv", {"spec": {"suspend": False}})
    here.wait("Job", "churn-cv-score", lambda job: True)
    here.patch(KIND, "churn-cv", {"spec": {"suspend": True}})
    here.wait("Job", "churn-cv-score", lambda job: job["spec"]["suspend"] is True)
    here.reason(KIND, "churn-cv", "Suspended")


def test_a_baseline_is_waited_for_and_compared_with(here: Namespace) -> None:
    chain.train(here)
    gates = {"gates": [{"metric": "roc_auc", "maxRegression": 0.01}], "baselineRef": {"evaluation": "base"}}
    here.create(make_evaluation(**HOLDOUT, **gates))
    assert "base" in here.reason(KIND, "churn-cv", "WaitingForReference")["conditions"][1]["message"]
    here.create(make_evaluation("base", **HOLDOUT))
    here.reason(KIND, "churn-cv", "WaitingForBaseline")
    chain.score(here, "base", test=0.9)
    chain.score(here, "churn-cv", test=0.85)
    status = here.reason(KIND, "churn-cv", "GatesFailed")
    assert status["gates"][0]["message"] == "roc_auc 0.85 is worse than the baseline's 0.90 by more than 0.01"

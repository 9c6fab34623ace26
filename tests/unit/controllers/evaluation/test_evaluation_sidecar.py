"""A container that a mesh puts into the pods goes on when folds and scoring have ended: what follows starts, and the Jobs end."""

from __future__ import annotations

import pytest
from evaluation_world import DIGEST, NOW, at, ended, job, pod, ready, scored, unscheduled

from modelship_operator.controllers.evaluation.plan import plan
from modelship_operator.controllers.framework import Json, ObjectKey

pytestmark = pytest.mark.unit


def meshed(base: Json) -> Json:
    """The pod as before, but that a foreign container goes on."""
    (trainer,) = base["status"]["containerStatuses"]
    statuses = [trainer, {"name": "proxy", "state": {"running": {}}}]
    return {**base, "status": {"phase": "Running", "containerStatuses": statuses}}


def fold(index: int, exit_code: int = 0) -> Json:
    return meshed(ended("folds", exit_code, index=index))


def keys(*indexes: int) -> tuple[ObjectKey, ...]:
    return tuple(ObjectKey("Pod", "default", f"churn-cv-folds-{index}-a") for index in indexes)


def folds_of(completions: int, **status: object) -> Json:
    made = job("folds", **status)
    return {**made, "spec": {**made["spec"], "completions": completions}}


def test_scoring_starts_when_every_fold_s_work_has_ended() -> None:
    pods = [fold(0), fold(2)]
    planned = plan(ready(*pods, folds=folds_of(3, completedIndexes="1")), NOW)
    (applied,) = planned.apply
    assert applied["metadata"]["name"] == "churn-cv-score"
    assert planned.delete == ()


def test_the_folds_job_is_suspended_once_the_scoring_job_is_there() -> None:
    planned = plan(ready(fold(0), fold(1), folds=folds_of(2), score=job("score")), NOW)
    ends = [applied for applied in planned.apply if applied["metadata"]["name"] == "churn-cv-folds"]
    assert [applied["spec"]["suspend"] for applied in ends] == [True]


def test_a_failed_fold_s_pod_is_deleted_and_one_that_is_done_waits_for_the_others() -> None:
    planned = plan(ready(fold(0), fold(1, exit_code=1), pod("folds", index=2), folds=folds_of(3)), NOW)
    assert planned.delete == keys(1)


def test_a_fold_that_is_done_makes_room() -> None:
    assert plan(ready(fold(0), folds=folds_of(2)), NOW).delete == keys(0)
    assert plan(
        ready(fold(0), {**unscheduled("folds"), "metadata": pod("folds", index=1)["metadata"]}, folds=folds_of(2)), NOW
    ).delete == keys(0)
    assert plan(ready(fold(0), pod("folds", index=1), folds=folds_of(2)), NOW).delete == ()
    assert plan(ready(fold(0), pod("folds", index=1), folds=folds_of(3, completedIndexes="2")), NOW).delete == ()


def test_a_verdict_is_taken_when_the_scorer_has_ended_and_its_job_is_suspended() -> None:
    measured = meshed(scored(0.85, 0.86))
    planned = plan(ready(measured, score=job("score"), method={"holdout": {}}), NOW)
    assert planned.status is not None
    assert (planned.status["verdict"], planned.status["subject"]["artifactDigest"]) == ("Passed", DIGEST)
    assert (planned.apply, planned.requeue_after) == ((), 0.0)
    after = plan(ready(measured, score=job("score"), method={"holdout": {}}, status=planned.status), NOW)
    assert [applied["spec"]["suspend"] for applied in after.apply] == [True]
    assert planned.status["completionTime"] == at(-60)


def test_a_scorer_that_failed_is_deleted() -> None:
    planned = plan(ready(meshed(ended("score", 1)), score=job("score"), method={"holdout": {}}), NOW)
    assert planned.delete == (ObjectKey("Pod", "default", "churn-cv-score-0-a"),)

"""Folds that pods share: how many are done, by what the Job says and what its pods told; Jobs of an earlier version."""

from __future__ import annotations

from dataclasses import replace

import pytest
from evaluation_world import NOW, job, pod, ready

from modelship_operator.controllers.common.pods import index_of
from modelship_operator.controllers.evaluation.plan import plan
from modelship_operator.controllers.framework import Json
from modelship_operator.resources.evaluation import folds_job, score_job, subject_of_job
from modelship_trainer.protocol import EvaluateTask

pytestmark = pytest.mark.unit


def folding(*pods: Json, trained: dict[int, int] | None = None, parallelism: int = 2, **status: object) -> str:
    """The text of progress while pods train; `trained`: by the pod's index, the fold that it told."""
    method = {"kFold": {"folds": 5, "parallelism": parallelism}}
    made = job("folds", **status)
    made["spec"]["completions"] = min(parallelism, 5)
    told = {pod["metadata"]["name"]: (trained or {})[int(index_of(pod))] for pod in pods if index_of(pod) in (trained or {})}
    world = replace(ready(*pods, folds=made, method=method), trained=told)
    return plan(world, NOW).status["progressText"]


@pytest.mark.parametrize(
    ("trained", "status", "text"),
    [
        ({}, {}, "fold 1 of 5"),
        ({0: 0, 1: 1}, {}, "fold 1 of 5"),
        ({0: 2, 1: 1}, {}, "fold 2 of 5"),
        ({0: 4, 1: 3}, {}, "fold 4 of 5"),
        ({0: 4}, {"completedIndexes": "1"}, "fold 5 of 5"),
        ({0: 4, 1: 3}, {"completedIndexes": "0"}, "fold 5 of 5"),
    ],
)  # fmt: skip
def test_folds_are_counted_over_all_pods(trained: dict[int, int], status: Json, text: str) -> None:
    assert folding(pod("folds"), pod("folds", index=1), trained=trained, **status) == text


def test_a_pod_that_has_all_folds() -> None:
    assert [folding(pod("folds"), trained={0: fold}, parallelism=1) for fold in range(5)] == [f"fold {k} of 5" for k in range(1, 6)]


def test_a_job_of_an_earlier_version_has_a_pod_for_each_fold() -> None:
    """It goes on as it is: nothing of it is written, and its pods are counted as folds."""
    running = job("folds", completedIndexes="0,2")
    running["spec"]["completions"] = 5
    world = ready(pod("folds", index=1), folds=running)
    planned = plan(world, NOW)
    assert (planned.status["progressText"], planned.delete) == ("fold 3 of 5", ())
    running["status"]["completedIndexes"] = "0-4"
    scoring = plan(ready(folds=running), NOW)
    assert [made["metadata"]["name"] for made in scoring.apply] == ["churn-cv-score"]


def test_what_was_told_before_a_restart_is_not_taken_back() -> None:
    before = replace(ready(pod("folds"), folds=job("folds")), trained={"churn-cv-folds-0-a": 4})
    said = plan(before, NOW).status
    assert said["progressText"] == "fold 3 of 5"
    told = {**said, "progress": {"phase": "Training", "fold": 4}}
    after = replace(before, trained={}, evaluation={**before.evaluation, "status": told})
    assert plan(after, NOW).status["progressText"] == "fold 3 of 5"


@pytest.mark.parametrize(
    ("parallelism", "shares"), [(1, [[0, 1, 2, 3, 4]]), (2, [[0, 2, 4], [1, 3]]), (9, [[0], [1], [2], [3], [4]])]
)
def test_each_fold_is_in_the_share_of_one_pod(parallelism: int, shares: list[list[int]]) -> None:
    world = ready(folds=job("folds"), method={"kFold": {"folds": 5, "parallelism": parallelism}})
    subject = subject_of_job(world.folds.job)
    assert subject is not None
    made = folds_job(world.settings, world.owner, world.spec, subject)
    assert (made["spec"]["completions"], made["spec"]["parallelism"]) == (len(shares), len(shares))
    told = task_in(made)
    assert [told.share(index) for index in range(len(shares))] == shares
    assert task_in(score_job(world.settings, world.owner, world.spec, subject)).fold_pods is None


def task_in(made: Json) -> EvaluateTask:
    (container,) = made["spec"]["template"]["spec"]["containers"]
    return EvaluateTask.model_validate_json(next(entry["value"] for entry in container["env"] if entry["name"] == "MODELSHIP_TASK"))

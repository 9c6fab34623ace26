"""What a training sees of the store: its own Job, its pods, the latest push."""

from __future__ import annotations

from typing import Any

import pytest
from training_world import KEY, PROGRESS, SETTINGS, UID, at, job, pod, training

from modelship_operator.controllers.framework import Failure, FoldProgress
from modelship_operator.controllers.training.controller import training_controller
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.runtime.store import Store

pytestmark = pytest.mark.unit

CONTROLLER = training_controller(SETTINGS)


def placed(obj: dict[str, Any], version: int = 1, **metadata: Any) -> dict[str, Any]:
    return {**obj, "metadata": {"namespace": "default", **obj["metadata"], "resourceVersion": str(version), **metadata}}


def store(*objects: dict[str, Any]) -> Store:
    filled = Store({"ModelTraining": CONTROLLER.references}, lambda key: None)
    for obj in objects:
        filled.put(placed(obj))
    return filled


def look(filled: Store, **options: Any) -> Observed:
    return CONTROLLER.observe(filled, training(**options))


def test_an_empty_store_is_seen_as_such() -> None:
    seen = look(store())
    assert (seen.job, seen.pods, seen.progress, seen.refusal, seen.finished) == (None, [], None, None, False)


def test_job_and_pods_are_its_own() -> None:
    old = pod("old", job_uid="another Job of this training")
    seen = look(store(job(), pod(), old))
    assert seen.job is not None
    assert [each["metadata"]["name"] for each in seen.pods] == ["churn-train-0-a"]
    assert {each["metadata"]["name"] for each in seen.all_pods} == {"churn-train-0-a", "old"}


def test_the_job_of_another_owner_takes_the_name() -> None:
    seen = look(store(job(owner="other")))
    assert seen.name_taken
    assert (seen.job, seen.pods) == (None, [])


def test_progress_is_that_of_the_newest_pod_that_pushed() -> None:
    later = pod("churn-train-0-b")
    later["metadata"]["creationTimestamp"] = at(-10)
    filled = store(job(), pod(), later)
    before = PROGRESS.model_copy(update={"epoch": 3})
    filled.set_progress(UID, {"churn-train-0-a": FoldProgress("churn-train-0-a", 0, before)})
    assert look(filled).progress == before
    filled.set_progress(UID, {"churn-train-0-b": FoldProgress("churn-train-0-b", 0, PROGRESS)})
    assert look(filled).progress == PROGRESS


def test_of_a_finished_run_its_job_and_pods_are_seen_as_one_may_have_to_be_ended() -> None:
    seen = look(store(job(), pod()), status={"completionTime": at(-60)})
    assert seen.finished
    assert seen.job is not None
    assert len(seen.pods) == 1


def test_a_refusal_is_seen() -> None:
    filled = store()
    filled.set_failure(UID, Failure(KEY, "apply", 403, "no"))
    assert look(filled).refusal == Failure(KEY, "apply", 403, "no")


def test_a_training_names_nothing_that_it_waits_for() -> None:
    assert list(CONTROLLER.references(training())) == []

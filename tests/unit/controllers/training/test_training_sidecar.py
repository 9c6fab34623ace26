"""A container that a mesh puts into the pod goes on when the trainer has ended: the result is taken, and the Job ends."""

from __future__ import annotations

from typing import Any

import pytest
from training_world import JOB_UID, KEY, NOW, RESULT, at, job, over, pod, seen

from modelship_operator.controllers.framework import Json, ObjectKey
from modelship_operator.controllers.training.plan import plan
from modelship_trainer.protocol import Failure, FailureReason

pytestmark = pytest.mark.unit

SAID = RESULT.model_dump_json(by_alias=True)
POD = ObjectKey("Pod", "default", "churn-train-0-a")
DONE: dict[str, Any] = {"completionTime": at(-60), "observedGeneration": 1, "phase": "Succeeded", "conditions": []}


def meshed(exit_code: int, message: str = "", *, native: bool = False, deleted: bool = False) -> Json:
    """The trainer has ended, the mesh's container runs."""
    end = {"exitCode": exit_code, "message": message, "reason": "Error", "finishedAt": at(-60)}
    trainer, proxy = {"name": "trainer", "state": {"terminated": end}}, {"name": "proxy", "state": {"running": {}}}
    made = pod(containerStatuses=[trainer] if native else [proxy, trainer], initContainerStatuses=[proxy] if native else [])
    if deleted:
        made["metadata"]["deletionTimestamp"] = at(-1)
    return made


@pytest.mark.parametrize("native", [False, True])
def test_the_result_is_taken_when_the_trainer_has_ended(native: bool) -> None:
    planned = plan(seen(meshed(0, SAID, native=native), has=job()), NOW)
    assert planned.status is not None
    assert (planned.status["phase"], planned.status["artifact"]["digest"]) == ("Succeeded", RESULT.artifact.digest)
    assert (planned.apply, planned.delete) == ((), ()), "the result is written before anything is ended"
    assert planned.requeue_after == (None if native else 0.0)


def test_the_job_of_a_finished_run_is_suspended_so_that_no_pod_follows() -> None:
    planned = plan(seen(meshed(0, SAID), has=job(), status=DONE), NOW)
    (applied,) = planned.apply
    assert (applied["kind"], applied["metadata"]["name"], applied["spec"]["suspend"]) == ("Job", "churn-train", True)
    assert planned.delete == ()


@pytest.mark.parametrize(
    ("found", "pods"),
    [
        pytest.param(job(), [meshed(0, SAID, native=True)], id="kubelet ends a native sidecar"),
        pytest.param(job(suspend=True), [meshed(0, SAID)], id="suspended already"),
        pytest.param(job(over("Complete")), [meshed(0, SAID)], id="over"),
        pytest.param(job(), [meshed(0, SAID, deleted=True)], id="being deleted"),
        pytest.param(job(gone=True), [meshed(0, SAID)], id="the Job is being deleted"),
        pytest.param(job(), [pod()], id="nothing has ended"),
        pytest.param(None, [meshed(0, SAID)], id="the Job is gone"),
    ],
)
def test_nothing_is_ended_that_ends_by_itself(found: Json | None, pods: list[Json]) -> None:
    planned = plan(seen(*pods, has=found, status=DONE), NOW)
    assert (planned.apply, planned.delete) == ((), ())


def test_a_queue_owns_suspend_so_there_the_job_goes() -> None:
    queued = job(labels={"kueue.x-k8s.io/queue-name": "gpus"})
    planned = plan(seen(meshed(0, SAID), has=queued, status=DONE), NOW)
    assert (planned.apply, planned.delete) == ((), (KEY,))


def test_a_failed_trainer_s_pod_is_deleted_and_the_job_s_rules_say_what_follows() -> None:
    planned = plan(seen(meshed(1, "ValueError: no."), has=job(failed=0)), NOW)
    assert planned.delete == (POD,)
    assert planned.apply == ()
    assert planned.status is not None
    said = planned.status["conditions"][0]
    assert (said["reason"], said["message"]) == (
        "Retrying",
        "restart 1 of 3: worker 0 ended with exit status 1: ValueError: no.",
    )
    # While the pod goes nothing is deleted twice, and the words stay.
    again = plan(seen(meshed(1, "ValueError: no.", deleted=True), has=job(), status=planned.status), NOW)
    assert (again.delete, again.status) == ((), planned.status)


def test_what_the_user_has_to_change_ends_the_run_at_once() -> None:
    said = Failure(reason=FailureReason.DATA_INVALID, message="no rows.").model_dump_json(by_alias=True)
    planned = plan(seen(meshed(64, said), has=job()), NOW)
    assert planned.status is not None
    assert (planned.status["phase"], planned.status["conditions"][0]["reason"]) == ("Failed", "DataInvalid")
    assert planned.requeue_after == 0.0


def test_a_foreign_container_that_ended_first_says_nothing_of_the_run() -> None:
    end = {"terminated": {"exitCode": 1, "message": "proxy is gone", "finishedAt": at(-60)}}
    crashed = pod(containerStatuses=[{"name": "proxy", "state": end}, {"name": "trainer", "state": {"running": {}}}])
    planned = plan(seen(crashed, has=job()), NOW)
    assert planned.status is not None
    assert planned.status["phase"] == "Running"
    assert planned.delete == ()


def test_pods_of_an_earlier_job_are_left_to_it() -> None:
    earlier = meshed(1)
    earlier["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = f"not-{JOB_UID}"
    assert plan(seen(earlier, has=job()), NOW).delete == ()

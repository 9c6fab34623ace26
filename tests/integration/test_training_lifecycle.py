"""A ModelTraining against a real API server and a real operator process; the tests are kubelet and Job controller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.builders import make_training
from tests.support.controlplane import ControlPlane
from tests.support.kubelet import Json, Namespace, operator_process

from modelship_trainer.protocol import ArtifactRef, Failure, FailureReason, TrainResult, TrainTask

pytestmark = pytest.mark.integration

KIND, JOB = "ModelTraining", "churn-train"
DIGEST = "sha256:" + "9f" * 32


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[Namespace]:
    with Namespace.made(plane) as made:
        yield made


def result(recipe_digest: str) -> str:
    return TrainResult(
        artifact=ArtifactRef(uri=f"pvc://models/artifacts/{DIGEST.replace(':', '-')}", digest=DIGEST),
        size_bytes=4096,
        recipe_digest=recipe_digest,
        data_digest="sha256:" + "da" * 32,
        epochs=2,
        steps=20,
        metrics={"loss": "0.2114", "val_loss": "0.25"},
        parameters=97,
        duration_seconds=3.2,
        samples_per_second=800.0,
    ).model_dump_json(by_alias=True)


def failure(reason: FailureReason, message: str) -> str:
    return Failure(reason=reason, message=message).model_dump_json(by_alias=True)


def start(here: Namespace, **spec: Any) -> Json:
    """A training whose pod runs; its status."""
    here.create(make_training(**spec))
    here.pod(here.job(JOB), "pod-0")
    here.run("pod-0")
    return here.reason(KIND, "churn", "Running")


def writes(plane: ControlPlane, namespace: Namespace) -> list[tuple[str, str]]:
    """(verb, resource) of everything that operators wrote in the namespace, leases and events aside."""
    events = (event for event in plane.audit_events() if "httpx" not in event.get("userAgent", ""))
    return [
        (event["verb"], "/".join(filter(None, (event["objectRef"]["resource"], event["objectRef"].get("subresource")))))
        for event in events
        if event.get("objectRef", {}).get("namespace") == namespace.name
        and event["verb"] in ("create", "update", "patch", "delete")
        and event["objectRef"]["resource"] not in ("leases", "events", "tokenreviews")
    ]


def until_quiet(here: Namespace, name: str = "later") -> None:
    """Another training went through the operator, so what came before it did too."""
    here.create(make_training(name))
    here.reason(KIND, name, "Starting")


def test_from_apply_to_result(plane: ControlPlane, here: Namespace) -> None:
    created = here.create(make_training())
    job = here.job(JOB)
    status = here.reason(KIND, "churn", "Starting")
    assert (status["phase"], status["job"]) == ("Pending", JOB)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    task = TrainTask.model_validate_json(next(entry["value"] for entry in container["env"] if entry["name"] == "MODELSHIP_TASK"))
    assert (task.run.uid, task.store) == (created["metadata"]["uid"], "pvc://models")
    assert task.recipe.digest() == status["recipeDigest"]
    assert job["metadata"]["ownerReferences"][0]["uid"] == created["metadata"]["uid"]
    assert writes(plane, here) == [("create", "jobs"), ("patch", "modeltrainings/status")]

    here.pod(job, "pod-0")
    here.run("pod-0")
    status = here.reason(KIND, "churn", "Running")
    assert status["phase"] == "Running"
    assert "startTime" in status

    here.end("pod-0", 0, result(status["recipeDigest"]), "Completed")
    status = here.reason(KIND, "churn", "Succeeded")
    assert status["artifact"] == {"uri": f"pvc://models/artifacts/sha256-{'9f' * 32}", "digest": DIGEST, "sizeBytes": 4096}
    assert (status["phase"], status["progressText"], status["metrics"]["loss"]) == ("Succeeded", "2/2", "0.2114")
    assert [(condition["type"], condition["status"]) for condition in status["conditions"]] == [("Ready", "True")]
    here.complete_job(JOB)
    until_quiet(here)
    assert [write for write in writes(plane, here) if write[1].startswith("modeltrainings")][:3] == [
        ("patch", "modeltrainings/status")
    ] * 3
    table = plane.kubectl("get", "mt", "churn", "-n", here.name).stdout.split("\n")
    assert table[1].split()[:5] == ["churn", "Succeeded", "2/2", "0.2114", "sha256:9f9f…"]


@pytest.mark.parametrize(
    ("exit_code", "message", "end", "reason", "said"),
    [
        pytest.param(
            64,
            failure(FailureReason.DATA_INVALID, 'column "incme" is not in pvc://datasets/churn.csv; columns: age, income.'),
            "PodFailurePolicy",
            "DataInvalid",
            'column "incme" is not in pvc://datasets/churn.csv; columns: age, income.',
            id="bad data",
        ),
        pytest.param(
            1,
            "Traceback (most recent call last):\nValueError: no.",
            "BackoffLimitExceeded",
            "BackoffLimitExceeded",
            "worker 0 ended with exit status 1: ValueError: no; failed once with retryLimit 0.",
            id="crash",
        ),
    ],
)
def test_a_failure_is_told_in_the_status_and_as_an_event(
    here: Namespace, exit_code: int, message: str, end: str, reason: str, said: str
) -> None:
    start(here, retryLimit=0)
    here.end("pod-0", exit_code, message)
    here.fail_job(JOB, end, "the Job's own words")
    status = here.reason(KIND, "churn", reason)
    assert status["phase"] == "Failed"
    assert {(condition["type"], condition["status"]) for condition in status["conditions"]} == {
        ("Ready", "False"),
        ("Stalled", "True"),
    }
    assert {condition["message"] for condition in status["conditions"]} == {said}
    event = here.event(reason)
    assert (event["type"], event["note"], event["regarding"]["name"]) == ("Warning", said, "churn")


def test_out_of_memory_names_the_limit(here: Namespace) -> None:
    start(here, compute={"memory": "160Mi"}, retryLimit=0)
    here.end("pod-0", 137, reason="OOMKilled")
    here.fail_job(JOB, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    status = here.reason(KIND, "churn", "OutOfMemory")
    expected = "worker 0 was killed at its limit of 160Mi; raise compute.memory or lower training.batchSize."
    assert status["conditions"][0]["message"] == expected


def test_what_a_pod_waits_for_is_named_and_passes(here: Namespace) -> None:
    here.create(make_training())
    here.pod(here.job(JOB), "pod-0")
    here.unschedulable(
        "pod-0", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3."
    )
    message = here.reason(KIND, "churn", "Unschedulable")["conditions"][1]["message"]
    assert message.startswith("0/3 nodes fit: 3 Insufficient nvidia.com/gpu; waiting since ")
    here.event("Unschedulable")
    here.unschedulable("pod-0", '0/1 nodes are available: persistentvolumeclaim "models" not found. not found')
    status = here.reason(KIND, "churn", "WaitingForClaim")
    assert status["conditions"][1]["message"] == 'PersistentVolumeClaim "models" does not exist yet.'
    here.pod_status("pod-0", conditions=[])
    here.wait_for_container("pod-0", "CreateContainerConfigError", 'secret "data-login" not found')
    assert here.reason(KIND, "churn", "WaitingForSecret")["conditions"][1]["message"] == 'Secret "data-login" does not exist yet.'
    here.wait_for_container("pod-0", "ErrImagePull", "failed to resolve reference: own:1: not found")
    status = here.reason(KIND, "churn", "ImagePullFailed")
    assert status["conditions"][1]["message"] == 'image "own:1" cannot be pulled: not found.'
    here.run("pod-0")
    assert here.reason(KIND, "churn", "Running")["phase"] == "Running"


def test_a_failed_pod_is_followed_by_the_next(here: Namespace) -> None:
    start(here)
    here.end("pod-0", 1, "ValueError: no.")
    status = here.reason(KIND, "churn", "Retrying")
    assert status["attempts"] == 1
    assert status["conditions"][1]["message"] == "restart 1 of 3: worker 0 ended with exit status 1: ValueError: no."
    here.pod(here.job(JOB), "pod-1")
    here.run("pod-1")
    status = here.reason(KIND, "churn", "Running")
    assert status["attempts"] == 1
    assert "after restart 1 of 3" in status["conditions"][1]["message"]


def test_suspend_and_resume_reach_the_job(here: Namespace) -> None:
    start(here)
    here.patch(KIND, "churn", {"spec": {"suspend": True}})
    here.reason(KIND, "churn", "Suspended")
    here.wait("Job", JOB, lambda job: job["spec"]["suspend"] is True)
    here.delete("Pod", "pod-0")
    uid = here.job(JOB)["metadata"]["uid"]
    here.patch(KIND, "churn", {"spec": {"suspend": False}})
    here.reason(KIND, "churn", "Starting")
    job = here.wait("Job", JOB, lambda job: job["spec"]["suspend"] is False)
    assert job["metadata"]["uid"] == uid


def test_a_queue_holds_the_job_and_the_operator_leaves_it_held(plane: ControlPlane, here: Namespace) -> None:
    here.create(make_training(compute={"queue": "gpus"}))
    job = here.wait("Job", JOB, lambda job: True)
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    here.patch("Job", JOB, {"spec": {"suspend": True}})  # as Kueue's webhook does
    assert here.reason(KIND, "churn", "Queued")["conditions"][1]["message"].startswith('waiting in queue "gpus" since ')
    before = writes(plane, here)
    until_quiet(here)
    assert [write for write in writes(plane, here)[len(before) :] if write[1] == "jobs"] == [
        ("create", "jobs")
    ]  # the other training's
    here.patch(KIND, "churn", {"spec": {"suspend": True}})
    here.reason(KIND, "churn", "Suspended")
    here.wait("Job", JOB, lambda job: True, gone=True)


def test_a_job_deleted_by_hand_is_made_again_when_its_pod_is_gone(here: Namespace) -> None:
    start(here)
    uid = here.job(JOB)["metadata"]["uid"]
    here.delete("Job", JOB)
    here.reason(KIND, "churn", "PodEnding")
    assert here.get("Job", JOB) is None
    here.delete("Pod", "pod-0")
    assert here.job(JOB)["metadata"]["uid"] != uid


def test_a_result_is_kept_when_its_job_is_deleted_meanwhile(here: Namespace) -> None:
    status = start(here)
    here.delete("Job", JOB)
    here.end("pod-0", 0, result(status["recipeDigest"]), "Completed")
    assert here.reason(KIND, "churn", "Succeeded")["artifact"]["digest"] == DIGEST


def test_somebody_else_s_job_of_the_name_is_left_alone(here: Namespace) -> None:
    container = {"name": "c", "image": "i"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    theirs = here.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": JOB}, "spec": {"template": template}})
    here.create(make_training())
    status = here.reason(KIND, "churn", "NameTaken")
    expected = 'Job "churn-train" exists and is not of this training; delete it or use another name.'
    assert status["conditions"][1]["message"] == expected
    found = here.get("Job", JOB)
    assert found is not None
    assert found["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert "modelship.dev/uid" not in found["metadata"].get("labels", {})


def test_a_refused_job_is_told_and_made_when_it_may_be(here: Namespace) -> None:
    """The API server's words are in the status, and the Job comes once they are no longer said."""
    quotas = f"/api/v1/namespaces/{here.name}/resourcequotas"
    none = {"hard": {"count/jobs.batch": "0"}}
    here.client.post(quotas, json={"metadata": {"name": "none"}, "spec": none}).raise_for_status()
    counted = {"status": {**none, "used": {"count/jobs.batch": "0"}}}  # as the quota controller does
    merge = {"Content-Type": "application/merge-patch+json"}
    here.client.patch(f"{quotas}/none/status", json=counted, headers=merge).raise_for_status()
    here.create(make_training())
    status = here.reason(KIND, "churn", "RequestRefused")
    message = status["conditions"][1]["message"]
    assert message.startswith('apply of Job "churn-train" was refused (403): ')
    assert "exceeded quota: none" in message
    here.client.delete(f"{quotas}/none").raise_for_status()
    here.patch(KIND, "churn", {"metadata": {"annotations": {"look": "again"}}})
    here.reason(KIND, "churn", "Starting")
    assert here.job(JOB)["spec"]["suspend"] is False


def test_the_ttl_deletes_the_job_and_nothing_brings_it_back(plane: ControlPlane, namespace: Namespace) -> None:
    """The whole promise: result in status, Job gone, operator restarted, and not one write."""
    settings = {"MODELSHIP_NAMESPACES": namespace.name, "MODELSHIP_POD_NAMESPACE": namespace.name}
    with operator_process(plane, **settings):
        status = start(namespace, ttlSecondsAfterFinished=0)
        namespace.end("pod-0", 0, result(status["recipeDigest"]), "Completed")
        namespace.reason(KIND, "churn", "Succeeded")
        namespace.wait("Job", JOB, lambda job: True, gone=True)
        namespace.delete("Pod", "pod-0")
        until_quiet(namespace)
    before = namespace.get(KIND, "churn")
    written = writes(plane, namespace)
    assert written.count(("delete", "jobs")) == 1
    with operator_process(plane, **settings):
        until_quiet(namespace, "after-restart")
        assert namespace.get("Job", JOB) is None
        assert namespace.get(KIND, "churn") == before
    others = [("create", "jobs"), ("patch", "modeltrainings/status")]
    assert writes(plane, namespace)[len(written) :] == others


def test_an_edit_of_a_finished_run_is_observed_and_runs_nothing(here: Namespace) -> None:
    status = start(here)
    here.end("pod-0", 0, result(status["recipeDigest"]), "Completed")
    done = here.reason(KIND, "churn", "Succeeded")
    here.delete("Pod", "pod-0")
    here.patch(KIND, "churn", {"spec": {"ttlSecondsAfterFinished": 0, "suspend": True}})
    here.wait("Job", JOB, lambda job: True, gone=True)
    again = here.reason(KIND, "churn", "Succeeded")
    assert again["observedGeneration"] == done["observedGeneration"] + 1
    assert again["artifact"] == done["artifact"]

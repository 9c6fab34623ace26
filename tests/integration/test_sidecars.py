"""A container that a mesh injects goes on after our work: against a real API server, with what kubelet would write."""

from __future__ import annotations

import pytest
from tests.support.builders import make_training
from tests.support.kubelet import Namespace

from modelship_trainer.protocol import ArtifactRef, TrainResult

pytestmark = pytest.mark.integration

KIND, JOB = "ModelTraining", "churn-train"
DIGEST = "sha256:" + "9f" * 32
RESULT = TrainResult(
    artifact=ArtifactRef(uri=f"pvc://models/artifacts/{DIGEST.replace(':', '-')}", digest=DIGEST),
    size_bytes=1,
    recipe_digest="sha256:" + "ab" * 32,
    data_digest="sha256:" + "da" * 32,
    epochs=1,
    steps=1,
    metrics={},
    parameters=1,
    duration_seconds=1.0,
    samples_per_second=1.0,
).model_dump_json(by_alias=True)


def run(here: Namespace) -> None:
    here.create(make_training())
    here.pod(here.job(JOB), "pod-0")
    here.run("pod-0")
    here.reason(KIND, "churn", "Running")


def test_a_result_is_taken_while_the_sidecar_runs_and_the_job_ends_without_another_pod(here: Namespace) -> None:
    run(here)
    here.end("pod-0", 0, RESULT, proxy="containerStatuses")
    assert here.reason(KIND, "churn", "Succeeded")["artifact"]["digest"] == DIGEST
    here.wait("Job", JOB, lambda job: job["spec"]["suspend"] is True)
    here.delete("Pod", "pod-0")  # as the Job controller does with a suspended Job
    assert here.reason(KIND, "churn", "Succeeded")["phase"] == "Succeeded"


def test_a_failed_trainer_s_pod_is_deleted_so_that_the_next_can_start(here: Namespace) -> None:
    run(here)
    here.end("pod-0", 1, "ValueError: no.", proxy="containerStatuses")
    here.wait("Pod", "pod-0", lambda pod: True, gone=True)
    here.pod(here.job(JOB), "pod-1")
    here.run("pod-1")
    assert here.reason(KIND, "churn", "Running")["attempts"] == 1
    here.end("pod-1", 0, RESULT, proxy="containerStatuses")
    here.reason(KIND, "churn", "Succeeded")
    here.wait("Job", JOB, lambda job: job["spec"]["suspend"] is True)


def test_a_native_sidecar_is_left_to_kubelet(here: Namespace) -> None:
    run(here)
    here.end("pod-0", 0, RESULT, proxy="initContainerStatuses")
    here.reason(KIND, "churn", "Succeeded")
    here.create(make_training("later"))
    here.reason(KIND, "later", "Starting")
    assert here.job(JOB)["spec"]["suspend"] is False
    assert here.get("Pod", "pod-0") is not None

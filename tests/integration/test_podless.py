"""A Job whose pods are refused, as the Job controller tells it: in an event, found by the API server's field selector."""

from __future__ import annotations

import pytest
from tests.support.builders import make_training
from tests.support.kubelet import Json, Namespace, now

pytestmark = pytest.mark.integration


def refuse(here: Namespace, job: Json, message: str) -> None:
    """The event as the Job controller's recorder writes it."""
    metadata = job["metadata"]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.1", "namespace": here.name},
        "involvedObject": {"apiVersion": "batch/v1", "kind": "Job", **{key: metadata[key] for key in ("name", "namespace", "uid")}},
        "reason": "FailedCreate",
        "message": message,
        "type": "Warning",
        "source": {"component": "job-controller"},
        "reportingComponent": "job-controller",
        "reportingInstance": "",
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "count": 1,
    }
    here.client.post(f"/api/v1/namespaces/{here.name}/events", json=event).raise_for_status()


def test_the_job_controller_s_words_reach_the_status(here: Namespace) -> None:
    here.create(make_training())
    job = here.wait("Job", "churn-train", lambda job: True)
    here.reason("ModelTraining", "churn", "Starting")
    refuse(here, job, 'Error creating: pods "churn-train-0-x7k2p" is forbidden: exceeded quota: small, requested: memory=2Gi')
    here.patch("Job", "churn-train", {"status": {"startTime": "2026-01-01T00:00:00Z"}}, "status")
    said = here.reason("ModelTraining", "churn", "PodNotCreated")["conditions"][0]["message"]
    assert said == (
        "no pod can be created since 2026-01-01 00:00: a pod is forbidden: exceeded quota: small, requested: memory=2Gi."
    )
    here.pod(job, "pod-0")
    here.run("pod-0")
    here.reason("ModelTraining", "churn", "Running")

"""One namespace of a test's API server, and what the Job controller and kubelet would write in it: pods and their statuses."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.controlplane import ControlPlane, free_ports

Json = dict[str, Any]
_PATHS = {
    "ModelTraining": "apis/modelship.dev/v1alpha1/namespaces/{}/modeltrainings",
    "ModelEvaluation": "apis/modelship.dev/v1alpha1/namespaces/{}/modelevaluations",
    "ModelDeployment": "apis/modelship.dev/v1alpha1/namespaces/{}/modeldeployments",
    "Job": "apis/batch/v1/namespaces/{}/jobs",
    "Deployment": "apis/apps/v1/namespaces/{}/deployments",
    "Service": "api/v1/namespaces/{}/services",
    "NetworkPolicy": "apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Pod": "api/v1/namespaces/{}/pods",
    "Event": "apis/events.k8s.io/v1/namespaces/{}/events",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/{}/leases",
}
SECONDS = 20.0


def now() -> str:
    """As Kubernetes writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def operator_process(plane: ControlPlane, **settings: str) -> Iterator[Path]:
    """`modelship-operator` against the control plane, as its container would run it; its log. Ready when this yields."""
    metrics, progress = free_ports(2)
    environment = {
        "KUBECONFIG": str(plane.kubeconfig()),
        "MODELSHIP_TRAINER_IMAGE": "trainer:1",
        "MODELSHIP_TRITON_IMAGE": "triton:1",
        "MODELSHIP_GATEWAY_IMAGE": "gateway:1",
        "MODELSHIP_OPERATOR_IMAGE": "operator:1",
        "MODELSHIP_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "MODELSHIP_PROGRESS_LISTEN": f"127.0.0.1:{progress}",
        "MODELSHIP_LEASE_SECONDS": "3",
        **settings,
    }
    log = plane.folder / f"operator-{secrets.token_hex(3)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelship_operator.runtime.main"],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        _await_ready(f"http://127.0.0.1:{metrics}/readyz", process, log)
        yield log
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0, log.read_text()[-3000:]


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the operator did not become ready:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(url, timeout=1, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)


class Namespace:
    """A namespace of its own."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client, self.name = client, name

    @classmethod
    @contextmanager
    def made(cls, plane: ControlPlane) -> Iterator[Namespace]:
        """A new one, of a name that no other test has."""
        name = f"t-{secrets.token_hex(4)}"
        with plane.client() as client:
            client.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
            yield cls(client, name)

    # --- a user ----------------------------------------------------------------------------------------------------------------

    def path(self, kind: str, name: str = "") -> str:
        """URL path of a collection or an object."""
        return f"/{_PATHS[kind].format(self.name)}" + (f"/{name}" if name else "")

    def create(self, obj: Json) -> Json:
        """Create the object here, whatever namespace it names."""
        placed = {**obj, "metadata": {**obj["metadata"], "namespace": self.name}}
        return _answer(self.client.post(self.path(obj["kind"]), json=placed))

    def get(self, kind: str, name: str) -> Json | None:
        """The object, or None."""
        response = self.client.get(self.path(kind, name))
        return None if response.status_code == 404 else _answer(response)

    def list(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        items: list[Json] = _answer(self.client.get(self.path(kind)))["items"]
        return items

    def patch(self, kind: str, name: str, patch: Json, subresource: str = "") -> Json:
        """Merge patch."""
        url = self.path(kind, name) + (f"/{subresource}" if subresource else "")
        headers = {"Content-Type": "application/merge-patch+json"}
        return _answer(self.client.patch(url, content=json.dumps(patch), headers=headers))

    def delete(self, kind: str, name: str, propagation: str = "Background") -> None:
        """Delete the object; there is no garbage collector here."""
        body = {"propagationPolicy": propagation, "gracePeriodSeconds": 0}
        _answer(self.client.request("DELETE", self.path(kind, name), json=body))

    def wait(self, kind: str, name: str, accept: Callable[[Json], bool], *, gone: bool = False, seconds: float = SECONDS) -> Json:
        """Watch the object until `accept` holds, or it is gone; no polling. Fails with its last state."""
        only: dict[str, Any] = {"fieldSelector": f"metadata.name={name}"}
        listed = _answer(self.client.get(self.path(kind), params=only))
        seen: Json = next(iter(listed["items"]), {})
        if (not seen) if gone else (seen and accept(seen)):
            return seen
        only |= {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": int(seconds)}
        with self.client.stream("GET", self.path(kind), params=only, timeout=seconds + 5) as stream:
            for line in stream.iter_lines():
                event = json.loads(line)
                seen = event["object"]
                if event["type"] == "DELETED" if gone else event["type"] != "DELETED" and accept(seen):
                    return seen
        raise AssertionError(f"{kind} {name} did not become what was waited for:\n{yaml.safe_dump(seen)}")

    def reason(self, kind: str, name: str, reason: str) -> Json:
        """Wait until the resource says this reason about its current generation; its status."""

        def accept(obj: Json) -> bool:
            status = obj.get("status", {})
            fresh = status.get("observedGeneration") == obj["metadata"]["generation"]
            return fresh and any(condition["reason"] == reason for condition in status.get("conditions", []))

        status: Json = self.wait(kind, name, accept)["status"]
        return status

    def event(self, reason: str) -> Json:
        """Wait for an event of this reason. Events have names that nobody knows: look at them all."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if found := [event for event in self.list("Event") if event["reason"] == reason]:
                return found[0]
            time.sleep(0.1)
        raise AssertionError([event["reason"] for event in self.list("Event")])

    # --- the Job controller and kubelet -----------------------------------------------------------------------------------------

    def job(self, name: str) -> Json:
        """Wait for the Job, and let it be started."""
        job = self.wait("Job", name, lambda obj: True)
        if not job["spec"].get("suspend") and "startTime" not in job.get("status", {}):
            job = self.patch("Job", name, {"status": {"startTime": now(), "active": 1}}, "status")
        return job

    def pod(self, job: Json, name: str, index: int = 0) -> Json:
        """The pod that the Job controller would make."""
        template = job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
        indexed = {"batch.kubernetes.io/job-completion-index": str(index)}
        metadata = {
            "name": name,
            "labels": template["metadata"]["labels"],
            "annotations": indexed,
            "ownerReferences": [{**owner, "controller": True}],
        }
        spec = {**template["spec"], "serviceAccountName": "default"}  # as admission does, which these tests leave out
        return self.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def pod_status(self, name: str, **status: Any) -> Json:
        """Write a pod's status."""
        return self.patch("Pod", name, {"status": status}, "status")

    def run(self, name: str) -> None:
        """The pod runs."""
        self.pod_status(name, phase="Running", startTime=now())

    def end(
        self, name: str, exit_code: int, message: str = "", reason: str = "Error", container: str = "trainer", proxy: str = ""
    ) -> None:
        """The pod ended, with this termination message. `proxy` (a field of the status): a container of a mesh goes on in it."""
        finished = {"exitCode": exit_code, "message": message, "reason": reason, "startedAt": now(), "finishedAt": now()}
        status = {
            "name": container,
            "image": "i",
            "imageID": "i",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": finished},
        }
        over = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [status]}
        mesh = {**status, "name": "proxy", "ready": True, "state": {"running": {"startedAt": now()}}}
        goes_on = {proxy: [*([status] if proxy == "containerStatuses" else []), mesh], "phase": "Running"} if proxy else {}
        self.pod_status(name, **over | goes_on)

    def wait_for_container(self, name: str, reason: str, message: str) -> None:
        """kubelet cannot start the pod's container."""
        state = {"waiting": {"reason": reason, "message": message}}
        status = {"name": "trainer", "image": "own:1", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        self.pod_status(name, containerStatuses=[status])

    def unschedulable(self, name: str, message: str) -> None:
        """The scheduler finds no node."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.pod_status(name, conditions=[{**condition, "lastTransitionTime": now()}])

    def fail_job(self, name: str, reason: str, message: str, failed: int = 1) -> None:
        """The Job is over, without success."""
        said = {"status": "True", "reason": reason, "message": message, "lastTransitionTime": now(), "lastProbeTime": now()}
        conditions = [{"type": "FailureTarget", **said}, {"type": "Failed", **said}]
        self.patch("Job", name, {"status": {"active": 0, "failed": failed, "conditions": conditions}}, "status")

    def complete_job(self, name: str) -> None:
        """The Job is over, with success."""
        said = {
            "status": "True",
            "reason": "CompletionsReached",
            "message": "",
            "lastTransitionTime": now(),
            "lastProbeTime": now(),
        }
        conditions = [{"type": "SuccessCriteriaMet", **said}, {"type": "Complete", **said}]
        ended = {"active": 0, "succeeded": 1, "completedIndexes": "0", "completionTime": now(), "conditions": conditions}
        self.patch("Job", name, {"status": ended}, "status")


def _answer(response: httpx.Response) -> Json:
    assert response.is_success, f"{response.request.method} {response.request.url}: {response.text}"
    body: Json = response.json()
    return body

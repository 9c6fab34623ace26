"""Progress pushes with real projected tokens, reviewed by a real API server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.builders import make_training
from tests.support.controlplane import ControlPlane
from tests.support.kubelet import Json, Namespace
from tests.support.replica import Replica, replica

pytestmark = pytest.mark.integration

PROGRESS_SECONDS = 2


@pytest.fixture(scope="module")
def here(plane: ControlPlane) -> Iterator[Namespace]:
    with Namespace.made(plane) as made:
        accounts = f"/api/v1/namespaces/{made.name}/serviceaccounts"
        if not made.client.get(f"{accounts}/default").is_success:
            made.client.post(accounts, json={"metadata": {"name": "default"}}).raise_for_status()
        yield made


@pytest.fixture(scope="module")
def leader(plane: ControlPlane, here: Namespace) -> Iterator[Replica]:
    with replica(plane, here) as only:
        only.until(lambda: only.leads)
        yield only


class Run:
    """A training whose pod runs, and that pod's voice."""

    def __init__(self, here: Namespace, name: str) -> None:
        self.here = here
        self.training = here.create(make_training(name))
        self.pod = here.pod(here.job(f"{name}-train"), f"{name}-pod")
        here.run(f"{name}-pod")

    def token(self, audience: str = "modelship", bound: bool = True) -> str:
        reference = {"kind": "Pod", "apiVersion": "v1", "name": self.pod["metadata"]["name"], "uid": self.pod["metadata"]["uid"]}
        spec: Json = {"audiences": [audience], **({"boundObjectRef": reference} if bound else {})}
        url = f"/api/v1/namespaces/{self.here.name}/serviceaccounts/default/token"
        answer = self.here.client.post(url, json={"spec": spec}).raise_for_status()
        token: str = answer.json()["status"]["token"]
        return token

    def report(self, **changes: Any) -> Json:
        metadata = self.training["metadata"]
        run = {"kind": "ModelTraining", "namespace": self.here.name, "name": metadata["name"], "uid": metadata["uid"]}
        progress = {"phase": "Training", "epoch": changes.pop("epoch", 3), "epochs": 30}
        progress |= {"samplesPerSecond": changes.pop("rate", "1200"), "loss": "0.31", "etaSeconds": 80}
        return {"run": run | changes, "pod": self.pod["metadata"]["name"], "fold": None, "progress": progress}

    def status(self) -> Json:
        found = self.here.get("ModelTraining", self.training["metadata"]["name"])
        assert found
        return found["status"]


def push(where: Replica, token: str | None, report: Json | bytes) -> httpx.Response:
    body = report if isinstance(report, bytes) else json.dumps(report).encode()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.post(where.progress, content=body, headers=headers, trust_env=False, timeout=10)


@pytest.fixture(scope="module")
def run(leader: Replica, here: Namespace) -> Run:
    made = Run(here, "run")
    token = made.token()
    leader.until(lambda: push(leader, token, made.report(epoch=1)).status_code == 204)  # once it has seen the pod
    return made


def test_a_push_reaches_status_and_metrics(leader: Replica, here: Namespace, run: Run) -> None:
    assert push(leader, run.token(), run.report(epoch=7)).status_code == 204
    here.wait("ModelTraining", "run", lambda training: training["status"].get("progress", {}).get("epoch") == 7)
    rate = leader.metric(f'modelship_training_samples_per_second{{name="run",namespace="{here.name}"}}')
    assert rate == 1200
    where = f'{{name="run",namespace="{here.name}"}}'
    told = {name: leader.metric(f"modelship_training_{name}{where}") for name in ("epoch", "loss", "eta_seconds")}
    assert told == {"epoch": 7, "loss": 0.31, "eta_seconds": 80}


def test_many_pushes_become_one_write_per_interval(plane: ControlPlane, leader: Replica, here: Namespace) -> None:
    busy = Run(here, "busy")
    token = busy.token()
    leader.until(lambda: push(leader, token, busy.report(epoch=1)).status_code == 204)
    here.wait("ModelTraining", "busy", lambda training: training["status"].get("progress", {}).get("epoch") == 1)
    before = len(plane.audit_events())
    started = time.monotonic()
    for epoch in range(2, 30):
        assert push(leader, token, busy.report(epoch=epoch)).status_code == 204
        time.sleep(0.1)
    here.wait("ModelTraining", "busy", lambda training: training["status"]["progress"]["epoch"] == 29)
    took = time.monotonic() - started
    written = [
        event
        for event in plane.audit_events()[before:]
        if event.get("objectRef", {}).get("subresource") == "status" and event["objectRef"].get("name") == "busy"
    ]
    assert 1 <= len(written) <= took / PROGRESS_SECONDS + 1


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        pytest.param(lambda run: (None, run.report()), 401, "no bearer token", id="no token"),
        pytest.param(lambda run: ("rubbish", run.report()), 401, "not valid", id="not a token"),
        pytest.param(lambda run: (run.token("kubernetes"), run.report()), 401, "audience", id="another audience"),
        pytest.param(lambda run: (run.token(bound=False), run.report()), 401, "pod", id="not bound to a pod"),
        pytest.param(lambda run: (run.token(), run.report(uid="other")), 403, "works for", id="another run"),
        pytest.param(lambda run: (run.token(), run.report(namespace="other")), 403, "works for", id="another namespace"),
        pytest.param(lambda run: (run.token(), run.report(name="other")), 403, "works for", id="a name that is not its"),
        pytest.param(lambda run: (run.token(), run.report() | {"pod": "x"}), 403, "works for", id="no pod's name"),
        pytest.param(lambda run: (run.token(), b"{"), 422, "ProgressReport", id="not JSON"),
        pytest.param(lambda run: (run.token(), run.report(rate="fast")), 422, "samplesPerSecond", id="not a number"),
        pytest.param(lambda run: (run.token(), run.report(epoch=10**24)), 422, "epoch", id="an endless number"),
        pytest.param(lambda run: (run.token(), run.report() | {"secret": 1}), 422, "secret", id="unknown field"),
        pytest.param(lambda run: (run.token(), b" " * 70_000), 413, "65536", id="too long"),
    ],
)
def test_what_is_refused(leader: Replica, run: Run, make: Any, code: int, says: str) -> None:
    token, report = make(run)
    answer = push(leader, token, report)
    assert answer.status_code == code
    assert answer.json()["kind"] == "Status"
    assert answer.json()["code"] == code
    assert says in answer.json()["message"]


def test_a_pod_that_is_not_of_ours_is_refused(leader: Replica, here: Namespace, run: Run) -> None:
    stranger = Run.__new__(Run)
    stranger.here, stranger.training = here, run.training
    spec = {"serviceAccountName": "default", "containers": [{"name": "c", "image": "i"}]}
    stranger.pod = here.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stranger"}, "spec": spec})
    answer = push(leader, stranger.token(), stranger.report())
    assert answer.status_code == 403
    assert "works for" in answer.json()["message"]


def test_a_pod_speaks_for_itself_only(leader: Replica, here: Namespace, run: Run) -> None:
    """Another pod of the same run: known, but the token is not its own."""
    job = here.job("run-train")
    other = here.pod(job, "run-pod-2", index=1)
    report = run.report() | {"pod": other["metadata"]["name"]}
    leader.until(lambda: "works for" not in push(leader, run.token(), report).json()["message"])
    answer = push(leader, run.token(), report)
    assert answer.status_code == 403
    assert "for itself only" in answer.json()["message"]
    here.delete("Pod", "run-pod-2")


def test_invented_tokens_cost_no_review(plane: ControlPlane, leader: Replica, run: Run) -> None:
    before = len(plane.audit_events())
    for number in range(5):
        assert push(leader, f"invented-{number}", run.report(uid="other")).status_code == 403
    reviews = [event for event in plane.audit_events()[before:] if event.get("objectRef", {}).get("resource") == "tokenreviews"]
    assert reviews == []


def test_tokens_are_reviewed_once_and_never_logged(plane: ControlPlane, leader: Replica, run: Run) -> None:
    token = run.token()
    assert push(leader, token, run.report()).status_code == 204
    before = len(plane.audit_events())
    for _ in range(5):
        assert push(leader, token, run.report()).status_code == 204
    reviews = [event for event in plane.audit_events()[before:] if event.get("objectRef", {}).get("resource") == "tokenreviews"]
    assert reviews == []
    assert token not in leader.log.read_text()


def test_a_replica_that_does_not_lead_passes_pushes_on(plane: ControlPlane, leader: Replica, here: Namespace, run: Run) -> None:
    with replica(plane, here) as other:
        token = run.token()
        other.until(lambda: push(other, token, run.report(epoch=21)).status_code == 204)
        here.wait("ModelTraining", "run", lambda training: training["status"]["progress"]["epoch"] == 21)
        assert not other.leads
        assert push(other, "rubbish", run.report()).status_code == 401
        other.stop()


def test_progress_survives_a_restart_of_the_operator(plane: ControlPlane, here: Namespace, leader: Replica, run: Run) -> None:
    before = run.status()["progress"]
    with replica(plane, here) as other:
        leader.stop()
        other.until(lambda: other.leads)
        other.until(lambda: other.metric('modelship_reconciles_total{kind="ModelTraining",result="success"}') >= 2)
        assert run.status()["progress"] == before
        other.stop()

"""What is seen of a training while it runs, who may say so, and that it does not need its operator."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

from tests.e2e.cluster import Kubectl, Object, eventually, example, helper_pod, named, run_pod

SECONDS = 100
"""How long the training shall take, on whatever machine: two writes of progress are 15 s apart."""
ROWS = 1258
"""Training rows of the digits."""
PODS = "modelship.dev/kind=ModelTraining,modelship.dev/name=long"
OPERATOR = "app.kubernetes.io/name=modelship,app.kubernetes.io/component=operator"
PUSH = """
import json, os, socket, time, urllib.error, urllib.parse, urllib.request
tokens = {name: open(f"/tokens/{name}").read() for name in ("modelship", "other")}
tokens["forged"] = tokens["modelship"].rsplit(".", 1)[0] + ".c2lnbmF0dXJl"
address = urllib.parse.urlsplit(os.environ["URL"])
deadline = time.monotonic() + 30
while True:  # the network policy learns of a new pod's address a moment after the pod has started
    try:
        socket.create_connection((address.hostname, address.port), timeout=5).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
def push(token, pod):
    report = {"run": json.loads(os.environ["RUN"]), "pod": pod, "progress": {"phase": "Training", "epoch": 999, "epochs": 999}}
    request = urllib.request.Request(os.environ["URL"], json.dumps(report).encode(), {"Content-Type": "application/json"})
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
print(json.dumps({
    "none": push("", os.environ["VICTIM"]),
    "forged": push(tokens["forged"], os.environ["VICTIM"]),
    "other audience": push(tokens["other"], os.environ["VICTIM"]),
    "foreign, in its name": push(tokens["modelship"], os.environ["VICTIM"]),
    "foreign, in its own name": push(tokens["modelship"], "pusher"),
}))
"""


@pytest.fixture(scope="module")
def epochs(kubectl: Kubectl) -> int:
    """As many as take `SECONDS` here and now, judged by a short run of the same recipe."""
    kubectl.apply(of_epochs("pace", 40))
    rate = float(kubectl.ready("mt", "pace")["status"]["progress"]["samplesPerSecond"])
    return max(200, round(SECONDS * rate / ROWS))


def of_epochs(name: str, epochs: int) -> Object:
    training = example("image", "ModelTraining")["spec"]["training"]
    unstopped = {key: value for key, value in training.items() if key != "earlyStopping"}
    return named(example("image", "ModelTraining", training=unstopped | {"epochs": epochs}), name)


@pytest.fixture(scope="module")
def running(kubectl: Kubectl, epochs: int) -> Object:
    """A training long enough to be watched, past its first epochs."""
    kubectl.apply(of_epochs("long", epochs))
    return kubectl.wait("mt", "long", lambda item: epoch(item) >= 1 or done(item), seconds=90, what="past its first epoch")


def done(training: Object) -> bool:
    return bool(training.get("status", {}).get("phase") in ("Succeeded", "Failed"))


def epoch(training: Object) -> int:
    return int(training.get("status", {}).get("progress", {}).get("epoch") or 0)


def test_progress_advances_in_status_metrics_and_log(kubectl: Kubectl, running: Object, epochs: int) -> None:
    assert running["status"]["phase"] == "Running"
    later = kubectl.wait("mt", "long", lambda item: epoch(item) > epoch(running), seconds=60, what="further")
    assert later["status"]["phase"] == "Running"
    assert 1 <= epoch(running) < epoch(later) < epochs
    assert later["status"]["progressText"] == f"{epoch(later)}/{epochs}"
    assert float(later["status"]["progress"]["loss"]) > 0
    (pod,) = kubectl.list("pods", PODS)
    assert re.search(
        rf"^Training  epoch \d+/{epochs}  step \d+/\d+  loss [\d.]+", kubectl("logs", pod["metadata"]["name"]), re.MULTILINE
    )
    with Kubectl("modelship-system", kubectl.binary).forward("svc/modelship", 8080) as port:
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    assert re.search(
        rf'^modelship_training_samples_per_second{{name="long",namespace="{kubectl.namespace}"}} [1-9]', metrics, re.MULTILINE
    )
    assert re.search(r'^modelship_progress_pushes_total{code="204"} [1-9]', metrics, re.MULTILINE)
    assert re.search(r'^modelship_resources{kind="ModelTraining",phase="Running"} [1-9]', metrics, re.MULTILINE)


def test_nobody_else_can_say_how_far_it_is(kubectl: Kubectl, running: Object, image_names: dict[str, str]) -> None:
    (victim,) = kubectl.list("pods", PODS)
    metadata = running["metadata"]
    run = {"kind": "ModelTraining", "namespace": metadata["namespace"], "name": "long", "uid": metadata["uid"]}
    url = next(entry["value"] for entry in victim["spec"]["containers"][0]["env"] if entry["name"] == "MODELSHIP_PROGRESS_URL")
    environment = {"RUN": json.dumps(run), "URL": url, "VICTIM": victim["metadata"]["name"]}
    pod = helper_pod("pusher", image_names["OPERATOR"], PUSH, env=environment)
    sources = [
        {"serviceAccountToken": {"audience": "modelship", "path": "modelship"}},
        {"serviceAccountToken": {"path": "other"}},
    ]
    pod["spec"]["volumes"].append({"name": "tokens", "projected": {"sources": sources}})
    pod["spec"]["containers"][0]["volumeMounts"].append({"name": "tokens", "mountPath": "/tokens"})
    answers = json.loads(run_pod(kubectl, pod))
    assert answers == {
        "none": 401,
        "forged": 401,
        "other audience": 401,
        "foreign, in its name": 403,
        "foreign, in its own name": 403,
    }
    assert epoch(kubectl.get("mt", "long")) < 999


def test_an_operator_killed_in_mid_training_is_not_missed(kubectl: Kubectl, running: Object, epochs: int) -> None:
    """Neither a second Job nor a second pod, and the end is written down by the operator's successor."""
    (job,), (pod,) = kubectl.list("jobs", PODS), kubectl.list("pods", PODS)
    system = Kubectl("modelship-system", kubectl.binary)
    killed = {found["metadata"]["uid"] for found in system.list("pods", OPERATOR)}
    system("delete", "pods", "-l", OPERATOR, "--force", "--grace-period=0")
    assert kubectl.get("mt", "long")["status"]["phase"] == "Running", "the training was to be in its middle"
    ended = kubectl.ready("mt", "long")
    assert ended["status"]["progressText"] == f"{epochs}/{epochs}"
    assert ended["status"].get("attempts", 0) == 0
    assert [found["metadata"]["uid"] for found in kubectl.list("jobs", PODS)] == [job["metadata"]["uid"]]
    assert [found["metadata"]["uid"] for found in kubectl.list("pods", PODS)] == [pod["metadata"]["uid"]]
    assert eventually(lambda: killed.isdisjoint(found["metadata"]["uid"] for found in system.list("pods", OPERATOR)), 60)
    system("rollout", "status", "deployment/modelship", "--timeout=60s")

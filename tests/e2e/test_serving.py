"""A served model under load: a rolling update loses no request; policies and scaling hold."""

from __future__ import annotations

import json

import pytest

from tests.e2e.cluster import Kubectl, Object, condition, eventually, example, helper_pod, named

LOAD = """
import asyncio, json, os, pathlib, time
import aiohttp

STOP = pathlib.Path("/tmp/stop")

async def client(session, url, body, counts):
    while not STOP.exists():
        try:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                text = await answer.text()
                counts[str(answer.status)] = counts.get(str(answer.status), 0) + 1
                if counts == {"200": 1}:
                    print("answered", flush=True)
                if answer.status != 200:
                    print("refused", answer.status, text[:200], flush=True)
        except Exception as error:
            counts["error"] = counts.get("error", 0) + 1
            print("error", time.time(), repr(error), flush=True)

async def main():
    counts = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        await asyncio.gather(*(client(session, os.environ["URL"], os.environ["BODY"], counts) for _ in range(4)))
    print(json.dumps(counts), flush=True)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def served(kubectl: Kubectl) -> Object:
    kubectl.apply(*(example("image", kind) for kind in ("ModelTraining", "ModelEvaluation")))
    kubectl.apply(example("image", "ModelDeployment", replicas=2))
    kubectl.ready("me", "digits-holdout")
    return kubectl.ready("md", "digits")


def test_a_rolling_update_under_load_loses_no_request(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    """Every pod is replaced (another artifact), with four clients asking all the time."""
    spec = example("image", "ModelTraining")["spec"]
    kubectl.apply(named(example("image", "ModelTraining", training={**spec["training"], "seed": 99}), "digits-2"))
    kubectl.apply(named(example("image", "ModelEvaluation", modelRef={"training": "digits-2"}), "digits-2-holdout"))
    second = kubectl.ready("mt", "digits-2")
    kubectl.ready("me", "digits-2-holdout")

    body = json.dumps({"inputs": [{"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}]})
    url = f"{served['status']['endpoint']['url']}/v2/models/digits/infer"
    kubectl.apply(helper_pod("load", image_names["OPERATOR"], LOAD, env={"URL": url, "BODY": body}))
    assert eventually(lambda: "answered" in kubectl("logs", "load", check=False), 60), kubectl.story("pod", "load")
    before = {pod["metadata"]["uid"] for pod in pods(kubectl)}
    gate = {"evaluations": ["digits-2-holdout"]}
    kubectl.apply(example("image", "ModelDeployment", replicas=2, modelRef={"training": "digits-2"}, gate=gate))
    digest = second["status"]["artifact"]["digest"]
    rolled = kubectl.wait(
        "md",
        "digits",
        lambda item: item["status"].get("servedDigest") == digest and condition(item, "Ready")["status"] == "True",
        seconds=180,
        what="serving the second artifact",
    )
    assert rolled["status"]["servedDigest"] != served["status"]["servedDigest"]
    gone = eventually(lambda: before.isdisjoint(pod["metadata"]["uid"] for pod in pods(kubectl, leaving=True)), 120)
    assert gone, "old pods have drained and are gone"
    kubectl("exec", "load", "--", "touch", "/tmp/stop")
    kubectl.wait("pod", "load", lambda item: item["status"].get("phase") == "Succeeded", seconds=60, what="finished")
    log = kubectl("logs", "load")
    counts = json.loads(log.strip().splitlines()[-1])
    assert set(counts) == {"200"}, log
    assert counts["200"] > 200
    kubectl("delete", "pod", "load")


def pods(kubectl: Kubectl, *, leaving: bool = False) -> list[Object]:
    """Pods that serve digits; with `leaving` also those on their way out."""
    found = kubectl.list("pods", kubectl.get("md", "digits")["status"]["selector"])
    return [pod for pod in found if leaving or not pod["metadata"].get("deletionTimestamp")]


def test_scaling_goes_through_the_scale_subresource(kubectl: Kubectl, served: Object) -> None:
    kubectl("scale", "md/digits", "--replicas=1")
    kubectl.wait("md", "digits", lambda item: item["status"].get("readyReplicas") == 1, seconds=120, what="scaled in")
    assert len(pods(kubectl)) == 1


def test_only_the_front_can_be_reached(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    """NetworkPolicy: the pod's own Triton ports answer nobody, the front's do."""
    pod = pods(kubectl)[0]
    script = """
import os, socket, time
def open_to_us(port):
    with socket.socket() as s:
        s.settimeout(3)
        return s.connect_ex((os.environ["IP"], port)) == 0
end = time.monotonic() + 30
while not open_to_us(8002) and time.monotonic() < end:  # metrics are for the cluster's pods: a policy must learn of a new one
    time.sleep(0.2)
for port in (8000, 8001, 8002, 18000, 18001, 18002):
    print(port, open_to_us(port))
"""
    kubectl.apply(helper_pod("knock", image_names["OPERATOR"], script, env={"IP": pod["status"]["podIP"]}))
    kubectl.wait("pod", "knock", lambda item: item["status"].get("phase") == "Succeeded", seconds=90, what="finished")
    answers = dict(line.split() for line in kubectl("logs", "knock").splitlines())
    front, triton = dict.fromkeys(("8000", "8001", "8002"), "True"), dict.fromkeys(("18000", "18001", "18002"), "False")
    assert answers == front | triton


def test_access_from_limits_who_connects(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    spec = kubectl.get("md", "digits")["spec"]
    url = served["status"]["endpoint"]["url"] + "/v2/health/ready"
    script = f"import urllib.request; urllib.request.urlopen('{url}', timeout=3)"

    for name, labels in (("stranger", {}), ("friend", {"may": "ask"})):
        pod = helper_pod(name, image_names["OPERATOR"], "import time; time.sleep(600)")
        pod["metadata"]["labels"] |= labels
        kubectl.apply(pod)
    kubectl("wait", "pod/stranger", "pod/friend", "--for=condition=Ready", "--timeout=60s")

    def may_ask(name: str) -> bool:
        return kubectl.run("exec", name, "--", "python3", "-c", script).returncode == 0

    assert may_ask("stranger"), "nobody is shut out before"
    kubectl.apply(example("image", "ModelDeployment", **{**spec, "access": {"from": [{"podLabels": {"may": "ask"}}]}}))
    assert eventually(lambda: not may_ask("stranger"), 60), "the policy was never enforced"
    assert eventually(lambda: may_ask("friend"), 30)
    assert not may_ask("stranger")

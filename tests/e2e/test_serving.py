"""A served model under load: a rolling update loses no request; policies and scaling hold."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.cluster import Kubectl, Object, example, helper_pod, named

LOAD = """
import asyncio, json, os, time
import aiohttp

async def client(session, url, body, end, counts):
    while time.monotonic() < end:
        try:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                text = await answer.text()
                counts[str(answer.status)] = counts.get(str(answer.status), 0) + 1
                if answer.status != 200:
                    print("refused", answer.status, text[:200], flush=True)
        except Exception as error:
            counts["error"] = counts.get("error", 0) + 1
            print("error", time.time(), repr(error), flush=True)

async def main():
    counts, end = {}, time.monotonic() + float(os.environ["SECONDS"])
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        print("started", flush=True)
        await asyncio.gather(*(client(session, os.environ["URL"], os.environ["BODY"], end, counts) for _ in range(4)))
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
    env = {"URL": url, "BODY": body, "SECONDS": "90"}
    kubectl.apply(helper_pod("load", image_names["OPERATOR"], LOAD, env=env))
    kubectl.wait("pod", "load", lambda item: item["status"].get("phase") == "Running", seconds=60, what="running")
    update = example(
        "image", "ModelDeployment", replicas=2, modelRef={"training": "digits-2"}, gate={"evaluations": ["digits-2-holdout"]}
    )
    kubectl.apply(update)
    rolled = kubectl.wait(
        "md",
        "digits",
        lambda item: item["status"].get("servedDigest") == second["status"]["artifact"]["digest"],
        seconds=180,
        what="serving the second artifact",
    )
    assert rolled["status"]["servedDigest"] != served["status"]["servedDigest"]
    kubectl.wait("pod", "load", lambda item: item["status"].get("phase") == "Succeeded", seconds=180, what="finished")
    log = kubectl("logs", "load")
    counts = json.loads(log.strip().splitlines()[-1])
    assert set(counts) == {"200"}, log
    assert counts["200"] > 200


def test_scaling_goes_through_the_scale_subresource(kubectl: Kubectl, served: Object) -> None:
    kubectl("scale", "md/digits", "--replicas=1")
    kubectl.wait("md", "digits", lambda item: item["status"].get("readyReplicas") == 1, seconds=120, what="scaled in")
    pods = kubectl.list("pods", kubectl.get("md", "digits")["status"]["selector"])
    assert len([pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]) == 1


def test_only_the_front_can_be_reached(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    """NetworkPolicy: the pod's own Triton ports answer nobody, the front's do."""
    pod = kubectl.list("pods", kubectl.get("md", "digits")["status"]["selector"])[0]
    script = """
import os, socket
for port in (8000, 8001, 18000, 18001):
    with socket.socket() as s:
        s.settimeout(3)
        print(port, s.connect_ex((os.environ["IP"], port)) == 0)
"""
    kubectl.apply(helper_pod("knock", image_names["OPERATOR"], script, env={"IP": pod["status"]["podIP"]}))
    kubectl.wait("pod", "knock", lambda item: item["status"].get("phase") == "Succeeded", seconds=60, what="finished")
    assert kubectl("logs", "knock").split() == ["8000", "True", "8001", "True", "18000", "False", "18001", "False"]


def test_access_from_limits_who_connects(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    spec = kubectl.get("md", "digits")["spec"]
    kubectl.apply(example("image", "ModelDeployment", **{**spec, "access": {"from": [{"podLabels": {"may": "ask"}}]}}))
    url = served["status"]["endpoint"]["url"] + "/v2/health/ready"
    script = "import os, urllib.request as u\nprint(u.urlopen(os.environ['URL'], timeout=5).status)"

    def ask(name: str, labels: dict[str, str]) -> str:
        pod = helper_pod(name, image_names["OPERATOR"], script, env={"URL": url})
        pod["metadata"]["labels"] |= labels
        kubectl.apply(pod)
        done = kubectl.wait(
            "pod", name, lambda item: item["status"].get("phase") in ("Succeeded", "Failed"), seconds=60, what="finished"
        )
        kubectl("delete", "pod", name)
        return str(done["status"]["phase"])

    deadline = time.monotonic() + 60
    while ask("stranger", {}) == "Succeeded":
        assert time.monotonic() < deadline, "the policy was never enforced"
    assert ask("friend", {"may": "ask"}) == "Succeeded"

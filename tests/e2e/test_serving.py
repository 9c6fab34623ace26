"""A served model under load: neither a rolling update nor a scale-in loses a request; policies hold."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.e2e.cluster import Kubectl, Object, condition, eventually, example, helper_pod, named

HTTP_LOAD = """
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


RELAY = """
import os, socket, threading

def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def carry(client):
    host, port = os.environ["PEER"].rsplit(":", 1)
    with client, socket.create_connection((host, int(port))) as server:
        back = threading.Thread(target=pump, args=(server, client))
        back.start()
        pump(client, server)
        back.join()

with socket.create_server(("", 9000)) as door:
    print("listening", flush=True)
    while True:
        threading.Thread(target=carry, args=(door.accept()[0],), daemon=True).start()
"""
"""Takes connections from outside to the Service: kubectl's own forwarding to a Service stays with one pod, and ends with it."""


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

    with load(kubectl, served, image_names["OPERATOR"]):
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


def test_a_scale_in_under_load_loses_no_request(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    """Through the scale subresource, as an autoscaler does it: one of two pods leaves."""
    kubectl("scale", "md/digits", "--replicas=2")
    kubectl.wait("md", "digits", lambda item: item["status"].get("readyReplicas") == 2, seconds=120, what="at two pods")
    with load(kubectl, served, image_names["OPERATOR"]):
        kubectl("scale", "md/digits", "--replicas=1")
        assert eventually(lambda: len(pods(kubectl, leaving=True)) == 1, 120), "the other pod has drained and is gone"
    kubectl.wait("md", "digits", lambda item: item["status"].get("readyReplicas") == 1, seconds=60, what="at one pod")


@contextmanager
def load(kubectl: Kubectl, served: Object, image: str) -> Iterator[None]:
    """Four HTTP and four gRPC clients that ask without pause; at the end, every answer must have been an answer."""
    with http_load(kubectl, served, image), grpc_load(kubectl, served, image):
        yield


@contextmanager
def http_load(kubectl: Kubectl, served: Object, image: str) -> Iterator[None]:
    body = json.dumps({"inputs": [{"name": "input", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}]})
    url = f"{served['status']['endpoint']['url']}/v2/models/digits/infer"
    kubectl.apply(helper_pod("load", image, HTTP_LOAD, env={"URL": url, "BODY": body}))
    assert eventually(lambda: "answered" in kubectl("logs", "load", check=False), 60), kubectl.story("pod", "load")
    yield
    kubectl("exec", "load", "--", "touch", "/tmp/stop")
    kubectl.wait("pod", "load", lambda item: item["status"].get("phase") == "Succeeded", seconds=60, what="finished")
    log = kubectl("logs", "load")
    counts = json.loads(log.strip().splitlines()[-1])
    assert set(counts) == {"200"}, log
    assert counts["200"] > 200
    kubectl("delete", "pod", "load")


@contextmanager
def grpc_load(kubectl: Kubectl, served: Object, image: str) -> Iterator[None]:
    """Triton's own client, here; each on a connection of its own, which it keeps until the server says that it leaves."""
    kubectl.apply(helper_pod("relay", image, RELAY, env={"PEER": served["status"]["endpoint"]["grpc"]}))
    # Not merely ready: kubectl's forwarding ends with the first connection that is refused.
    assert eventually(lambda: "listening" in kubectl("logs", "relay", check=False), 60), kubectl.story("pod", "relay")
    over, answers = threading.Event(), list[str]()
    image_input = tritonclient.grpc.InferInput("input", [1, 1, 8, 8], "FP32")
    image_input.set_data_from_numpy(np.zeros((1, 1, 8, 8), np.float32))

    def ask(address: str) -> None:
        alone = [("grpc.use_local_subchannel_pool", 1)]
        with tritonclient.grpc.InferenceServerClient(address, channel_args=alone) as client:
            while not over.is_set():
                try:
                    client.infer("digits", [image_input], client_timeout=20)
                    answers.append("OK")
                except InferenceServerException as error:
                    answers.append(str(error))

    with kubectl.forward("pod/relay", 9000) as port, ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask, f"127.0.0.1:{port}") for _ in range(4)]
        try:
            assert eventually(lambda: "OK" in answers, 30), Counter(answers)
            yield
        finally:
            over.set()
        for client in asking:
            client.result()
    counts = Counter(answers)
    assert set(counts) == {"OK"}, counts
    assert counts["OK"] > 200
    kubectl("delete", "pod", "relay")


def pods(kubectl: Kubectl, *, leaving: bool = False) -> list[Object]:
    """Pods that serve digits; with `leaving` also those on their way out."""
    found = kubectl.list("pods", kubectl.get("md", "digits")["status"]["selector"])
    return [pod for pod in found if leaving or not pod["metadata"].get("deletionTimestamp")]


def test_triton_itself_cannot_be_reached(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    """It listens on the pod's loopback alone, whether or not a policy is enforced."""
    idle(kubectl, "knock", image_names["OPERATOR"])
    address = pods(kubectl)[0]["status"]["podIP"]
    for port in (8000, 8001, 8002):  # of the gateway; a policy must learn of a new pod
        assert eventually(lambda port=port: connects(kubectl, "knock", address, port), 30), port
    for port in (18000, 18001, 18002):
        assert not connects(kubectl, "knock", address, port), port


def test_access_from_limits_who_connects(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    spec = kubectl.get("md", "digits")["spec"]
    idle(kubectl, "stranger", image_names["OPERATOR"])
    idle(kubectl, "friend", image_names["OPERATOR"], may="ask")
    address = pods(kubectl)[0]["status"]["podIP"]

    def may_ask(name: str) -> set[int]:
        return {port for port in (8000, 8001) if connects(kubectl, name, address, port)}

    assert eventually(lambda: may_ask("stranger") == {8000, 8001}, 30), "nobody is shut out before"
    kubectl.apply(example("image", "ModelDeployment", **{**spec, "access": {"from": [{"podLabels": {"may": "ask"}}]}}))
    assert eventually(lambda: not may_ask("stranger"), 60), "the policy was never enforced"
    assert eventually(lambda: may_ask("friend") == {8000, 8001}, 30)
    assert not may_ask("stranger")
    assert connects(kubectl, "stranger", address, 8002), "metrics stay open to the cluster's pods"


def test_nothing_leaves_a_serving_pod(kubectl: Kubectl, served: Object, image_names: dict[str, str]) -> None:
    """Neither to the API server nor to a pod; the same program, from a pod that no policy selects, reaches both."""
    kubectl.apply(helper_pod("neighbour", image_names["OPERATOR"], "from http import server; server.test(port=8080)"))
    outside = helper_pod("outside", image_names["TRITON"], "")
    outside["spec"]["containers"][0]["command"] = ["sleep", "600"]
    kubectl.apply(outside)
    kubectl("wait", "pod/neighbour", "pod/outside", "--for=condition=Ready", "--timeout=60s")
    service = json.loads(kubectl("get", "service", "kubernetes", "--namespace=default", "-o", "json"))
    urls = [f"https://{service['spec']['clusterIP']}/", f"http://{kubectl.get('pod', 'neighbour')['status']['podIP']}:8080/"]
    serving = pods(kubectl)[0]["metadata"]["name"]

    def answered(pod: str, container: str, url: str) -> bool:
        curl = ("curl", "--silent", "--insecure", "--max-time", "3", "--output", "/dev/null", url)  # any status is an answer
        done = kubectl.run("exec", pod, "-c", container, "--", *curl)
        assert done.returncode in (0, 7, 28), done.stderr  # kubectl passes curl's on: 7 refused, 28 unanswered
        return done.returncode == 0

    for url in urls:
        assert eventually(lambda url=url: answered("outside", "main", url), 30), f"{url} answers nobody, so this proves nothing"
        assert eventually(lambda url=url: not answered(serving, "triton", url), 30), f"{url} is reached from a serving pod"


def idle(kubectl: Kubectl, name: str, image: str, **labels: str) -> None:
    """A pod from which to ask."""
    pod = helper_pod(name, image, "import time; time.sleep(600)")
    pod["metadata"]["labels"] |= labels
    kubectl.apply(pod)
    kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")


def connects(kubectl: Kubectl, name: str, address: str, port: int) -> bool:
    """Whether the pod gets a TCP connection."""
    script = f"import socket; s = socket.socket(); s.settimeout(3); print(s.connect_ex(('{address}', {port})) == 0)"
    answer = kubectl("exec", name, "--", "python3", "-c", script).strip()
    assert answer in ("True", "False"), answer
    return answer == "True"

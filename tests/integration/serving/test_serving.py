"""A serving pod's processes, asked over HTTP and gRPC through the gateway."""

from __future__ import annotations

import concurrent.futures
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import IMAGES, Pod, make_pod, wait_for
from serving_artifacts import CLASSES, expected_probability, sample_request
from tritonclient.utils import InferenceServerException

from modelship_trainer.serving.options import Batching, Optimization

pytestmark = pytest.mark.integration

ROWS = [{"age": 40.0, "plan": "pro"}, {"age": 71.5, "plan": "basic"}, {"age": 18.0, "plan": "Zürich ☃"}]


def outputs(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {item["name"]: item["data"] for item in response.json()["outputs"]}


def assert_predicts(rows: list[dict[str, Any]], probabilities: Any, labels: list[str]) -> None:
    expected = [expected_probability(row["age"], row["plan"]) for row in rows]
    np.testing.assert_allclose(np.reshape(probabilities, (-1, 2))[:, 1], expected, rtol=1e-5)
    assert labels == [CLASSES[probability > 0.5] for probability in expected]


def grpc_inputs(client: Any, rows: list[dict[str, Any]]) -> list[Any]:
    age = client.InferInput("age", [len(rows), 1], "FP32")
    age.set_data_from_numpy(np.array([[row["age"]] for row in rows], dtype=np.float32))
    plan = client.InferInput("plan", [len(rows), 1], "BYTES")
    plan.set_data_from_numpy(np.array([[row["plan"]] for row in rows], dtype=object))
    return [age, plan]


# --- predictions --------------------------------------------------------------------------------------------------------------


def test_raw_features_give_the_expected_answer_over_http(pod: Pod) -> None:
    answer = outputs(httpx.post(pod.url() + pod.infer_path, json=sample_request(ROWS)))
    assert_predicts(ROWS, answer["probabilities"], answer["label"])


@pytest.mark.parametrize("module", [triton_http, triton_grpc], ids=["http", "grpc"])
def test_tritons_own_client_gives_the_expected_answer(pod: Pod, module: Any) -> None:
    with module.InferenceServerClient(pod.address("http" if module is triton_http else "grpc")) as client:
        result = client.infer(pod.model, grpc_inputs(module, ROWS))
        assert client.is_model_ready(pod.model)
        assert client.is_server_live()
    labels = [label[0].decode() for label in result.as_numpy("label")]
    assert_predicts(ROWS, result.as_numpy("probabilities"), labels)


def test_a_grpc_stream_is_refused_at_once(pod: Pod) -> None:
    """A stream would promise what a rollout cannot keep, and give nothing: a model answers each request once."""
    errors: queue.Queue[Any] = queue.Queue()
    with triton_grpc.InferenceServerClient(pod.address()) as client:
        client.start_stream(lambda result, error: errors.put(error))
        error = errors.get(timeout=10)
    assert error.status() == "StatusCode.UNIMPLEMENTED"
    assert "no streams: ModelInfer answers each request" in error.message()


def test_joined_requests_are_each_answered_with_their_own_rows(pod: Pod) -> None:
    """Many at once: Triton joins them. One in ten is not UTF-8, and fails alone."""
    before = metric(pod, "nv_inference_exec_count")
    asked = [[{"age": float(i), "plan": "max"}] * (1 + i % 3) for i in range(300)]
    with triton_grpc.InferenceServerClient(pod.address()) as client:

        def ask(index: int) -> Any:
            inputs = grpc_inputs(triton_grpc, asked[index])
            if index % 10 == 0:
                inputs[1].set_data_from_numpy(np.array([[b"\xff"]] * len(asked[index]), dtype=object))
            try:
                return client.infer(pod.model, inputs)
            except InferenceServerException as error:
                return error

        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, range(len(asked))))
    for index, (rows, answer) in enumerate(zip(asked, answers, strict=True)):
        if index % 10 == 0:
            assert 'row 1: column "plan" is not UTF-8 text' in str(answer)
        else:
            labels = [label[0].decode() for label in answer.as_numpy("label")]
            assert_predicts(rows, answer.as_numpy("probabilities"), labels)
    assert metric(pod, "nv_inference_exec_count") - before < len(asked), "no two requests were joined"


def metric(pod: Pod, name: str) -> float:
    text = httpx.get(f"{pod.url('metrics')}/metrics").text
    found = re.search(rf'^{name}\{{model="churn",version="1"\}} (\S+)$', text, re.M)
    assert found, f"{name} is not in the metrics"
    return float(found[1])


# --- what the gateway lets through ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/churn", 200),
        ("/v2/models/churn/ready", 200),
        ("/v2/models/churn/versions/1", 200),
        ("/v2/models/churn/versions/1/ready", 200),
        ("/v2/models/nope", 404),
        ("/v2/models/churn/versions/2", 404),
        ("/v2/models/nope/ready", 404),
        ("/", 404),
        ("/metrics", 404),
        ("/healthz", 404),
        ("/v2/models/churn/config", 404),
        ("/v2/models/churn/stats", 404),
        ("/v2/models/stats", 404),
        ("/v2/models/churn/infer", 404),
        ("/v2/models/churn/trace/setting", 404),
        ("/v2/trace/setting", 404),
        ("/v2/logging", 404),
        ("/v2/systemsharedmemory/status", 404),
        ("/v2/cudasharedmemory/status", 404),
        ("/v2/models/churn/../../logging", 404),
        ("/v2/models/../logging", 404),
        ("/v2/%6dodels/churn", 404),
        ("/v2/models/churn%2Fconfig", 404),
        ("/v2/models/churn?x=1", 404),
        ("//v2", 404),
    ],
)
def test_get_passes_only_metadata_and_health(pod: Pod, path: str, status: int) -> None:
    got_status, headers, body = raw_request(pod, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert got_status == status
    if status == 404:
        assert headers["content-type"] == "application/json"
        assert set(json.loads(body)) == {"error"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/churn/unload"),
        ("POST", "/v2/repository/models/churn/load"),
        ("POST", "/v2/systemsharedmemory/region/x/register"),
        ("POST", "/v2/logging"),
        ("POST", "/v2/models/churn/generate"),
        ("POST", "/v2/health/ready"),
        ("PUT", "/v2/models/churn/infer"),
        ("DELETE", "/v2/models/churn"),
        ("POST", "/v2/repository/../models/churn/infer"),
        ("POST", "/v2/models/a/../../models/churn/infer"),
    ],
)
def test_nothing_else_is_reachable(pod: Pod, method: str, path: str) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    status, _, body = raw_request(pod, request.encode())
    assert status == 404
    assert set(json.loads(body)) == {"error"}
    assert httpx.get(f"{pod.url()}/v2/models/churn/ready").status_code == 200


def raw_request(pod: Pod, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Bytes as they are: clients normalise paths."""
    with socket.create_connection(("127.0.0.1", pod.ports["http"]), timeout=10) as connection:
        connection.sendall(request)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}, body


@pytest.mark.parametrize(
    "call",
    ["get_model_repository_index", "get_system_shared_memory_status", "get_cuda_shared_memory_status", "get_log_settings",
     "get_trace_settings", "get_inference_statistics"],
)  # fmt: skip
def test_other_grpc_calls_are_unimplemented(pod: Pod, call: str) -> None:
    with triton_grpc.InferenceServerClient(pod.address()) as client, pytest.raises(InferenceServerException) as refused:
        getattr(client, call)()
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("call", ["load_model", "unload_model"])
def test_models_cannot_be_controlled_over_grpc(pod: Pod, call: str) -> None:
    with triton_grpc.InferenceServerClient(pod.address()) as client, pytest.raises(InferenceServerException) as refused:
        getattr(client, call)(pod.model)
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


def test_too_large_requests_are_refused(pod: Pod) -> None:
    response = httpx.post(pod.url() + pod.infer_path, content=b"x" * 2_000_000)
    assert (response.status_code, response.json()) == (413, {"error": "the request is larger than 1m"})
    big = triton_grpc.InferInput("age", [500_000, 1], "FP32")
    big.set_data_from_numpy(np.zeros((500_000, 1), np.float32))
    with triton_grpc.InferenceServerClient(pod.address()) as client, pytest.raises(InferenceServerException) as refused:
        client.infer(pod.model, [big])
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"


def test_compressed_requests_are_refused(pod: Pod) -> None:
    response = httpx.post(pod.url() + pod.infer_path, content=b"x", headers={"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()) == (415, {"error": "compressed requests are not accepted"})
    with triton_grpc.InferenceServerClient(pod.address()) as client, pytest.raises(InferenceServerException) as refused:
        client.infer(pod.model, grpc_inputs(triton_grpc, ROWS), compression_algorithm="gzip")
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"


# --- how much at once ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow_pod(tmp_path_factory: pytest.TempPathFactory, triton_root: Path) -> Iterator[Pod]:
    """A gateway that takes three requests at once, one of them large."""
    root = tmp_path_factory.mktemp("narrow")
    made = make_pod(root, triton_root, Batching(), Optimization(), GATEWAY_REQUESTS="3", GATEWAY_UPLOADS="1")
    yield made
    made.stop()


def stalled(pod: Pod, *headers: str, body: bytes = b"x") -> socket.socket:
    """A request whose body never ends."""
    connection = socket.create_connection(("127.0.0.1", pod.ports["http"]), timeout=10)
    head = "\r\n".join([f"POST {pod.infer_path} HTTP/1.1", "Host: x", *headers])
    connection.sendall(f"{head}\r\n\r\n".encode() + body)
    return connection


def infer_status(pod: Pod) -> int:
    return httpx.post(pod.url() + pod.infer_path, json=sample_request(ROWS)).status_code


def grpc_status(pod: Pod) -> str:
    with triton_grpc.InferenceServerClient(pod.address()) as client:
        try:
            client.infer(pod.model, grpc_inputs(triton_grpc, ROWS))
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"
    return "OK"


def test_more_requests_than_the_gateway_may_hold_are_refused_by_name(narrow_pod: Pod) -> None:
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(stalled(narrow_pod, "Content-Length: 100"))
        wait_for(lambda: infer_status(narrow_pod) == 503, "the limit is reached")
        response = httpx.post(narrow_pod.url() + narrow_pod.infer_path, json=sample_request(ROWS))
        assert "too many requests at once: this pod answers 3" in response.json()["error"]
        assert grpc_status(narrow_pod).startswith("StatusCode.UNAVAILABLE too many requests at once: this pod answers 3")
        # A busy pod is not a broken one: kubelet's question, and a client's, are not counted.
        assert httpx.get(f"{narrow_pod.url()}/v2/models/churn/ready").status_code == 200
        with triton_grpc.InferenceServerClient(narrow_pod.address()) as client:
            assert client.is_server_ready()
            assert client.is_model_ready(narrow_pod.model)
    wait_for(lambda: infer_status(narrow_pod) == 200, "places are free again")
    assert grpc_status(narrow_pod) == "OK"


def test_grpc_calls_are_counted_each_and_are_fewer_than_requests(narrow_pod: Pod) -> None:
    """The length of a call is not known before it has come, so each has room like an upload."""
    with grpc.insecure_channel(narrow_pod.address()) as channel:
        infer = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")  # whose message never comes
        call = infer.future(iter(threading.Event().wait, True))
        wait_for(lambda: "too many" in grpc_status(narrow_pod), "the limit is reached")
        assert infer_status(narrow_pod) == 200
        call.cancel()
    wait_for(lambda: grpc_status(narrow_pod) == "OK", "the place is free again")


def test_connections_that_ask_nothing_do_not_count(narrow_pod: Pod) -> None:
    with ExitStack() as held:
        clients = [held.enter_context(httpx.Client()) for _ in range(20)]
        for _ in range(2):
            for client in clients:
                answer = client.post(narrow_pod.url() + narrow_pod.infer_path, json=sample_request(ROWS))
                assert answer.status_code == 200


@pytest.mark.parametrize("header", ["Content-Length: 900000", "Transfer-Encoding: chunked"])
def test_uploads_are_fewer_than_requests(narrow_pod: Pod, header: str) -> None:
    """A small request passes beside an upload that stalls; a second upload does not, whatever it says of its length."""
    with stalled(narrow_pod, header, body=b"1\r\nx\r\n"):
        wait_for(lambda: upload_status(narrow_pod) == 503, "the limit is reached")
        assert infer_status(narrow_pod) == 200
        assert grpc_status(narrow_pod) == "OK"
    wait_for(lambda: upload_status(narrow_pod) != 503, "the place is free again")


def upload_status(pod: Pod) -> int:
    return httpx.post(pod.url() + pod.infer_path, content=b"x" * 200_000).status_code


def test_only_uploads_reach_the_disk(narrow_pod: Pod) -> None:
    """What is under 100 kB stays in its buffer, so the spool holds the uploads alone, and nothing when they are over."""
    small = stalled(narrow_pod, "Content-Length: 99999", body=b"x" * 99_998)
    age = triton_grpc.InferInput("age", [200_000, 1], "FP32")
    age.set_data_from_numpy(np.zeros((200_000, 1), np.float32))
    with small, triton_grpc.InferenceServerClient(narrow_pod.address()) as client:
        with pytest.raises(InferenceServerException, match="200000 rows; this model takes at most 64"):
            client.infer(narrow_pod.model, [age])
        wait_for(lambda: spooled(narrow_pod) == 0, "the message is forgotten")
        with stalled(narrow_pod, "Content-Length: 900000", body=b"x" * 800_000):
            wait_for(lambda: 0 < spooled(narrow_pod) <= 900_000, "the upload is on disk")
    wait_for(lambda: spooled(narrow_pod) == 0, "nothing is left of it")


def spooled(pod: Pod) -> int:
    """Bytes of request bodies on disk now. nginx unlinks such a file as it opens it, so it is seen only where it is held open."""
    assert pod.gateway is not None
    size = 0
    for worker in Path(f"/proc/{pod.gateway.pid}/task/{pod.gateway.pid}/children").read_text().split():
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            if str(descriptor.readlink()).startswith(f"{pod.gateway_run}/body/"):
                size += descriptor.stat().st_size
    return size


def test_the_access_log_is_json_without_bodies(pod: Pod) -> None:
    httpx.post(pod.url() + pod.infer_path, json=sample_request([{"age": 1.0, "plan": "a-secret-plan"}]))
    wait_for(lambda: pod.infer_path in pod.gateway_log, "the request is logged")
    lines = [json.loads(line) for line in pod.gateway_log.splitlines() if line.startswith("{")]
    answered = [line for line in lines if line["path"] == pod.infer_path and line["status"] == 200]
    assert answered[-1]["method"] == "POST"
    assert answered[-1]["requestBytes"] > len("a-secret-plan")
    assert "a-secret-plan" not in pod.gateway_log
    assert not any(line["path"].startswith("/v2/health") for line in lines)


@pytest.mark.parametrize(
    "setting", ["GATEWAY_MAX_BODY=1m; include /etc/passwd", "GATEWAY_TIMEOUT=soon", "TRITON_HTTP=evil.example:80"]
)
def test_the_gateway_refuses_settings_that_are_not_what_they_should_be(pod: Pod, setting: str) -> None:
    name, _, value = setting.partition("=")
    environment = {**pod.gateway_environment(), name: value}
    done = subprocess.run([IMAGES / "gateway/gateway"], env=environment, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 64
    assert "it must look like" in done.stderr


# --- probes and endings -------------------------------------------------------------------------------------------------------


def probed(pod: Pod) -> int:
    """What the probe's curl exits with: 22 is an HTTP error, 28 its patience."""
    return subprocess.run(pod.probe, check=False, capture_output=True).returncode


def test_a_busy_pod_passes_its_probe_and_a_crash_under_load_does_not(slow_pod: Pod) -> None:
    """A queue of more than 5 s, which once were the probe's patience, is no failure; a crashed backend is one at once."""
    over = threading.Event()
    answers: list[int] = []

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.is_set():
                answers.append(client.post(slow_pod.url() + slow_pod.infer_path, json=sample_request(ROWS[:1])).status_code)

    one = seconds(lambda: httpx.post(slow_pod.url() + slow_pod.infer_path, json=sample_request(ROWS[:1]), timeout=60))
    clients = int(8 / one) + 1
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            wait_for(lambda: len(answers) >= clients, "the queue is as long as it gets", 60)
            codes: list[int] = []
            assert seconds(lambda: codes.append(probed(slow_pod))) > 5, "the pod was not busy"
            assert codes == [0]
            assert set(answers) == {200}
        finally:
            over.set()
        (stub,) = slow_pod.stub_pids()
        os.kill(stub, signal.SIGKILL)
        assert probed(slow_pod) == 22, "what waited in the queue is answered with an error, and so is the probe"
        assert seconds(lambda: codes.append(probed(slow_pod))) < 3
        assert codes[-1] == 22
        for client in asking:
            client.result()


def seconds(act: Callable[[], Any]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


@pytest.fixture
def slow_pod(tmp_path: Path, triton_root: Path) -> Iterator[Pod]:
    """Each request is a run of its own and takes most of a second; after a crash each that waits fails in a second of its own."""
    made = make_pod(tmp_path, triton_root, Batching(dynamic=False), Optimization(), work=12, patience=60)
    yield made
    made.stop()


def test_liveness_sees_a_crashed_backend_that_is_still_called_ready(own_pod: Pod) -> None:
    assert probed(own_pod) == 0
    (stub,) = own_pod.stub_pids()
    os.kill(stub, signal.SIGKILL)
    wait_for(lambda: probed(own_pod) == 22, "the probe fails")
    assert httpx.get(f"{own_pod.url()}/v2/models/churn/ready").status_code == 200, (
        "Triton notices by itself now: simplify the probe"
    )
    assert httpx.post(own_pod.url() + own_pod.infer_path, json=sample_request(ROWS)).status_code == 500


def test_without_triton_the_gateway_says_so(own_pod: Pod) -> None:
    assert own_pod.triton is not None
    own_pod.triton.terminate()
    own_pod.triton.wait(timeout=30)
    response = httpx.post(own_pod.url() + own_pod.infer_path, json=sample_request(ROWS))
    assert (response.status_code, response.json()) == (502, {"error": "the model server does not answer"})
    with triton_grpc.InferenceServerClient(own_pod.address()) as client, pytest.raises(InferenceServerException) as refused:
        client.infer(own_pod.model, grpc_inputs(triton_grpc, ROWS))
    assert refused.value.status() == "StatusCode.UNAVAILABLE"


def test_an_accepted_request_is_answered_after_the_gateway_was_told_to_quit(own_pod: Pod) -> None:
    body = json.dumps(sample_request(ROWS[:1])).encode()
    head = f"POST {own_pod.infer_path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    assert own_pod.gateway is not None
    with socket.create_connection(("127.0.0.1", own_pod.ports["http"]), timeout=10) as connection:
        connection.sendall(head + body[:10])
        wait_for(lambda: own_pod.answers(f"{own_pod.url()}/v2/health/ready"), "nginx has taken the connection before this one")
        own_pod.gateway.send_signal(signal.SIGQUIT)
        wait_for(lambda: not own_pod.answers(f"{own_pod.url()}/v2/health/ready"), "new connections are refused")
        connection.sendall(body[10:])
        status, headers, _ = read_answer(connection)
    assert (status, headers["connection"]) == (200, "close")
    assert own_pod.gateway.wait(timeout=20) == 0


def test_draining_under_load_loses_no_request(own_pod: Pod, tmp_path: Path) -> None:
    """HTTP clients with kept-alive connections and a gRPC channel ask without pause while the gateway drains and quits.

    A pod that drains has left the Service before it quits: HTTP clients, whose connections have ended, go to another one, and are
    not caught waiting to be accepted. A refused connection is what a gRPC client sees then; any other failure is a lost request.
    """
    draining, left, over = threading.Event(), threading.Event(), threading.Event()
    closed: list[str] = []
    answered = {"http": 0, "grpc": 0, "closing": 0}

    def ask_http() -> None:
        with httpx.Client() as client:
            while not left.is_set():
                response = client.post(own_pod.url() + own_pod.infer_path, json=sample_request(ROWS))
                assert response.status_code == 200
                answered["http"] += 1
                if draining.is_set() and response.headers["connection"] == "close":
                    answered["closing"] += 1

    def ask_grpc() -> None:
        with triton_grpc.InferenceServerClient(own_pod.address()) as client:
            while not over.is_set():
                try:
                    client.infer(own_pod.model, grpc_inputs(triton_grpc, ROWS))
                except InferenceServerException as error:
                    closed.append(str(error))
                    return
                answered["grpc"] += 1

    assert own_pod.gateway is not None
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        over_http, over_grpc = [pool.submit(ask_http) for _ in range(4)], [pool.submit(ask_grpc) for _ in range(2)]
        try:
            wait_for(lambda: min(answered["http"], answered["grpc"]) > 50, "requests are answered")
            own_pod.drain()
            draining.set()
            wait_for(lambda: answered["closing"] > 20, "answers end their connections")
            left.set()
            for client in concurrent.futures.as_completed(over_http, timeout=20):
                client.result()
            own_pod.gateway.send_signal(signal.SIGQUIT)
            for client in concurrent.futures.as_completed(over_grpc, timeout=20):
                client.result()
        finally:
            left.set()
            over.set()
    assert own_pod.gateway.wait(timeout=20) == 0
    assert all("Connection refused" in error for error in closed), closed
    statuses = {json.loads(line)["status"] for line in own_pod.gateway_log.splitlines() if line.startswith("{")}
    assert statuses == {200}


def test_an_ipv6_listener_takes_ipv4_too(pod: Pod, tmp_path: Path) -> None:
    """A pod's kubelet and clients come over either; nginx's own default for [::] is IPv6 alone."""
    (tmp_path / "nginx").write_text('#!/bin/sh\nexec /usr/sbin/nginx -t "$@"\n')  # the finished configuration, checked by nginx
    (tmp_path / "nginx").chmod(0o755)
    environment = {**pod.gateway_environment(), "GATEWAY_ADDRESS": "[::]", "GATEWAY_RUN": str(tmp_path / "run")}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    done = subprocess.run([IMAGES / "gateway/gateway"], env=environment, capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 0, done.stderr
    listeners = re.findall(r"listen (\S+) (.*);", (tmp_path / "run/nginx.conf").read_text())
    assert len(listeners) == 3
    assert all(address.startswith("[::]:") and "ipv6only=off" in options for address, options in listeners)

"""Latency and start-up of a serving pod's processes on this machine: `PYTHONPATH=. python tests/integration/serving/measure.py`."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
from conftest import Pod, lay_out_triton, make_pod
from serving_artifacts import sample_request

from modelship_trainer.serving.options import Batching, Optimization

REQUESTS = 2000
ROW = {"age": 40.0, "plan": "pro"}


def percentiles(ask: Callable[[], None]) -> tuple[float, float]:
    """p50 and p99 of one client on one connection, in milliseconds, after 200 requests of warm-up."""
    taken = []
    for index in range(REQUESTS + 200):
        start = time.perf_counter()
        ask()
        if index >= 200:
            taken.append(1000 * (time.perf_counter() - start))
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 99))


def http_client(pod: Pod, port: str) -> Callable[[], None]:
    connection = http.client.HTTPConnection(pod.address(port))
    body = json.dumps(sample_request([ROW]))

    def ask() -> None:
        connection.request("POST", pod.infer_path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200

    return ask


def grpc_client(pod: Pod, port: str) -> Callable[[], None]:
    client = triton_grpc.InferenceServerClient(pod.address(port))
    age = triton_grpc.InferInput("age", [1, 1], "FP32")
    age.set_data_from_numpy(np.array([[ROW["age"]]], dtype=np.float32))
    plan = triton_grpc.InferInput("plan", [1, 1], "BYTES")
    plan.set_data_from_numpy(np.array([[ROW["plan"]]], dtype=object))
    return lambda: client.infer(pod.model, [age, plan]) and None


def main() -> None:
    """Print the numbers of docs/serving.md."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pod = make_pod(Path(folder), lay_out_triton(), Batching(), Optimization())
        try:
            http_client(pod, "http")()
            print(f"artifact, init step, Triton and gateway, up to the first answer: {time.perf_counter() - start:.2f} s")
            for name, client, ports in (("HTTP", http_client, ("t_http", "http")), ("gRPC", grpc_client, ("t_grpc", "grpc"))):
                for where, port in zip(("direct", "through the gateway"), ports, strict=True):
                    p50, p99 = percentiles(client(pod, port))
                    print(f"{name} {where}: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
        finally:
            pod.stop()


if __name__ == "__main__":
    main()

"""Requests per second of one core: Modelship, bare Triton, lean FastAPI with onnxruntime, and KServe's Python server.

    python benchmarks/serving.py [--seconds 5] [--without kserve]

One model of 30 numeric columns, asked for one row in KServe v2's JSON by column names, over 1, 32 and 128 kept-alive connections.
Each server is pinned to one core with all its processes, the load comes from the other one; rounds alternate, so that the machine's
mood is everybody's. Modelship is also asked in the binary extension and over gRPC. FastAPI and KServe are installed from PyPI, into
`.cache/bench`; the exit status is 1 where a target was missed. Compare ratios within one run; where the machine is
busy with other things, the CPU that a request takes, of which a core has one second a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, save

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/integration/serving")]

from conftest import Pod, free_port, lay_out_triton, wait_for  # noqa: E402
from serving_artifacts import seal  # noqa: E402

from modelship_trainer.serving import repository  # noqa: E402

COLUMNS = [f"mean_measurement_{index}" for index in range(30)]
CLIENTS = (1, 32, 128)
PACKAGES = {"fastapi": ["fastapi", "uvicorn[standard]", "orjson", "onnxruntime"], "kserve": ["kserve", "onnxruntime"]}
SERVER_CORE, LOAD_CORE = {0}, {1}
Load = Callable[[int, float], Coroutine[Any, Any, list[float]]]
Rates = dict[tuple[str, int], tuple[float, float, float]]
TARGETS = [("FastAPI", 32, 2.0), ("KServe", 32, 5.0), ("FastAPI", 1, 0.9)]


# --- the model, and what is asked ------------------------------------------------------------------------------------------------


def graph(columns: bool) -> Any:
    """Scale, one layer, softmax and label over 30 numbers: packed, as our trainer exports it, or in a tensor per column."""
    ml, width = "ai.onnx.ml", len(COLUMNS)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in COLUMNS]
    nodes = [helper.make_node("Concat", COLUMNS, ["numbers"], axis=1)]
    if not columns:
        inputs, nodes = [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["N", width])], []
    nodes += [
        helper.make_node("Scaler", ["numbers"], ["scaled"], domain=ml, offset=[0.0] * width, scale=[0.1] * width),
        helper.make_node("Gemm", ["scaled", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder", ["index"], ["label"], domain=ml, keys_int64s=[0, 1], values_strings=["benign", "malignant"]
        ),
    ]
    weight = np.random.default_rng(0).normal(size=(width, 2)).astype(np.float32)
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
        helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
    ]
    made = helper.make_graph(
        nodes, "m", inputs, outputs, [helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel())]
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ml, 3)], ir_version=9)


VALUES = [round(0.37 * index + 0.123, 3) for index in range(len(COLUMNS))]
BY_COLUMN = [
    {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [value]} for name, value in zip(COLUMNS, VALUES, strict=True)
]


def publish(root: Path, *, columns: bool) -> None:
    """Make the artifact and lay it out for Triton in `root/models`."""
    folder = root / "artifact"
    folder.mkdir(parents=True)
    save(graph(columns), str(folder / "model.onnx"))
    signature: dict[str, Any] = {
        "schemaVersion": 1 if columns else 2, "task": "classification",
        "inputs": [{"name": name, "dtype": "FP32", "shape": [-1, 1]} for name in COLUMNS],
        "outputs": [
            {"name": "probabilities", "dtype": "FP32", "shape": [-1, 2]}, {"name": "label", "dtype": "BYTES", "shape": [-1]},
        ],
        "classes": ["benign", "malignant"],
    }  # fmt: skip
    sample = BY_COLUMN
    if not columns:
        signature["inputs"] = [{"name": "numbers", "dtype": "FP32", "shape": [-1, len(COLUMNS)]}]
        signature["columns"] = [{"name": name, "dtype": "FP32", "missing": False, "above": None} for name in COLUMNS]
        sample = [{"name": "numbers", "shape": [1, len(COLUMNS)], "datatype": "FP32", "data": VALUES}]
    (folder / "signature.json").write_text(json.dumps(signature))
    (folder / "sample.json").write_text(json.dumps({"inputs": sample}))
    for name in ("preprocessing.json", "recipe.json", "metrics.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    repository.publish(folder, seal(folder), "m", root / "models", repository.Serving())


def http_request(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v2/models/m/infer HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


JSON_REQUEST = http_request(json.dumps({"inputs": BY_COLUMN}, separators=(",", ":")).encode(), "Content-Type: application/json")


def binary_request() -> bytes:
    tensor = {
        "name": "numbers",
        "shape": [1, len(COLUMNS)],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 4 * len(COLUMNS)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return http_request(head + np.array(VALUES, np.float32).tobytes(), f"Inference-Header-Content-Length: {len(head)}")


# --- load ------------------------------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One kept-alive connection that asks as soon as it was answered."""

    def __init__(self, request: bytes, times: list[float]) -> None:
        self._request, self._times, self._got, self.done = request, times, b"", asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.ask()

    def ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        stop = self._got.find(b"\r\n\r\n")
        if stop < 0:
            return
        head = self._got[:stop].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._got) < stop + 4 + length:
            return
        if head[9:12] != b"200" and not self.done.done():
            self.done.set_exception(RuntimeError(self._got[:500]))
            return
        self._got = b""
        self._times.append(time.perf_counter() - self._asked)
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"connection lost: {error}"))


async def http_load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """Seconds of each answer."""
    times: list[float] = []
    loop, ended = asyncio.get_running_loop(), []
    for _ in range(clients):
        _, client = await loop.create_connection(lambda: Client(request, times), "127.0.0.1", port)
        ended.append(client.done)
    done, _ = await asyncio.wait(ended, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for failed in done:
        failed.result()
    for future in ended:
        future.cancel()
    return times


async def grpc_load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """The same over unary calls, a channel for each client."""
    import grpc

    times: list[float] = []
    over = time.perf_counter() + seconds

    async def ask() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while (asked := time.perf_counter()) < over:
                await call(request)
                times.append(time.perf_counter() - asked)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return times


def grpc_request() -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="numbers", datatype="FP32", shape=[1, len(COLUMNS)])
    request.raw_input_contents.append(np.array(VALUES, np.float32).tobytes())
    return bytes(request.SerializeToString())


# --- servers ------------------------------------------------------------------------------------------------------------------


@contextmanager
def on_core(cores: set[int]) -> Iterator[None]:
    """Processes that are started inside run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def triton(root: Path, *, columns: bool, gateway: bool) -> Iterator[Pod]:
    publish(root, columns=columns)
    pod = Pod(root, lay_out_triton(), {"timeoutSeconds": 30}, model="m")
    try:
        with on_core(SERVER_CORE):
            pod.start_triton()
            if gateway:
                pod.start_gateway()
        yield pod
    finally:
        pod.stop()


def environment(kind: str) -> Path:
    """Python of the virtual environment that has this server."""
    folder = ROOT / ".cache/bench" / kind
    if not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin/pip", "install", "--quiet", *PACKAGES[kind]], check=True)
        (folder / "installed").touch()
    return folder / "bin/python"


@contextmanager
def other(kind: str, root: Path) -> Iterator[tuple[int, int]]:
    """Port and process of such a server."""
    root.mkdir()
    save(graph(columns=False), str(root / "model.onnx"))
    python, port = environment(kind), free_port()
    with on_core(SERVER_CORE), (root / "log").open("wb") as log:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        command = [python, ROOT / "benchmarks/serving_servers.py", kind, root / "model.onnx", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
    try:
        wait_for(lambda: answers(port) or ended(process, root / "log"), f"{kind} answers", 90)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(port: int) -> bool:
    try:
        asyncio.run(http_load(port, JSON_REQUEST, 1, 0.1))
    except (OSError, RuntimeError):
        return False
    return True


def ended(process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(log.read_text(errors="replace")[-2000:])
    return False


def processes(parent: int) -> list[int]:
    """A process and all below it."""
    children = [int(pid) for file in Path(f"/proc/{parent}/task").glob("*/children") for pid in file.read_text().split()]
    return [parent, *(pid for child in children for pid in processes(child))]


def cpu_seconds(parents: list[int]) -> float:
    """User and system time of these processes and all below them."""
    ticks = 0
    for pid in (pid for parent in parents for pid in processes(parent)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# --- the table ----------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=["kserve", "fastapi"])
    options = parser.parse_args()
    if os.cpu_count() == 1:
        parser.error("two cores are needed: one for the servers, one for the load")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        root = Path(folder)
        root.chmod(0o755)
        ours = stack.enter_context(triton(root / "packed", columns=False, gateway=True))
        bare = stack.enter_context(triton(root / "columns", columns=True, gateway=False))
        assert ours.triton is not None
        assert ours.gateway is not None
        assert bare.triton is not None
        own = [ours.triton.pid, ours.gateway.pid]
        servers: dict[str, tuple[list[int], Load]] = {
            "Modelship, JSON": (own, partial(http_load, ours.ports["http"], JSON_REQUEST)),
            "Triton, JSON": ([bare.triton.pid], partial(http_load, bare.ports["t_http"], JSON_REQUEST)),
        }
        for name, kind in (("FastAPI", "fastapi"), ("KServe", "kserve")):
            if kind not in options.without:
                port, pid = stack.enter_context(other(kind, root / kind))
                servers[f"{name}, JSON"] = ([pid], partial(http_load, port, JSON_REQUEST))
        servers["Modelship, binary"] = (own, partial(http_load, ours.ports["http"], binary_request()))
        servers["Modelship, gRPC"] = (own, partial(grpc_load, ours.ports["grpc"], grpc_request()))
        rates = measured(servers, options.seconds, options.rounds)
    return 0 if reported(rates) else 1


def measured(servers: dict[str, tuple[list[int], Load]], seconds: float, rounds: int) -> Rates:
    """Requests per second, p50 in milliseconds and CPU in microseconds per request, of all rounds together."""
    times: dict[tuple[str, int], list[float]] = {}
    cpu: dict[tuple[str, int], float] = {}
    os.sched_setaffinity(0, LOAD_CORE)
    for _, load in servers.values():
        asyncio.run(load(8, 1))  # warm
    for _ in range(rounds):
        for name, (pids, load) in servers.items():
            for clients in CLIENTS:
                before = cpu_seconds(pids)
                times.setdefault((name, clients), []).extend(asyncio.run(load(clients, seconds)))
                cpu[name, clients] = cpu.get((name, clients), 0) + cpu_seconds(pids) - before
    return {
        key: (len(found) / (rounds * seconds), 1000 * float(np.median(found)), 1e6 * cpu[key] / len(found))
        for key, found in times.items()
    }


def reported(rates: Rates) -> bool:
    """Print the table; whether all targets were met."""
    names = list(dict.fromkeys(name for name, _ in rates))
    print("| one core | " + " | ".join(f"{clients} clients: requests/s, p50, CPU" for clients in CLIENTS) + " |")
    print("|---|" + "---|" * len(CLIENTS))
    for name in names:
        print(
            f"| {name} | " + " | ".join("{:,.0f}, {:.2f} ms, {:.0f} us".format(*rates[name, clients]) for clients in CLIENTS) + " |"
        )
    met = True
    for name, clients, target in TARGETS:
        if (f"{name}, JSON", clients) in rates:
            ratio = rates["Modelship, JSON", clients][0] / rates[f"{name}, JSON", clients][0]
            met = met and ratio >= target
            cpu = rates[f"{name}, JSON", clients][2] / rates["Modelship, JSON", clients][2]
            missed = "" if ratio >= target else ", missed"
            print(f"Modelship / {name} at {clients} clients: {ratio:.2f} (target {target}{missed}); by CPU per request: {cpu:.2f}")
    return met


if __name__ == "__main__":
    sys.exit(main())

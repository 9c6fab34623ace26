"""Mutated requests over the real processes of a serving pod: nginx, its Lua, and Triton.

    PYTHONPATH=. python tests/fuzz/gateway_fuzz.py --requests 1000000 --seed 1

Bodies in JSON, in the binary extension and in Protocol Buffers, headers, chunks, pipelines, request smuggling's shapes, and HTTP/2
frames are mutated. What must hold: each answer is HTTP, none is a 5xx but a full queue's 503, refusals are JSON; Triton and its
backend are the processes that they were; the gateway logs no fault of its own and does not grow.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/integration/serving")]

from conftest import Pod, lay_out_triton, make_pod  # noqa: E402
from serving_artifacts import sample_request  # noqa: E402

from modelship_trainer.serving.options import Batching, Optimization  # noqa: E402

GROWTH_MEBIBYTES = 48
"""What a worker of nginx may grow by after its first thousand requests."""
TOKENS = [
    b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"true", b"NaN", b"Infinity", b"-", b"1e39", b"1e999", b"-0.0", b"0x10",
    b"9223372036854775807", b"1000000000", b"-1", b"\\ud800", b"\\u0000", b"\\", b"\x00", b"\xff", b"\xc3\x28", b"[" * 500,
    b'{"a":' * 300, b'"shape":[1,1],', b'"data":[1],', b'"parameters":{"binary_data_size":4},', b'"name":"age",', b'"id":"x",',
    b"\r\n\r\n",
    b"1" * 400, b"e\xcc\x81" * 20, b'"datatype":"BYTES",', b'"datatype":"INT64",', b'"outputs":[],', b" " * 64,
]  # fmt: skip
HEADERS = [
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Inference-Header-Content-Length: 7", b"Inference-Header-Content-Length: -1", b"Inference-Header-Content-Length: 1e3",
    b"Content-Encoding: gzip", b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade\r\nUpgrade: h2c", b"Host: y",
    b"X: " + b"a" * 9000, b" folded: x", b"No-Colon", b"X-\xff: \xff", b"Range: bytes=0-1", b"Content-Type: text/html",
]  # fmt: skip
TARGETS = [
    b"/v2/models/churn/infer", b"/v2/models/churn/versions/1/infer", b"/v2/models/churn", b"/v2", b"/v2/models/churn/ready",
    b"/v2/models/%00/infer", b"/v2/models/churn/versions/99999999999999999999/infer", b"/v2/models/churn/../../repository/index",
    b"/-/error", b"*", b"http://x/v2", b"/" + b"a" * 9000, b"//v2//models", b"/v2/models/churn/infer?x", b"/v2/health/ready",
]  # fmt: skip
METHODS = [b"POST", b"GET", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"post", b""]


@dataclass
class Fuzzer:
    """Requests of one seed."""

    pod: Pod
    random: random.Random
    statuses: Counter[int] = field(default_factory=Counter)
    asked: int = 0
    """Requests that were sent."""

    # --- mutations ---------------------------------------------------------------------------------------------------------------

    def mutated(self, data: bytes, times: int) -> bytes:
        """`data` after `times` random changes."""
        pick = self.random
        for _ in range(times):
            at = pick.randrange(len(data) + 1)
            match pick.randrange(6):
                case 0:
                    data = data[:at] + pick.choice(TOKENS) + data[at:]
                case 1:
                    data = data[:at] + bytes([pick.randrange(256)]) + data[at + 1 :]
                case 2:
                    data = data[:at] + data[at + pick.randrange(1, 20) :]
                case 3:
                    other = pick.randrange(len(data) + 1)
                    data = data[:at] + data[other : other + pick.randrange(1, 60)] + data[at:]
                case 4:
                    data = re.sub(rb"\d+", lambda found: pick.choice([found[0], b"0", b"65", b"4294967296", b"1e3"]), data, count=3)
                case 5:
                    data = data[:at]
        return data

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"age": self.random.choice([40.0, 1e30, -0.0, 3]), "plan": self.random.choice(["pro", "é", ""])}
        ] * self.random.choice([1, 1, 3])

    def json_body(self) -> bytes:
        return self.mutated(json.dumps(sample_request(self.rows())).encode(), self.random.choice([0, 1, 1, 2, 5]))

    def binary_body(self) -> tuple[bytes, int]:
        """Body and length of its JSON, both of which may be wrong."""
        count = self.random.choice([1, 2])
        numbers, texts = struct.pack("<f", self.random.choice([40.0, float("nan"), float("inf")])) * count, b"\x03\0\0\0pro" * count
        inputs = [
            {"name": name, "shape": [count, 1], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
            for name, kind, data in (("age", "FP32", numbers), ("plan", "BYTES", texts))
        ]
        head = self.mutated(
            json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode(), self.random.choice([0, 0, 1])
        )
        data = self.mutated(numbers + texts, self.random.choice([0, 1, 2]))
        return head + data, max(0, len(head) + self.random.choice([0, 0, 0, 1, -1, 5000]))

    def chunked(self, body: bytes) -> bytes:
        parts = []
        while body:
            size = self.random.randrange(1, 200)
            parts.append(b"%x\r\n%s\r\n" % (len(body[:size]), body[:size]))
            body = body[size:]
        return b"".join([*parts, b"0\r\n\r\n"])

    def whole(self) -> bytes:
        """A request whose frame is right, whatever is in it, so that it may be pipelined."""
        lines, body = [b"POST /v2/models/churn/infer HTTP/1.1", b"Host: x"], b""
        if self.random.random() < 0.3:
            body, length = self.binary_body()
            lines.append(b"Inference-Header-Content-Length: %d" % length)
        else:
            body = self.json_body()
        if self.random.random() < 0.2:
            lines.append(b"Transfer-Encoding: chunked")
            body = self.chunked(body)
        else:
            lines.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def broken(self) -> bytes:
        """A request whose line, headers or frame is wrong."""
        pick = self.random
        body = self.json_body()
        lines = [
            b" ".join([pick.choice(METHODS), pick.choice(TARGETS), pick.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b""])]),
            b"Host: x",
        ]
        lines += pick.sample(HEADERS, pick.randrange(3))
        if pick.random() < 0.7:
            lines.append(b"Content-Length: %d" % (len(body) + pick.choice([0, 0, 1, -1, 300])))
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        return self.mutated(head, pick.choice([0, 0, 1, 2])) + body

    def message(self) -> bytes:
        """A ModelInferRequest, mutated."""
        from tritonclient.grpc import service_pb2

        request = service_pb2.ModelInferRequest(model_name="churn", id="7")
        raw = self.random.random() < 0.5
        age, plan = (
            request.inputs.add(name="age", datatype="FP32", shape=[1, 1]),
            request.inputs.add(name="plan", datatype="BYTES", shape=[1, 1]),
        )
        if raw:
            request.raw_input_contents.extend([struct.pack("<f", 40), b"\x03\0\0\0pro"])
        else:
            age.contents.fp32_contents.append(40)
            plan.contents.bytes_contents.append(b"pro")
        return self.mutated(request.SerializeToString(), self.random.choice([0, 1, 2, 4]))

    # --- asking ----------------------------------------------------------------------------------------------------

    def pipeline(self) -> None:
        requests = [self.whole() for _ in range(self.random.choice([1, 4, 24]))]
        self.asked += len(requests)
        self.judge(self.exchange("http", b"".join(requests)), len(requests))

    def one_broken(self) -> None:
        self.asked += 1
        request = self.broken()
        try:
            self.judge(self.exchange("http", request), None)
        except AssertionError as error:
            raise AssertionError(f"{request[:1500]!r}\n{error}") from error

    def calls(self) -> None:
        """Calls on one connection: HTTP/2 by hand, so that frames can be wrong, too."""
        frames = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frame(4, 0, 0, b"")]
        count = self.random.choice([1, 8])
        for index in range(count):
            message = self.message()
            body = (
                struct.pack(">BI", self.random.choice([0, 0, 0, 0, 1]), len(message) + self.random.choice([0, 0, 0, 1])) + message
            )
            stream = 2 * index + 1
            frames.append(frame(1, 4, stream, HEADERS_BLOCK))
            frames.append(frame(0, 1, stream, body[:16000]))
        data = b"".join(frames)
        wrong = self.random.random() < 0.15
        if wrong:
            data = data[:33] + self.mutated(data[33:], 2)
        self.asked += count
        with socket.create_connection(("127.0.0.1", self.pod.ports["grpc"]), timeout=0.05 if wrong else 20) as connection:
            connection.sendall(data)
            self.judge_frames(connection, count)

    def exchange(self, port: str, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.pod.ports[port]), timeout=20) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except (ConnectionResetError, BrokenPipeError):
                return b""  # nginx has refused it, and did not wait for the rest

    def judge(self, data: bytes, expected: int | None) -> None:
        """Look at each answer in `data`."""
        count = 0
        while data:
            head, _, rest = data.partition(b"\r\n\r\n")
            if not data.startswith(b"HTTP/1.1 "):
                assert expected is None, f"no answer of HTTP: {data[:200]!r}"  # HTTP/0.9 has no head
                return
            status = int(head[9:12])
            length = int((re.search(rb"\r\ncontent-length: *(\d+)", head, re.I) or [0, 0])[1])
            length = 0 if rest.startswith(b"HTTP/") else length  # of HEAD
            self.statuses[status] += 1
            count += 1
            assert status < 500 or status == 503, f"{data[:500]!r}\n{self.pod.gateway_log[-3000:]}"
            if status >= 400 and length and rest:
                assert rest[:length].startswith(b'{"error":"'), data[:500]
                json.loads(rest[:length])
            elif status == 200 and length and b"application/json" in head and rest:
                json.loads(rest[:length].decode(), parse_constant=lambda text: 1 / 0)
            data = b"" if status == 100 else rest[length:]
        assert expected is None or count <= expected

    def judge_frames(self, connection: socket.socket, count: int) -> None:
        """Reads frames until all streams have ended, or the connection has."""
        got, ends = b"", 0
        try:
            while ends < count:
                more = connection.recv(65536)
                if not more:
                    return
                got += more
                while len(got) >= 9 and len(got) >= 9 + int.from_bytes(got[:3], "big"):
                    length, kind, flags = int.from_bytes(got[:3], "big"), got[3], got[4]
                    ends += kind == 3 or (kind in (0, 1) and flags & 1)
                    if kind == 7:
                        return
                    got = got[9 + length :]
        except (ConnectionResetError, TimeoutError):
            return
        self.statuses[0] += count

    def run(self, requests: int, seconds: float) -> None:
        """Until so many were sent, or the time is over."""
        over = time.monotonic() + seconds
        while self.asked < requests and time.monotonic() < over:
            self.random.choices([self.pipeline, self.one_broken, self.calls], [6, 2, 1])[0]()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header of HPACK, not indexed, not compressed."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADERS_BLOCK = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
        (b":authority", b"x"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    )
)  # fmt: skip


def worker_memory(pod: Pod) -> float:
    """Of nginx's workers, in MiB."""
    assert pod.gateway is not None
    total = 0
    for worker in Path(f"/proc/{pod.gateway.pid}/task/{pod.gateway.pid}/children").read_text().split():
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text(), re.M)
        total += int(found[1]) if found else 0
    return total / 1024


def fuzz(pod: Pod, seed: int, requests: int, seconds: float) -> Fuzzer:
    """Run, and assert what must hold of the pod."""
    assert pod.triton is not None
    fuzzer = Fuzzer(pod, random.Random(seed))
    before = (pod.triton.pid, pod.stub_pids())
    fuzzer.run(min(1000, requests), seconds)
    memory = worker_memory(pod)
    fuzzer.run(requests, seconds)
    grown = worker_memory(pod) - memory
    assert pod.triton.poll() is None, (pod.root / "triton.log").read_text(errors="replace")[-2000:]
    assert (pod.triton.pid, pod.stub_pids()) == before, "the backend was restarted"
    assert fuzzer.statuses[200] > 0, "no request was right"
    faults = re.findall(r"stack traceback|lua entry thread aborted|worker process \d+ exited on signal", pod.gateway_log)
    assert not faults, pod.gateway_log[-3000:]
    assert grown < GROWTH_MEBIBYTES, f"nginx grew by {grown:.0f} MiB"
    return fuzzer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        pod = make_pod(Path(folder), lay_out_triton(), Batching(), Optimization())
        try:
            fuzzer = fuzz(pod, options.seed, options.requests, options.seconds)
        finally:
            pod.stop()
    print(f"{fuzzer.asked:,} requests; answers by status (0: gRPC): {dict(sorted(fuzzer.statuses.items()))}")


if __name__ == "__main__":
    main()

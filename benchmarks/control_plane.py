"""What the operator costs, against a real kube-apiserver and etcd on this machine: `python benchmarks/control_plane.py`.

Everything shares the machine's cores: API server, etcd, operator, and the client that makes the load. The yardstick is a bare
client that does nothing but three requests for each resource (create it, create its Job, apply its status) over 32 connections.
Requests and times are the API server's own, from its audit log. `benchmarks/README.md` explains each line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "operator"), str(ROOT / "trainer")]

from tests.support.controlplane import ControlPlane, control_plane, free_ports  # noqa: E402

from modelship_operator.controllers.framework import Controller, ObjectKey  # noqa: E402
from modelship_operator.controllers.training.controller import training_controller  # noqa: E402
from modelship_operator.controllers.training.observed import Observed  # noqa: E402
from modelship_operator.resources.settings import PodSettings  # noqa: E402
from modelship_operator.runtime.store import Store  # noqa: E402

Json = dict[str, Any]

CONNECTIONS = 32
ALONE = 30
WAIT_SECONDS = 300
TRAININGS = "/apis/modelship.dev/v1alpha1/namespaces/{}/modeltrainings"
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
APPLY = "?fieldManager=modelship&force=true"
IMAGES = PodSettings("trainer:bench", "triton:bench", "gateway:bench", "operator:bench")
AGENT = "modelship-operator"


# --- the bare client ----------------------------------------------------------------------------------------------------------


class Client:
    """aiohttp and nothing else: no watch, no parsing, no queue."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """32 kept-alive connections."""
        trust = ssl.create_default_context(cafile=str(self._plane.certificate))
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=trust)
        headers = {"Authorization": f"Bearer {self._plane.token}", "User-Agent": "bench", "Accept-Encoding": "identity"}
        async with aiohttp.ClientSession(self._plane.url, connector=connector, headers=headers) as session:
            yield session


async def send(session: aiohttp.ClientSession, method: str, path: str, body: Json, kind: str = "json") -> Json:
    """One request; its answer."""
    content = {"json": "application/json", "apply": "application/apply-patch+yaml"}[kind]
    async with session.request(method, path, data=orjson.dumps(body), headers={"Content-Type": content}) as response:
        answer = await response.read()
        assert response.status < 300, f"{method} {path}: {response.status} {answer[:500]!r}"
        return orjson.loads(answer) if method == "POST" else {}


async def spread(count: int, work: Callable[[int], Any]) -> float:
    """Run `work(i)` for each i on as many tasks as there are connections; seconds."""
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            await work(number)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return time.perf_counter() - started


async def bare(plane: ControlPlane, namespace: str, count: int) -> float:
    """Seconds for the three requests of each of `count` resources; tidies up afterwards."""
    controller = training_controller(IMAGES)
    async with Client(plane).session() as session:
        await send(session, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        # One job and status stand for all, so that building them is not measured: only names and uids differ.
        probe = await send(session, "POST", TRAININGS.format(namespace), training("probe"))
        job, status = planned(controller, probe)

        async def three(number: int) -> None:
            made = await send(session, "POST", TRAININGS.format(namespace), training(f"bare-{number}"))
            metadata = made["metadata"]
            body = {**job, "metadata": {**job["metadata"], "name": f"{metadata['name']}-train"}}
            await send(session, "POST", f"{JOBS.format(namespace)}?fieldManager=modelship", body)
            head = {"name": metadata["name"], "namespace": namespace, "uid": metadata["uid"]}
            body = {"apiVersion": made["apiVersion"], "kind": made["kind"], "metadata": head, "status": status}
            await send(session, "PATCH", f"{TRAININGS.format(namespace)}/{metadata['name']}/status{APPLY}", body, "apply")

        seconds = await spread(count, three)
        for path in (TRAININGS, JOBS):
            await send(session, "DELETE", path.format(namespace), {"propagationPolicy": "Background"})
        return seconds


def planned(controller: Controller[Observed], obj: Json) -> tuple[Json, Json]:
    """The Job and the status that the operator would apply for a resource."""
    store = Store({}, lambda key: None)
    store.put(obj)
    plan = controller.plan(controller.observe(store, obj), datetime.now(UTC))
    assert plan.apply
    job = plan.apply[0]
    made = {**job, "metadata": {**job["metadata"], "uid": "u", "resourceVersion": "1"}}
    store.put(made)
    status = controller.plan(controller.observe(store, obj), datetime.now(UTC)).status
    assert status
    assert store.get(ObjectKey("Job", job["metadata"]["namespace"], job["metadata"]["name"]))
    return job, status


def training(name: str) -> Json:
    """The tabular example."""
    example: Json = yaml.load(_EXAMPLE, Loader=yaml.CSafeLoader)
    return {**example, "metadata": {"name": name}}


_EXAMPLE = (ROOT / "examples/tabular/training.yaml").read_text()


# --- the operator -------------------------------------------------------------------------------------------------------------


@dataclass
class Process:
    """A running operator."""

    pid: int
    url: str
    log: Path
    started: float = field(default_factory=time.time)

    def cpu(self) -> float:
        """Seconds of CPU so far, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what: str) -> float:
        """MiB; `VmRSS` or `VmHWM`, its peak."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


@contextmanager
def operator(plane: ControlPlane) -> Iterator[Process]:
    """Start it and wait until it is ready and leads; SIGTERM at the end, and it must go in peace."""
    metrics, progress = free_ports(2)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MODELSHIP_")},
        "KUBECONFIG": str(plane.kubeconfig()),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT / "trainer")]),
        "MODELSHIP_TRAINER_IMAGE": IMAGES.trainer_image,
        "MODELSHIP_TRITON_IMAGE": IMAGES.triton_image,
        "MODELSHIP_GATEWAY_IMAGE": IMAGES.gateway_image,
        "MODELSHIP_OPERATOR_IMAGE": IMAGES.operator_image,
        "MODELSHIP_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "MODELSHIP_PROGRESS_LISTEN": f"127.0.0.1:{progress}",
    }
    log = plane.folder / f"operator-{metrics}.log"
    command = [sys.executable, "-m", "modelship_operator.runtime.main"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: b'"message":"leading"' in log.read_bytes() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        time.sleep(1)
        yield Process(process.pid, f"http://127.0.0.1:{metrics}", log)
        process.terminate()
        assert process.wait(30) == 0, log.read_text()[-3000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], pause: float = 0.05) -> None:
    """Wait for it.

    Raises:
        TimeoutError: it did not come.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)


# --- the audit log ------------------------------------------------------------------------------------------------------------


class Audit:
    """The API server's log of answered requests, read from where it was left."""

    def __init__(self, plane: ControlPlane) -> None:
        assert plane.audit_log
        self._file = plane.audit_log.open("rb")
        self.events: list[Json] = []

    def mark(self) -> None:
        """Forget what was until now."""
        self.read()
        self.events = []

    def read(self) -> list[Json]:
        """All events since the last mark, answers that ended only."""
        while line := self._file.readline():
            if not line.endswith(b"\n"):
                self._file.seek(-len(line), os.SEEK_CUR)
                break
            event = orjson.loads(line)
            if event["stage"] == "ResponseComplete":
                self.events.append(event)
        return self.events

    def of_operator(self) -> list[Json]:
        """Those of the operator about objects, without leases, and without watches and lists, which no resource adds to."""
        mine = (event for event in self.read() if event.get("userAgent") == AGENT and "objectRef" in event)
        return [event for event in mine if event["objectRef"]["resource"] != "leases" and event["verb"] not in ("watch", "list")]

    def writes(self) -> list[Json]:
        """Those that write."""
        return [event for event in self.of_operator() if event["verb"] != "get"]

    def jobs(self) -> dict[str, float]:
        """When the Job of each resource was there, by the resource's name."""
        return {
            event["objectRef"]["name"].removesuffix("-train"): seconds(event["stageTimestamp"])
            for event in self.writes()
            if event["objectRef"]["resource"] == "jobs" and event["responseStatus"]["code"] == 201
        }

    def statuses(self) -> dict[str, float]:
        """When its first status was."""
        return {
            event["objectRef"]["name"]: seconds(event["stageTimestamp"])
            for event in reversed(self.writes())
            if event["objectRef"].get("subresource") == "status"
        }

    def created(self) -> dict[str, float]:
        """When the request to create each resource came in."""
        return {
            event["objectRef"]["name"]: seconds(event["requestReceivedTimestamp"])
            for event in self.read()
            if event["verb"] == "create" and event["objectRef"]["resource"] == "modeltrainings"
        }


def seconds(text: str) -> float:
    """Unix time of an audit timestamp."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


# --- measuring ----------------------------------------------------------------------------------------------------------------


@dataclass
class Burst:
    """What a burst took."""

    seconds: float
    to_status: float
    latency: list[float]
    requests: Counter[str]
    cpu: float


async def alone(plane: ControlPlane, audit: Audit, count: int) -> list[float]:
    """Seconds from a request to create a resource to its Job, one resource after the other."""
    audit.mark()
    async with Client(plane).session() as session:
        for number in range(count):
            await send(session, "POST", TRAININGS.format("default"), training(f"alone-{number}"))
            until(lambda number=number: f"alone-{number}" in audit.jobs())
            await asyncio.sleep(0.05)
    created, jobs = audit.created(), audit.jobs()
    return [jobs[name] - created[name] for name in jobs]


async def burst(plane: ControlPlane, audit: Audit, process: Process, count: int) -> Burst:
    """Create `count` resources over 32 connections and wait for their Jobs and first statuses."""
    audit.mark()
    cpu = process.cpu()
    async with Client(plane).session() as session:
        await spread(count, lambda i: send(session, "POST", TRAININGS.format("default"), training(f"burst-{i}")))
    # Reading the log takes from the same cores: look rarely.
    await asyncio.to_thread(until, lambda: len(audit.statuses()) >= count, pause=0.5)
    await asyncio.sleep(2)
    created, jobs, statuses = audit.created(), audit.jobs(), audit.statuses()
    first = min(created.values())
    return Burst(
        seconds=max(jobs.values()) - first,
        to_status=max(statuses.values()) - first,
        latency=[jobs[name] - created[name] for name in jobs],
        requests=Counter(f"{event['verb']} {what(event)}" for event in audit.of_operator()),
        cpu=process.cpu() - cpu,
    )


def what(event: Json) -> str:
    """`modeltrainings/status`."""
    reference = event["objectRef"]
    return "/".join(part for part in (reference["resource"], reference.get("subresource")) if part)


def quantiles(values: list[float]) -> str:
    """p50 and p95 in milliseconds."""
    cuts = statistics.quantiles(values, n=20)
    return f"p50 {statistics.median(values) * 1000:.0f} ms, p95 {cuts[18] * 1000:.0f} ms"


def row(name: str, value: str, target: str = "", met: bool | None = None) -> None:
    """One line of the table."""
    mark = "" if met is None else ("met" if met else "MISSED")
    print(f"| {name:<58} | {value:<28} | {target:<12} | {mark:<6} |", flush=True)


def main() -> None:
    """Measure and print; exit status 1 where a target was missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--resources", type=int, default=1000)
    arguments.add_argument("--idle", type=float, default=60)
    options = arguments.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, control_plane(audit=True) as plane:
        sys.exit(0 if measure(plane, runner, options) else 1)


def measure(plane: ControlPlane, runner: asyncio.Runner, options: argparse.Namespace) -> bool:
    """All measurements, in one go; whether every target was met."""
    count, results = options.resources, []

    def target(name: str, value: float, limit: float, form: str) -> None:
        results.append(value <= limit)
        row(name, form.format(value), "<= " + form.format(limit), value <= limit)

    crds = plane.kubectl("apply", "-f", str(ROOT / "crds"))
    assert crds.returncode == 0, crds.stderr
    plane.kubectl("wait", "--for=condition=Established", "crd", "--all")
    audit = Audit(plane)
    runner.run(bare(plane, "warm", max(100, count // 5)))
    row(f"{count} resources, {os.cpu_count()} cores", "measured", "target")
    row("-" * 58, "-" * 28, "-" * 12)
    before = runner.run(bare(plane, "before", count))
    with operator(plane) as process:
        row("RSS at start", f"{process.memory('VmRSS'):.0f} MiB")
        lone = runner.run(alone(plane, audit, ALONE))
        result = runner.run(burst(plane, audit, process, count))
        peak, rss = process.memory("VmHWM"), process.memory("VmRSS")
    after = runner.run(bare(plane, "after", count))
    yardstick = (before + after) / 2
    row("bare client, before and after", f"{before:.2f} s, {after:.2f} s ({3 * count / yardstick:.0f} requests/s)")
    row("burst until the last Job", f"{result.seconds:.2f} s ({count / result.seconds:.0f} resources/s)")
    target("  as a multiple of the bare client", result.seconds / yardstick, 1.5, "{:.2f}")
    row("burst until the last first status", f"{result.to_status:.2f} s")
    row("create to Job, alone", quantiles(lone))
    row("create to Job, in the burst", quantiles(result.latency))
    target("requests per resource", sum(result.requests.values()) / count, 2, "{:.3f}")
    row("", ", ".join(f"{verb}: {times}" for verb, times in sorted(result.requests.items())))
    target("CPU per resource", result.cpu / count * 1000, 2, "{:.2f} ms")
    target(f"RSS with {count + ALONE}", rss, 110, "{:.0f} MiB")
    row("  at its peak", f"{peak:.0f} MiB")
    audit.mark()
    with operator(plane) as process:
        time.sleep(30)  # past the first sweep
        row("RSS after a restart", f"{process.memory('VmRSS'):.0f} MiB")
        target("writes over a restart", len(audit.writes()), 0, "{:.0f}")
        audit.mark()
        cpu = process.cpu()
        time.sleep(options.idle)
        target(f"writes over {options.idle:.0f} s idle", len(audit.writes()), 0, "{:.0f}")
        row("  CPU meanwhile", f"{(process.cpu() - cpu) / options.idle * 100:.1f} % of a core")
    return all(results)


if __name__ == "__main__":
    main()

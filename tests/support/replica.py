"""Operator processes that a test starts, asks for their metrics, stops and kills."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.controlplane import ControlPlane, free_ports
from tests.support.kubelet import Namespace

LEASE_SECONDS = 3


@dataclass
class Replica:
    process: subprocess.Popen[bytes]
    name: str
    metrics: str
    progress: str
    log: Path

    def metric(self, name: str) -> float:
        """The value of a metric; labels are part of the name."""
        text = httpx.get(f"{self.metrics}/metrics", trust_env=False).text
        return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    @property
    def leads(self) -> bool:
        return self.metric("modelship_leading") == 1

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> float:
        """Wait until the condition holds; how long that took."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < seconds, self.log.read_text()[-4000:]
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            time.sleep(0.02)
        return time.monotonic() - started

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0, self.log.read_text()[-4000:]


@contextmanager
def replica(
    plane: ControlPlane, here: Namespace, *, ready: bool = True, kubeconfig: Path | None = None, **settings: str
) -> Iterator[Replica]:
    """An operator that works in one namespace, and elects there."""
    metrics, progress = free_ports(2)
    name = f"operator-{secrets.token_hex(3)}"
    environment = {
        "KUBECONFIG": str(kubeconfig or plane.kubeconfig()),
        "MODELSHIP_TRAINER_IMAGE": "trainer:1",
        "MODELSHIP_TRITON_IMAGE": "triton:1",
        "MODELSHIP_GATEWAY_IMAGE": "gateway:1",
        "MODELSHIP_OPERATOR_IMAGE": "operator:1",
        "MODELSHIP_METRICS_LISTEN": f"127.0.0.1:{metrics}",
        "MODELSHIP_PROGRESS_LISTEN": f"127.0.0.1:{progress}",
        "MODELSHIP_NAMESPACES": here.name,
        "MODELSHIP_POD_NAMESPACE": here.name,
        "MODELSHIP_POD_NAME": name,
        "MODELSHIP_POD_IP": "127.0.0.1",
        "MODELSHIP_LEASE_SECONDS": str(LEASE_SECONDS),
        "MODELSHIP_PROGRESS_SECONDS": "2",
        **settings,
    }
    log = plane.folder / f"{name}.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "modelship_operator.runtime.main"]
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    made = Replica(process, name, f"http://127.0.0.1:{metrics}", f"http://127.0.0.1:{progress}/v1/progress", log)

    def answers() -> bool:
        try:
            return httpx.get(f"{made.metrics}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        if ready:
            made.until(answers)
        yield made
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)

"""Triton and the gateway of a serving pod as processes on loopback: the images' own files, without containers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from serving_artifacts import write_artifact

from modelship_operator.api.deployment import ModelDeploymentSpec
from modelship_operator.resources.common import Json, Owner
from modelship_operator.resources.serving import Serving, pod_template
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import ArtifactRef
from modelship_trainer.serving import repository
from modelship_trainer.serving.options import Batching, Optimization

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "images"
BACKEND = ROOT / "trainer/modelship_trainer/serving/onnxruntime_backend.py"
CACHE = Path(os.environ.get("MODELSHIP_CACHE", Path.home() / ".cache/modelship"))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Return once `condition` holds, asking every 20 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def triton_root() -> Path:
    return lay_out_triton()


def lay_out_triton() -> Path:
    """`/opt/tritonserver` as the image has it, laid out once in the cache; its key is all that it is made of."""
    libpython = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))
    assert libpython.exists(), f"Triton's backend embeds {libpython}: install it (Debian: apt-get install libpython3.11)"
    parts = [IMAGES / "triton/layout.sh", IMAGES / "triton/server.txt", IMAGES / "triton/backend.txt", BACKEND]
    key = hashlib.sha256(b"".join(part.read_bytes() for part in parts) + sys.version.encode()).hexdigest()[:16]
    laid_out = CACHE / f"tritonserver-{key}"
    if not laid_out.exists():
        building = CACHE / f"tritonserver-{key}.{os.getpid()}"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        subprocess.run(["bash", parts[0], building, BACKEND], check=True, env=environment)
        try:
            building.rename(laid_out)
        except OSError:  # another run was first
            shutil.rmtree(building)
    return laid_out


@dataclass
class Pod:
    """A serving pod's processes. Addresses are loopback."""

    root: Path
    triton_root: Path
    access: Json
    """`spec.access` of the ModelDeployment."""
    model: str = "churn"
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in ("http", "grpc", "metrics", "t_http", "t_metrics")}
    )
    gateway_run: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="modelship-gateway-")))
    gateway_settings: dict[str, str] = field(default_factory=dict)
    """Variables of the gateway that a test wants otherwise."""
    triton: subprocess.Popen[bytes] | None = None
    gateway: subprocess.Popen[bytes] | None = None

    def url(self, port: str = "http") -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    def address(self, port: str = "grpc") -> str:
        return f"127.0.0.1:{self.ports[port]}"

    @property
    def infer_path(self) -> str:
        return f"/v2/models/{self.model}/infer"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def gateway_log(self) -> str:
        return (self.root / "gateway.log").read_text(encoding="utf-8", errors="replace")

    def container(self, name: str) -> Json:
        """A container of the pod, as the operator asks for it."""
        spec = ModelDeploymentSpec.model_validate({"modelRef": {"training": self.model}, "access": self.access})
        digest = "sha256:" + "0" * 64
        artifact = ArtifactRef(uri=f"pvc://models/{digest.replace(':', '-')}", digest=digest)
        serving = Serving(Owner("ModelDeployment", "team-a", self.model, "uid"), spec, artifact)
        pod = pod_template(PodSettings("trainer", "triton", "gateway", "operator"), serving)["spec"]
        return next(entry for entry in [*pod["initContainers"], *pod["containers"]] if entry["name"] == name)

    def here(self, argument: str) -> str:
        """An argument of a container with this machine's ports and folder."""
        for there, port in (("18000", "t_http"), ("18002", "t_metrics")):
            argument = argument.replace(there, str(self.ports[port]))
        return re.sub("^(@|--model-repository=)/models", rf"\g<1>{self.models}", argument)

    @property
    def probe(self) -> list[str]:
        """Triton's liveness probe."""
        return [self.here(part) for part in self.container("triton")["livenessProbe"]["exec"]["command"]]

    def answers(self, url: str) -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.TransportError:
            return False

    def start_triton(self) -> None:
        """Start it with the operator's arguments, here; returns when the model is ready."""
        arguments = [self.here(argument) for argument in self.container("triton")["args"]]
        # Tests crash the backend, and Triton's exit then takes all of its timeout.
        arguments = [re.sub("^(--exit-timeout-secs)=.*", r"\1=2", argument) for argument in arguments]
        arguments.append(f"--backend-directory={self.triton_root}/backends")
        libraries = f"{self.triton_root}/lib:{sysconfig.get_config_var('LIBDIR')}"
        environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
        with (self.root / "triton.log").open("wb") as log:
            self.triton = subprocess.Popen(
                [self.triton_root / "bin/tritonserver", *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        wait_for(lambda: self.answers(f"{self.url('t_http')}/v2/health/ready") or self.triton_died(), "Triton is ready")

    def triton_died(self) -> bool:
        assert self.triton is not None
        if self.triton.poll() is not None:
            raise AssertionError((self.root / "triton.log").read_text(errors="replace")[-3000:])
        return False

    def gateway_environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **{entry["name"]: entry["value"] for entry in self.container("gateway")["env"]},
            **self.gateway_settings,
            "GATEWAY_ADDRESS": "127.0.0.1", "GATEWAY_RUN": str(self.gateway_run),
            "GATEWAY_CONF": str(self.root / "conf"),
            "GATEWAY_TEMPLATE": str(IMAGES / "gateway/nginx.conf.template"), "GATEWAY_LUA": str(IMAGES / "gateway/lua"),
            "GATEWAY_MODELS": str(self.models), "GATEWAY_MODEL": self.model,
            "GATEWAY_DRAIN_SECONDS": "0", "GATEWAY_HTTP_PORT": str(self.ports["http"]),
            "GATEWAY_GRPC_PORT": str(self.ports["grpc"]), "GATEWAY_METRICS_PORT": str(self.ports["metrics"]),
            "TRITON_HTTP": self.address("t_http"), "TRITON_METRICS": self.address("t_metrics"),
        }  # fmt: skip

    def start_gateway(self) -> None:
        self.gateway_run.chmod(0o755)  # run by root, nginx has workers of another user; pytest's folders are root's alone
        with (self.root / "gateway.log").open("ab") as log:
            self.gateway = subprocess.Popen(
                [IMAGES / "gateway/gateway"], stdout=log, stderr=subprocess.STDOUT, env=self.gateway_environment()
            )
        wait_for(lambda: self.answers(f"{self.url('metrics')}/healthz"), "the gateway answers")

    def drain(self) -> None:
        """What preStop runs."""
        subprocess.run([IMAGES / "gateway/gateway", "drain"], check=True, env=self.gateway_environment())

    def stub_pids(self) -> list[int]:
        """Processes of the backend that Triton started."""
        assert self.triton is not None
        children = Path(f"/proc/{self.triton.pid}/task").glob("*/children")
        return [int(pid) for file in children for pid in file.read_text().split()]

    def stop(self) -> None:
        """Gateway first, then Triton, as kubelet does; Triton itself then ends its backend and frees the shared memory."""
        for process in (self.gateway, self.triton):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(timeout=30)
        shutil.rmtree(self.gateway_run, ignore_errors=True)


def make_pod(
    root: Path,
    triton_root: Path,
    batching: Batching,
    optimization: Optimization,
    *,
    work: int = 0,
    patience: int = 20,
    **settings: str,
) -> Pod:
    """Artifact, init step, Triton, gateway: a pod's start. `work` makes each inference slow; `patience`: access.timeoutSeconds."""
    pod = Pod(root, triton_root, gateway_settings=settings, access={"maxBodyMebibytes": 1, "timeoutSeconds": patience})
    digest = write_artifact(root / "artifact", work)
    repository.publish(root / "artifact", digest, pod.model, pod.models, repository.Serving(batching, optimization))
    try:
        pod.start_triton()
        pod.start_gateway()
    except BaseException:
        pod.stop()
        raise
    return pod


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory, triton_root: Path) -> Iterator[Pod]:
    """A pod that the tests of a module share and leave as they found it."""
    made = make_pod(tmp_path_factory.mktemp("pod"), triton_root, Batching(), Optimization())
    yield made
    made.stop()


@pytest.fixture
def own_pod(tmp_path: Path, triton_root: Path) -> Iterator[Pod]:
    """A pod for a test that breaks it."""
    made = make_pod(tmp_path, triton_root, Batching(), Optimization())
    yield made
    made.stop()

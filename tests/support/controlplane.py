"""A real kube-apiserver with etcd on loopback: no kubelet, no controllers. For integration tests and benchmarks.

    with control_plane() as plane:
        plane.kubectl("apply", "-f", "crds/")

Everything lives in a temporary folder and two processes, which are gone at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
ADMIN = "admin"
_KUBECTL_CACHE = "kubectl-cache"
START_SECONDS = 90
STOP_SECONDS = 20
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True)
class ControlPlane:
    """A running API server."""

    url: str
    certificate: Path
    """CA of its certificate."""
    folder: Path
    token: str
    """Bearer token of a member of system:masters."""
    audit_log: Path | None
    """One JSON event per answered request."""
    binaries: Path
    etcd_pid: int
    apiserver_pid: int

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        """A client with the admin's token, or another."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(
            base_url=self.url, headers=headers, verify=_trust(self.certificate), timeout=30, trust_env=False, **options
        )

    def kubeconfig(self, token: str | None = None, user: str = ADMIN) -> Path:
        """A kubeconfig file for the admin, or for another token."""
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(yaml.safe_dump(_kubeconfig(self.url, self.certificate, token or self.token, user)))
        path.chmod(0o600)
        return path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the admin; the caller looks at the exit status."""
        cache = self.folder / _KUBECTL_CACHE
        command = [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig()), f"--cache-dir={cache}", *arguments]
        return subprocess.run(command, input=stdin, text=True, capture_output=True, check=False, timeout=120)

    def install_crds(self) -> None:
        """Apply `crds/` and wait until they serve."""
        for arguments in (
            ("apply", "--server-side", "-f", str(ROOT / "crds")),
            ("wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"),
        ):
            done = self.kubectl(*arguments)
            if done.returncode:
                raise RuntimeError(done.stderr)
        # It knows the server as it was before.
        shutil.rmtree(self.folder / _KUBECTL_CACHE)

    def audit_events(self) -> list[Json]:
        """All requests that were answered so far, oldest first."""
        assert self.audit_log is not None, "start the control plane with audit=True"
        return [json.loads(line) for line in self.audit_log.read_text().splitlines()]


@contextmanager
def control_plane(*, audit: bool = False, extra_flags: Sequence[str] = ()) -> Iterator[ControlPlane]:
    """Start etcd and kube-apiserver; yield when the API server is ready; stop both.

    Raises:
        RuntimeError: a binary lacks, or a process ends early; the message has the end of its log and says what to run.
    """
    binaries = binary_folder()
    folder = Path(tempfile.mkdtemp(prefix="modelship-control-plane-"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        etcd, etcd_url = _start_etcd(binaries, folder, started)
        apiserver, url = _start_apiserver(binaries, folder, etcd_url, started, audit=audit, extra_flags=extra_flags)
        plane = ControlPlane(
            url=url,
            certificate=folder / "certs/apiserver.crt",
            folder=folder,
            token=_token(folder),
            audit_log=folder / "audit.log" if audit else None,
            binaries=binaries,
            etcd_pid=etcd.pid,
            apiserver_pid=apiserver.pid,
        )
        _await(lambda: _ready(plane), apiserver, folder / "kube-apiserver.log")
        yield plane
    finally:
        for process in reversed(started):
            _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def binary_folder() -> Path:
    """Where kube-apiserver, etcd and kubectl are; builds them where they lack (minutes, once)."""
    found = subprocess.run(
        [ROOT / "tools/bin-path", "kube-apiserver", "etcd", "kubectl"], stdout=subprocess.PIPE, text=True, check=False
    )
    folder = Path(found.stdout.strip())
    if found.returncode or not all((folder / name).exists() for name in ("kube-apiserver", "etcd", "kubectl")):
        raise RuntimeError("kube-apiserver, etcd or kubectl lacks: run `tools/bin-path` and see what it says")
    return folder


# --- processes ----------------------------------------------------------------------------------------------------------------


def _start_etcd(binaries: Path, folder: Path, started: list[subprocess.Popen[bytes]]) -> tuple[subprocess.Popen[bytes], str]:
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = [
        binaries / "etcd",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        # Nothing here outlives the tests, and fsync on a shared disk would be what they measure.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    process = _start(command, folder / "etcd.log", started)
    _await(lambda: _healthy(client), process, folder / "etcd.log")
    return process, client


def _start_apiserver(
    binaries: Path,
    folder: Path,
    etcd_url: str,
    started: list[subprocess.Popen[bytes]],
    *,
    audit: bool,
    extra_flags: Sequence[str],
) -> tuple[subprocess.Popen[bytes], str]:
    (port,) = free_ports(1)
    key = folder / "service-account.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    tokens = folder / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f'{os.urandom(16).hex()},{ADMIN},{ADMIN},"system:masters"\n')
    command = [
        binaries / "kube-apiserver",
        f"--etcd-servers={etcd_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--service-account-issuer=https://modelship.test",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        # Pods and Jobs are made in namespaces whose default service account no controller makes.
        "--disable-admission-plugins=ServiceAccount",
        "--shutdown-delay-duration=0s",
        *(_audit_flags(folder) if audit else ()),
        *extra_flags,
    ]
    return _start(command, folder / "kube-apiserver.log", started), f"https://127.0.0.1:{port}"


def _audit_flags(folder: Path) -> list[str]:
    policy = folder / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=10000",
    ]


def _start(command: Sequence[str | Path], log: Path, started: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        process = subprocess.Popen([str(each) for each in command], stdout=output, stderr=subprocess.STDOUT, cwd=log.parent)
    started.append(process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            what = f"ended with {process.returncode}" if process.returncode is not None else f"is not ready after {START_SECONDS} s"
            raise RuntimeError(f"{log.stem} {what}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-20:]))
        time.sleep(0.05)


def _healthy(etcd_url: str) -> bool:
    try:
        return httpx.get(f"{etcd_url}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _ready(plane: ControlPlane) -> bool:
    if not plane.certificate.exists():
        return False
    try:
        with plane.client() as client:
            return client.get("/readyz").is_success and client.get("/api/v1/namespaces/default").is_success
    except httpx.HTTPError:
        return False


# --- small things -------------------------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _token(folder: Path) -> str:
    return (folder / "tokens.csv").read_text().split(",", 1)[0]


def _trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def _kubeconfig(url: str, certificate: Path, token: str, user: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(certificate)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": "default"}}],
    }

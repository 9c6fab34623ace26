"""What the end-to-end tests say to the kind cluster: kubectl, and waiting for what a status says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tools.localcluster.cluster import KUBECONFIG

ROOT = Path(__file__).resolve().parents[2]
Object = dict[str, Any]


class Kubectl:
    """kubectl in one namespace of the cluster; every failure carries kubectl's own words."""

    def __init__(self, namespace: str, binary: str) -> None:
        self.namespace, self.binary = namespace, binary

    def __call__(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        done = self.run(*args, stdin=stdin)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def run(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(*args), input=stdin, capture_output=True, text=True, check=False)

    def argv(self, *args: str) -> list[str]:
        return [self.binary, "--kubeconfig", str(KUBECONFIG), "--namespace", self.namespace, *args]

    def apply(self, *objects: Object) -> None:
        # JSON: kubectl reads the YAML text `y` as a boolean, PyYAML writes it for the string.
        self("apply", "-f", "-", stdin="\n---\n".join(json.dumps(item) for item in objects))

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, selector: str = "") -> list[Object]:
        items: list[Object] = json.loads(self("get", kind, "-l", selector, "-o", "json"))["items"]
        return items

    def wait(self, kind: str, name: str, accept: Callable[[Object], bool], *, seconds: float, what: str) -> Object:
        """The object once `accept` holds; fails with the whole story when it does not in time."""
        seen: Object = {}

        def look() -> bool:
            nonlocal seen
            done = self.run("get", kind, name, "-o", "json")
            seen = json.loads(done.stdout) if done.returncode == 0 else {}
            return bool(seen) and accept(seen)

        if not eventually(look, seconds):
            raise AssertionError(f"{kind}/{name} was not {what} in {seconds:.0f} s\n{self.story(kind, name)}")
        return seen

    def ready(self, kind: str, name: str, *, seconds: float = 300) -> Object:
        """Wait for Ready; a Stalled resource fails at once, with its sentence."""

        def accept(item: Object) -> bool:
            if condition(item, "Stalled").get("status") == "True":
                raise AssertionError(f"{kind}/{name} is Stalled: {condition(item, 'Stalled')}\n{self.story(kind, name)}")
            return condition(item, "Ready").get("status") == "True"

        return self.wait(kind, name, accept, seconds=seconds, what="Ready")

    def reason(self, kind: str, name: str, reason: str, *, seconds: float = 180) -> str:
        """Wait until a True condition has this reason; its message."""

        def accept(item: Object) -> bool:
            return any(c["reason"] == reason and c["status"] == "True" for c in conditions(item))

        found = self.wait(kind, name, accept, seconds=seconds, what=reason)
        return str(next(c["message"] for c in conditions(found) if c["reason"] == reason and c["status"] == "True"))

    def story(self, kind: str, name: str) -> str:
        """All that helps to understand a failure."""
        parts: list[tuple[str, ...]] = [
            ("describe", kind, name),
            ("get", "pods,jobs,pvc", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
        ]
        text = "\n".join(self(*part, check=False)[-4000:] for part in parts)
        for pod in json.loads(self("get", "pods", "-o", "json"))["items"]:
            log = self("logs", pod["metadata"]["name"], "--all-containers", "--tail=15", check=False)
            text += f"\n--- {pod['metadata']['name']}\n{log}"
        return text

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[int]:
        """A local port that leads to `target` (pod/x, svc/x)."""
        process = subprocess.Popen(self.argv("port-forward", target, f":{port}"), stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield int(line.split("127.0.0.1:")[1].split(" ")[0])
        finally:
            process.terminate()
            process.wait()


def eventually(look: Callable[[], bool], seconds: float, interval: float = 0.5) -> bool:
    """Whether `look` becomes true in time."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def conditions(item: Object) -> list[Object]:
    found: list[Object] = item.get("status", {}).get("conditions", [])
    return found


def condition(item: Object, kind: str) -> Object:
    return next((entry for entry in conditions(item) if entry["type"] == kind), {})


def example(folder: str, kind: str, **spec: Any) -> Object:
    """The example's resource of this kind, with top-level fields of its spec replaced.

    Its pods are promised little CPU, so that these tests also run on a node that other work has filled.
    """
    spec["compute"] = {"cpu": "50m"} | spec.get("compute", {})
    for path in sorted((ROOT / "examples" / folder).glob("*.yaml")):
        for item in yaml.safe_load_all(path.read_text()):
            if item["kind"] == kind:
                return {**item, "spec": {**item["spec"], **spec}}
    raise AssertionError(f"examples/{folder} has no {kind}")


def named(item: Object, name: str) -> Object:
    return {**item, "metadata": {**item["metadata"], "name": name}}


def store_claim(name: str = "models") -> Object:
    claim: Object = yaml.safe_load((ROOT / "examples/tabular/store.yaml").read_text())
    return named(claim, name)


def modelship(*args: str) -> str:
    """The `modelship` command against the cluster, as a user runs it; its output."""
    command = [str(Path(sys.executable).with_name("modelship")), *args]
    environment = {**os.environ, "KUBECONFIG": str(KUBECONFIG)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, f"modelship {' '.join(args)}: {done.stderr}"
    return done.stdout


def images() -> dict[str, str]:
    """Names of the images that `make images` built: OPERATOR, TRAINER, TRITON, GATEWAY."""
    done = subprocess.run([ROOT / "tools/images", "--print"], check=True, capture_output=True, text=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def helper_pod(name: str, image: str, script: str, *, claim: str | None = None, env: dict[str, str] | None = None) -> Object:
    """A pod that passes the restricted standard and runs a Python script, with the claim at /store."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"test": name}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-c", script],
                    "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "store", "mountPath": "/store"}] if claim else [],
                }
            ],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": claim}}] if claim else [],
        },
    }


def run_pod(kubectl: Kubectl, pod: Object, *, seconds: float = 120) -> str:
    """Run a helper pod to its end; its log."""
    name = pod["metadata"]["name"]
    kubectl.apply(pod)
    ended = kubectl.wait(
        "pod", name, lambda item: item["status"].get("phase") in ("Succeeded", "Failed"), seconds=seconds, what="finished"
    )
    log = kubectl("logs", name)
    kubectl("delete", "pod", name, "--wait=false")
    assert ended["status"]["phase"] == "Succeeded", log
    return log

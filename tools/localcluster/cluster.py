"""The local cluster: a kind cluster that is made, found alive, or made again when it is found dead."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import engine as engines
from . import gotools, node_image
from .cache import REPO, cache_dir, lock
from .console import Failure, say
from .engine import Engine

NAME = os.environ.get("MODELSHIP_CLUSTER", "modelship")
KUBECONFIG = REPO / ".cache" / ("kubeconfig" if NAME == "modelship" else f"kubeconfig-{NAME}")
_LOGS = REPO / ".cache" / "kind-logs"
_CAP_SYS_RESOURCE = 24
_PATIENCE = 90.0  # seconds that a busy machine's cluster gets to answer before it counts as dead


def up(engine: Engine) -> None:
    """Leave a cluster that answers, and its kubeconfig in `.cache/kubeconfig` as well as where kind puts it."""
    gotools.ensure(("kind", "kubectl", "helm"))
    with lock(f"cluster-{NAME}"):
        if NAME in _kind(engine, "get", "clusters").split():
            if _is_alive(engine):
                _tell_if_older(engine)
                return
            say(f"cluster {NAME} does not answer (was the machine restarted?): making it again")
            _delete(engine)
        _create(engine, node_image.ensure(engine))


def down(engine: Engine, everything: bool) -> None:
    """Remove the cluster; with `everything`, also each image and cached file that the tools made."""
    with lock(f"cluster-{NAME}"):
        gotools.ensure(("kind",))
        _delete(engine)
        if not _kind(engine, "get", "clusters").split():
            engine.succeeds("network", "rm", "kind")
        KUBECONFIG.unlink(missing_ok=True)
        shutil.rmtree(_LOGS, ignore_errors=True)
    if everything:
        ours = engine.output("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
        for image in ours:
            if image.startswith(node_image.PREFIX):
                engine.succeeds("image", "rm", "--force", image)
        engine.succeeds("image", "prune", "--force")
        shutil.rmtree(REPO / ".cache", ignore_errors=True)
        shutil.rmtree(cache_dir(), ignore_errors=True)


def answers(patience: float) -> bool:
    """Whether the API server behind `.cache/kubeconfig` says within `patience` seconds that it is ready."""
    command = [str(gotools.bin_dir() / "kubectl"), "--kubeconfig", str(KUBECONFIG), "get", "--raw", "/readyz"]
    deadline = time.monotonic() + patience
    while True:
        done = subprocess.run([*command, "--request-timeout=10s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done.returncode == 0
        time.sleep(1)


def configuration(cgroup_v2: bool, may_lower_oom_score: bool) -> str:
    """The configuration of kind for this machine; plain where the machine is plain."""
    lines = ["kind: Cluster", "apiVersion: kind.x-k8s.io/v1alpha4", "nodes:", "- role: control-plane"]
    containerd = []
    if not cgroup_v2:  # systemd as a cgroup driver needs v2, which the kubelet asks for unless told otherwise
        lines += ["kubeadmConfigPatches:", "- |", "  kind: KubeletConfiguration"]
        lines += ["  cgroupDriver: cgroupfs", "  failCgroupV1: false"]
        containerd += [
            '  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]',
            "    SystemdCgroup = false",
        ]
    if not may_lower_oom_score:  # without CAP_SYS_RESOURCE no container starts with the score that Kubernetes asks for
        containerd += ['  [plugins."io.containerd.grpc.v1.cri"]', "    restrict_oom_score_adj = true"]
    return "\n".join([*lines, *(["containerdConfigPatches:", "- |", *containerd] if containerd else []), ""])


def write_kubeconfig(engine: Engine) -> None:
    """Write `.cache/kubeconfig`, for this cluster alone, which the tests use: never another cluster of the user's."""
    text = _kind(engine, "get", "kubeconfig", "--name", NAME)
    KUBECONFIG.parent.mkdir(exist_ok=True)
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(text)


def _create(engine: Engine, image: str) -> None:
    say(f"creating kind cluster {NAME} with {engine.name} (20 s)")
    settings = configuration(Path("/sys/fs/cgroup/cgroup.controllers").exists(), _has_capability(_CAP_SYS_RESOURCE))
    command = [str(gotools.bin_dir() / "kind"), "create", "cluster", "--name", NAME, "--config", "-", "--retain"]
    command += ["--wait", "120s", "--quiet", *(["--image", image] if image else [])]
    done = subprocess.run(command, input=settings, text=True, env=engine.environment)
    if done.returncode:
        raise Failure(_explain(engine) + ("" if image else "; MODELSHIP_REGISTRY=no builds a node image instead of pulling kind's"))
    write_kubeconfig(engine)
    for namespace, workload in [
        ("kube-system", "deployment/coredns"),
        ("kube-system", "daemonset/kube-proxy"),
        ("kube-system", "daemonset/kube-router" if image else "daemonset/kindnet"),
        ("local-path-storage", "deployment/local-path-provisioner"),
    ]:
        _wait_for(engine, namespace, workload)


def _wait_for(engine: Engine, namespace: str, workload: str) -> None:
    command = [str(gotools.bin_dir() / "kubectl"), "--kubeconfig", str(KUBECONFIG), "--namespace", namespace]
    done = subprocess.run([*command, "rollout", "status", workload, "--timeout=120s"], stdout=subprocess.DEVNULL)
    if done.returncode:
        raise Failure(f"{workload} in {namespace} does not become ready; {_explain(engine)}")


def _explain(engine: Engine) -> str:
    """Keep the nodes' logs and say where; the cluster stays, to be looked at, and is made again by the next run."""
    shutil.rmtree(_LOGS, ignore_errors=True)
    subprocess.run(
        [str(gotools.bin_dir() / "kind"), "export", "logs", str(_LOGS), "--name", NAME, "--quiet"],
        env=engine.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return f"the cluster did not start: read {_LOGS}/*/kubelet.log, then `make cluster-clean cluster`"


def _is_alive(engine: Engine) -> bool:
    if not engine.output("ps", "--quiet", "--filter", f"name=^{NAME}-control-plane$"):
        return False
    try:
        write_kubeconfig(engine)
    except Failure:  # kind reads it from inside the node
        return False
    return answers(_PATIENCE)


def _tell_if_older(engine: Engine) -> None:
    running = engine.output("inspect", "--format", "{{.Config.Image}}", f"{NAME}-control-plane")
    pinned = node_image.name_of_built()
    if running.startswith(node_image.PREFIX) and running != pinned:
        say("it runs an older node image than the pinned one: `make cluster-clean cluster` renews it (its data is lost)")


def _delete(engine: Engine) -> None:
    _kind(engine, "delete", "cluster", "--name", NAME)
    label = f"label=io.x-k8s.kind.cluster={NAME}"
    for container in engine.output("ps", "--all", "--quiet", "--filter", label).split():
        engine.run("rm", "--force", "--volumes", container, stdout=subprocess.DEVNULL)


def _kind(engine: Engine, *arguments: str) -> str:
    command = [str(gotools.bin_dir() / "kind"), *arguments]
    done = subprocess.run(command, env=engine.environment, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"`kind {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1]
    return bool(int(effective, 16) >> number & 1)


def main() -> None:
    """Run `tools/cluster`."""
    parser = argparse.ArgumentParser(prog="tools/cluster", description=__doc__)
    parser.add_argument("verb", choices=["up", "down"])
    parser.add_argument("--all", action="store_true", help="with down: also the images and caches that the tools made")
    arguments = parser.parse_args()
    started = time.monotonic()
    engine = engines.find()
    if arguments.verb == "down":
        down(engine, arguments.all)
        print(f"cluster {NAME} is gone")
        return
    up(engine)
    print(f"cluster {NAME} answers ({time.monotonic() - started:.0f} s): kubectl --context kind-{NAME} get nodes")
    print("kubectl, helm and a kubeconfig for this cluster alone:")
    print(f"  export PATH={gotools.bin_dir()}:$PATH KUBECONFIG={KUBECONFIG}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")

"""The local cluster: a kind cluster that is made, found alive, started, or made again where it cannot come back."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import base_image, gotools, node_image
from . import engine as engines
from .cache import REPO, lock, remove_cache
from .console import Failure, say
from .engine import Engine

NAME = os.environ.get("MODELSHIP_CLUSTER", "modelship")
NODE = f"{NAME}-control-plane"
KUBECONFIG = REPO / ".cache" / ("kubeconfig" if NAME == "modelship" else f"kubeconfig-{NAME}")
"""For this cluster alone: all that works on the cluster names this file, so that it never works on another one of the user's."""
_LOGS = REPO / ".cache" / "kind-logs"
_RUNNING = ("running", "paused")  # the engine's words for a container whose main process it takes for alive
_CAP_SYS_RESOURCE = 24
_PATIENCE = 90.0  # seconds that a busy machine's cluster gets to answer


def up(engine: Engine) -> None:
    """Leave a cluster that answers, and its kubeconfig in `.cache/kubeconfig` as well as where kind puts it.

    Raises: Failure when it runs but does not answer: it may hold data, so only its user may give it up. In CI (`CI=true`) it is
    nobody's: what an earlier run left there is made again.
    """
    gotools.ensure(("kind", "kubectl", "helm"))
    with lock(f"cluster-{NAME}"):
        status, process = _node_state(engine)
        step = next_step(engine.name, status, is_alive(process))
        if step in ("ask", "start"):
            if step == "start":
                say(f"cluster {NAME} is stopped: starting it")
                engine.run("start", NODE, check=False, stdout=subprocess.DEVNULL)
            if _answers(engine, _PATIENCE):
                _tell_if_older(engine)
                return
            silent = f"cluster {NAME} is there, but its API server has not answered for {_PATIENCE:.0f} s"
            if os.environ.get("CI") != "true":
                raise Failure(
                    f"{silent}: repeat this when the machine is less busy, or run `make cluster-clean cluster`, which makes it "
                    "again (all data in it will be lost)"
                )
            say(f"{silent}: making it again, as this is CI")
        if step == "replace":
            what = "has lost its main process" if status in _RUNNING else "is stopped"
            say(f"cluster {NAME} {what}, and podman cannot bring a kind node back: making it again, its data is lost")
        _delete(engine)
        _create(engine, node_image.ensure(engine))


def next_step(engine: str, status: str, process_lives: bool) -> str:
    """`create` where there is no node, `ask` one that runs, `start` one that is stopped, `replace` one that cannot come back.

    `status` is the engine's word for the node's container. Podman has no daemon that would notice that the main process died;
    Docker has one, maybe in a machine of its own, whose processes are not to be seen here.
    """
    if not status:
        return "create"
    if status in _RUNNING:
        return "ask" if process_lives or engine == "docker" else "replace"
    return "start" if engine == "docker" else "replace"


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs; a dead one that nobody has waited for does not."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    return re.search(r"^State:\s+[ZX]", status, re.M) is None


def down(engine: Engine) -> None:
    """Remove the cluster, its kubeconfig, and kind's network where nothing else uses it."""
    with lock(f"cluster-{NAME}"):
        _delete(engine)
        if not engine.output("ps", "--all", "--quiet", "--filter", "network=kind"):
            engine.succeeds("network", "rm", "kind")
        KUBECONFIG.unlink(missing_ok=True)
        shutil.rmtree(_LOGS, ignore_errors=True)


def remove_images(engine: Engine) -> None:
    """Remove each image that the tools made; one that was pulled stays."""
    for image in engine.output("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        if image.startswith(node_image.PREFIX):
            engine.succeeds("image", "rm", "--force", image)
    engine.prune()
    if base_image.is_bootstrapped(engine):
        engine.succeeds("image", "rm", base_image.NAME)


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
    """Write `.cache/kubeconfig`, as the node has it: another clone may have made the cluster again."""
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
    """Keep the nodes' logs and say where; the cluster stays, to be looked at."""
    shutil.rmtree(_LOGS, ignore_errors=True)
    subprocess.run(
        [str(gotools.bin_dir() / "kind"), "export", "logs", str(_LOGS), "--name", NAME, "--quiet"],
        env=engine.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return f"the cluster did not start: read {_LOGS}/*/kubelet.log, then `make cluster-clean cluster`"


def _node_state(engine: Engine) -> tuple[str, int]:
    """The node's container: the engine's word for its state, empty where there is none, and its main process."""
    if not engine.output("ps", "--all", "--quiet", "--filter", f"name=^{NODE}$"):
        return "", 0
    status, process = engine.output("inspect", "--format", "{{.State.Status}} {{.State.Pid}}", NODE).split()
    return status, int(process)


def _answers(engine: Engine, patience: float) -> bool:
    """Whether the API server says within `patience` seconds that it is ready; `.cache/kubeconfig` is its when it does."""
    command = [str(gotools.bin_dir() / "kubectl"), "--kubeconfig", str(KUBECONFIG), "get", "--raw", "/readyz"]
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(Failure):  # kind reads the kubeconfig from inside the node, which may only be starting
            write_kubeconfig(engine)
            done = subprocess.run([*command, "--request-timeout=10s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if done.returncode == 0:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(1)


def _tell_if_older(engine: Engine) -> None:
    running = engine.output("inspect", "--format", "{{.Config.Image}}", NODE)
    pinned = node_image.name_of_built()
    if running.startswith(node_image.PREFIX) and running != pinned:
        say("it runs an older node image than the pinned one: `make cluster-clean cluster` renews it (its data is lost)")


def _delete(engine: Engine) -> None:
    if (gotools.bin_dir() / "kind").exists():  # not built for this alone: it only tidies the user's own kubeconfig as well
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


def _down(everything: bool) -> None:
    try:
        engine = engines.find()
        down(engine)
        print(f"cluster {NAME} is gone")
        if everything:
            remove_images(engine)
    except engines.NoEngine as failure:
        if not everything:
            raise
        say(f"{failure}; clusters and images, if there are any, stay")
    if everything:
        shutil.rmtree(REPO / ".cache", ignore_errors=True)
        remove_cache()


def main() -> None:
    """Run `tools/cluster`."""
    parser = argparse.ArgumentParser(prog="tools/cluster", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "kubeconfig"], help="kubeconfig prints the path of the cluster's")
    parser.add_argument("--all", action="store_true", help="with down: also the images and caches that the tools made")
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.verb == "kubeconfig":
        if not KUBECONFIG.exists():
            raise Failure(f"this checkout knows no cluster {NAME}: run `make cluster`")
        print(KUBECONFIG)
        return
    if arguments.verb == "down":
        _down(arguments.all)
        return
    up(engines.find())
    print(f"cluster {NAME} answers ({time.monotonic() - started:.0f} s): kubectl --context kind-{NAME} get nodes")
    print("kubectl, helm and a kubeconfig for this cluster alone:")
    print(f"  export PATH={gotools.bin_dir()}:$PATH KUBECONFIG={KUBECONFIG}")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")

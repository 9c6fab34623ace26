"""`modelship upload`: put a file on a claim, where `spec.data.source: pvc://claim/path` finds it.

A pod that may do nothing else mounts the claim and takes the file on its standard input; what arrived is checked against the file's
SHA-256 before it gets its name, so a half-written file is never seen.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

from kubernetes import stream
from kubernetes.client import ApiException, CoreV1Api
from urllib3.exceptions import HTTPError

from modelship_operator.cli.claim_pod import ROOT, claim_pod, operator_image, running, wait_for
from modelship_operator.cli.client import Cluster, CommandError, said

_TARGET = re.compile(r"^pvc://(?P<claim>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)/(?P<path>[^/].*)$")
_BLOCK = 256 * 1024
_HOUR = 3600
_RECEIVE = """
import hashlib, os, sys
target, size, digest, replace = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "replace"
if os.path.exists(target) and not replace:
    sys.exit("exists already; --force replaces it")
os.makedirs(os.path.dirname(target), exist_ok=True)
part, seen, left = f"{target}.part-{os.getpid()}", hashlib.sha256(), size
print("ready", flush=True)
with open(part, "wb") as file:
    while left:
        block = sys.stdin.buffer.read1(min(left, 1 << 20))
        if not block:
            break
        file.write(block)
        seen.update(block)
        left -= len(block)
    file.flush()
    os.fsync(file.fileno())
if left or seen.hexdigest() != digest:
    os.unlink(part)
    sys.exit("the file did not arrive whole; try again")
os.replace(part, target)
print("stored", flush=True)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `modelship upload`."""
    parser.add_argument("file", type=Path, help="the file to put there")
    parser.add_argument("target", help="pvc://claim/path, as in spec.data.source")
    parser.add_argument("--namespace", "-n", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--image", help="image with Python for the pod that writes to the claim; default: the operator's")


def run(options: argparse.Namespace) -> int:
    """Send the file; the exit status, with the reason on stderr when it is not 0."""
    try:
        claim, path = parse_target(options.target)
        size, digest = measure(options.file)
        cluster = Cluster(options.context, options.namespace)
        image = options.image or operator_image(cluster)
        if image is None:
            raise CommandError("cannot see the operator's image; give one with Python: --image IMAGE")
        command = receiver(claim, path, size, digest, replace=options.force)
        send(cluster, options.file, receiver_pod(image, claim, command), options.target)
    except CommandError as error:
        print(f"modelship upload: {error}", file=sys.stderr)
        return 1
    except HTTPError:
        print("modelship upload: the API server does not answer", file=sys.stderr)
        return 1
    print(f"{options.target}: {size:,} bytes, sha256:{digest}")
    return 0


def parse_target(target: str) -> tuple[str, str]:
    """Claim, and path in it.

    Raises:
        CommandError: it is not `pvc://claim/path`, or leaves the claim.
    """
    match = _TARGET.match(target)
    if match is None or ".." in Path(match["path"]).parts or target.endswith("/"):
        raise CommandError(f"{target}: must be pvc://claim/path, with the file's name at its end and without '..'")
    return match["claim"], match["path"]


def measure(file: Path) -> tuple[int, str]:
    """Size in bytes, and hex SHA-256.

    Raises:
        CommandError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return file.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error


def receiver(claim: str, path: str, size: int, digest: str, *, replace: bool) -> list[str]:
    """The pod's command: takes `size` bytes on its standard input, and gives them their name if they are the right ones."""
    return ["python3", "-c", _RECEIVE, f"{ROOT}/{claim}/{path}", str(size), digest, "replace" if replace else "keep"]


def receiver_pod(image: str, claim: str, command: list[str]) -> dict[str, Any]:
    """The pod, with a standard input that one client may use once."""
    pod = claim_pod("modelship-upload", image, claim, command, read_only=False, deadline=_HOUR)
    pod["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
    return pod


def send(cluster: Cluster, file: Path, pod: dict[str, Any], target: str) -> None:
    """Run the pod and stream the file into it, with progress on a terminal.

    Raises:
        CommandError: the pod did not start, or did not store the file; in its own words.
    """
    core, name = cluster.api(CoreV1Api), pod["metadata"]["name"]
    with running(core, cluster.namespace, pod):
        phase, why = wait_for(core, cluster.namespace, name, {"Running", "Succeeded", "Failed"})
        if phase == "Running":
            _stream(core, cluster.namespace, name, file)
            phase, why = wait_for(core, cluster.namespace, name, {"Succeeded", "Failed"})
        if phase != "Succeeded":
            log = core.read_namespaced_pod_log(name, cluster.namespace).strip().splitlines() if phase == "Failed" else []
            raise CommandError(f"{target}: {log[-1] if log else why or 'the pod that takes the file did not start in time'}")


def _stream(core: Any, namespace: str, name: str, file: Path) -> None:
    try:
        attached = stream.stream(
            core.connect_get_namespaced_pod_attach,
            name,
            namespace,
            stdin=True,
            stdout=True,
            stderr=True,
            _preload_content=False,
            binary=True,
        )
    except ApiException as error:
        if error.status == 0:  # the pod ended before we came: its log says why
            return
        raise CommandError(f"attaching to pod {name} was refused: {said(error)}") from error
    total, sent, shown = max(1, file.stat().st_size), 0, 0.0
    with file.open("rb") as opened:
        while (block := opened.read(_BLOCK)) and attached.is_open():
            attached.write_stdin(block)
            sent += len(block)
            if sys.stderr.isatty() and (now := time.monotonic()) - shown > 0.5:
                shown = now
                print(f"\r{file}: {sent / total:4.0%}", end="", file=sys.stderr, flush=True)
    while attached.is_open():
        attached.update(timeout=1)
    attached.close()

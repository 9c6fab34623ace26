"""`modelship upload`: put a file on a claim, where `spec.data.source: pvc://claim/path` finds it.

A pod that may do nothing else mounts the claim and takes the file on its standard input; what arrived is checked against the file's
SHA-256 before it gets its name, so a half-written file is never seen.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import websocket
from kubernetes.client import CoreV1Api
from urllib3.exceptions import HTTPError

from modelship_operator.api.pod import Pod
from modelship_operator.cli import claim_pod, kubeconfig
from modelship_operator.cli.claim_pod import ROOT
from modelship_operator.cli.client import Cluster, CommandError, Object

_TARGET = re.compile(r"^pvc://(?P<claim>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)/(?P<path>[^/].*)$")
_BLOCK = 256 * 1024
_HOUR = 3600
_STDIN, _STDOUT = b"\x00", b"\x01"
"""Channels of an attached pod: the first byte of each message."""
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
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    kubeconfig.add_arguments(parser)
    claim_pod.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Send the file; the exit status, with the reason on stderr when it is not 0."""
    try:
        claim, path = parse_target(options.target)
        asked = claim_pod.asked_of_pods(options.pod)
        size, digest = measure(options.file)
        cluster = Cluster.of(options)
        claim_pod.check_claim(cluster, claim)
        command = receiver(claim, path, size, digest, replace=options.force)
        pod = receiver_pod(claim_pod.image_for(cluster, options), claim, command, asked)
        send(cluster, options.file, pod, options.target)
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


def receiver_pod(image: str, claim: str, command: list[str], asked: Pod | None = None) -> Object:
    """The pod, with a standard input that one client may use once."""
    pod = claim_pod.claim_pod("modelship-upload", image, claim, command, read_only=False, asked=asked, deadline=_HOUR)
    pod["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
    return pod


def send(cluster: Cluster, file: Path, pod: Object, target: str) -> None:
    """Run the pod and stream the file into it, and tell how far it is. What is stored is stored: its end is not waited for.

    Raises:
        CommandError: the pod did not start, or did not store the file; in its own words.
    """
    core, name, broken = cluster.api(CoreV1Api), pod["metadata"]["name"], ""
    with claim_pod.running(core, cluster.namespace, pod):
        phase, why = claim_pod.wait_for(core, cluster.namespace, name, {"Running", "Succeeded", "Failed"})
        if phase == "Running":
            try:
                if _stream(cluster, name, file):
                    return
            except CommandError as error:  # the pod may have ended before we came: its log says why
                broken = str(error)
            phase, why = claim_pod.wait_for(core, cluster.namespace, name, {"Succeeded", "Failed"})
        if phase == "Succeeded":
            return
        log = claim_pod.last_words(core, cluster.namespace, name) if phase == "Failed" else ""
        raise CommandError(f"{target}: {log or broken or why or 'the pod that takes the file did not start in time'}")


def _stream(cluster: Cluster, pod: str, file: Path) -> bool:
    """Whether the pod said that it has stored the file.

    Raises:
        CommandError: the API server refused it, or the connection broke.
    """
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/attach"
    channels = [(name, "true") for name in ("stdin", "stdout", "stderr")]
    attached = cluster.websocket(path, [("container", "claim"), *channels])
    told = _Progress(file)
    try:
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                attached.send_binary(_STDIN + block)
                told.sent(len(block))
        return _says_stored(attached)
    except (websocket.WebSocketException, OSError) as error:
        raise CommandError(f"the connection to pod {pod} broke: {error}") from error
    finally:
        told.done()
        with contextlib.suppress(websocket.WebSocketException, OSError):
            attached.close(timeout=0)


def _says_stored(attached: Any) -> bool:
    """Whether standard output ends in `stored`, once it ends."""
    output = b""
    while True:
        code, frame = attached.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            return False
        if frame[:1] == _STDOUT:
            output += frame[1:]
        if output.split()[-1:] == [b"stored"]:
            return True


class _Progress:
    """Tells how much was sent: in place on a terminal, else a line every ten seconds."""

    def __init__(self, file: Path) -> None:
        self._name, self._total = file.name, max(1, file.stat().st_size)
        self._sent, self._in_place = 0, sys.stderr.isatty()
        self._next = time.monotonic() + (0.5 if self._in_place else 10)

    def sent(self, count: int) -> None:
        """So many bytes more."""
        self._sent += count
        if (now := time.monotonic()) < self._next:
            return
        self._next = now + (0.5 if self._in_place else 10)
        line = f"{self._name}: {self._sent / self._total:4.0%}"
        print(f"\r{line}" if self._in_place else line, end="" if self._in_place else "\n", file=sys.stderr, flush=True)

    def done(self) -> None:
        """Clear the line."""
        if self._in_place:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

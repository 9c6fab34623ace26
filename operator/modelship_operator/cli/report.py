"""`modelship report`: bring an evaluation's HTML report from its store, and check that it is the one that was judged.

The report lies on a claim, which only a pod can read. So a pod that may do nothing else mounts the claim read-only and prints the
file (gzip, base64) to its log; it is deleted whatever happens. No exec, no rights beyond creating a pod and reading its log.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import gzip
import hashlib
import io
import sys
from pathlib import Path

from kubernetes.client import CoreV1Api
from urllib3.exceptions import HTTPError

from modelship_operator.api.pod import Pod
from modelship_operator.cli import kubeconfig
from modelship_operator.cli.claim_pod import ROOT, asked_of_pods, check_claim, claim_pod, image_for, last_words, running, wait_for
from modelship_operator.cli.claim_pod import add_arguments as add_pod_arguments
from modelship_operator.cli.client import Cluster, CommandError, Object, standing

_MAX_REPORT = 256 * 1024 * 1024
"""Bytes that a report may unpack to: a claim is writable by others than us."""
_PRINT = """
import base64, gzip, sys
try:
    data = open(sys.argv[1], "rb").read()
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
print(base64.encodebytes(gzip.compress(data)).decode())
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `modelship report`."""
    parser.add_argument("name", help="the ModelEvaluation")
    parser.add_argument("--output", "-o", type=Path, help="file to write; default: <name>.html; - for standard output")
    kubeconfig.add_arguments(parser)
    add_pod_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Write the report; the exit status, with the reason on stderr when it is not 0."""
    try:
        cluster = Cluster.of(options)
        evaluation = cluster.resource("modelevaluations", "ModelEvaluation", options.name)
        claim, path, digest = report_of(evaluation)
        asked = asked_of_pods(options.pod) or pod_of(evaluation)
        check_claim(cluster, claim)
        pod = reader_pod(evaluation, image_for(cluster, options), claim, path, asked)
        html = unpack(read_from_claim(cluster, pod), digest)
    except CommandError as error:
        print(f"modelship report: {error}", file=sys.stderr)
        return 1
    except HTTPError:
        print("modelship report: the API server does not answer", file=sys.stderr)
        return 1
    write(html, options.output or Path(f"{options.name}.html"), digest)
    return 0


def write(html: bytes, output: Path, digest: str) -> None:
    """To the file, or standard output."""
    if str(output) == "-":
        sys.stdout.buffer.write(html)
        return
    output.write_bytes(html)
    print(f"{output}: {len(html):,} bytes, {digest} as judged")


def report_of(evaluation: Object) -> tuple[str, str, str]:
    """Claim, path in it, and digest of the report.

    Raises:
        CommandError: there is none; says how the evaluation stands.
    """
    report = evaluation.get("status", {}).get("report")
    if not report:
        raise CommandError(f"{evaluation['metadata']['name']} has no report. {standing(evaluation)}")
    scheme, _, rest = report["uri"].partition("://")
    if scheme != "pvc":
        raise CommandError(f"the report is at {report['uri']}: fetch it from there")
    claim, _, path = rest.partition("/")
    return claim, path, report["digest"]


def unpack(log: str, digest: str) -> bytes:
    """The report in the pod's log.

    Raises:
        CommandError: it is not whole, or not the one that the evaluation published.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(base64.b64decode(log))) as packed:
            html = packed.read(_MAX_REPORT)
        if not html:
            raise EOFError
    except (binascii.Error, OSError, EOFError, ValueError) as error:
        raise CommandError("the report did not arrive whole: the node may have rotated the pod's log; try again") from error
    if (actual := f"sha256:{hashlib.sha256(html).hexdigest()}") != digest:
        raise CommandError(f"the report is {actual}, judged was {digest}: someone changed it in the store")
    return html


# --- the pod ------------------------------------------------------------------------------------------------------------------


def pod_of(evaluation: Object) -> Pod | None:
    """What the evaluation's own pods were asked to be: the cluster's policies are the same for this one."""
    asked = (evaluation.get("spec", {}).get("compute") or {}).get("pod")
    return Pod.model_validate(asked) if asked else None


def reader_pod(evaluation: Object, image: str, claim: str, path: str, asked: Pod | None = None) -> Object:
    """A pod that prints `path` of `claim` and ends; the evaluation owns it."""
    metadata = evaluation["metadata"]
    command = ["python3", "-c", _PRINT, f"{ROOT}/{claim}/{path}"]
    pod = claim_pod(f"{metadata['name']}-report", image, claim, command, read_only=True, asked=asked)
    owner = {key: evaluation[key] for key in ("apiVersion", "kind")} | {key: metadata[key] for key in ("name", "uid")}
    pod["metadata"]["ownerReferences"] = [owner]
    return pod


def read_from_claim(cluster: Cluster, pod: Object) -> str:
    """The log of `pod`, run to its end and deleted.

    Raises:
        CommandError: it may not be made, did not end in time, or failed; says why.
    """
    core, name = cluster.api(CoreV1Api), pod["metadata"]["name"]
    with running(core, cluster.namespace, pod):
        phase, why = wait_for(core, cluster.namespace, name, {"Succeeded", "Failed"})
        if phase == "Succeeded":
            return str(core.read_namespaced_pod_log(name, cluster.namespace))
        log = last_words(core, cluster.namespace, name) if phase == "Failed" else ""
        raise CommandError(f"pod {name} could not read the report: {log or why or 'it did not start in time'}")

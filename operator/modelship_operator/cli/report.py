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

from kubernetes.client import ApiException, BatchV1Api, CoreV1Api
from urllib3.exceptions import HTTPError

from modelship_operator.cli.claim_pod import ROOT, claim_pod, operator_image, running, wait_for
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
    parser.add_argument("--namespace", "-n", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")
    parser.add_argument("--output", "-o", type=Path, help="file to write; default: <name>.html; - for standard output")
    parser.add_argument("--image", help="image with Python for the pod that reads the claim; default: the operator's")


def run(options: argparse.Namespace) -> int:
    """Write the report; the exit status, with the reason on stderr when it is not 0."""
    try:
        cluster = Cluster(options.context, options.namespace)
        evaluation = cluster.resource("modelevaluations", "ModelEvaluation", options.name)
        claim, path, digest = report_of(evaluation)
        image = options.image or image_for(cluster, options.name)
        html = unpack(read_from_claim(cluster, reader_pod(evaluation, image, claim, path)), digest)
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


def reader_pod(evaluation: Object, image: str, claim: str, path: str) -> Object:
    """A pod that prints `path` of `claim` and ends; the evaluation owns it."""
    metadata = evaluation["metadata"]
    pod = claim_pod(f"{metadata['name']}-report", image, claim, ["python3", "-c", _PRINT, f"{ROOT}/{claim}/{path}"], read_only=True)
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
        log = core.read_namespaced_pod_log(name, cluster.namespace).strip() if phase == "Failed" else ""
        raise CommandError(f"pod {name} could not read the report: {log or why or 'it did not start in time'}")


def image_for(cluster: Cluster, evaluation: str) -> str:
    """An image with Python that the cluster already has: the operator's, else that of the evaluation's own pods.

    Raises:
        CommandError: neither can be seen.
    """
    if image := operator_image(cluster):
        return image
    try:
        job = cluster.api(BatchV1Api).read_namespaced_job(f"{evaluation}-score", cluster.namespace)
        return str(job.spec.template.spec.containers[0].image)
    except ApiException as error:
        raise CommandError("cannot see an image to read the report with; give one with Python: --image IMAGE") from error

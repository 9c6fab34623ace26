"""The report that arrives is the one that was judged, or the command says why not."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelship_operator.cli.client import CommandError
from modelship_operator.cli.report import reader_pod, report_of, unpack

pytestmark = pytest.mark.unit

HTML = ("<html>roc_auc 0.861±0.012" + "x" * 5000 + "</html>").encode()
DIGEST = f"sha256:{hashlib.sha256(HTML).hexdigest()}"


def evaluation(**status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelship.dev/v1alpha1",
        "kind": "ModelEvaluation",
        "metadata": {"name": "churn-cv", "namespace": "default", "uid": "u"},
        "status": status,
    }


def printed(data: bytes) -> str:
    return base64.encodebytes(gzip.compress(data)).decode()


def test_the_pods_own_script_prints_what_is_unpacked(tmp_path: Path) -> None:
    """The very command of the pod, on this machine."""
    file = tmp_path / "report.html"
    file.write_bytes(HTML)
    container = reader_pod(evaluation(), "i", "models", "evaluations/u/report.html")["spec"]["containers"][0]
    assert container["command"][3] == "/mnt/pvc/models/evaluations/u/report.html"
    command = [sys.executable, *container["command"][1:3], str(file)]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert unpack(log, DIGEST) == HTML


def test_a_file_that_is_not_there_is_named() -> None:
    container = reader_pod(evaluation(), "i", "models", "absent.html")["spec"]["containers"][0]
    done = subprocess.run([sys.executable, *container["command"][1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "/mnt/pvc/models/absent.html: No such file or directory\n"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (printed(HTML + b"!"), "someone changed it in the store"),
        (printed(HTML)[:40], "did not arrive whole"),
        ("Traceback", "did not arrive whole"),
        ("", "did not arrive whole"),
    ],
    ids=["changed", "cut off", "not a report", "empty"],
)
def test_another_report_is_refused(log: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        unpack(log, DIGEST)


def test_where_the_report_is() -> None:
    report = {"uri": "pvc://models/team/evaluations/u/report.html", "digest": DIGEST}
    assert report_of(evaluation(report=report)) == ("models", "team/evaluations/u/report.html", DIGEST)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({}, "churn-cv has no report. the operator has not seen it yet"),
        (
            {"conditions": [{"type": "Reconciling", "status": "True", "reason": "Running", "message": "fold 3 of 5."}]},
            "churn-cv has no report. Reconciling, Running: fold 3 of 5.",
        ),
        ({"report": {"uri": "s3://b/report.html", "digest": DIGEST}}, "the report is at s3://b/report.html"),
    ],
)
def test_no_report(status: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        report_of(evaluation(**status))
    assert str(refused.value).startswith(message)

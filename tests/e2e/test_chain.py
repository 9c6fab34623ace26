"""The demo's path: train, cross-validate, serve the proven bytes, answer over HTTP and gRPC."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc
from sklearn.datasets import load_breast_cancer, load_digits

from tests.e2e.cluster import ROOT, Kubectl, Object, example, modelship


@pytest.fixture(scope="module")
def tabular(kubectl: Kubectl) -> dict[str, Object]:
    """All three resources applied at once, in the worst order."""
    kubectl.apply(*(example("tabular", kind) for kind in ("ModelDeployment", "ModelEvaluation", "ModelTraining")))
    return {
        "training": kubectl.ready("mt", "tumour"),
        "evaluation": kubectl.ready("me", "tumour-cv", seconds=400),
        "deployment": kubectl.ready("md", "tumour"),
    }


def test_one_digest_runs_through_the_chain(tabular: dict[str, Object]) -> None:
    digest = tabular["training"]["status"]["artifact"]["digest"]
    assert tabular["evaluation"]["status"]["subject"]["artifactDigest"] == digest
    assert tabular["evaluation"]["status"]["verdict"] == "Passed"
    assert tabular["deployment"]["status"]["servedDigest"] == digest


def test_the_evaluation_has_mean_deviation_and_each_fold(tabular: dict[str, Object]) -> None:
    results = {result["metric"]: result for result in tabular["evaluation"]["status"]["results"]}
    for metric in ("accuracy", "f1", "roc_auc"):
        folds = results[metric]["folds"]
        assert len(folds) == 5
        assert results[metric]["mean"] == pytest.approx(np.mean(folds), abs=1e-4)
        assert results[metric]["std"] == pytest.approx(np.std(folds, ddof=1), abs=1e-4)
        assert 0.85 < results[metric]["test"] <= 1


def test_get_shows_what_a_user_wants_to_know(kubectl: Kubectl, tabular: dict[str, Object]) -> None:
    trainings, evaluations, deployments = (table(kubectl("get", kind)) for kind in ("mt", "me", "md"))
    status = tabular["training"]["status"]
    digest = status["artifact"]["digest"][: len("sha256:0000")] + "…"
    assert list(trainings[0]) == ["NAME", "PHASE", "PROGRESS", "LOSS", "ETA", "DIGEST", "REASON", "AGE"]
    progress = f"{status['progress']['epoch']}/{status['progress']['epochs']}"
    assert trainings[0] | {"AGE": ""} == {
        "NAME": "tumour",
        "PHASE": "Succeeded",
        "PROGRESS": progress,
        "LOSS": status["progress"]["loss"],
        "ETA": "",
        "DIGEST": digest,
        "REASON": "Succeeded",
        "AGE": "",
    }
    assert list(evaluations[0]) == ["NAME", "VERDICT", "METHOD", "SCORE", "DIGEST", "REASON", "AGE"]
    assert (evaluations[0]["VERDICT"], evaluations[0]["METHOD"], evaluations[0]["DIGEST"]) == ("Passed", "5-fold", digest)
    assert evaluations[0]["SCORE"].startswith("roc_auc 0.9")
    assert "±" in evaluations[0]["SCORE"]
    assert list(deployments[0]) == ["NAME", "READY", "SERVING", "GATE", "URL", "REASON", "AGE"]
    url = f"http://tumour.{kubectl.namespace}.svc:8000"
    served = {"READY": "1/1", "SERVING": digest, "GATE": "Passed", "URL": url, "REASON": "Serving"}
    assert served.items() <= deployments[0].items()


def test_raw_rows_are_answered_over_http_and_grpc(kubectl: Kubectl, tabular: dict[str, Object]) -> None:
    data = load_breast_cancer(as_frame=True)
    rows, truth = data.data.iloc[:40], data.target.iloc[:40].to_numpy()
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [len(rows), 1], "data": [[float(value)] for value in rows[name]]}
        for name in rows
    ]
    with kubectl.forward("svc/tumour", 8000) as port:
        answer = post(f"http://127.0.0.1:{port}/v2/models/tumour/infer", {"inputs": inputs})
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    labels = np.array(outputs["label"]).astype(int)
    assert (labels == truth).mean() > 0.85

    with kubectl.forward("svc/tumour", 8001) as port:
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
        tensors = []
        for name in rows:
            tensor = tritonclient.grpc.InferInput(name, [len(rows), 1], "FP32")
            tensor.set_data_from_numpy(rows[[name]].to_numpy(np.float32))
            tensors.append(tensor)
        probabilities = client.infer("tumour", tensors).as_numpy("probabilities")
        client.close()
    np.testing.assert_allclose(probabilities.ravel(), outputs["probabilities"], atol=1e-5)


def test_the_predict_command_says_the_truth_over_http_and_grpc(kubectl: Kubectl, tabular: dict[str, Object]) -> None:
    rows = ROOT / "examples/tabular/rows.csv"
    asked, known = pd.read_csv(rows), load_breast_cancer(as_frame=True)
    truth = [int(known.target[(known.data - row).abs().sum(axis=1).idxmin()]) for _, row in asked.iterrows()]
    assert set(truth) == {0, 1}
    answers = {}
    for flags in ((), ("--grpc",)):
        answered = table(modelship("predict", "tumour", "-n", kubectl.namespace, "-f", str(rows), *flags))
        assert [int(line["label"]) for line in answered] == truth
        answers[flags] = answered
    assert answers[()] == answers[("--grpc",)]


def test_the_report_command_brings_the_judged_report(kubectl: Kubectl, tabular: dict[str, Object], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    modelship("report", "tumour-cv", "-n", kubectl.namespace, "-o", str(path))
    status = tabular["evaluation"]["status"]
    assert f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" == status["report"]["digest"]
    html = path.read_text()
    assert html.startswith("<!doctype html>") or html.startswith("<!DOCTYPE html>")
    for text in (status["verdict"], status["subject"]["artifactDigest"], "roc_auc"):
        assert text in html
    assert not kubectl.list("pods", "app.kubernetes.io/component=report-reader"), "the pod that read it is gone"


def test_only_inference_passes_the_gateway(kubectl: Kubectl, tabular: dict[str, Object]) -> None:
    with kubectl.forward("svc/tumour", 8000) as port:
        for path in ("/v2/repository/index", "/v2/systemsharedmemory/status", "/v2/logging", "/metrics"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
            assert refused.value.code == 404
            refused.value.close()


def test_hostile_json_ends_nobody_s_server(kubectl: Kubectl, tabular: dict[str, Object]) -> None:
    def restarts() -> list[int]:
        (pod,) = kubectl.list("pods", "modelship.dev/name=tumour,modelship.dev/kind=ModelDeployment")
        status = pod["status"]
        return [entry["restartCount"] for entry in [*status["initContainerStatuses"], *status["containerStatuses"]]]

    before = restarts()
    column = '{"inputs":[{"name":"mean radius","shape":[%s,1],"datatype":"FP32","data":%s}]}'
    with kubectl.forward("svc/tumour", 8000) as port:
        url = f"http://127.0.0.1:{port}/v2/models/tumour/infer"
        for body in (column % (2**63 - 1, "[1]"), column % (10**9, "[1]"), column % (1, "[" * 40_000)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(url, body.encode()), timeout=10)
            assert refused.value.code == 400
            assert json.load(refused.value)["error"]
            refused.value.close()
        metadata = json.load(urllib.request.urlopen(url.removesuffix("/infer"), timeout=10))
        assert len(metadata["inputs"]) == 30, "and the server answers"
    assert restarts() == before


def test_the_image_example_reads_digits(kubectl: Kubectl) -> None:
    kubectl.apply(*(example("image", kind) for kind in ("ModelTraining", "ModelEvaluation", "ModelDeployment")))
    for kind, name in (("mt", "digits"), ("me", "digits-holdout"), ("md", "digits")):
        kubectl.ready(kind, name)
    digits = load_digits()
    with kubectl.forward("svc/digits", 8000) as port:
        metadata = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/digits", timeout=10))
        tensor = metadata["inputs"][0]
        shape = [50, *[int(size) for size in tensor["shape"][1:]]]
        values = digits.images[:50].reshape(shape).astype(float).tolist()
        body = {"inputs": [{"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": values}]}
        answer = post(f"http://127.0.0.1:{port}/v2/models/digits/infer", body)
    labels = np.array(next(output["data"] for output in answer["outputs"] if output["name"] == "label")).astype(int)
    assert (labels == digits.target[:50]).mean() > 0.9


def post(url: str, body: object) -> dict[str, list[Object]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    answer: dict[str, list[Object]] = json.load(urllib.request.urlopen(request, timeout=30))
    return answer


def table(text: str) -> list[dict[str, str]]:
    """A table of kubectl or modelship as a dict per row. Columns start where their titles do; a cell may contain single blanks."""
    head, *lines = text.rstrip("\n").splitlines()
    starts = [i for i, char in enumerate(head) if char != " " and (i == 0 or head[i - 1] == " ")]
    ends = [*starts[1:], None]
    titles = head.split()
    return [{title: line[start:end].strip() for title, start, end in zip(titles, starts, ends, strict=True)} for line in lines]

"""The CRDs in a real API server: rules, bounds, unknown fields, immutability, defaults, columns, subresources."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.support.api_cases import CHANGES, DEPLOYMENT, EVALUATION, QUANTITIES, REFUSED, RULES, TRAINING, Change, Refused, RuleCase
from tests.support.builders import DIGEST, Json, changed, make_deployment, make_training
from tests.support.controlplane import ROOT, ControlPlane

from modelship_operator.api.kinds import BY_NAME, KINDS
from modelship_operator.resources.covers import covers

pytestmark = pytest.mark.integration
PLURALS = {kind.name: kind.plural for kind in KINDS}


def path_of(resource: Json, namespace: str) -> str:
    return f"/apis/modelship.dev/v1alpha1/namespaces/{namespace}/{PLURALS[resource['kind']]}"


def create(api: httpx.Client, resource: Json, *, namespace: str = "default", dry_run: bool = False) -> httpx.Response:
    """As kubectl does: unknown fields are errors."""
    options = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
    body = changed(resource, {"metadata.namespace": namespace})
    return api.post(path_of(resource, namespace), json=body, params=options)


def message(response: httpx.Response) -> str:
    text: str = response.json()["message"]
    return text


# --- creation -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RULES, ids=lambda case: case.message[:50])
def test_rule(api: httpx.Client, case: RuleCase) -> None:
    kept, broken = (create(api, resource, dry_run=True) for resource in (case.accepted, case.refused))
    assert kept.status_code == 201, message(kept)
    assert broken.status_code == 422
    assert case.message in message(broken)
    assert f"{case.field}: " in message(broken)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_refused(api: httpx.Client, case: Refused) -> None:
    answer = create(api, case.resource, dry_run=True)
    assert answer.status_code in (400, 422), answer.text
    assert case.field in message(answer)


def test_every_rule_has_a_case(plane: ControlPlane) -> None:
    """As the API server has them: a rule that is added without a row in the tables fails here."""
    crds = json.loads(plane.kubectl("get", "crds", "-o", "json").stdout)["items"]
    said = {
        (rule["message"], rule.get("fieldPath"))
        for crd in crds
        for schema in walk(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        for rule in schema.get("x-kubernetes-validations", [])
    }
    covered = {(case.message, None) for case in RULES}
    for change in (change for change in CHANGES if change.field):
        name, kind = str(change.field).split(".")[1], change.before["kind"]
        covered.add((f"{name} cannot change once created; create a new {kind} instead", f".{name}"))
    assert said == covered


def walk(schema: Json) -> list[Json]:
    below = [*schema.get("properties", {}).values(), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    return [schema, *(each for child in below for each in walk(child))]


# --- updates ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.id)
def test_change(api: httpx.Client, namespace: str, case: Change) -> None:
    stored = create(api, case.before, namespace=namespace)
    assert stored.status_code == 201, message(stored)
    after = changed(case.after, {"metadata": stored.json()["metadata"]})
    answer = api.put(f"{path_of(after, namespace)}/{after['metadata']['name']}", json=after, params={"fieldValidation": "Strict"})
    if case.field is None:
        assert answer.status_code == 200, message(answer)
        return
    name = case.field.removeprefix("spec.")
    assert answer.status_code == 422
    assert f"{case.field}: Forbidden: {name} cannot change once created; create a new {after['kind']} instead" in message(answer)


# --- defaults and status ------------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in(api: httpx.Client) -> None:
    spec = create(api, TRAINING, dry_run=True).json()["spec"]
    assert spec["compute"] == {"cpu": "250m", "memory": "2Gi"}
    assert spec["output"] == {"store": "pvc://models"}
    assert spec["data"]["split"] == {"validation": 0.1, "test": 0.2, "stratify": False, "seed": 0}
    assert spec["training"]["optimizer"]["adamw"]["learningRate"] == 0.001
    partly = changed(TRAINING, {"spec.data.split": {"test": 0.3}, "spec.training.optimizer": {"sgd": {"momentum": 0.9}}})
    spec = create(api, partly, dry_run=True).json()["spec"]
    assert spec["data"]["split"] == {"validation": 0.1, "test": 0.3, "stratify": False, "seed": 0}
    assert spec["training"]["optimizer"] == {"sgd": {"learningRate": 0.01, "momentum": 0.9, "nesterov": False, "weightDecay": 0.0}}


@pytest.mark.parametrize(
    "resource", [TRAINING, EVALUATION, DEPLOYMENT, *(case.accepted for case in RULES)], ids=lambda resource: resource["kind"]
)
def test_defaults_are_pydantics(api: httpx.Client, resource: Json) -> None:
    model = BY_NAME[resource["kind"]].spec
    stored = create(api, resource, dry_run=True).json()["spec"]
    assert model.model_validate(stored) == model.model_validate(resource["spec"])


def test_fresh_object_is_never_done(api: httpx.Client, namespace: str) -> None:
    create(api, TRAINING, namespace=namespace).raise_for_status()
    stored = api.get(f"{path_of(TRAINING, namespace)}/churn").json()
    assert stored["status"]["observedGeneration"] == -1
    assert stored["metadata"]["generation"] == 1


def test_null_is_as_left_out(api: httpx.Client) -> None:
    answer = create(api, changed(TRAINING, {"spec.compute": None, "spec.data.format": None}), dry_run=True)
    assert answer.status_code == 201, message(answer)
    assert answer.json()["spec"]["compute"] == {"cpu": "250m", "memory": "2Gi"}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in QUANTITIES.items() for value in values])
def test_a_quantity_that_a_pod_may_ask_for_is_taken(api: httpx.Client, field: str, value: Any) -> None:
    container = {"name": "c", "image": "i", "resources": {"requests": {field: value}}}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    asked = api.post("/api/v1/namespaces/default/pods", json=pod, params={"dryRun": "All"})
    assert asked.status_code == 201, message(asked)
    answer = create(api, changed(TRAINING, {f"spec.compute.{field}": value}), dry_run=True)
    assert answer.status_code == 201, message(answer)
    compute = BY_NAME["ModelTraining"].spec.model_validate(answer.json()["spec"]).compute
    ours, theirs = getattr(compute, field), asked.json()["spec"]["containers"][0]["resources"]["requests"][field]
    assert covers(theirs, ours)


# --- what kubectl shows -------------------------------------------------------------------------------------------------------

CONDITIONS = [
    {
        "type": "Ready",
        "status": "True",
        "reason": "Succeeded",
        "message": "done.",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
]
STATUSES: dict[str, Json] = {
    "ModelTraining": {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "conditions": CONDITIONS,
        "progress": {"phase": "Publishing", "epoch": 30, "epochs": 30, "loss": "0.2114"},
        "progressText": "30/30",
        "artifact": {"uri": "pvc://models/artifacts/sha256-0", "digest": DIGEST, "sizeBytes": 12},
        "digestText": "sha256:0123…",
    },
    "ModelEvaluation": {
        "observedGeneration": 1,
        "conditions": CONDITIONS,
        "verdict": "Passed",
        "method": "5-fold",
        "score": "roc_auc 0.861±0.012",
        "digestText": "sha256:0123…",
        "results": [{"metric": "roc_auc", "mean": 0.861, "std": 0.012, "folds": [0.85, 0.872], "test": 0.86}],
        "gates": [{"metric": "roc_auc", "statistic": "mean", "passed": True, "message": "roc_auc 0.86 is at least 0.80"}],
        "subject": {"artifactDigest": DIGEST, "recipeDigest": DIGEST, "dataDigest": DIGEST},
        "report": {"uri": "pvc://models/evaluations/1/report.html", "digest": DIGEST},
    },
    "ModelDeployment": {
        "observedGeneration": 1,
        "conditions": CONDITIONS,
        "ready": "2/2",
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "modelship.dev/kind=ModelDeployment,modelship.dev/name=churn",
        "servedDigest": DIGEST,
        "digestText": "sha256:0123…",
        "gate": "Passed",
        "endpoint": {"url": "http://churn.default.svc:8000", "grpc": "churn.default.svc:8001", "model": "churn"},
    },
}


def set_status(api: httpx.Client, namespace: str, resource: Json, status: Json) -> httpx.Response:
    """As the operator writes it: server-side apply."""
    body = {key: resource[key] for key in ("apiVersion", "kind")} | {
        "metadata": {"name": resource["metadata"]["name"]},
        "status": status,
    }
    return api.patch(
        f"{path_of(resource, namespace)}/{resource['metadata']['name']}/status",
        content=json.dumps(body),
        headers={"Content-Type": "application/apply-patch+yaml"},
        params={"fieldManager": "modelship", "force": "true", "fieldValidation": "Strict"},
    )


REASONS = {kind: status["conditions"][0]["reason"] for kind, status in STATUSES.items()}


@pytest.fixture
def shown(api: httpx.Client, plane: ControlPlane, namespace: str) -> str:
    for resource in (TRAINING, EVALUATION, DEPLOYMENT):
        create(api, resource, namespace=namespace).raise_for_status()
        written = set_status(api, namespace, resource, STATUSES[resource["kind"]])
        assert written.status_code == 200, message(written)
    return plane.kubectl("get", "modelship", "--namespace", namespace).stdout


def test_columns(shown: str) -> None:
    """As in the README: what a user wants to see first."""
    rows = [line.split() for line in shown.splitlines() if line]
    age = rows[1][-1]
    url = "http://churn.default.svc:8000"
    assert rows[0:2] == [
        ["NAME", "READY", "SERVING", "GATE", "URL", "REASON", "AGE"],
        ["modeldeployment.modelship.dev/churn", "2/2", "sha256:0123…", "Passed", url, REASONS["ModelDeployment"], age],
    ]
    assert rows[2] == ["NAME", "VERDICT", "METHOD", "SCORE", "DIGEST", "REASON", "AGE"]
    score = ["roc_auc", "0.861±0.012"]
    evaluated = ["modelevaluation.modelship.dev/churn-cv", "Passed", "5-fold", *score, "sha256:0123…", REASONS["ModelEvaluation"]]
    assert rows[3][:-1] == evaluated
    assert rows[4] == ["NAME", "PHASE", "PROGRESS", "LOSS", "ETA", "DIGEST", "REASON", "AGE"]
    trained = ["modeltraining.modelship.dev/churn", "Succeeded", "30/30", "0.2114", "sha256:0123…", REASONS["ModelTraining"]]
    assert rows[5][:-1] == trained


@pytest.mark.usefixtures("shown")
def test_wait_by_short_names(plane: ControlPlane, namespace: str) -> None:
    waited = plane.kubectl(
        "wait", "--namespace", namespace, "--for=condition=Ready", "--timeout=5s", "mt/churn", "me/churn-cv", "md/churn"
    )
    assert waited.returncode == 0, waited.stderr


@pytest.mark.usefixtures("shown")
def test_scale(plane: ControlPlane, api: httpx.Client, namespace: str) -> None:
    scaled = plane.kubectl("scale", "md/churn", "--replicas=3", "--namespace", namespace)
    assert scaled.returncode == 0, scaled.stderr
    scale = api.get(f"{path_of(DEPLOYMENT, namespace)}/churn/scale").json()
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 2, "selector": STATUSES["ModelDeployment"]["selector"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status.artifact.digest", "latest"),
        ("status.conditions[0].reason", "not one word"),
        ("status.conditions[0].status", "yes"),
        ("status.progress.loss", 0.2),
        ("status.unknown", 1),
    ],
)
def test_status_is_checked_too(api: httpx.Client, namespace: str, field: str, value: object) -> None:
    create(api, TRAINING, namespace=namespace).raise_for_status()
    bad = changed({"status": STATUSES["ModelTraining"]}, {field: value})["status"]
    answer = set_status(api, namespace, TRAINING, bad)
    # 500 is how kube-apiserver answers an apply of the wrong type.
    assert answer.status_code in (422, 500)
    assert field in message(answer)


def test_kubectl_names_an_unknown_field(plane: ControlPlane) -> None:
    resource = changed(TRAINING, {"spec.model.mlp.hiden": [8]})
    applied = plane.kubectl("apply", "-f", "-", stdin=json.dumps(resource))
    assert applied.returncode == 1
    assert 'unknown field "spec.model.mlp.hiden"' in applied.stderr


def test_kubectl_explains_a_variant(plane: ControlPlane) -> None:
    said = plane.kubectl("explain", "modeltraining.spec.model.mlp.hidden").stdout
    assert "Units of each hidden layer" in said


def test_examples_are_accepted(plane: ControlPlane, namespace: str) -> None:
    applied = plane.kubectl("apply", "--dry-run=server", "--namespace", namespace, "--recursive", "-f", str(ROOT / "examples"))
    assert applied.returncode == 0, applied.stderr
    assert "modeldeployment.modelship.dev/" in applied.stdout


def test_generated_names(api: httpx.Client, namespace: str) -> None:
    resource = changed(make_training(), {"metadata": {"generateName": "churn-"}})
    assert create(api, resource, namespace=namespace).status_code == 201


def test_unset_optional_lists_stay_unset(api: httpx.Client) -> None:
    spec = create(api, make_deployment(), dry_run=True).json()["spec"]
    assert "tolerations" not in spec["compute"]
    assert "from" not in spec["access"]

"""A ModelDeployment against a real API server and operator process; the tests are kubelet and the Deployment's controllers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.support import chain
from tests.support.builders import make_deployment, make_evaluation
from tests.support.controlplane import ROOT, ControlPlane
from tests.support.kubelet import Json, Namespace, now, operator_process

from modelship_operator.cli.report import reader_pod
from modelship_operator.resources.covers import covers

pytestmark = pytest.mark.integration

KIND = "ModelDeployment"
HOLDOUT = {"method": {"holdout": {}}}
CHILDREN = {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"}


def prove(here: Namespace, training: str = "churn", evaluation: str = "churn-cv", digest: str = chain.DIGEST) -> None:
    """Train and pass the gate."""
    chain.train(here, training, digest)
    here.create(make_evaluation(evaluation, modelRef={"training": training}, **HOLDOUT))
    chain.score(here, evaluation, test=0.9, digest=digest)
    here.reason("ModelEvaluation", evaluation, "GatesPassed")


def serve(here: Namespace, replicas: int = 1) -> Json:
    """A ModelDeployment that serves; its Deployment."""
    here.create(make_deployment(replicas=replicas))
    prove(here)
    deployment = deployed(here)
    for number in range(replicas):
        chain.serving_pod(here, deployment, f"serving-{number}")
    chain.roll(here, "churn", replicas)
    here.reason(KIND, "churn", "Serving")
    return deployment


def deployed(here: Namespace) -> Json:
    here.reason(KIND, "churn", "RollingOut")
    return chain.served(here)["Deployment"]


def test_nothing_serves_before_its_digest_is_proven(plane: ControlPlane, here: Namespace) -> None:
    here.create(make_deployment(replicas=2))
    waiting = here.reason(KIND, "churn", "WaitingForReference")
    assert waiting["conditions"][1]["message"] == 'ModelTraining "churn" does not exist yet.'
    chain.train(here)
    here.wait(KIND, "churn", lambda found: "ModelEvaluation" in found["status"]["conditions"][0]["message"])
    here.create(make_evaluation(**HOLDOUT))
    here.pod(here.job("churn-cv-score"), "early")
    here.run("early")
    here.wait(KIND, "churn", lambda found: "is running" in found["status"]["conditions"][0]["message"])
    status = here.reason(KIND, "churn", "WaitingForVerdict")
    assert status["conditions"][1]["message"] == "no passed evaluation for sha256:9f31…; churn-cv is running (scoring)."
    assert chain.served(here) == {}
    chain.score(here, "churn-cv", test=0.9)

    deployment = deployed(here)
    assert set(chain.served(here)) == CHILDREN
    chain.serving_pod(here, deployment, "serving-0")
    chain.serving_pod(here, deployment, "serving-1")
    chain.roll(here, "churn", 2)
    status = here.reason(KIND, "churn", "Serving")
    assert (status["ready"], status["servedDigest"], status["gate"]) == ("2/2", chain.DIGEST, "Passed")
    table = plane.kubectl("get", "md", "churn", "-n", here.name).stdout.split("\n")
    assert table[1].split()[:5] == ["churn", "2/2", "sha256:9f31…", "Passed", f"http://churn.{here.name}.svc:8000"]


def test_a_failed_gate_starts_nothing(here: Namespace) -> None:
    here.create(make_deployment())
    chain.train(here)
    here.create(make_evaluation(**HOLDOUT))
    chain.score(here, "churn-cv", test=0.74)
    status = here.reason(KIND, "churn", "GateFailed")
    assert status["conditions"][1]["message"] == "churn-cv: roc_auc 0.74 is below 0.80."
    assert chain.served(here) == {}


def test_what_serves_stays_until_the_next_is_proven(here: Namespace) -> None:
    before = serve(here, replicas=2)
    update = {"modelRef": {"training": "churn-2"}, "gate": {"evaluations": ["churn-2-cv"]}, "replicas": 3}
    here.patch(KIND, "churn", {"spec": update})
    here.reason(KIND, "churn", "WaitingForReference")
    held = chain.served(here)["Deployment"]
    assert (held["spec"]["template"], held["spec"]["replicas"]) == (before["spec"]["template"], 3)
    prove(here, "churn-2", "churn-2-cv", chain.OTHER)
    after = deployed(here)
    digest = after["spec"]["template"]["metadata"]["annotations"]["modelship.dev/artifact-digest"]
    assert digest == chain.OTHER
    status = here.reason(KIND, "churn", "RollingOut")
    assert (status["servedDigest"], status["targetDigest"]) == (chain.DIGEST, chain.OTHER)


def test_bytes_that_changed_are_named(here: Namespace) -> None:
    here.create(make_deployment())
    prove(here)
    message = "model.onnx is sha256:77aa…, evaluated was sha256:c0de…; nothing was started."
    said = json.dumps({"schemaVersion": 1, "result": "Failed", "reason": "DigestMismatch", "message": message})
    end = {"exitCode": 66, "message": said, "reason": "Error", "startedAt": now(), "finishedAt": now()}
    init = {"name": "model-repository", "image": "i", "imageID": "i", "ready": False, "restartCount": 1}
    status = [{**init, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": end}}]
    chain.serving_pod(here, deployed(here), "serving-0", ready=False, initContainerStatuses=status)
    stalled = here.reason(KIND, "churn", "DigestMismatch")
    assert {entry["type"]: entry["status"] for entry in stalled["conditions"]} == {"Ready": "False", "Stalled": "True"}
    assert stalled["conditions"][0]["message"] == message


def test_kubectl_scale(plane: ControlPlane, here: Namespace) -> None:
    serve(here, replicas=1)
    done = plane.kubectl("scale", "md/churn", "--replicas=3", "-n", here.name)
    assert done.returncode == 0, done.stderr
    here.reason(KIND, "churn", "RollingOut")
    assert chain.served(here)["Deployment"]["spec"]["replicas"] == 3
    scale = json.loads(plane.kubectl("get", "md", "churn", "-n", here.name, "--subresource=scale", "-o", "json").stdout)
    assert scale["status"]["selector"] == "modelship.dev/kind=ModelDeployment,modelship.dev/name=churn"


@pytest.mark.parametrize(
    "spec",
    [
        {"ports": [{"port": 80}], "selector": {"a": "b"}},
        {"ports": [{"port": 443}]},
        {"type": "ExternalName", "externalName": "db.example"},
    ],
    ids=["with a selector", "with endpoints of its own", "a name elsewhere"],
)
def test_somebody_else_s_service_is_left_alone(here: Namespace, spec: Json) -> None:
    theirs = here.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "churn"}, "spec": spec})
    here.create(make_deployment())
    prove(here)
    status = here.reason(KIND, "churn", "NameTaken")
    expected = 'Service "churn" exists and is not of this ModelDeployment; delete it or use another name.'
    assert status["conditions"][0]["message"] == expected
    assert chain.served(here)["Service"] == theirs
    assert "Deployment" not in chain.served(here)


def test_a_restart_writes_nothing(plane: ControlPlane) -> None:
    with Namespace.made(plane) as here:
        settings = {"MODELSHIP_NAMESPACES": here.name, "MODELSHIP_POD_NAMESPACE": here.name}
        with operator_process(plane, **settings):
            serve(here, replicas=2)
        resource, before = here.get(KIND, "churn"), chain.served(here)
        with operator_process(plane, **settings):
            here.create(make_deployment("later"))
            here.reason(KIND, "later", "RollingOut")
        assert here.get(KIND, "churn") == resource
        assert chain.served(here) == before


NOBODY = {"access": {"from": []}}
OPENED = {"spec": {"ingress": [{}]}}
REDIRECTED = {"spec": {"selector": {"app": "other"}}}
PINNED = {"spec": {"maxUnavailable": 0}}
PRIVILEGED = {"spec": {"template": {"spec": {"automountServiceAccountToken": True, "securityContext": {"runAsNonRoot": False}}}}}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("NetworkPolicy", OPENED),
        ("Service", REDIRECTED),
        ("PodDisruptionBudget", PINNED),
        ("Deployment", PRIVILEGED),
    ],
)
def test_a_child_that_somebody_changed_is_applied_again(here: Namespace, kind: str, change: Json) -> None:
    serve(here)
    before = chain.served(here)[kind]
    here.patch(kind, "churn", change)
    here.wait(kind, "churn", lambda child: child["spec"] == before["spec"])


@pytest.mark.parametrize("kind", sorted(CHILDREN))
def test_a_child_that_somebody_deleted_is_made_again(here: Namespace, kind: str) -> None:
    serve(here)
    before = chain.served(here)[kind]
    here.delete(kind, "churn")
    again = here.wait(kind, "churn", lambda child: child["metadata"]["uid"] != before["metadata"]["uid"])
    assert covers(again["spec"], {key: value for key, value in before["spec"].items() if not key.startswith("clusterIP")})


def test_what_changed_while_no_operator_ran_is_found(plane: ControlPlane) -> None:
    with Namespace.made(plane) as here:
        settings = {"MODELSHIP_NAMESPACES": here.name, "MODELSHIP_POD_NAMESPACE": here.name}
        with operator_process(plane, **settings):
            serve(here)
        before = chain.served(here)["NetworkPolicy"]["spec"]
        here.patch("NetworkPolicy", "churn", OPENED)
        with operator_process(plane, **settings):
            here.wait("NetworkPolicy", "churn", lambda policy: policy["spec"] == before)


def test_who_may_connect_follows_the_spec_while_another_artifact_is_not_proven(here: Namespace) -> None:
    serve(here)
    here.patch(KIND, "churn", {"spec": {"modelRef": {"training": "later"}, **NOBODY}})
    here.reason(KIND, "churn", "WaitingForReference")
    ports = [rule["ports"][0]["port"] for rule in chain.served(here)["NetworkPolicy"]["spec"]["ingress"]]
    assert ports == [8002], "metrics alone"


@pytest.mark.parametrize("golden", ["defaults", "full"])
def test_the_api_server_takes_the_golden_manifests_as_they_are(here: Namespace, golden: str) -> None:
    """Strict field validation: no field that the API server does not know; and none that it writes otherwise, which would be
    taken for a change by somebody else."""
    path = ROOT / f"tests/unit/resources/serving/golden/{golden}.yaml"
    for manifest in yaml.safe_load_all(path.read_text()):
        metadata = {**manifest["metadata"], "namespace": here.name}
        url = here.path(manifest["kind"])
        response = here.client.post(
            url, json={**manifest, "metadata": metadata}, params={"dryRun": "All", "fieldValidation": "Strict"}
        )
        assert response.is_success, response.text
        assert covers(response.json()["spec"], manifest["spec"])


def test_our_pods_pass_the_restricted_standard(plane: ControlPlane) -> None:
    """The API server itself judges: serving pods, and the pod of `modelship report`."""
    with Namespace.made(plane) as here:
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        headers = {"Content-Type": "application/merge-patch+json"}
        here.client.patch(f"/api/v1/namespaces/{here.name}", json=label, headers=headers).raise_for_status()
        evaluation = {"apiVersion": "modelship.dev/v1alpha1", "kind": "ModelEvaluation", "metadata": {"name": "cv", "uid": "u"}}
        pods = [reader_pod(evaluation, "image:1", "models", "report.html")]
        for golden in ("defaults", "full"):
            path = ROOT / f"tests/unit/resources/serving/golden/{golden}.yaml"
            template = next(item for item in yaml.safe_load_all(path.read_text()) if item["kind"] == "Deployment")["spec"][
                "template"
            ]
            spec = {key: value for key, value in template["spec"].items() if key != "priorityClassName"}
            pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": golden}, "spec": spec})
        for pod in pods:
            body = {**pod, "spec": {**pod["spec"], "serviceAccountName": "default"}}
            response = here.client.post(f"/api/v1/namespaces/{here.name}/pods", json=body, params={"dryRun": "All"})
            assert response.is_success, response.text


def pod_of(deployment: Json) -> Any:
    return deployment["spec"]["template"]["spec"]


def test_what_others_add_is_taken_away(plane: ControlPlane, here: Namespace) -> None:
    before = serve(here)

    def patch(kind: str, text: str, how: str = "strategic") -> None:
        done = plane.kubectl("patch", kind, "churn", "--namespace", here.name, "--type", how, "--patch", text)
        assert done.returncode == 0, done.stderr

    names = [container["name"] for container in pod_of(before)["containers"]]
    patch("deployment", '{"spec":{"template":{"spec":{"hostPID":true,"containers":[{"name":"spy","image":"spy:1"}]}}}}')
    patch("service", '{"spec":{"type":"NodePort","ports":[{"name":"spy","port":9999,"protocol":"TCP"}]}}')
    patch("networkpolicy", '{"spec":{"egress":[{}]}}', "merge")
    here.wait("NetworkPolicy", "churn", lambda found: "egress" not in found["spec"])
    service = here.wait("Service", "churn", lambda found: len(found["spec"]["ports"]) == 2 and found["spec"]["type"] == "ClusterIP")
    assert {port["name"] for port in service["spec"]["ports"]} == {"http", "grpc"}
    found = here.wait("Deployment", "churn", lambda found: len(pod_of(found)["containers"]) == len(names))
    assert [container["name"] for container in pod_of(found)["containers"]] == names
    assert "hostPID" not in pod_of(found)


def test_two_operators_do_not_fight(plane: ControlPlane, here: Namespace) -> None:
    before = serve(here)
    settings = {"MODELSHIP_NAMESPACES": here.name, "MODELSHIP_POD_NAMESPACE": here.name, "MODELSHIP_LEASE_NAME": "other"}
    with operator_process(plane, **settings, MODELSHIP_TRITON_IMAGE="triton:2"):
        here.wait("Deployment", "churn", lambda found: "triton:2" in str(pod_of(found)))
        event = here.event("OtherOperator")
        assert f"operator {here.name}/other acts on this resource, too" in event["note"]
        found = here.get("Deployment", "churn")
        assert found is not None
        assert found["metadata"]["generation"] == before["metadata"]["generation"] + 1
        assert "triton:2" in str(pod_of(found))

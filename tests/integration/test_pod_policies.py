"""`compute.pod` before a real API server: its pods pass the restricted standard, and what Kubernetes refuses ends in a sentence."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.support.api_cases import POD
from tests.support.builders import DIGEST, Json, make_deployment, make_training
from tests.support.kubelet import Namespace

from modelship_operator.api.common import Compute
from modelship_operator.api.deployment import ModelDeploymentSpec
from modelship_operator.resources.common import Owner
from modelship_operator.resources.pod import Work, pod_template
from modelship_operator.resources.serving import Serving
from modelship_operator.resources.serving import pod_template as serving_pod
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import ArtifactRef, RunRef, TrainTask
from modelship_trainer.recipe import Recipe

pytestmark = pytest.mark.integration

SETTINGS = PodSettings("trainer:1", "triton:1", "gateway:1", "operator:1", progress_url="http://operator:8090/v1/progress")
ARTIFACT = {"uri": "pvc://models/artifacts/sha256-0", "digest": DIGEST}


@pytest.fixture
def restricted(api: httpx.Client, namespace: str) -> Iterator[str]:
    """A namespace that refuses what the restricted Pod Security Standard refuses; with a runtime class."""
    api.patch(
        f"/api/v1/namespaces/{namespace}",
        json={"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
        headers={"Content-Type": "application/merge-patch+json"},
    ).raise_for_status()
    classes = "/apis/node.k8s.io/v1/runtimeclasses"
    api.post(classes, json={"metadata": {"name": "gvisor"}, "handler": "runsc"}).raise_for_status()
    yield namespace
    api.delete(f"{classes}/gvisor").raise_for_status()


def training_pod(pod: Json) -> Json:
    owner = Owner("ModelTraining", "n", "churn", "u")
    recipe = Recipe.model_validate({part: make_training()["spec"][part] for part in ("data", "model", "training")})
    task = TrainTask(run=RunRef(kind=owner.kind, namespace="n", name="churn", uid="u"), recipe=recipe, store="pvc://models")
    return pod_template(SETTINGS, Work(owner, task, Compute.model_validate({"pod": pod}), ("pvc://datasets/churn.csv",)))


def served_pod(pod: Json) -> Json:
    spec = ModelDeploymentSpec.model_validate({"modelRef": {"artifact": ARTIFACT}, "compute": {"pod": pod}})
    return serving_pod(SETTINGS, Serving(Owner("ModelDeployment", "n", "churn", "u"), spec, ArtifactRef.model_validate(ARTIFACT)))


@pytest.mark.parametrize("made", [training_pod, served_pod])
@pytest.mark.parametrize("pod", [POD, {**POD, "runAs": {"platform": True}}, {}], ids=["all", "platform's user", "nothing"])
def test_its_pods_pass_the_restricted_standard(api: httpx.Client, restricted: str, made: Any, pod: Json) -> None:
    template = made(pod)
    spec = {"serviceAccountName": "default"} | template["spec"]  # as admission does, which these tests leave out
    body = {"metadata": {**template["metadata"], "name": "churn"}, "spec": spec}
    options = {"dryRun": "All", "fieldValidation": "Strict"}
    answer = api.post(f"/api/v1/namespaces/{restricted}/pods", json=body, params=options)
    assert answer.status_code == 201, answer.text
    # The standard is enforced here, not only believed to be.
    body = copy.deepcopy(body)
    body["spec"]["securityContext"]["runAsNonRoot"] = False
    assert api.post(f"/api/v1/namespaces/{restricted}/pods", json=body, params=options).status_code == 403


MISSPELT = {"pod": {"affinity": {"nodeAfinity": {}}}}
EMPTY = {
    "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]
    }
}
REFUSED = {"pod": {"affinity": {"nodeAffinity": EMPTY}}}


def condition(status: Json) -> str:
    return next(entry["message"] for entry in status["conditions"] if entry["type"] == "Stalled" and entry["status"] == "True")


def test_what_the_schema_does_not_know_ends_in_a_sentence(here: Namespace) -> None:
    here.create(make_training("misspelt", compute=MISSPELT))
    here.create(make_training("refused", compute=REFUSED))
    here.create(make_deployment("served", modelRef={"artifact": ARTIFACT}, gate=None, compute=REFUSED))
    assert "spec.compute.pod.affinity.nodeAfinity" in condition(here.reason("ModelTraining", "misspelt", "SpecInvalid"))
    assert "values" in condition(here.reason("ModelTraining", "refused", "RequestRefused"))
    assert "values" in condition(here.reason("ModelDeployment", "served", "RequestRefused"))

"""The children of a ModelDeployment as the API server gets them: golden files, and what must hold whatever a user asks for.

`MODELSHIP_UPDATE_GOLDEN=1 pytest tests/unit/resources/serving` writes the golden files anew; the diff is reviewed as code.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.api_cases import POD

from modelship_operator.api.deployment import ModelDeploymentSpec
from modelship_operator.resources.common import Owner
from modelship_operator.resources.served_model import children, scaled
from modelship_operator.resources.serving import Serving
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import ArtifactRef

pytestmark = pytest.mark.unit

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = PodSettings("trainer:1", "modelship/triton:1", "modelship/gateway:1", "modelship/operator:1")
OWNER = Owner("ModelDeployment", "team-a", "churn", "11111111-aaaa")
DIGEST = "sha256:" + "9f" * 32
ARTIFACT = ArtifactRef(uri=f"pvc://models/artifacts/{DIGEST.replace(':', '-')}", digest=DIGEST)
FULL: dict[str, Any] = {
    "replicas": 3,
    "runtime": {"image": "nvcr.io/nvidia/tritonserver:25.08-py3"},
    "compute": {
        "accelerator": {"count": 1},
        "cpu": "4",
        "memory": "16Gi",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "serving",
    },
    "batching": {"maxBatchSize": 256, "dynamic": False},
    "optimization": {"graph": "Extended", "threads": 4, "instances": 2},
    "strategy": {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}},
    "access": {
        "from": [{"podLabels": {"may": "ask"}}, {"namespaces": ["web", "batch"]}, {"namespaces": ["x"], "podLabels": {"a": "b"}}],
        "maxBodyMebibytes": 128,
        "timeoutSeconds": 120,
    },
    "progressDeadlineSeconds": 900,
}
POLICIES: dict[str, Any] = {"compute": {"pod": POD}}


def made(settings: PodSettings = SETTINGS, **spec: Any) -> tuple[dict[str, Any], ...]:
    parsed = ModelDeploymentSpec.model_validate({"modelRef": {"training": "churn"}, **spec})
    return children(settings, Serving(OWNER, parsed, ARTIFACT))


def child(kind: str, **spec: Any) -> dict[str, Any]:
    return next(item for item in made(**spec) if item["kind"] == kind)


def containers(**spec: Any) -> dict[str, dict[str, Any]]:
    pod = child("Deployment", **spec)["spec"]["template"]["spec"]
    return {entry["name"]: entry for entry in [*pod["initContainers"], *pod["containers"]]}


@pytest.mark.parametrize(("name", "spec"), [("defaults", {}), ("full", FULL), ("policies", POLICIES)])
def test_the_whole_manifests(name: str, spec: dict[str, Any]) -> None:
    path, text = GOLDEN / f"{name}.yaml", yaml.safe_dump_all(made(**spec), sort_keys=False, width=132)
    if os.environ.get("MODELSHIP_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_the_step_that_verifies_is_nobodys_to_change() -> None:
    """Variables and volumes reach Triton alone: with them a program could pass other bytes off as verified."""
    plain, asked = (containers(**spec) for spec in ({}, POLICIES))
    assert asked["model-repository"] == plain["model-repository"]
    assert asked["gateway"] == plain["gateway"]
    assert asked["triton"] != plain["triton"]


@pytest.mark.parametrize("spec", [{}, FULL, POLICIES], ids=["defaults", "full", "policies"])
def test_every_container_is_restricted(spec: dict[str, Any]) -> None:
    """The restricted Pod Security Standard, and a read-only root besides."""
    pod = child("Deployment", **spec)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for name, container in containers(**spec).items():
        context = container["securityContext"]
        assert context == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, (
            name
        )
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_the_store_is_mounted_read_only_and_only_by_the_step_that_verifies() -> None:
    mounts = {name: {mount["name"]: mount for mount in entry["volumeMounts"]} for name, entry in containers().items()}
    assert mounts["model-repository"]["store"] == {"name": "store", "mountPath": "/mnt/pvc/models", "readOnly": True}
    assert mounts["triton"]["models"]["readOnly"] is True
    assert "store" not in mounts["triton"] | mounts["gateway"]
    assert mounts["gateway"]["models"]["readOnly"] is True


def test_the_claim_is_not_asked_for_read_only() -> None:
    """Some drivers would attach it read-only, beside a training on that node that has it read-write; the mount is what counts."""
    volumes = child("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volumes[0] == {"name": "store", "persistentVolumeClaim": {"claimName": "models"}}


def test_triton_listens_on_loopback_alone() -> None:
    arguments = containers()["triton"]["args"]
    assert [argument for argument in arguments if "-address=" in argument] == [
        "--http-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
    ]
    assert "--allow-grpc=false" in arguments
    assert "ports" not in containers()["triton"]


@pytest.mark.parametrize("seconds", [1, 60, 600])
def test_the_grace_period_outlasts_a_drain(seconds: int) -> None:
    access = {"timeoutSeconds": seconds}
    grace = child("Deployment", access=access)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace >= 5 + seconds + 20


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


@pytest.mark.parametrize(("promised", "patience"), [(1, 10), (60, 60), (600, 600)])
def test_a_probe_waits_as_long_as_a_client_is_promised_to(promised: int, patience: int) -> None:
    triton = containers(access={"timeoutSeconds": promised})["triton"]
    for probe in (triton[name] for name in PROBES):
        command = probe["exec"]["command"]
        assert command[command.index("--max-time") + 1] == str(patience)
        assert probe["timeoutSeconds"] > patience, "curl says why it gave up; kubelet does not"


def test_an_error_is_found_within_15_seconds() -> None:
    triton = containers(access={"timeoutSeconds": 600})["triton"]
    for probe in (triton["readinessProbe"], triton["livenessProbe"]):
        assert probe["periodSeconds"] * probe["failureThreshold"] <= 15


@pytest.mark.parametrize(("mebibytes", "uploads"), [(1, 256), (8, 256), (64, 32), (1024, 2), (2048, 2)])
def test_the_spool_has_room_for_all_uploads_at_their_largest(mebibytes: int, uploads: int) -> None:
    access = {"maxBodyMebibytes": mebibytes}
    environment = {entry["name"]: entry["value"] for entry in containers(access=access)["gateway"]["env"]}
    volumes = child("Deployment", access=access)["spec"]["template"]["spec"]["volumes"]
    (spool,) = (volume["emptyDir"]["sizeLimit"] for volume in volumes if volume["name"] == "gateway-tmp")
    assert environment["GATEWAY_UPLOADS"] == str(uploads)
    over_both_protocols = min(int(environment["GATEWAY_REQUESTS"]), 2 * uploads)
    assert int(spool.removesuffix("Mi")) > over_both_protocols * mebibytes


@pytest.mark.parametrize(
    ("mebibytes", "turns", "memory"), [(1, 4, 472), (8, 4, 640), (64, 4, 1984), (200, 1, 1648), (1024, 1, 6592)]
)
def test_the_gateway_has_memory_for_the_large_bodies_whose_turn_it_is(mebibytes: int, turns: int, memory: int) -> None:
    gateway = containers(access={"maxBodyMebibytes": mebibytes})["gateway"]
    environment = {entry["name"]: entry["value"] for entry in gateway["env"]}
    assert environment["GATEWAY_TURNS"] == str(turns)
    assert gateway["resources"]["limits"]["memory"] == f"{memory}Mi"


def test_all_names_are_the_deployments() -> None:
    selector = {"modelship.dev/kind": "ModelDeployment", "modelship.dev/name": "churn"}
    deployment = child("Deployment")
    assert {item["metadata"]["name"] for item in made()} == {"churn"}
    assert deployment["spec"]["selector"]["matchLabels"] == selector
    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert child("Service")["spec"]["selector"] == selector
    assert child("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == selector
    assert child("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector


@pytest.mark.parametrize(
    ("peers", "client_rules"),
    [
        (None, [{"ports": [{"port": 8000, "protocol": "TCP"}, {"port": 8001, "protocol": "TCP"}]}]),
        ([], []),
    ],
    ids=["everybody", "nobody"],
)
def test_who_may_connect(peers: list[Any] | None, client_rules: list[Any]) -> None:
    access = {} if peers is None else {"from": peers}
    rules = child("NetworkPolicy", access=access)["spec"]["ingress"]
    assert [rule for rule in rules if rule["ports"][0]["port"] != 8002] == client_rules


def test_nothing_leaves_a_serving_pod() -> None:
    spec = child("NetworkPolicy")["spec"]
    assert "Egress" in spec["policyTypes"]
    assert "egress" not in spec


def test_what_is_held_keeps_its_pods() -> None:
    observed = {**child("Deployment"), "status": {"replicas": 1}}
    held = scaled(observed, 4)
    assert held["spec"]["template"] == observed["spec"]["template"]
    assert held["spec"]["replicas"] == 4
    assert "status" not in held


def test_building_changes_nothing_that_it_was_given() -> None:
    parsed = ModelDeploymentSpec.model_validate({"modelRef": {"training": "churn"}, **FULL})
    serving = Serving(OWNER, parsed, ARTIFACT)
    assert children(SETTINGS, serving) == children(SETTINGS, serving)

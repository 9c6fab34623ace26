"""What a platform engineer and a security reviewer check: scheduling, rights, restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Kubectl, example, helper_pod, named

OPERATOR = "system:serviceaccount:modelship-system:modelship"


@pytest.fixture
def three_gpus(kubectl: Kubectl) -> Iterator[None]:
    """Extended resources on the node's status, as a device plugin would report them."""
    node = kubectl("get", "nodes", "-o", "name").split()[0].removeprefix("node/")
    patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": "3"}]
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))
    kubectl.wait(
        "node", node, lambda item: item["status"]["allocatable"].get("nvidia.com/gpu") == "3", seconds=60, what="given GPUs"
    )
    yield
    patch = [{"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"}]
    kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))


@pytest.mark.usefixtures("three_gpus")
def test_a_run_that_finds_no_gpu_waits_in_words_and_runs_when_one_is_freed(kubectl: Kubectl, image_names: dict[str, str]) -> None:
    holder = helper_pod("holder", image_names["OPERATOR"], "import time; time.sleep(600)")
    holder["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "2"}}
    kubectl.apply(holder)
    kubectl.wait("pod", "holder", lambda item: item["status"].get("phase") == "Running", seconds=60, what="running")
    compute = {"cpu": "1", "memory": "2Gi", "accelerator": {"type": "gpu", "count": 2}}
    kubectl.apply(named(example("tabular", "ModelTraining", compute=compute), "two-gpus"))
    message = kubectl.reason("mt", "two-gpus", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in message
    assert "waiting since" in message
    kubectl("delete", "pod", "holder")
    kubectl.ready("mt", "two-gpus")
    job = kubectl.list("jobs", "modelship.dev/name=two-gpus")[0]
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("create", "jobs.batch", True),
        ("patch", "modeltrainings.modelship.dev/status", True),
        ("watch", "pods", True),
        ("get", "secrets", False),
        ("list", "secrets", False),
        ("watch", "secrets", False),
        ("create", "pods/exec", False),
        ("create", "pods", False),
        ("delete", "modeltrainings.modelship.dev", False),
        ("patch", "modeltrainings.modelship.dev", False),
        ("get", "configmaps", False),
        ("get", "nodes", False),
        ("create", "clusterroles.rbac.authorization.k8s.io", False),
        ("impersonate", "users", False),
        ("*", "*", False),
    ],
)
def test_the_operator_has_these_rights_and_no_others(kubectl: Kubectl, verb: str, resource: str, allowed: bool) -> None:
    answer = kubectl("auth", "can-i", verb, resource, "--as", OPERATOR, check=False).strip()
    assert answer == ("yes" if allowed else "no")


def test_a_restarted_operator_repeats_nothing(kubectl: Kubectl) -> None:
    """A finished run, its Job deleted, the operator restarted: no new Job, the same resourceVersion."""
    kubectl.apply(named(example("tabular", "ModelTraining"), "once"))
    kubectl.ready("mt", "once")
    kubectl("delete", "job", "once-train")
    before = kubectl.get("mt", "once")["metadata"]["resourceVersion"]
    system = Kubectl("modelship-system", kubectl.binary)
    system("rollout", "restart", "deployment")
    system("rollout", "status", "deployment", "--timeout=120s")
    kubectl.apply(named(example("tabular", "ModelTraining"), "after"))
    kubectl.ready("mt", "after")
    assert kubectl.get("mt", "once")["metadata"]["resourceVersion"] == before
    assert not kubectl.list("jobs", "modelship.dev/name=once")

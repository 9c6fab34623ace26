"""What a platform engineer checks: scheduling of accelerators, and restarts of the operator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Kubectl, example, helper_pod, named


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
    compute = {"accelerator": {"type": "gpu", "count": 2}}
    kubectl.apply(named(example("tabular", "ModelTraining", compute=compute), "two-gpus"))
    message = kubectl.reason("mt", "two-gpus", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in message
    assert "waiting since" in message
    kubectl("delete", "pod", "holder")
    kubectl.ready("mt", "two-gpus")
    job = kubectl.list("jobs", "modelship.dev/name=two-gpus")[0]
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_a_restarted_operator_repeats_nothing(kubectl: Kubectl) -> None:
    """A finished run, its Job deleted, the operator restarted: no new Job, the same resourceVersion."""
    kubectl.apply(named(example("tabular", "ModelTraining"), "once"))
    kubectl.ready("mt", "once")
    kubectl("delete", "job", "once-train")
    before = kubectl.get("mt", "once")["metadata"]["resourceVersion"]
    system = Kubectl("modelship-system", kubectl.binary)
    system("rollout", "restart", "deployment/modelship")
    system("rollout", "status", "deployment/modelship", "--timeout=120s")
    kubectl.apply(named(example("tabular", "ModelTraining"), "after"))
    kubectl.ready("mt", "after")
    assert kubectl.get("mt", "once")["metadata"]["resourceVersion"] == before
    assert not kubectl.list("jobs", "modelship.dev/name=once")
    assert kubectl.list("jobs", "modelship.dev/name=after"), "so the selector is right"

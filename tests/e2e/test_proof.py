"""What is served is what was proven: a flipped byte does not start, a killed run ends with the very same bytes."""

from __future__ import annotations

import re

import pytest

from tests.e2e.cluster import Kubectl, Object, eventually, example, helper_pod, named, run_pod

FLIP = """
import os, pathlib
path = pathlib.Path(os.environ["FILE"])
data = bytearray(path.read_bytes())
data[len(data) // 2] ^= 1
os.chmod(path.parent, 0o755)
path.unlink()
path.write_bytes(data)
"""


@pytest.fixture(scope="module")
def proven(kubectl: Kubectl) -> Object:
    kubectl.apply(*(example("image", kind) for kind in ("ModelTraining", "ModelEvaluation")))
    kubectl.ready("me", "digits-holdout")
    return kubectl.ready("mt", "digits")


def test_a_flipped_byte_does_not_start(kubectl: Kubectl, proven: Object, image_names: dict[str, str]) -> None:
    """After the evaluation, one bit of the graph changes in the store: the init step names the file and nothing serves."""
    folder = proven["status"]["artifact"]["uri"].removeprefix("pvc://models/")
    log = run_pod(
        kubectl, helper_pod("flip", image_names["OPERATOR"], FLIP, claim="models", env={"FILE": f"/store/{folder}/model.onnx"})
    )
    assert log == ""
    kubectl.apply(named(example("image", "ModelDeployment"), "tampered"))
    message = kubectl.reason("md", "tampered", "DigestMismatch")
    assert "model.onnx is sha256:" in message
    assert "nothing was started" in message
    pods = kubectl.list("pods", "modelship.dev/name=tampered,modelship.dev/kind=ModelDeployment")
    assert all(not status.get("started") for pod in pods for status in pod["status"].get("containerStatuses", []))


def test_a_killed_pod_goes_on_from_its_checkpoint_to_the_same_bytes(kubectl: Kubectl) -> None:
    """The run whose pod is deleted in the middle publishes the digest of the run that nobody disturbed."""
    longer = {key: value for key, value in example("image", "ModelTraining")["spec"]["training"].items() if key != "earlyStopping"}
    spec = {"training": longer | {"epochs": 120}}
    kubectl.apply(named(example("image", "ModelTraining", **spec), "undisturbed"))
    undisturbed = kubectl.ready("mt", "undisturbed")
    kubectl.apply(named(example("image", "ModelTraining", **spec), "killed"))
    first = delete_pod_in_the_middle(kubectl, "killed")
    killed = kubectl.ready("mt", "killed")
    assert killed["status"]["artifact"]["digest"] == undisturbed["status"]["artifact"]["digest"]
    (second,) = kubectl.list("pods", pods_of("killed"))
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert re.search(r"resuming after step [1-9]", kubectl("logs", second["metadata"]["name"]))
    assert len(kubectl.list("jobs", pods_of("killed"))) == 1, "the Job replaces its pod: no second Job"


def pods_of(training: str) -> str:
    return f"modelship.dev/name={training},modelship.dev/kind=ModelTraining"


def delete_pod_in_the_middle(kubectl: Kubectl, name: str) -> Object:
    """Delete the pod of a training that has done some epochs and not all; the pod as it was."""

    def trains() -> bool:
        pods = kubectl.list("pods", pods_of(name))
        return bool(pods) and bool(
            re.search(r"epoch ([5-9]|[1-9]\d)/120", kubectl("logs", pods[0]["metadata"]["name"], check=False))
        )

    assert eventually(trains, 120), kubectl.story("mt", name)
    (pod,) = kubectl.list("pods", pods_of(name))
    kubectl("delete", "pod", pod["metadata"]["name"], "--wait=true")
    assert kubectl.get("mt", name)["status"].get("phase") != "Succeeded", "it was deleted too late to show anything"
    return pod

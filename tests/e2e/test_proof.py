"""What is served is what was proven: a flipped byte does not start, a killed run ends with the very same bytes."""

from __future__ import annotations

import json

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
    spec = example("image", "ModelTraining")["spec"]
    longer = {**spec["training"], "epochs": 30, "earlyStopping": None}
    longer.pop("earlyStopping")
    for name in ("undisturbed", "killed"):
        kubectl.apply(named(example("image", "ModelTraining", training=longer), name))
        if name == "killed":
            kill_in_the_middle(kubectl, name)
        kubectl.ready("mt", name, seconds=400)
    first, second = (kubectl.get("mt", name)["status"] for name in ("undisturbed", "killed"))
    assert first["artifact"]["digest"] == second["artifact"]["digest"]
    log = kubectl("logs", "-l", "modelship.dev/name=killed", "--tail=-1")
    assert "resum" in log.lower()


def kill_in_the_middle(kubectl: Kubectl, name: str) -> None:
    selector = f"modelship.dev/name={name},modelship.dev/kind=ModelTraining"

    def trains() -> bool:
        pods = kubectl.list("pods", selector)
        return bool(pods) and "epoch 5/" in kubectl("logs", pods[0]["metadata"]["name"], check=False)

    assert eventually(trains, 240), kubectl.story("mt", name)
    before = {pod["metadata"]["uid"] for pod in kubectl.list("pods", selector)}
    kubectl("delete", "pods", "-l", selector, "--wait=true")
    assert json.loads(kubectl("get", "mt", name, "-o", "json"))["status"]["phase"] != "Succeeded"
    assert eventually(lambda: {pod["metadata"]["uid"] for pod in kubectl.list("pods", selector)} - before != set(), 120)

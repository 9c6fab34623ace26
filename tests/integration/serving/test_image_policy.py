"""The admission policy that docs/security.md shows, as a real API server takes it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.controlplane import ControlPlane

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).parents[3] / "docs/security.md"
OURS, THEIRS = "registry.example.com/team/image:1", "registry.example.com.evil.example/image:1"
TRAINING = {
    "data": {"source": "sklearn://digits"},
    "model": {"mlp": {"hidden": [8]}},
    "training": {"task": "classification", "epochs": 1},
}
EVALUATION = {"modelRef": {"training": "digits"}, "method": {"holdout": {}}, "metrics": ["accuracy"]}
CASES = {
    "ModelTraining": (TRAINING, "compute"),
    "ModelEvaluation": (EVALUATION, "compute"),
    "ModelDeployment": ({"modelRef": {"training": "digits"}}, "runtime"),
}


@pytest.fixture(scope="module")
def policy(plane: ControlPlane) -> Iterator[None]:
    """For this module: other tests use other images on the same server."""
    (text,) = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.S)
    applied = plane.kubectl("apply", "-f", "-", stdin=text)
    assert applied.returncode == 0, applied.stderr
    yield
    deleted = plane.kubectl("delete", "-f", "-", stdin=text)
    assert deleted.returncode == 0, deleted.stderr


def create(api: httpx.Client, namespace: str, kind: str, image: str | None) -> httpx.Response:
    spec, part = CASES[kind]
    item: dict[str, Any] = {
        "apiVersion": "modelship.dev/v1alpha1",
        "kind": kind,
        "metadata": {"generateName": "judged-"},
        "spec": spec | ({part: {"image": image}} if image else {}),
    }
    return api.post(f"/apis/modelship.dev/v1alpha1/namespaces/{namespace}/{kind.lower()}s", json=item)


@pytest.mark.parametrize("kind", CASES)
def test_only_images_of_the_registry_are_admitted(api: httpx.Client, policy: None, namespace: str, kind: str) -> None:
    refused = refused_within(30, api, namespace, kind)
    assert refused.json()["message"].endswith(f"images must be of registry.example.com/, not {THEIRS}")
    for image in (OURS, None):
        admitted = create(api, namespace, kind, image)
        assert admitted.status_code == 201, admitted.text


def refused_within(seconds: float, api: httpx.Client, namespace: str, kind: str) -> httpx.Response:
    """The API server takes a moment to learn of a policy."""
    deadline = time.monotonic() + seconds
    while (answer := create(api, namespace, kind, THEIRS)).status_code != 403:
        assert answer.status_code == 201, answer.text
        assert time.monotonic() < deadline, "the policy was never enforced"
        time.sleep(0.1)
    return answer

"""The kind cluster of `make cluster`, with the operator of `make install`; a namespace for each test module."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT, Kubectl, images, store_claim

SESSION = {"test.modelship.dev/session": secrets.token_hex(4)}
"""Label of the namespaces that this run has made."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def kubectl_binary() -> Iterator[str]:
    folder = subprocess.run([ROOT / "tools/bin-path", "kubectl"], check=True, capture_output=True, text=True).stdout.strip()
    binary = f"{folder}/kubectl"
    operator = Kubectl("modelship-system", binary).run("rollout", "status", "deployment", "--timeout=120s")
    assert operator.returncode == 0, f"the end-to-end tests need `make cluster images install`: {operator.stderr}"
    yield binary
    # Nothing of ours may keep a namespace from going.
    (selector,) = (f"{key}={value}" for key, value in SESSION.items())
    left = Kubectl("default", binary).run("wait", "namespace", "-l", selector, "--for=delete", "--timeout=120s")
    assert left.returncode == 0, left.stderr


@pytest.fixture(scope="session")
def image_names() -> dict[str, str]:
    return images()


@pytest.fixture(scope="module")
def kubectl(request: pytest.FixtureRequest, kubectl_binary: str) -> Iterator[Kubectl]:
    """kubectl in a fresh namespace under the restricted Pod Security Standard, with the claim `models`."""
    name = "e2e-" + request.module.__name__.rsplit(".", 1)[-1].removeprefix("test_").replace("_", "-")
    admin = Kubectl("default", kubectl_binary)
    admin("delete", "namespace", name, "--ignore-not-found", "--wait=true")
    labels = SESSION | {"pod-security.kubernetes.io/enforce": "restricted"}
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    inside = Kubectl(name, kubectl_binary)
    inside.apply(store_claim())
    yield inside
    admin("delete", "namespace", name, "--wait=false")

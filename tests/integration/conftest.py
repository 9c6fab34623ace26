"""A kube-apiserver with etcd and an audit log for the whole session, with our CRDs; a namespace for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import httpx
import pytest
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.kubelet import Namespace, operator_process

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """The API server, which knows our kinds."""
    with control_plane(audit=True) as running:
        running.install_crds()
        yield running


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Iterator[httpx.Client]:
    """The admin's HTTP client."""
    with plane.client() as client:
        yield client


@pytest.fixture
def namespace(api: httpx.Client) -> str:
    """A fresh namespace; it is left behind, as the whole server is thrown away."""
    name = f"test-{next(_numbers)}"
    api.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    return name


@pytest.fixture
def here(plane: ControlPlane) -> Iterator[Namespace]:
    """A namespace with an operator for it alone."""
    with (
        Namespace.made(plane) as made,
        operator_process(plane, MODELSHIP_NAMESPACES=made.name, MODELSHIP_POD_NAMESPACE=made.name),
    ):
        yield made

"""A kube-apiserver with etcd for the whole session, with our CRDs; a namespace for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import httpx
import pytest
from tests.support.controlplane import ControlPlane, control_plane

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """The API server, which knows our kinds."""
    with control_plane() as running:
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

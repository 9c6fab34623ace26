"""`modelship upload` from file to claim, and a port of a pod, over the channel protocol of Kubernetes' WebSockets."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import pytest
from tests.unit.cli.fake_cluster import fake_cluster

from modelship_operator.api.pod import Pod
from modelship_operator.cli.client import CommandError
from modelship_operator.cli.forward import forward
from modelship_operator.cli.upload import measure, receiver, receiver_pod, send

pytestmark = pytest.mark.unit

DATA = bytes(range(256)) * 4096
GROUPS = (("Impersonate-User", "ada"), ("Impersonate-Group", "risk"), ("Impersonate-Group", "ops"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "churn.csv"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "claim").mkdir()
    return tmp_path / "claim"


def test_the_file_arrives_as_the_impersonated_user(file: Path, claim: Path) -> None:
    size, digest = measure(file)
    pod = receiver_pod("i", "models", receiver("models", "in/churn.csv", size, digest, replace=False))
    with fake_cluster(claim, *GROUPS) as (fake, cluster):
        send(cluster, file, pod, "pvc://models/in/churn.csv")
    assert (claim / "in/churn.csv").read_bytes() == DATA
    assert fake.deleted == [pod["metadata"]["name"]]
    assert {tuple(groups) for _, _, groups in fake.asked} == {("risk", "ops")}
    assert any(path.endswith("/attach") for _, path, _ in fake.asked)


def test_why_the_pod_did_not_store_it_is_told(file: Path, claim: Path) -> None:
    (claim / "churn.csv").write_text("old")
    size, digest = measure(file)
    pod = receiver_pod("i", "models", receiver("models", "churn.csv", size, digest, replace=False))
    with fake_cluster(claim) as (fake, cluster), pytest.raises(CommandError, match="exists already; --force replaces it"):
        send(cluster, file, pod, "pvc://models/churn.csv")
    assert (claim / "churn.csv").read_text() == "old"
    assert fake.deleted == [pod["metadata"]["name"]]


def test_a_file_that_changes_meanwhile_is_not_stored(file: Path, claim: Path) -> None:
    size, digest = measure(file)
    file.write_bytes(b"x" + DATA[1:])
    pod = receiver_pod("i", "models", receiver("models", "churn.csv", size, digest, replace=False))
    with fake_cluster(claim) as (_, cluster), pytest.raises(CommandError, match="did not arrive whole"):
        send(cluster, file, pod, "pvc://models/churn.csv")
    assert list(claim.iterdir()) == []


def test_the_pod_is_what_the_cluster_asks_of_pods(file: Path) -> None:
    asked = Pod.model_validate({"labels": {"cost": "42"}, "runAs": {"platform": True}, "imagePullSecrets": ["registry"]})
    pod = receiver_pod("i", "models", ["true"], asked)
    assert pod["metadata"]["labels"] == {"cost": "42", "app.kubernetes.io/managed-by": "modelship-cli"}
    assert pod["spec"]["securityContext"].keys() == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_a_port_of_a_pod(claim: Path) -> None:
    with (
        fake_cluster(claim, *GROUPS) as (fake, cluster),
        forward(cluster, "churn-0", 8000) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as near,
    ):
        near.sendall(DATA[:100_000])
        got = b""
        while len(got) < 100_000:
            got += near.recv(65536)
    assert hashlib.sha256(got).digest() == hashlib.sha256(DATA[:100_000]).digest()
    assert fake.asked == [("GET", "/api/v1/namespaces/default/pods/churn-0/portforward", ["risk", "ops"])]

"""The command line before a real API server: as whom it acts, by which way, and that the built-in role `edit` is enough."""

from __future__ import annotations

import argparse
import base64
import copy
import itertools
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes.client import AuthenticationV1Api
from tests.support.controlplane import ControlPlane

from modelship_operator.cli import kubeconfig, main
from modelship_operator.cli.client import Cluster, CommandError

pytestmark = pytest.mark.integration
Json = dict[str, Any]
Write = Callable[..., Path]
_numbers = itertools.count()


@pytest.fixture
def admin(plane: ControlPlane) -> Json:
    read: Json = yaml.safe_load(plane.kubeconfig().read_text())
    return read


@pytest.fixture
def write(admin: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A kubeconfig of the admin, with these fields of its user and cluster, or without those that are None; in KUBECONFIG."""

    def made(*, user: Json | None = None, cluster: Json | None = None, **top: Any) -> Path:
        content = copy.deepcopy(admin) | top
        for kind, changes in (("user", user), ("cluster", cluster)):
            entry = content[f"{kind}s"][0]
            entry[kind] = {key: value for key, value in (entry[kind] | (changes or {})).items() if value is not None}
        path = tmp_path / f"config-{next(_numbers)}"
        path.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("KUBECONFIG", str(path))
        return path

    return made


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    kubeconfig.add_arguments(parser)
    return parser.parse_args(arguments)


def who_am_i(*arguments: str) -> Json:
    cluster = Cluster.of(options(*arguments))
    info: Json = cluster.api(AuthenticationV1Api).create_self_subject_review({}).status.user_info.to_dict()
    return info


def attach(*arguments: str) -> str:
    """What the API server says to a WebSocket: there is no such pod, or that this user may not ask."""
    cluster = Cluster.of(options(*arguments))
    with pytest.raises(CommandError) as refused:
        cluster.websocket("/api/v1/namespaces/default/pods/absent/attach", [("stdin", "true")])
    return str(refused.value)


# --- as whom ------------------------------------------------------------------------------------------------------------------


def test_impersonation_of_the_kubeconfig_is_honoured(write: Write) -> None:
    extra = {"scopes": ["read", "write"], "example.com/team": ["risk"]}
    write(user={"as": "ada", "as-uid": "42", "as-groups": ["risk", "audit, all"], "as-user-extra": extra})
    seen = who_am_i()
    assert (seen["username"], seen["uid"], seen["extra"]) == ("ada", "42", extra)
    assert {"risk", "audit, all"} <= set(seen["groups"])
    assert "system:masters" not in seen["groups"]
    assert 'User "ada" cannot' in attach()


def test_options_go_before_the_kubeconfig(write: Write) -> None:
    write(user={"as": "ada"})
    seen = who_am_i("--as", "bob", "--as-group", "ops", "--as-uid", "7")
    assert (seen["username"], seen["uid"]) == ("bob", "7")
    assert "ops" in seen["groups"]


def test_without_impersonation_it_is_the_user(write: Write) -> None:
    write()
    assert who_am_i()["username"] == "admin"
    assert 'pods "absent" not found' in attach()


@pytest.mark.parametrize(
    "command", [["upload", __file__, "pvc://models/a.csv"], ["report", "x"], ["predict", "x", "-f", "rows.json"]]
)
def test_every_command_acts_as_the_impersonated_user(
    write: Write, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.json").write_text("[{}]")
    monkeypatch.chdir(tmp_path)
    write(user={"as": "ada"})
    assert main(command) == 1
    said = capsys.readouterr().err
    assert 'User "ada" cannot' in said or "no image for the pod is known" in said


# --- which file ---------------------------------------------------------------------------------------------------------------


def test_of_several_files_the_first_counts(
    write: Write, plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in kubectl: the first current context, and of what is there twice the first; files that are not there are left out."""
    first = write(contexts=[{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": "one"}}])
    second = tmp_path / "second"
    second.write_text(yaml.safe_dump({"current-context": "other", "contexts": [{"name": "other", "context": {"cluster": "x"}}]}))
    empty = tmp_path / "empty"
    empty.touch()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{empty}:{first}:{second}")
    assert Cluster.of(options()).namespace == "one"
    assert who_am_i()["username"] == "admin"
    monkeypatch.setenv("KUBECONFIG", str(second))
    assert who_am_i("--kubeconfig", str(first))["username"] == "admin"


@pytest.mark.parametrize(
    ("user", "cluster", "arguments", "said"),
    [
        ({"as-groups": ["ops"]}, {}, [], "needs a user"),
        ({}, {"proxy-url": "socks5://127.0.0.1:1"}, [], "proxy-url socks5://127.0.0.1 is not supported"),
        ({"tokenFile": "/token"}, {}, [], "both token and tokenFile"),
        (
            {"token": None, "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "false"}},
            {},
            [],
            "plugin false gave no",
        ),
        ({}, {}, ["--context", "absent"], 'has no context "absent"'),
        ({}, {}, ["--kubeconfig", "absent"], "kubeconfig absent: No such file"),
    ],
    ids=["groups alone", "socks", "two tokens", "plugin", "context", "file"],
)
def test_what_cannot_be_honoured_is_refused(write: Write, user: Json, cluster: Json, arguments: list[str], said: str) -> None:
    write(user=user, cluster=cluster)
    with pytest.raises(CommandError, match=said):
        Cluster.of(options(*arguments))


# --- by which way -------------------------------------------------------------------------------------------------------------


def test_a_login_plugin_is_asked(write: Write, plane: ControlPlane, tmp_path: Path) -> None:
    api = "client.authentication.k8s.io/v1"
    credential = {"apiVersion": api, "kind": "ExecCredential", "status": {"token": plane.token}}
    (tmp_path / "credential.json").write_text(json.dumps(credential))
    write(user={"token": None, "exec": {"apiVersion": api, "command": "cat", "args": [str(tmp_path / "credential.json")]}})
    assert who_am_i()["username"] == "admin"
    assert "not found" in attach()


def test_the_servers_name_is_checked(write: Write) -> None:
    write(cluster={"tls-server-name": "kubernetes.default"})
    assert who_am_i()["username"] == "admin"
    assert "not found" in attach()
    write(cluster={"tls-server-name": "other.example"})
    assert "does not answer" in attach()


def test_a_certificate_that_nobody_vouches_for(write: Write) -> None:
    write(cluster={"certificate-authority": None, "insecure-skip-tls-verify": True})
    assert who_am_i()["username"] == "admin"
    assert "not found" in attach()
    write(cluster={"certificate-authority": None})
    assert "does not answer" in attach()


def test_a_proxy_with_a_login(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """As kubectl does, whatever the environment says."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with proxy() as (port, asked):
        write(cluster={"proxy-url": f"http://ada:p%40ss@127.0.0.1:{port}"})
        assert who_am_i()["username"] == "admin"
        assert "not found" in attach()
    login = base64.b64encode(b"ada:p@ss").decode()
    assert len(asked) == 2
    assert all(f"Basic {login}" in request for request in asked)


@contextmanager
def proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that makes tunnels; its port, and the heads of what it was asked."""
    asked: list[str] = []

    def serve(near: socket.socket) -> None:
        head = near.recv(65536).decode()
        asked.append(head)
        host, port = head.split()[1].rsplit(":", 1)
        with near, socket.create_connection((host, int(port))) as far:
            near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


# --- with which rights --------------------------------------------------------------------------------------------------------

EDIT = ("system:aggregate-to-edit", "system:aggregate-to-view")
"""What the role `edit` consists of; no controller puts it together here."""


@pytest.fixture
def editor(api: httpx.Client, write: Write, namespace: str) -> str:
    """A namespace that ada may edit, and a kubeconfig with which one is ada in it; the chart's ConfigMap, which she may read."""
    for role in EDIT:
        bind(api, namespace, role, "ClusterRole", {"kind": "User", "name": "ada"})
    if api.get("/api/v1/namespaces/modelship-system").status_code == 404:
        api.post("/api/v1/namespaces", json={"metadata": {"name": "modelship-system"}}).raise_for_status()
        published = {"metadata": {"name": "modelship-client"}, "data": {"image": "operator:7"}}
        api.post("/api/v1/namespaces/modelship-system/configmaps", json=published).raise_for_status()
        rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["modelship-client"], "verbs": ["get"]}
        roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/modelship-system/roles"
        api.post(roles, json={"metadata": {"name": "modelship-client"}, "rules": [rule]}).raise_for_status()
        bind(api, "modelship-system", "modelship-client", "Role", {"kind": "Group", "name": "system:authenticated"})
    write(user={"as": "ada"}, contexts=[{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": namespace}}])
    return namespace


def bind(api: httpx.Client, namespace: str, role: str, kind: str, subject: Json) -> None:
    group = "rbac.authorization.k8s.io"
    binding = {
        "metadata": {"name": role.replace(":", "-")},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"apiGroup": group, **subject}],
    }
    api.post(f"/apis/{group}/v1/namespaces/{namespace}/rolebindings", json=binding).raise_for_status()


def make_claim(api: httpx.Client, namespace: str, phase: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    api.post(path, json={"metadata": {"name": "models"}, "spec": spec}).raise_for_status()
    patch = {"Content-Type": "application/merge-patch+json"}
    api.patch(f"{path}/models/status", json={"status": {"phase": phase}}, headers=patch).raise_for_status()


def upload(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["upload", __file__, "pvc://models/a.csv", *more]) == 1
    return capsys.readouterr().err


def test_a_claim_that_does_not_exist_is_told_at_once(editor: str, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert f'claim "models" does not exist in namespace {editor}' in upload(capsys)
    assert time.monotonic() - started < 10


def test_a_claim_that_nothing_can_bind_is_told_at_once(editor: str, api: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    make_claim(api, editor, "Pending")
    why = "no persistent volumes available for this claim and no storage class is set"
    event = {
        "metadata": {"name": "models.1"},
        "involvedObject": {"kind": "PersistentVolumeClaim", "name": "models", "namespace": editor},
        "reason": "FailedBinding",
        "message": why,
        "type": "Normal",
    }
    api.post(f"/api/v1/namespaces/{editor}/events", json=event).raise_for_status()
    assert f'claim "models" cannot be bound: {why}' in upload(capsys)


def test_the_role_edit_is_enough(editor: str, api: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """The pod is there with the published image, asks for next to nothing, and is gone when it failed."""
    make_claim(api, editor, "Bound")
    pods = f"/api/v1/namespaces/{editor}/pods"
    seen: list[Json] = []

    def kubelet() -> None:
        while not (items := api.get(pods).json()["items"]):
            pass
        seen.extend(items)
        patch = {"Content-Type": "application/merge-patch+json"}
        status = {"phase": "Failed", "message": "The node was low on resource: memory."}
        api.patch(f"{pods}/{items[0]['metadata']['name']}/status", json={"status": status}, headers=patch).raise_for_status()

    acting = threading.Thread(target=kubelet)
    acting.start()
    said = upload(capsys)
    acting.join()
    assert "pvc://models/a.csv: The node was low on resource: memory." in said
    (container,) = seen[0]["spec"]["containers"]
    assert container["image"] == "operator:7"
    assert container["resources"]["requests"] == {"cpu": "10m", "memory": "32Mi"}
    assert api.get(pods).json()["items"] == []

"""What the node is built from and told, on machines that differ."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_engine import FakeEngine
from tools.localcluster import base_image, cluster, gotools
from tools.localcluster.base_image import debian_sources
from tools.localcluster.cluster import configuration, is_alive, next_step
from tools.localcluster.console import Failure
from tools.localcluster.engine import Engine, NoEngine, forget_dead_podman
from tools.localcluster.machine import lacks
from tools.localcluster.node_image import component_images, storage_manifest

pytestmark = pytest.mark.unit

SOURCES = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
OTHER = "Types: deb\nURIs: https://else.example\nSuites: nodistro\nComponents: main\n"


def test_the_machine_s_mirror_of_the_release_is_used_with_its_updates() -> None:
    mirror, entries = debian_sources([OTHER, SOURCES], "bookworm")
    assert mirror == "http://mirror.example/debian"
    assert "bookworm-security" in entries
    assert "else.example" not in entries
    assert "comment" not in entries


def test_a_machine_of_another_release_names_no_mirror() -> None:
    assert debian_sources([SOURCES], "trixie") == ("", "")


def test_a_plain_machine_gets_kind_s_own_configuration() -> None:
    assert set(yaml.safe_load(configuration(cgroup_v2=True, may_lower_oom_score=True))) == {"kind", "apiVersion", "nodes"}


def test_cgroup_v1_and_a_missing_capability_are_configured() -> None:
    found = yaml.safe_load(configuration(cgroup_v2=False, may_lower_oom_score=False))
    assert yaml.safe_load(found["kubeadmConfigPatches"][0]) == {
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
    }
    assert "SystemdCgroup = false" in found["containerdConfigPatches"][0]
    assert "restrict_oom_score_adj = true" in found["containerdConfigPatches"][0]


def test_each_image_that_kubeadm_asks_for_is_named() -> None:
    images = component_images(["registry.example/coredns/coredns:v1", "registry.example/etcd:3.6.8-0"], "v2.1.0")
    assert images["coredns"] == "registry.example/coredns/coredns:v1"
    assert images["etcd"] == "registry.example/etcd:3.6.8-0"


def test_an_image_that_nothing_builds_is_an_error() -> None:
    with pytest.raises(Failure, match=r"registry\.example/new-thing:v1"):
        component_images(["registry.example/new-thing:v1"], "v2.1.0")


def test_the_storage_manifest_names_our_images() -> None:
    source = "const defaultStorageManifest = `\nimage: ` + storageProvisionerImage + `\n- ` + storageHelperImage + `\n`\n"
    assert storage_manifest(source, "ours:1", "helper:1") == "\nimage: ours:1\n- helper:1\n"


def test_podman_s_memory_from_before_the_boot_goes(tmp_path: Path) -> None:
    alive = tmp_path / "libpod" / "alive"
    alive.parent.mkdir()
    alive.touch()
    os.utime(alive, (1000, 1000))
    assert not forget_dead_podman(tmp_path, boot_time=999)
    assert alive.exists()
    assert forget_dead_podman(tmp_path, boot_time=1001)
    assert not alive.exists()
    assert not forget_dead_podman(tmp_path, boot_time=1001)


@pytest.mark.parametrize("name", gotools.PROGRAMS)
def test_each_go_program_is_pinned(name: str) -> None:
    program = gotools.PROGRAMS[name]
    text = (gotools.REPO / "tools" / program.folder / "go.mod").read_text()
    if program.package.startswith("modelship.dev/"):
        assert (gotools.REPO / "tools" / name / "main.go").exists()
    else:
        assert f"{program.package}\n" in text, f"go.mod has no tool directive for {program.package}"
    if program.requires:
        assert gotools.pinned_version(name).startswith("v")


def test_what_several_go_programs_import_is_of_one_version() -> None:
    def versions(folder: str) -> dict[str, str]:
        text = (gotools.REPO / "tools" / folder / "go.mod").read_text()
        replaced = dict(re.findall(r"^replace (\S+) => \S+ (v\S+)", text, re.M))
        return dict(re.findall(r"^(?:require )?\s*(\S+\.\S+) (v\S+)", text, re.M)) | replaced

    ours, apart = versions(""), versions("local-path-provisioner")
    shared = {module for module in ours.keys() & apart.keys() if module.startswith("k8s.io/")}
    assert {module: apart[module] for module in shared} == {module: ours[module] for module in shared}


def test_go_names_a_program_after_its_package() -> None:
    assert gotools.name_of_output("go.etcd.io/etcd/server/v3") == "server"
    assert gotools.name_of_output("k8s.io/kubernetes/cmd/kubelet") == "kubelet"


def test_an_unknown_tool_is_named() -> None:
    with pytest.raises(Failure, match="unknown tool 'kubctl'"):
        gotools.ensure(("kubctl",))


@pytest.mark.parametrize(
    ("engine", "status", "process_lives", "step"),
    [
        ("docker", "", False, "create"),
        ("docker", "running", True, "ask"),
        ("docker", "running", False, "ask"),  # Docker may run in a machine of its own
        ("docker", "exited", False, "start"),
        ("podman", "", False, "create"),
        ("podman", "running", True, "ask"),
        ("podman", "paused", True, "ask"),
        ("podman", "running", False, "replace"),
        ("podman", "exited", False, "replace"),
    ],
)
def test_a_node_is_replaced_only_where_it_cannot_come_back(engine: str, status: str, process_lives: bool, step: str) -> None:
    assert next_step(engine, status, process_lives) == step


def test_a_process_that_ended_is_not_alive_even_if_nobody_waited_for_it() -> None:
    assert is_alive(os.getpid())
    assert not is_alive(0)
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()  # until its end
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(ended.pid)
    ended.wait()


@pytest.fixture
def did(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What `up` does to the cluster, whose API server is silent unless the test says otherwise."""
    done: list[str] = []
    monkeypatch.setenv("MODELSHIP_CACHE", str(tmp_path))
    monkeypatch.setattr(gotools, "ensure", lambda programs: None)
    monkeypatch.setattr(cluster, "_answers", lambda engine, patience: False)
    monkeypatch.setattr(cluster, "_delete", lambda engine: done.append("delete"))
    monkeypatch.setattr(cluster, "_create", lambda engine, image: done.append("create"))
    monkeypatch.setattr(cluster.node_image, "ensure", lambda engine: "")
    return done


def test_a_silent_cluster_is_not_deleted(did: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    engine = FakeEngine("podman", {"ps --all": "0123", "inspect --format": f"running {os.getpid()}"})
    with pytest.raises(Failure, match=r"`make cluster-clean cluster`.*data in it will be lost"):
        cluster.up(engine)
    assert did == []


def test_a_silent_cluster_is_made_again_in_ci(did: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    engine = FakeEngine("podman", {"ps --all": "0123", "inspect --format": f"running {os.getpid()}"})
    cluster.up(engine)
    assert did == ["delete", "create"]


def test_a_stopped_cluster_is_started_under_docker(did: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_answers", lambda engine, patience: True)
    monkeypatch.setattr(cluster, "_tell_if_older", lambda engine: None)
    engine = FakeEngine("docker", {"ps --all": "0123", "inspect --format": "exited 0", f"start {cluster.NODE}": ""})
    cluster.up(engine)
    assert f"start {cluster.NODE}" in engine.asked
    assert did == []


@pytest.mark.parametrize("state", ["exited 0", "running 0"])
def test_a_node_that_podman_cannot_bring_back_is_made_again(did: list[str], state: str, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.up(FakeEngine("podman", {"ps --all": "0123", "inspect --format": state}))
    assert did == ["delete", "create"]
    assert "its data is lost" in capsys.readouterr().err


def test_kind_s_network_stays_while_anything_uses_it(did: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "KUBECONFIG", tmp_path / "kubeconfig")
    monkeypatch.setattr(cluster, "_LOGS", tmp_path / "logs")
    used, free = FakeEngine("docker", {"ps --all": "0123456789ab"}), FakeEngine("docker", {"ps --all": ""})
    for engine in (used, free):
        cluster.down(engine)
    assert "network rm kind" not in used.asked
    assert "network rm kind" in free.asked


def test_only_our_images_are_pruned_and_a_pulled_base_stays() -> None:
    pulled, bootstrapped = (
        FakeEngine("podman", {"image ls": "localhost/modelship/gateway:1\nlocalhost/theirs:1", "image inspect": labels})
        for labels in ("null", '{"dev.modelship.base": "bootstrapped"}')
    )
    for engine in (pulled, bootstrapped):
        cluster.remove_images(engine)
        assert [line for line in engine.asked if "prune" in line] == ["image prune --force --filter label=dev.modelship"]
    removed = [line for line in pulled.asked if line.startswith("image rm")]
    assert removed == ["image rm --force localhost/modelship/gateway:1"]
    assert bootstrapped.asked[-1] == "image rm debian:bookworm-slim"


def test_all_else_goes_where_no_engine_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> Engine:
        raise NoEngine("neither answers")

    monkeypatch.setattr(cluster.engines, "find", find)
    monkeypatch.setattr(cluster, "REPO", tmp_path)
    monkeypatch.setenv("MODELSHIP_CACHE", str(tmp_path / "cache"))
    (tmp_path / ".cache").mkdir()
    with pytest.raises(NoEngine):
        cluster._down(everything=False)
    cluster._down(everything=True)
    assert not (tmp_path / ".cache").exists()


def test_a_no_is_believed_for_an_hour_a_yes_for_good() -> None:
    no, yes = {"answers": False, "time": 1000.0}, {"answers": True, "time": 1000.0}
    assert base_image.believed(no, 1000.0 + 3599) is False
    assert base_image.believed(no, 1000.0 + 3600) is None
    assert base_image.believed(no, 999.0) is None, "the clock was set back"
    assert base_image.believed(yes, 1e12) is True
    assert base_image.believed(None, 1000.0) is None
    assert base_image.believed({"answers": False}, 1000.0) is None, "an older release of these tools stored no time"


def test_each_engine_is_asked_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSHIP_CACHE", str(tmp_path))
    monkeypatch.delenv("MODELSHIP_REGISTRY", raising=False)
    pull = f"pull {base_image.NAME}"
    (tmp_path / "registry.json").write_text('{"answers": false}')
    podman, docker = FakeEngine("podman", {pull: "too late"}), FakeEngine("docker", {pull: ""})
    assert [base_image.registry_answers(engine) for engine in (podman, docker, podman, docker)] == [False, True, False, True]
    assert podman.asked == docker.asked == [pull]
    monkeypatch.setattr(base_image.time, "time", lambda: os.stat(tmp_path / "registry.json").st_mtime + 3700)
    assert base_image.registry_answers(FakeEngine("podman", {pull: ""})), "asked again after an hour"


@pytest.mark.parametrize(("release", "old"), [("go1.25.9", True), ("go1.26.0", False), ("go1.26rc1", False), ("go2.0", False)])
def test_an_old_go_is_said_before_it_fails(release: str, old: bool) -> None:
    assert gotools.is_too_old(release) is old


def test_a_machine_that_cannot_run_it_is_told_why() -> None:
    assert list(lacks("Linux", "x86_64", (3, 11), tests=True)) == []
    assert list(lacks("Linux", "x86_64", (3, 13), tests=False)) == []
    (arm,) = lacks("Linux", "aarch64", (3, 12), tests=False)
    assert "x86-64" in arm
    (newer,) = lacks("Linux", "x86_64", (3, 13), tests=True)
    assert "3.11 itself" in newer
    (older,) = lacks("Linux", "x86_64", (3, 10), tests=False)
    assert "3.11 or newer" in older

"""What the node is built from and told, on machines that differ."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from tools.localcluster import gotools
from tools.localcluster.base_image import debian_sources
from tools.localcluster.cluster import configuration
from tools.localcluster.console import Failure
from tools.localcluster.engine import forget_dead_podman
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


@pytest.mark.parametrize("module", [module for module in gotools.MODULES if module.requires], ids=lambda module: module.folder)
def test_each_go_module_pins_its_tools(module: gotools.GoModule) -> None:
    text = (gotools.REPO / "tools" / module.folder / "go.mod").read_text()
    assert gotools.pinned_version(module.folder).startswith("v")
    for package in module.programs.values():
        assert f"{package}\n" in text, f"go.mod has no tool directive for {package}"


def test_an_unknown_tool_is_named() -> None:
    with pytest.raises(Failure, match="unknown tool 'kubctl'"):
        gotools.ensure(("kubctl",))

"""What is installed from Debian: what lacks for the engine that is asked for, and nothing that works is taken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[3] / "tools" / "install-debian-packages"


class Machine:
    """A Debian of a few stubs: its installed packages, and what apt-get was told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bash", "id", "mktemp", "rm", "cat", "tail"):
            (folder / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
        self.program("id", "echo 0")
        self.program("dpkg-query", f'grep -qx "${{*: -1}}" {folder}/installed && printf installed')
        self.program("apt-get", f'echo "$@" >> {folder}/apt')
        (folder / "grep").symlink_to("/bin/grep")
        (folder / "apt").touch()
        self.install("")

    def program(self, name: str, script: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        (self.folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.folder / name).chmod(0o755)

    def install(self, *packages: str) -> None:
        (self.folder / "installed").write_text("\n".join(packages))

    def apt(self, *groups: str, engine: str = "") -> list[str]:
        """The packages that the script has apt-get install for these groups."""
        environment = {"PATH": str(self.folder), **({"MODELSHIP_ENGINE": engine} if engine else {})}
        done = subprocess.run(["bash", SCRIPT, *groups], capture_output=True, text=True, env={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
        words = (self.folder / "apt").read_text().split()
        return [word for word in words if not word.startswith("-") and word != "install"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.delenv("MODELSHIP_ENGINE", raising=False)
    return Machine(tmp_path)


def test_podman_comes_without_crun(machine: Machine) -> None:
    assert machine.apt() == ["podman", "runc", "containernetworking-plugins", "iptables", "crun-"]


def test_a_crun_that_is_there_stays(machine: Machine) -> None:
    machine.install("crun")
    assert "crun-" not in machine.apt("cluster")


def test_crun_is_of_no_interest_where_podman_is_there(machine: Machine) -> None:
    machine.install("podman", "runc", "containernetworking-plugins")
    assert machine.apt("cluster") == ["iptables"]


@pytest.mark.parametrize(("engine", "wanted"), [("", False), ("docker", False), ("podman", True)])
def test_podman_is_installed_beside_docker_only_when_asked_for(machine: Machine, engine: str, wanted: bool) -> None:
    machine.program("docker", "exit 0")
    assert ("podman" in machine.apt("cluster", engine=engine)) is wanted


def test_debootstrap_is_to_be_had_where_docker_answers(machine: Machine) -> None:
    machine.program("docker", "exit 0")
    assert machine.apt("bootstrap") == ["debootstrap", "debian-archive-keyring"]

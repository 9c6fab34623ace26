"""The container engine: Docker where its daemon answers, else podman, with the settings a bare machine needs."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cache import cache_dir, lock_if_free, write_atomically
from .console import Failure, say

LABEL = "dev.modelship"
"""On every image that the tools build: what they prune is theirs, never the user's."""
BUILDS = "images"
"""The lock that all builds of images share."""
_INSTALL = "run tools/install-debian-packages (Debian or Ubuntu, as root), or install Docker or podman yourself"


class NoEngine(Failure):
    """No engine answers."""


@dataclass(frozen=True)
class Engine:
    """`name` is `docker` or `podman`; `environment` is what its commands, and kind's, run with."""

    name: str
    environment: dict[str, str]

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one engine command; by default a failure raises, and output goes to the terminal."""
        settings = {"check": True, "text": True, "env": self.environment, **options}
        return subprocess.run([self.name, *arguments], **settings)

    def output(self, *arguments: str) -> str:
        """Standard output of a command that must succeed, stripped."""
        return str(self.run(*arguments, stdout=subprocess.PIPE).stdout).strip()

    def succeeds(self, *arguments: str) -> bool:
        """Run a command silently and say whether it exits with 0."""
        quiet = {"check": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self.run(*arguments, **quiet).returncode == 0

    def has_image(self, name: str) -> bool:
        """Whether the engine holds an image of this full name."""
        return self.succeeds("image", "inspect", name)

    def prune(self) -> None:
        """Remove those of our images that have no name any more, unless a build runs: its stages have none yet."""
        with lock_if_free(BUILDS) as free:
            if free:
                self.succeeds("image", "prune", "--force", "--filter", f"label={LABEL}")


@functools.cache
def find() -> Engine:
    """`MODELSHIP_ENGINE` if set, else whichever answers; a Docker client without a daemon does not count."""
    asked = os.environ.get("MODELSHIP_ENGINE")
    if asked not in (None, "docker", "podman"):
        raise Failure(f"MODELSHIP_ENGINE is {asked!r}: set it to docker or podman, or leave it out")
    for name in [asked] if asked else ["docker", "podman"]:
        if shutil.which(name):
            engine = Engine(name, _environment(name))
            if engine.succeeds("info"):
                return engine
    if asked:
        raise NoEngine(f"`{asked} info` fails: install or start it, or unset MODELSHIP_ENGINE to use what there is")
    raise NoEngine(f"neither Docker nor podman answers: {_INSTALL}")


def forget_dead_podman(run: Path, boot_time: float) -> bool:
    """Remove what podman wrote about running containers before the machine booted; says whether there was any.

    Podman keeps it in /run, trusting that a boot empties it; on a machine whose /run is on disk, it takes dead
    containers for live ones and mounts that are gone for mounted.
    """
    alive = run / "libpod" / "alive"
    if not alive.exists() or alive.stat().st_mtime >= boot_time:
        return False
    for stale in ("libpod", "containers/storage", "cni"):
        shutil.rmtree(run / stale, ignore_errors=True)
    return True


def _boot_time() -> float:
    fields = dict(line.split(maxsplit=1) for line in Path("/proc/stat").read_text().splitlines() if " " in line)
    return float(fields["btime"])


def _environment(name: str) -> dict[str, str]:
    if name == "docker":
        return {**os.environ, "DOCKER_BUILDKIT": "1"}  # `COPY --chmod` and `RUN --mount` need it
    if os.geteuid() == 0 and forget_dead_podman(Path("/run"), _boot_time()):
        say("podman remembered containers from before the machine started: forgotten")
    Path("/lib/modules").mkdir(parents=True, exist_ok=True)  # kind mounts it; a kernel without modules has none
    environment = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": "podman", "BUILDAH_FORMAT": "docker"}
    environment.setdefault("CONTAINERS_CONF", str(_podman_settings()))
    return environment


def _podman_settings() -> Path:
    """Our own containers.conf, so that the user's stays as it is.

    Podman asks for a million open files by default, which fails where the machine grants no CAP_SYS_RESOURCE: ask for
    what there is. runc, since crun refuses the hybrid cgroups of some machines.
    """
    files = _at_most(resource.RLIMIT_NOFILE, 1_048_576)
    processes = _at_most(resource.RLIMIT_NPROC, 32_768)
    limits = f'default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]'
    runtime = '\n[engine]\nruntime = "runc"\n' if shutil.which("runc") else ""
    path = cache_dir() / "containers.conf"
    text = f"[containers]\n{limits}\n{runtime}"
    if not path.exists() or path.read_text() != text:
        write_atomically(path, text)
    return path


def _at_most(kind: int, wanted: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)

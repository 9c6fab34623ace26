"""One way to build an image: the machine's network, its package settings mounted for the build and never baked in."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .cache import cache_dir, lock, write_atomically
from .console import Failure
from .engine import BUILDS, LABEL, Engine
from .uv import pip_config_list, pip_settings

_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_CA_INSIDE = "/run/modelship/ca-certificates.crt"  # not where it lies outside: apt may replace that file while building


def build(engine: Engine, context: Path, dockerfile: Path, name: str, *options: str) -> None:
    """`docker build`, silent unless it fails."""
    command = ["build", "--network=host", "--file", str(dockerfile), "--tag", name, "--label", f"{LABEL}=image"]
    command += [*mounts(engine), *options, str(context)]
    with lock(BUILDS, shared=True):
        done = engine.run(*command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        if lacks_buildx(done.stdout):
            raise Failure(
                f"building {name} needs Docker's buildx: install docker-buildx-plugin (Docker's packages) or docker-buildx"
            )
        tail = "\n".join(done.stdout.splitlines()[-40:])
        raise Failure(f"building {name} failed; the end of its output:\n{tail}\nrepeat with: tools/engine {' '.join(command)}")


def lacks_buildx(output: str) -> bool:
    """Whether `docker build` failed because BuildKit's client is not installed, which is a package of its own."""
    return "buildx component is missing" in output


def mounts(engine: Engine) -> list[str]:
    """Options that show a build the machine's CA bundle (a proxy may re-sign TLS) and its pip settings.

    Docker's `build` mounts nothing: there, a daemon behind such a proxy needs a base image that trusts it.
    """
    if engine.name != "podman":
        return []
    settings = pip_settings(pip_config_list())
    settings.pop("cert", None)
    volumes = {folder: folder for folder in settings.get("find-links", "").split() if Path(folder).is_dir()}
    if _CA_BUNDLE.exists():
        volumes[str(_CA_BUNDLE)] = _CA_INSIDE
        settings["cert"] = _CA_INSIDE
    path = cache_dir() / "pip.conf"
    write_atomically(path, "[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    volumes[str(path)] = "/etc/pip.conf"
    return [f"--volume={outside}:{inside}:ro" for outside, inside in volumes.items()]

"""`debian:bookworm-slim` in the engine: pulled where a registry answers, else bootstrapped from Debian's packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .cache import REPO, cache_dir, lock, scratch, write_atomically
from .console import Failure, say
from .engine import Engine

RELEASE = "bookworm"
NAME = f"debian:{RELEASE}-slim"
"""As Dockerfiles say it: no registry is named, so an image that was imported under this name (podman: localhost/) is found, too."""
_PULL_SECONDS = 60
_NO_IS_BELIEVED = 3600.0  # seconds: a network may have been down, a registry slow
_BOOTSTRAPPED = "dev.modelship.base"  # not engine.LABEL: images that others build on this one inherit it

# What makes Debian's image slim: documentation and translations are never unpacked, licences are.
_SLIM = "\n".join(
    [
        *(f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "info", "locale", "groff", "lintian", "linda")),
        "path-include=/usr/share/doc/*/copyright",
        "",
    ]
)


def ensure(engine: Engine) -> str:
    """The name of the base image, which is in the engine when this returns."""
    with lock("base-image"):
        if not engine.has_image(NAME) and not registry_answers(engine):
            _bootstrap(engine)
    return NAME


def is_bootstrapped(engine: Engine) -> bool:
    """Whether the engine's base image was made here, not pulled."""
    command = ("image", "inspect", "--format", "{{json .Config.Labels}}", NAME)
    found = engine.run(*command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return _BOOTSTRAPPED in (json.loads(found.strip() or "null") or {})


def registry_answers(engine: Engine) -> bool:
    """Whether this engine can pull images: asked with the image that is needed anyway, and remembered.

    `MODELSHIP_REGISTRY=yes|no` overrides; `retry` forgets the answer and asks again.
    """
    asked = os.environ.get("MODELSHIP_REGISTRY", "")
    if asked in ("yes", "no"):
        return asked == "yes"
    if asked not in ("", "retry"):
        raise Failure(f"MODELSHIP_REGISTRY is {asked!r}: set it to yes, no or retry, or leave it out")
    file = cache_dir() / "registry.json"
    kept = _read(file)
    if asked != "retry" and (answer := believed(kept.get(engine.name), time.time())) is not None:
        return answer
    say(f"asking whether a container registry answers ({NAME})")
    try:
        answers = engine.run("pull", NAME, check=False, timeout=_PULL_SECONDS, capture_output=True).returncode == 0
    except subprocess.TimeoutExpired:
        answers = False
    if not answers:
        say("none does: images are built here from Debian packages and Go modules (MODELSHIP_REGISTRY=retry asks again)")
    write_atomically(file, json.dumps(kept | {engine.name: {"answers": answers, "time": time.time()}}))
    return answers


def believed(answer: Any, now: float) -> bool | None:
    """What a kept answer still says: a yes stays, a no lasts an hour; None where the registry must be asked."""
    match answer:
        case {"answers": True}:
            return True
        case {"answers": False, "time": float(asked)} if 0 <= now - asked < _NO_IS_BELIEVED:
            return False
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def debian_sources(texts: Iterable[str], release: str) -> tuple[str, str]:
    """From a machine's apt sources: the mirror of `release`, and the entries that name it, in deb822 form.

    Both are empty where the machine names no mirror for that release (it runs another one).
    """
    stanzas = [stanza for text in texts for stanza in re.split(r"\n\s*\n", _without_comments(text))]
    ours = [stanza for stanza in stanzas if re.search(rf"^Suites:.*\b{release}\b", stanza, re.M)]
    mirrors = [found.group(1) for stanza in ours if (found := re.search(r"^URIs:\s*(\S+)", stanza, re.M))]
    plain = [stanza for stanza in ours if re.search(rf"^Suites:.*\b{release}(\s|$)", stanza, re.M)]
    first = re.search(r"^URIs:\s*(\S+)", plain[0], re.M) if plain else None
    return (first.group(1) if first else "", "\n\n".join(ours) + "\n") if mirrors else ("", "")


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _bootstrap(engine: Engine) -> None:
    if os.geteuid() != 0:
        raise Failure(
            "no registry answers, and building the base image with debootstrap needs root: run the command as root once "
            "(it runs `tools/install-debian-packages bootstrap` first)"
        )
    if subprocess.run([REPO / "tools" / "install-debian-packages", "bootstrap"], stdout=sys.stderr).returncode:
        raise Failure("debootstrap is not installed (above): run `tools/install-debian-packages bootstrap`")
    say(f"building {NAME} with debootstrap (40 s)")
    mirror, sources = debian_sources((p.read_text() for p in Path("/etc/apt").glob("sources.list.d/*.sources")), RELEASE)
    with scratch("base-image") as folder:
        root = folder / "root"
        configuration = root / "etc/dpkg/dpkg.cfg.d/slim"
        configuration.parent.mkdir(parents=True)
        configuration.write_text(_SLIM)
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, str(root)]
        log = folder / "log"
        with log.open("w") as stream:
            done = subprocess.run([*command, *([mirror] if mirror else [])], stdout=stream, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Failure(f"debootstrap failed; its last lines:\n{_last_lines(log)}\ncheck that `apt-get update` works here")
        _slim_down(root, sources)
        _import(engine, root)


def _slim_down(root: Path, sources: str) -> None:
    for part in ("usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/groff", "var/cache/apt", "var/lib/apt/lists"):
        for entry in (root / part).glob("*"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for log in (root / "var/log").rglob("*.log"):
        log.unlink()
    (root / "etc/resolv.conf").unlink(missing_ok=True)  # debootstrap copies the machine's
    (root / "etc/hostname").unlink(missing_ok=True)
    if sources:  # with updates and security; debootstrap writes the plain release alone
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
        (root / "etc/apt/sources.list.d/debian.sources").write_text(sources)


def _import(engine: Engine, root: Path) -> None:
    changes = ("--change", 'CMD ["bash"]', "--change", f"LABEL {_BOOTSTRAPPED}=bootstrapped")
    archive = subprocess.Popen(["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE)
    engine.run("import", *changes, "-", NAME, stdin=archive.stdout, capture_output=True)
    if archive.wait():
        engine.run("image", "rm", NAME)
        raise Failure("packing the base image failed: is the disk full? (`df -h`)")


def _last_lines(path: Path, count: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])

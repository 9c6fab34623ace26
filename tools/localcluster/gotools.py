"""The Go programs this project needs, each pinned by a go.mod and go.sum in its own module under `tools/`."""

from __future__ import annotations

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .cache import REPO, cache_dir, is_published, key_of, lock, publish, scratch
from .console import Failure, say

_KUBE_VERSION = "k8s.io/component-base/version"
_OLDEST_GO = (1, 26)
HOST_TOOLS = ("kube-apiserver", "etcd", "kubectl", "helm", "kind")


@dataclass(frozen=True)
class GoModule:
    """One module under `tools/`: the programs it gives (name to package), and how they are linked.

    `{version}`, `{major}` and `{minor}` in `variables` stand for the version of `requires` that go.mod pins.
    """

    folder: str
    requires: str
    programs: dict[str, str]
    variables: tuple[str, ...] = ()
    tags: str = ""


MODULES = (
    GoModule(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kubectl",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                "kubelet",
                "kubeadm",
            )
        },
        variables=(
            f"{_KUBE_VERSION}.gitVersion={{version}}",
            f"{_KUBE_VERSION}.gitMajor={{major}}",
            f"{_KUBE_VERSION}.gitMinor={{minor}}",
            f"{_KUBE_VERSION}.gitTreeState=clean",
        ),
    ),
    GoModule("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    GoModule("kind", "sigs.k8s.io/kind", {"kind": "sigs.k8s.io/kind"}),
    GoModule(
        "helm",
        "helm.sh/helm/v3",
        {"helm": "helm.sh/helm/v3/cmd/helm"},
        variables=("helm.sh/helm/v3/internal/version.version={version}",),
    ),
    GoModule(
        "containerd",
        "github.com/containerd/containerd/v2",
        {name: f"github.com/containerd/containerd/v2/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")},
        variables=("github.com/containerd/containerd/v2/version.Version={version}",),
        tags="no_btrfs,no_zfs,no_devmapper,no_aufs",
    ),
    GoModule(
        "crictl",
        "sigs.k8s.io/cri-tools",
        {"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
        variables=("sigs.k8s.io/cri-tools/pkg/version.Version={version}",),
    ),
    GoModule("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}),
    GoModule(
        "local-path-provisioner",
        "github.com/rancher/local-path-provisioner",
        {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
    ),
    GoModule(
        "kube-router",
        "github.com/cloudnativelabs/kube-router/v2",
        {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
    ),
    GoModule("pause", "", {"pause": "modelship.dev/tools/pause"}),
)
MODULE_OF = {program: module for module in MODULES for program in module.programs}


def bin_dir() -> Path:
    """The folder of all built programs."""
    return cache_dir() / "bin"


def ensure(programs: tuple[str, ...]) -> Path:
    """Build those of the programs that lack or whose pins changed, and return the folder that holds them all."""
    if unknown := [program for program in programs if program not in MODULE_OF]:
        raise Failure(f"unknown tool {unknown[0]!r}: choose from {', '.join(sorted(MODULE_OF))}")
    missing = [program for program in programs if not is_published(bin_dir() / program, build_key(program))]
    if missing:
        with lock("go-build"):  # and look again: another process may have built them while this one waited
            for module in MODULES:
                names = [n for n in missing if MODULE_OF[n] is module and not _is_built(n)]
                if names:
                    _build(module, names)
            if all(_is_built(program) for program in MODULE_OF):
                shutil.rmtree(_go_build_cache(), ignore_errors=True)  # 7 GB that the next change of a pin would not use
    return bin_dir()


def build_key(program: str) -> str:
    """What the program is made from: its module's pins, its flags, the Go release, the platform."""
    module = MODULE_OF[program]
    sources = sorted((REPO / "tools" / module.folder).glob("*.go"))
    pins = [_module_file(module.folder, "go.mod"), _module_file(module.folder, "go.sum"), *(file.read_text() for file in sources)]
    return key_of(program, *_flags(module), *pins, *go_environment())


def pinned_version(folder: str) -> str:
    """The version that `tools/<folder>/go.mod` pins for the module it is there for, as `v1.2.3`."""
    module = next(module for module in MODULES if module.folder == folder)
    found = re.search(rf"^\s*(?:require )?{re.escape(module.requires)} (v\S+)", _module_file(folder, "go.mod"), re.M)
    if not found:
        raise Failure(f"tools/{folder}/go.mod does not require {module.requires}")
    return found.group(1)


def module_source(folder: str) -> Path:
    """The unpacked source of the pinned module, in Go's module cache."""
    module = next(module for module in MODULES if module.folder == folder)
    command = ["go", "list", "-m", "-f", "{{.Dir}}", module.requires]
    where = REPO / "tools" / folder
    subprocess.run(["go", "mod", "download", module.requires], cwd=where, check=True)
    return Path(subprocess.run(command, cwd=where, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def _build(module: GoModule, names: list[str]) -> None:
    say(f"building {', '.join(names)} from tools/{module.folder} (minutes when Go's own cache is cold)")
    bin_dir().mkdir(parents=True, exist_ok=True)
    with scratch("go-output") as folder:
        for name in names:  # one by one: `go build -o DIR a b` would name etcd's server after its folder
            output = folder / name
            command = ["go", "build", "-o", str(output), *_flags(module), module.programs[name]]
            done = subprocess.run(command, cwd=REPO / "tools" / module.folder, env=_go_settings())
            if done.returncode:
                raise Failure(
                    f"building {name} failed (above); in tools/{module.folder} check that `go mod download` works: "
                    "it needs the Go module proxy that `go env GOPROXY` names, and the Go release that go.mod names"
                )
            publish(output, bin_dir() / name, build_key(name))


def _go_build_cache() -> Path:
    return cache_dir() / "go-build"


def _go_settings() -> dict[str, str]:
    """Static programs, nothing from the user's flags, and a build cache of our own unless the user names one."""
    return {"GOCACHE": str(_go_build_cache()), **os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""}


def _flags(module: GoModule) -> list[str]:
    version = pinned_version(module.folder) if module.requires else "v0.0.0"
    major, minor = version.lstrip("v").split(".")[:2]
    linked = [variable.format(version=version, major=major, minor=minor) for variable in module.variables]
    ldflags = " ".join(["-s -w", *(f"-X {variable}" for variable in linked)])
    return ["-trimpath", "-buildvcs=false", f"-tags={module.tags}", f"-ldflags={ldflags}"]


def _is_built(program: str) -> bool:
    return is_published(bin_dir() / program, build_key(program))


@functools.cache
def _module_file(folder: str, name: str) -> str:
    path = REPO / "tools" / folder / name
    return path.read_text() if path.exists() else ""


@functools.cache
def go_environment() -> tuple[str, ...]:
    """Go's release and platform.

    Raises: Failure when Go is not there, or too old for the pinned modules.
    """
    needed = ".".join(map(str, _OLDEST_GO))
    try:
        command = ["go", "env", "GOVERSION", "GOOS", "GOARCH"]
        found = tuple(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split())
    except FileNotFoundError:
        raise Failure(f"Go is not installed: install Go {needed} or newer (go.dev/dl) and put its `bin` folder in PATH") from None
    if is_too_old(found[0]):
        raise Failure(
            f"`go version` says {found[0]}, and Go {needed} or newer is needed: "
            "install it (go.dev/dl) and put its `bin` folder in PATH before the older one"
        )
    return found


def is_too_old(release: str) -> bool:
    """Whether a release such as `go1.25.3` cannot build the pinned modules; one that names no number is believed."""
    number = re.search(r"go(\d+)\.(\d+)", release)
    return number is not None and (int(number[1]), int(number[2])) < _OLDEST_GO


def main() -> None:
    """Run `tools/bin-path`."""
    parser = argparse.ArgumentParser(prog="tools/bin-path", description="Build pinned Go tools; print their folder.")
    parser.add_argument("program", nargs="*", default=list(HOST_TOOLS), help=f"default: {' '.join(HOST_TOOLS)}")
    print(ensure(tuple(parser.parse_args().program)))


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")

"""The Go programs this project needs, pinned by `tools/go.mod` (one of them by a go.mod of its own)."""

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

_KUBERNETES = "k8s.io/kubernetes"
_KUBE_VERSION = "k8s.io/component-base/version"
_CONTAINERD = "github.com/containerd/containerd/v2"
_OLDEST_GO = (1, 26)
_TAGS = "no_btrfs,no_zfs,no_devmapper,no_aufs"
"""Of containerd: snapshotters that the node does not use."""
HOST_TOOLS = ("kube-apiserver", "etcd", "kubectl", "helm", "kind")


@dataclass(frozen=True)
class Program:
    """A Go program: its main package, and how it is linked.

    `{version}`, `{major}` and `{minor}` in `variables` stand for the version of the module `requires` that go.mod pins.
    `folder` below `tools/` has that go.mod. All programs but one share `tools/go.mod`, so that what several of them import is of
    one version, and compiled once.
    """

    package: str
    requires: str = ""
    variables: tuple[str, ...] = ()
    folder: str = ""


def _of_kubernetes(name: str) -> Program:
    version = (
        f"{_KUBE_VERSION}.gitVersion={{version}}",
        f"{_KUBE_VERSION}.gitMajor={{major}}",
        f"{_KUBE_VERSION}.gitMinor={{minor}}",
        f"{_KUBE_VERSION}.gitTreeState=clean",
    )
    return Program(f"{_KUBERNETES}/cmd/{name}", _KUBERNETES, version)


def _of_containerd(name: str) -> Program:
    return Program(f"{_CONTAINERD}/cmd/{name}", _CONTAINERD, (f"{_CONTAINERD}/version.Version={{version}}",))


PROGRAMS = {
    "kube-apiserver": _of_kubernetes("kube-apiserver"),
    "kubectl": _of_kubernetes("kubectl"),
    "kube-controller-manager": _of_kubernetes("kube-controller-manager"),
    "kube-scheduler": _of_kubernetes("kube-scheduler"),
    "kube-proxy": _of_kubernetes("kube-proxy"),
    "kubelet": _of_kubernetes("kubelet"),
    "kubeadm": _of_kubernetes("kubeadm"),
    "etcd": Program("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
    "kind": Program("sigs.k8s.io/kind", "sigs.k8s.io/kind"),
    "helm": Program("helm.sh/helm/v3/cmd/helm", "helm.sh/helm/v3", ("helm.sh/helm/v3/internal/version.version={version}",)),
    "containerd": _of_containerd("containerd"),
    "containerd-shim-runc-v2": _of_containerd("containerd-shim-runc-v2"),
    "ctr": _of_containerd("ctr"),
    "crictl": Program(
        "sigs.k8s.io/cri-tools/cmd/crictl", "sigs.k8s.io/cri-tools", ("sigs.k8s.io/cri-tools/pkg/version.Version={version}",)
    ),
    "coredns": Program("modelship.dev/tools/coredns", "github.com/coredns/coredns"),
    # It names logrus by a path in capitals, which cannot stand beside the one in small letters.
    "local-path-provisioner": Program(
        "github.com/rancher/local-path-provisioner", "github.com/rancher/local-path-provisioner", folder="local-path-provisioner"
    ),
    "kube-router": Program(
        "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router", "github.com/cloudnativelabs/kube-router/v2"
    ),
    "pause": Program("modelship.dev/tools/pause"),
}


def bin_dir() -> Path:
    """The folder of all built programs."""
    return cache_dir() / "bin"


def ensure(programs: tuple[str, ...]) -> Path:
    """Build those of the programs that lack or whose pins changed, and return the folder that holds them all."""
    if unknown := [program for program in programs if program not in PROGRAMS]:
        raise Failure(f"unknown tool {unknown[0]!r}: choose from {', '.join(sorted(PROGRAMS))}")
    if not all(map(_is_built, programs)):
        with lock("go-build"):  # and look again: another process may have built them while this one waited
            missing = [program for program in programs if not _is_built(program)]
            for folder in sorted({PROGRAMS[program].folder for program in missing}):
                _build(folder, [program for program in missing if PROGRAMS[program].folder == folder])
            if all(map(_is_built, PROGRAMS)):
                shutil.rmtree(_go_build_cache(), ignore_errors=True)  # 4 GB that the next change of a pin would not use
    return bin_dir()


def build_key(name: str) -> str:
    """What the program is made from: its module's pins, its flags, our own sources, the Go release, the platform."""
    program = PROGRAMS[name]
    own = sorted((REPO / "tools" / name).glob("*.go"))
    pins = [_module_file(program.folder, "go.mod"), _module_file(program.folder, "go.sum"), *(file.read_text() for file in own)]
    return key_of(name, program.package, _TAGS, linker_flags(name), *pins, *go_environment())


def pinned_version(name: str) -> str:
    """The version that go.mod pins for the module that a program is from, as `v1.2.3`."""
    program = PROGRAMS[name]
    found = re.search(rf"^\s*(?:require )?{re.escape(program.requires)} (v\S+)", _module_file(program.folder, "go.mod"), re.M)
    if not found:
        raise Failure(f"tools/{program.folder}/go.mod does not require {program.requires}")
    return found.group(1)


def module_source(name: str) -> Path:
    """The unpacked source of the pinned module that a program is from, in Go's module cache."""
    program = PROGRAMS[name]
    command = ["go", "list", "-m", "-f", "{{.Dir}}", program.requires]
    where = REPO / "tools" / program.folder
    subprocess.run(["go", "mod", "download", program.requires], cwd=where, check=True)
    return Path(subprocess.run(command, cwd=where, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def _build(folder: str, names: list[str]) -> None:
    say(f"building {', '.join(names)} (minutes when Go's own cache is cold)")
    bin_dir().mkdir(parents=True, exist_ok=True)
    with scratch("go-output") as output:
        packages = [PROGRAMS[name].package for name in names]
        command = ["go", "build", "-o", f"{output}/", "-trimpath", "-buildvcs=false", f"-tags={_TAGS}"]
        command += [f"-ldflags={package}={linker_flags(name)}" for name, package in zip(names, packages, strict=True)]
        done = subprocess.run([*command, *packages], cwd=REPO / "tools" / folder, env=_go_settings())
        if done.returncode:
            raise Failure(
                f"building {', '.join(names)} failed (above); in tools/{folder} check that `go mod download` works: "
                "it needs the Go module proxy that `go env GOPROXY` names, and the Go release that go.mod names"
            )
        for name, package in zip(names, packages, strict=True):
            publish(output / name_of_output(package), bin_dir() / name, build_key(name))


def name_of_output(package: str) -> str:
    """What `go build` calls a program: the last part of its package's path that is no major version."""
    last, *others = reversed(package.split("/"))
    return others[0] if re.fullmatch(r"v[0-9]+", last) else last


def linker_flags(name: str) -> str:
    """No symbol table, and the version where the program tells one."""
    version = pinned_version(name) if PROGRAMS[name].requires else "v0.0.0"
    major, minor = version.lstrip("v").split(".")[:2]
    linked = [variable.format(version=version, major=major, minor=minor) for variable in PROGRAMS[name].variables]
    return " ".join(["-s -w", *(f"-X {variable}" for variable in linked)])


def _go_build_cache() -> Path:
    return cache_dir() / "go-build"


def _go_settings() -> dict[str, str]:
    """Static programs, nothing from the user's flags, and a build cache of our own unless the user names one."""
    return {"GOCACHE": str(_go_build_cache()), **os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""}


def _is_built(name: str) -> bool:
    return is_published(bin_dir() / name, build_key(name))


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

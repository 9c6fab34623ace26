"""The kind node image: kind's own where a registry answers, else one built from pinned Go binaries and Debian packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from . import base_image, gotools
from .building import build
from .cache import REPO, key_of, lock, scratch, tree_key
from .console import Failure, say
from .engine import Engine

SOURCE = REPO / "images" / "kind-node"
_NODE_BIN = ("kubelet", "kubeadm", "kubectl")  # where kind's kubelet.service looks: /usr/bin
_NODE_LOCAL_BIN = ("containerd", "containerd-shim-runc-v2", "ctr", "crictl")
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_COMPONENTS = (*_KUBERNETES, "etcd", "coredns", "pause", "local-path-provisioner", "kube-router")
_PROGRAMS = (*_NODE_BIN, *_NODE_LOCAL_BIN, *_COMPONENTS)
PREFIX = "localhost/modelship"


def ensure(engine: Engine) -> str:
    """The node image's name, in the engine when this returns; an empty string stands for the default of kind itself."""
    if base_image.registry_answers(engine):
        return ""
    name = name_of_built()
    with lock("node-image"):
        if not engine.has_image(name):
            gotools.ensure((*_PROGRAMS, "kind"))
            _build(engine, name)
    return name


def name_of_built() -> str:
    """The name of the node image as this checkout would build it."""
    files = [path for path in SOURCE.rglob("*") if path.is_file()]
    sources = (tree_key(SOURCE, files), Path(__file__).read_text())
    return f"{PREFIX}/kind-node:{key_of(*sources, *map(gotools.build_key, (*_PROGRAMS, 'kind')))[:12]}"


def component_images(required: list[str], router: str) -> dict[str, str]:
    """Build target to image name: what `kubeadm config images list` asks for, and what kind's files and ours name.

    Raises: Failure when kubeadm asks for an image that no component here provides.
    """
    images = {"kube-router": f"{PREFIX}/kube-router:{router}", "network": f"{PREFIX}/network:{router}"}
    images["local-path-provisioner"] = f"{PREFIX}/local-path-provisioner:node"
    for reference in required:
        component = reference.rsplit("/", 1)[-1].split(":")[0]
        if component not in _COMPONENTS:
            raise Failure(f"kubeadm asks for {reference}, which images/kind-node/Dockerfile.components does not build: add it")
        images[component] = reference
    return images


def storage_manifest(go_source: str, provisioner: str, helper: str) -> str:
    """The default storage manifest of kind, out of its Go source, with our images in the place of its own."""
    found = re.search(r"const defaultStorageManifest = `(.*)`", go_source, re.S)
    if not found:
        raise Failure("kind's source no longer has defaultStorageManifest: adapt storage_manifest() to the pinned kind")
    text = found.group(1).replace("` + storageProvisionerImage + `", provisioner)
    return text.replace("` + storageHelperImage + `", helper)


def _build(engine: Engine, name: str) -> None:
    say("building the kind node image (2 min)")
    base_image.ensure(engine)
    with scratch("node-image") as context:
        sandbox = _lay_out(context)
        _build_components(engine, context, sandbox)
        build(engine, context, SOURCE / "Dockerfile", name)
    for image in engine.output("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        if image.startswith(f"{PREFIX}/kind-node:") and image != name:
            engine.succeeds("image", "rm", image)  # an older one; kept while a cluster runs on it
    engine.prune()


def _lay_out(context: Path) -> str:
    """Fill the build context; returns the pause image that the node's containerd is set to use."""
    kind = gotools.module_source("kind")
    shutil.copytree(kind / "images" / "base" / "files", context / "kind")
    for path in (context / "kind").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # Go's module cache is read-only
    shutil.copytree(SOURCE / "files", context / "files")
    _link(_NODE_BIN, context / "usr-bin")
    _link(_NODE_LOCAL_BIN, context / "usr-local-bin")
    _link(_COMPONENTS, context / "components")
    (context / "version").write_text(gotools.pinned_version("kubelet"))

    manifests = context / "manifests"
    manifests.mkdir()
    router = gotools.pinned_version("kube-router")
    network = (SOURCE / "manifests" / "default-cni.yaml").read_text()
    (manifests / "default-cni.yaml").write_text(network.replace("@KUBE_ROUTER@", router))
    storage = (kind / "pkg" / "build" / "nodeimage" / "const_storage.go").read_text()
    images = component_images([], router)
    text = storage_manifest(storage, images["local-path-provisioner"], images["network"])
    (manifests / "default-storage.yaml").write_text(text)

    containerd = (context / "kind/etc/containerd/config.toml").read_text()
    found = re.search(r'sandbox_image = "([^"]+)"', containerd)
    if not found:
        raise Failure("kind's containerd configuration names no sandbox_image: adapt node_image.py to the pinned kind")
    return found.group(1)


def _build_components(engine: Engine, context: Path, sandbox: str) -> None:
    version = gotools.pinned_version("kubelet")
    command = [str(gotools.bin_dir() / "kubeadm"), "config", "images", "list", "--kubernetes-version", version]
    required = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    images = component_images(required, gotools.pinned_version("kube-router")) | {"pause": sandbox}
    multiple = ["--multi-image-archive"] if engine.name == "podman" else []
    try:
        for target, image in images.items():
            build(engine, context / "components", SOURCE / "Dockerfile.components", image, "--target", target)
        engine.run("save", *multiple, "-o", str(context / "components.tar"), *images.values(), stderr=subprocess.DEVNULL)
    finally:  # they are in the node from here on, or were in vain
        engine.succeeds("image", "rm", "--force", *images.values())
    shutil.rmtree(context / "components")


def _link(programs: tuple[str, ...], folder: Path) -> None:
    folder.mkdir()
    for program in programs:
        os.link(gotools.bin_dir() / program, folder / program)

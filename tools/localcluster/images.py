"""Modelship's images: built when their inputs changed, brought to the node as the layers that it lacks."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from . import base_image, cluster, gotools
from . import engine as engines
from .building import build
from .cache import REPO, cache_dir, key_of, lock, scratch, tree_key, write_atomically
from .console import Failure, say
from .engine import Engine

PREFIX = "localhost/modelship"
NAMES = ("operator", "trainer", "triton", "gateway")  # what the chart's values name
BASE_OF = {"trainer": "trainer-base"}  # passed to the Dockerfile as the build argument BASE
ENV_FILE = REPO / ".cache" / "images.env"
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_IGNORED = ("__pycache__", "*.pyc", "*.egg-info")


def build_all(engine: Engine) -> dict[str, str]:
    """Image to full name, each in the engine when this returns; also written to `.cache/images.env`."""
    base_image.ensure(engine)
    names: dict[str, str] = {}
    for name in [*BASE_OF.values(), *NAMES]:
        names[name] = ensure(engine, name, names.get(BASE_OF.get(name, ""), ""))
    lines = [f"{name.upper().replace('-', '_')}={names[name]}" for name in NAMES]
    write_atomically(ENV_FILE, "\n".join([*lines, ""]))
    engine.prune()  # what only older ones were built from
    return {name: names[name] for name in NAMES}


def beside_cluster(engine: Engine) -> dict[str, str]:
    """`build_all` while the cluster is made, or found: images wait for downloads, Go programs for the processor."""
    base_image.registry_answers(engine)  # asked once, before both need to know
    with ThreadPoolExecutor(1) as pool:
        names = pool.submit(build_all, engine)
        cluster.up(engine)
    return names.result()


def ensure(engine: Engine, name: str, base: str) -> str:
    """Build `images/<name>/Dockerfile` unless an image with these very inputs is there; returns its full name."""
    dockerfile = REPO / "images" / name / "Dockerfile"
    files = input_files(REPO, dockerfile.read_text())
    full_name = f"{PREFIX}/{name}:{key_of(dockerfile.read_text(), base, tree_key(REPO, files))[:12]}"
    with lock(f"image-{name}"):
        if not engine.has_image(full_name):
            say(f"building image {name}" + (" (some GB, 4 min)" if name in BASE_OF.values() else ""))
            with scratch(f"image-{name}") as context:
                for file in files:
                    target = context / file.relative_to(REPO)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, target)
                build(engine, context, dockerfile, full_name, *(["--build-arg", f"BASE={base}"] if base else []))
            _remove_older(engine, full_name)
    return full_name


def input_files(root: Path, dockerfile: str) -> list[Path]:
    """The files that a Dockerfile copies from its context, which is `root`.

    Raises: Failure when it copies something that is not there.
    """
    text = re.sub(r"\\\n", " ", dockerfile)
    files: set[Path] = set()
    for line in re.findall(r"^\s*(?:COPY|ADD)\s+(.*)$", text, re.M):
        words = shlex.split(line)
        if any(word.startswith("--from=") for word in words):
            continue
        for source in [word for word in words if not word.startswith("--")][:-1]:
            found = sorted(root.glob(source.rstrip("/")))
            if not found:
                raise Failure(f"a Dockerfile copies {source}, which is not in the repository")
            for path in found:
                files.update([path] if path.is_file() else (entry for entry in path.rglob("*") if entry.is_file()))
    return sorted(file for file in files if not _is_ignored(file.relative_to(root)))


def push(engine: Engine, names: Mapping[str, str], registry: str) -> dict[str, str]:
    """Push the images to `registry`; image to its full name there. The engine keeps only the names that it had."""
    pushed = names_in(registry, names)
    for name, target in pushed.items():
        say(f"pushing {target}")
        engine.run("tag", names[name], target)
        done = engine.run("push", target, check=False, stdout=sys.stderr)
        engine.succeeds("image", "rm", target)
        if done.returncode:
            host = registry.split("/")[0]
            raise Failure(f"pushing {target} failed (above): log in with `tools/engine login {host}` if it asks who you are")
    return pushed


def names_in(registry: str, names: Mapping[str, str]) -> dict[str, str]:
    """Image to its full name in `registry`: REGISTRY/modelship-NAME:TAG, with the tag that it has here.

    Raises: Failure when that is not a registry's name.
    """
    if not registry:
        raise Failure("no registry is named: `make push REGISTRY=registry.example.com/team`")
    if not _REGISTRY.fullmatch(registry):
        raise Failure(
            f"{registry!r} is not the name of a registry: write REGISTRY=host[:port][/path], such as registry.example.com/team"
        )
    return {name: f"{registry}/modelship-{name}:{full_name.rsplit(':', 1)[1]}" for name, full_name in names.items()}


def helm_command(names: Mapping[str, str]) -> str:
    """What installs the operator with these images in the cluster of the user's kubeconfig."""
    lines = ["helm upgrade --install modelship charts/modelship --namespace modelship-system --create-namespace"]
    return " \\\n  ".join([*lines, *(f"--set images.{name}={full_name}" for name, full_name in names.items())])


def load(engine: Engine, names: Collection[str]) -> None:
    """Bring the node those of the images that it lacks, layer by layer, and take older versions that nothing uses."""
    if not engine.succeeds("container", "inspect", cluster.NODE):
        raise Failure("there is no cluster to load images into: run `make cluster`")
    with lock(f"load-{cluster.NAME}"):
        there = set(_in_node(engine, "images", "ls", "-q").split())
        for name in names:
            if name not in there:
                started = time.monotonic()
                size = _send(engine, name)
                say(f"{name} is in the node: {size / 1e6:.1f} MB sent in {time.monotonic() - started:.1f} s")
        listing = engine.output("exec", cluster.NODE, "crictl", "images", "--output", "json")
        stale = without_twins(replaced(there, set(names), _in_use()), set(names), listing)
        # Housekeeping: an image that a pod of this moment holds is taken the next time.
        if stale and not engine.succeeds("exec", cluster.NODE, "crictl", "rmi", *stale):
            say(f"older versions are still in use and stay: {', '.join(stale)}")


def replaced(there: set[str], wanted: set[str], in_use: str) -> list[str]:
    """Those images in the node of which another version is wanted, and that no resource of the cluster mentions.

    `in_use` is the JSON of the resources: an image may stand in an argument or a variable, not only as a container's.
    Only tags that are hashes count: others are somebody's own.
    """
    repositories = {name.rsplit(":", 1)[0] for name in wanted}
    hashed = [name for name in there - wanted if re.search(r":[0-9a-f]{12}$", name)]
    older = [name for name in hashed if name.rsplit(":", 1)[0] in repositories]
    return sorted(name for name in older if name not in in_use)


def without_twins(stale: list[str], wanted: set[str], listing: str) -> list[str]:
    """Those names whose image is not also a wanted one's: to remove one name as kubelet does takes all names of its image.

    `listing` is what `crictl images --output json` prints.
    """
    tags = [set(image.get("repoTags") or []) for image in json.loads(listing)["images"]]
    kept = set().union(*(names for names in tags if names & wanted))
    return [name for name in stale if name not in kept]


def _in_use() -> str:
    kubectl = [str(gotools.bin_dir() / "kubectl"), "--kubeconfig", str(cluster.KUBECONFIG)]
    kinds = "pods,jobs,deployments,configmaps"
    done = subprocess.run([*kubectl, "get", kinds, "--all-namespaces", "-o", "json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Failure("the cluster does not answer (above): run `make cluster`")
    return done.stdout


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Names of an image's snapshots, bottom up (OCI image specification, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        below = f"{chain[-1]} {diff_id}" if chain else ""
        chain.append("sha256:" + hashlib.sha256(below.encode()).hexdigest() if below else diff_id)
    return chain


def unpacked_layers(diff_ids: list[str], snapshots: set[str]) -> set[str]:
    """The layers whose contents, on top of the same layers below, the node has unpacked already."""
    return {diff_id for diff_id, chain in zip(diff_ids, chain_ids(diff_ids), strict=True) if chain in snapshots}


def _send(engine: Engine, name: str) -> int:
    diff_ids = json.loads(engine.output("image", "inspect", "--format", "{{json .RootFS.Layers}}", name))
    rows = [line.split() for line in _in_node(engine, "snapshots", "ls").splitlines()[1:]]
    known = unpacked_layers(diff_ids, {row[0] for row in rows if row and row[-1] == "Committed"})
    # --discard-unpacked-layers: the node keeps the files, not also the archive they came from
    command = ["exec", "-i", cluster.NODE, "ctr", "-n", "k8s.io", "images", "import", "--local", "--discard-unpacked-layers", "-"]
    with tempfile.TemporaryFile() as output:
        importing = subprocess.Popen(
            [engine.name, *command], stdin=subprocess.PIPE, stdout=output, stderr=output, env=engine.environment
        )
        size = 0
        with suppress(BrokenPipeError), cast(IO[bytes], importing.stdin) as stream:  # the importer's words say why it stopped
            size = (_from_podman if engine.name == "podman" else _from_docker)(engine, name, known, stream)
        if importing.wait():
            output.seek(0)
            raise Failure(f"the node does not take {name}: {output.read().decode(errors='replace')[-2000:]}")
    return size


def _from_podman(engine: Engine, name: str, known: set[str], out: IO[bytes]) -> int:
    """Write an OCI archive of the image without the known layers; returns the bytes of what it holds.

    `podman save` to a folder writes only the blobs that are not in it: a sparse file stands in for each known one, of the
    size that it had when it was sent, since its size goes into the manifest.
    """
    sizes_file = cache_dir() / "layer-sizes.json"
    sizes: dict[str, int] = json.loads(sizes_file.read_text()) if sizes_file.exists() else {}
    left_out = {layer.removeprefix("sha256:") for layer in known} & set(sizes)
    with scratch(f"save-{cluster.NAME}") as folder:
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for layer in left_out:
            with (blobs / layer).open("wb") as stream:
                stream.truncate(sizes[layer])
        options = ("--quiet", "--uncompressed", "--format", "oci-dir", "--output", str(folder))
        engine.run("save", *options, name, stdout=subprocess.DEVNULL)
        index = folder / "index.json"
        index.write_text(named_index(index.read_text(), name))
        files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in left_out)
        sizes |= {path.name: path.stat().st_size for path in blobs.iterdir()}
        size = sum(path.stat().st_size for path in files)
        with tarfile.open(fileobj=out, mode="w|") as archive:
            for path in files:
                archive.add(path, arcname=str(path.relative_to(folder)))
                path.unlink()  # some layers have gigabytes: none twice on the disk for longer than it must
    write_atomically(sizes_file, json.dumps(sizes))
    return size


def named_index(index: str, name: str) -> str:
    """An OCI image index of one image, with the full name under which containerd shall know it."""
    content = json.loads(index)
    content["manifests"][0]["annotations"] = {"io.containerd.image.name": name}
    return json.dumps(content)


def _from_docker(engine: Engine, name: str, known: set[str], out: IO[bytes]) -> int:
    saving = subprocess.Popen([engine.name, "save", name], stdout=subprocess.PIPE, env=engine.environment)
    size = without_layers(cast(IO[bytes], saving.stdout), known, out)
    if saving.wait():
        raise Failure(f"`docker save {name}` failed (above)")
    return size


def without_layers(archive: IO[bytes], known: set[str], out: IO[bytes]) -> int:
    """Copy an OCI archive, as `docker save` of Docker 25 or newer writes it, without the blobs of the known layers.

    Returns the bytes of the files that it copied.
    """
    size = 0
    left_out = {f"blobs/sha256/{layer.removeprefix('sha256:')}" for layer in known}
    with tarfile.open(fileobj=archive, mode="r|") as source, tarfile.open(fileobj=out, mode="w|") as target:
        for entry in source:
            if entry.name not in left_out:
                target.addfile(entry, source.extractfile(entry) if entry.isfile() else None)
                size += entry.size
    return size


def _remove_older(engine: Engine, full_name: str) -> None:
    repository = full_name.rsplit(":", 1)[0]
    for image in engine.output("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines():
        if image.rsplit(":", 1)[0] == repository and image != full_name:
            engine.succeeds("image", "rm", image)


def _in_node(engine: Engine, *arguments: str) -> str:
    command = ("exec", cluster.NODE, "ctr", "-n", "k8s.io", *arguments)
    return str(engine.run(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def _is_ignored(path: Path) -> bool:
    return any(Path(part).match(pattern) for part in path.parts for pattern in _IGNORED)


def main() -> None:
    """Run `tools/images`."""
    parser = argparse.ArgumentParser(prog="tools/images", description=__doc__)
    verb_help = "load (the default) and push build first"
    parser.add_argument("verb", nargs="?", choices=["build", "load", "push"], default="load", help=verb_help)
    parser.add_argument("registry", nargs="?", default="", help="with push: where to, such as registry.example.com/team")
    parser.add_argument("--print", action="store_true", help="only print what was built last: OPERATOR=NAME and so on")
    arguments = parser.parse_args()
    if arguments.print:
        if not ENV_FILE.exists():
            raise Failure("no image was built yet: run `make images`")
        print(ENV_FILE.read_text(), end="")
        return
    if arguments.verb == "push":
        names_in(arguments.registry, {})  # a wrong name is said now, not after minutes
    engine = engines.find()
    names = beside_cluster(engine) if arguments.verb == "load" else build_all(engine)
    if arguments.verb == "push":
        print(helm_command(push(engine, names, arguments.registry)))
        return
    if arguments.verb == "load":
        load(engine, names.values())
    print(ENV_FILE.read_text(), end="")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")

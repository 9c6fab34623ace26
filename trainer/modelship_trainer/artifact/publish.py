"""Publish an artifact: into a folder named by its digest, by one rename, flushed to the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from modelship_trainer.artifact.files import copy_folder, naming, sync_file, sync_folder
from modelship_trainer.artifact.manifest import MANIFEST, ArtifactError, Lineage, build_manifest, verify
from modelship_trainer.locations import local_path
from modelship_trainer.protocol import ArtifactRef

_STALE_SECONDS = 24 * 3600.0


def publish(folder: Path, store: str, lineage: Lineage) -> ArtifactRef:
    """Copy `folder` into `store`/artifacts/sha256-<hex>. What is there already and whole is left as it is.

    Raises:
        UserError: StoreUnavailable or RecipeInvalid for a store that is not there.
        OSError: it cannot be written; nothing is left.
    """
    manifest = build_manifest(folder, lineage)
    digest = manifest.digest()
    name = digest.replace(":", "-")
    artifacts = local_path(store) / "artifacts"
    ref = ArtifactRef.in_store(store, digest)
    if _is_whole(artifacts / name, digest):
        return ref
    artifacts.mkdir(parents=True, exist_ok=True)
    _sweep(artifacts)
    work = Path(tempfile.mkdtemp(prefix=".publishing-", dir=artifacts))
    try:
        copy = work / name
        copy_folder(folder, copy)
        with naming(copy / MANIFEST):
            (copy / MANIFEST).write_bytes(manifest.to_bytes())
        _settle(copy)
        if (artifacts / name).exists() and not _is_whole(artifacts / name, digest):
            (artifacts / name).rename(work / "broken")
        try:
            copy.rename(artifacts / name)
        except OSError:
            if not _is_whole(artifacts / name, digest):  # else another process published the same bytes meanwhile
                raise
        sync_folder(artifacts)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ref


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        verify(folder, digest)
    except ArtifactError:
        return False
    return True


def _settle(folder: Path) -> None:
    """Readable by the pods that serve it, and on the disk."""
    for root, _, files in os.walk(folder):
        os.chmod(root, 0o755)  # noqa: S103 - mkdtemp made it private; an artifact is read by other pods
        for file in files:
            path = Path(root) / file
            path.chmod(0o644)
            sync_file(path)
        sync_folder(Path(root))


def _sweep(artifacts: Path) -> None:
    """Remove what killed processes left a day ago."""
    for left in artifacts.glob(".publishing-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)

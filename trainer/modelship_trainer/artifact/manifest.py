"""The manifest: every file of an artifact with its size and SHA-256; its own SHA-256 is the artifact's digest.

Only the standard library and pydantic, because the serving pod's init step verifies with this very code.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from modelship_trainer.schema import Model, canonical_json, digest_of

MANIFEST = "manifest.json"
MAX_MANIFEST = 1 << 20
"""Bytes: a thousand files fit. What lies in a shared claim is not read without a limit."""
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class ArtifactError(Exception):
    """The artifact cannot be used."""


class ArtifactNotFound(ArtifactError):
    """There is no manifest at the place."""


class DigestMismatch(ArtifactError):
    """Bytes are not the recorded ones. `file` is relative to the artifact."""

    def __init__(self, file: str, actual: str, expected: str) -> None:
        self.file, self.actual, self.expected = file, actual, expected
        super().__init__(f"{file} is {actual}, recorded was {expected}")


def _safe(path: str) -> str:
    if not _SAFE.fullmatch(path):
        raise ValueError("must be a relative path of letters, digits, '.', '_', '-' and '/', without '..'")
    return path


class FileEntry(Model):
    """A file of the artifact."""

    path: Annotated[str, AfterValidator(_safe)] = Field(max_length=255)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def digest(self) -> str:
        """`sha256:<hex>`."""
        return f"sha256:{self.sha256}"


class Lineage(Model):
    """What the artifact came from."""

    recipe_digest: str
    data_digest: str
    trainer: str
    """`modelship <version>, torch <version>`."""


class Manifest(Model):
    """`manifest.json`. Canonical JSON, so that the digest is reproducible."""

    schema_version: Literal[1] = 1
    lineage: Lineage
    files: list[FileEntry] = Field(min_length=1, max_length=1000)

    def to_bytes(self) -> bytes:
        """The bytes of `manifest.json`."""
        return canonical_json(self.to_json())

    def digest(self) -> str:
        """The artifact's digest."""
        return digest_of(self.to_bytes())


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_manifest(folder: Path, lineage: Lineage) -> Manifest:
    """Manifest of all files in `folder`, sorted by path."""
    entries = [
        FileEntry(path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=sha256_of_file(path))
        for path in sorted(_files(folder))
        if path.relative_to(folder).as_posix() != MANIFEST
    ]
    return Manifest(lineage=lineage, files=entries)


def read_manifest(folder: Path, expected_digest: str | None = None) -> Manifest:
    """Read and check `manifest.json`; raises ArtifactNotFound, DigestMismatch, or ArtifactError when it is not a manifest."""
    path = folder / MANIFEST
    if not path.is_file():  # also a pipe or a device, whose reading might never end
        raise ArtifactNotFound(f"there is no {MANIFEST} in {folder}")
    with path.open("rb") as file:
        raw = file.read(MAX_MANIFEST + 1)
    if len(raw) > MAX_MANIFEST:
        raise ArtifactError(f"{MANIFEST} is larger than {MAX_MANIFEST:,} bytes")
    if expected_digest is not None and (actual := digest_of(raw)) != expected_digest:
        raise DigestMismatch(MANIFEST, actual, expected_digest)
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise ArtifactError(f"{MANIFEST} is not a manifest: {error.errors()[0]['msg']}") from error


def verify(folder: Path, expected_digest: str) -> Manifest:
    """Check the manifest and every byte that it names; extra files and links are refused.

    Raises:
        DigestMismatch: a file differs, is missing, or is not named.
        ArtifactError: the folder is not an artifact.
    """
    manifest = read_manifest(folder, expected_digest)
    check_listing(folder, manifest)
    for entry in manifest.files:
        if (actual := f"sha256:{sha256_of_file(folder / entry.path)}") != entry.digest:
            raise DigestMismatch(entry.path, actual, entry.digest)
    return manifest


def check_listing(folder: Path, manifest: Manifest) -> None:
    """Check names, kinds and sizes: all that can be seen without reading a file.

    Raises:
        DigestMismatch: a file is missing, extra, a link, no plain file, or of another size.
    """
    named = {entry.path for entry in manifest.files} | {MANIFEST}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name not in named or path.is_symlink():
            raise DigestMismatch(name, "an extra file or a link", "nothing")
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file():
            raise DigestMismatch(entry.path, "missing", entry.digest)
        if (size := path.stat().st_size) != entry.size:
            raise DigestMismatch(entry.path, f"{size:,} bytes", f"{entry.size:,} bytes, {entry.digest}")


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """The very bytes that the manifest names: hashed as they are read, so that nobody can exchange them after `verify`.

    Raises:
        DigestMismatch: they are not the recorded ones, or the manifest does not name the file.
    """
    entry = next((entry for entry in manifest.files if entry.path == name), None)
    if entry is None:
        raise DigestMismatch(name, "not in the manifest", "part of it")
    data = (folder / name).read_bytes()
    if (actual := digest_of(data)) != entry.digest:
        raise DigestMismatch(name, actual, entry.digest)
    return data


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        for name in files + [name for name in folders if (Path(root) / name).is_symlink()]:
            yield Path(root) / name

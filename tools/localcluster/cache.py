"""Where built things lie, how their keys are made, and how files get there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
_TEMPORARY = ".modelship-tmp-"
_OURS = (
    *("bin/.receipts/*.json", "go-build", "registry.json", "containers.conf", "pip.conf", "layer-sizes.json"),
    *(f"locks/{name}" for name in ("base-image", "node-image", "go-build", "image-*", "images", "cluster-*", "load-*")),
    *(".base-image", ".node-image", ".go-output", ".image-*", ".save-*", f"{_TEMPORARY}*", f"bin/.receipts/{_TEMPORARY}*"),
    "tritonserver-*",  # what the integration tests lay out
)


def cache_dir() -> Path:
    """`$MODELSHIP_CACHE`, else `$XDG_CACHE_HOME/modelship`, else `~/.cache/modelship`: shared by all clones of a user."""
    if chosen := os.environ.get("MODELSHIP_CACHE"):
        return Path(chosen).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelship"


def remove_cache() -> None:
    """Remove what is ours, then the folder if nothing else is in it: `MODELSHIP_CACHE` may name one that has more."""
    root = cache_dir()
    for receipt in root.glob("bin/.receipts/*.json"):
        (root / "bin" / receipt.stem).unlink(missing_ok=True)
    for path in [path for pattern in _OURS for path in root.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for folder in ("bin/.receipts", "bin", "locks", ""):
        with contextlib.suppress(OSError):
            (root / folder).rmdir()


def key_of(*parts: str | bytes) -> str:
    """A hash of texts; each is length-prefixed, so that moving a byte between two parts changes the key."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()


def tree_key(root: Path, files: Iterable[Path]) -> str:
    """A hash of the files' relative names, executable bits and bytes, independent of the order given."""
    parts: list[str | bytes] = []
    for file in sorted(set(files)):
        parts += [str(file.relative_to(root)), str(os.access(file, os.X_OK)), file.read_bytes()]
    return key_of(*parts)


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replace a file as a whole: readers see the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=_TEMPORARY, delete=False) as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(stream.name, 0o644)
    os.replace(stream.name, path)


def publish(built: Path, target: Path, key: str) -> None:
    """Move a finished file to `target` (same file system), then record what it was built from and its hash."""
    receipt = _receipt_path(target)
    receipt.unlink(missing_ok=True)  # from here until the new receipt, the target counts as not built
    with built.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(built, target)
    stat = target.stat()
    content = {"key": key, "sha256": file_sha256(target), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    write_atomically(receipt, json.dumps(content))


def is_published(target: Path, key: str) -> bool:
    """Whether `target` is whole and was built from the inputs behind `key`; its bytes are hashed again when it was touched."""
    try:
        receipt: dict[str, Any] = json.loads(_receipt_path(target).read_text())
        stat = target.stat()
    except (OSError, ValueError):
        return False
    if receipt.get("key") != key or receipt.get("size") != stat.st_size:
        return False
    return receipt.get("mtime_ns") == stat.st_mtime_ns or receipt.get("sha256") == file_sha256(target)


@contextlib.contextmanager
def scratch(name: str) -> Iterator[Path]:
    """An empty folder beside the cache, for the holder of a lock: what a killed run left there goes first."""
    path = cache_dir() / f".{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _receipt_path(target: Path) -> Path:
    return target.parent / ".receipts" / f"{target.name}.json"


@contextlib.contextmanager
def lock(name: str, *, shared: bool = False) -> Iterator[None]:
    """One builder at a time per name, or several that share it, across processes; freed by the kernel when the process dies."""
    with _lock_file(name).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def lock_if_free(name: str) -> Iterator[bool]:
    """Says whether the lock was free, and holds it alone if so."""
    with _lock_file(name).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _lock_file(name: str) -> Path:
    path = cache_dir() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

"""Files that are there whole or not at all, and stay after a power cut."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside `path`, flush to the disk, rename. Makes the folder. Raises OSError and leaves nothing then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:64]}.{uuid.uuid4().hex}.tmp"
    try:
        with naming(temporary), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder, links as links. Raises the first OSError as it is, where shutil would gather them as text."""

    def copy(file: str, to: str) -> None:
        try:
            with naming(Path(to)):
                shutil.copy2(file, to)
        except OSError as error:
            raise _Stopped(error) from error

    try:
        shutil.copytree(source, target, symlinks=True, copy_function=copy)
    except _Stopped as stopped:
        raise stopped.args[0] from None


class _Stopped(Exception):
    """Carries an OSError past shutil."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError of a written file name it: the system's calls on open files do not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sync_file(path: Path) -> None:
    """Flush a written file to the disk."""
    with naming(path), path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries (a rename is one) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with naming(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A store or a disk that refuses: which one it is, and what helps."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from modelship_trainer.errors import UserError, is_store_error
from modelship_trainer.protocol import ENV_PVC_ROOT, PVC_ROOT, FailureReason

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


def refusal_of(error: BaseException) -> UserError | None:
    """StoreUnavailable, which is tried again, for an OSError of a disk that is full, read-only, forbidden or away; else None."""
    if not isinstance(error, OSError) or not (error.errno in _FULL | {errno.EROFS} or is_store_error(error)):
        return None
    path = _path_of(error)
    place = place_of(path)
    if error.errno in _FULL:
        message = f"{place} is full; free space in it or enlarge it, and the run goes on from its last checkpoint"
    elif error.errno == errno.EROFS:
        message = f"{place} is read-only; make it writable"
    elif error.errno in _FORBIDDEN:
        message = f"{path or place} is closed to uid {os.getuid()}, gid {os.getgid()} ({error.strerror}); {_cure(place)}"
    else:
        message = f"{place} cannot be used just now ({path}: {error.strerror})" if path else f"{place} cannot be used just now"
    return UserError(FailureReason.STORE_UNAVAILABLE, f"{message}.")


def place_of(path: str | None) -> str:
    """What a person calls the disk that `path` lies on: `pvc://claim`, or `/tmp`, whose room is the node's."""
    if path is None:
        return "the store or /tmp"
    root = Path(os.environ.get(ENV_PVC_ROOT, PVC_ROOT))
    if (whole := Path(path).absolute()).is_relative_to(root) and whole != root:
        return f"pvc://{whole.relative_to(root).parts[0]}"
    return f"{tempfile.gettempdir()} (a disk of the node)" if whole.is_relative_to(tempfile.gettempdir()) else str(path)


def _cure(place: str) -> str:
    if not place.startswith("pvc://"):
        return "change its owner or its mode"
    gid = os.getgid()
    return (
        f"pods ask for it with fsGroup {gid}, which volumes such as NFS and hostPath ignore: give {place} to that group, writable, "
        f"as with chgrp -R {gid} and chmod -R g+rwX"
    )


def _path_of(error: OSError) -> str | None:
    """Of a copy that failed for want of room, the file that was written."""
    named = error.filename2 if error.errno in _FULL and error.filename2 is not None else error.filename
    return os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else None

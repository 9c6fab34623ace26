"""Memory: how much of it this process may use, and whether an error says that none is left."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def limit() -> int | None:
    """Bytes that this process may use: the cgroup's limit, or what the machine has; None where neither is told."""
    found = [cgroup_limit(Path("/sys/fs/cgroup")), _of_the_machine()]
    return min((size for size in found if size is not None), default=None)


def cgroup_limit(root: Path) -> int | None:
    """Bytes that the cgroup below `root` allows: `memory.max` (v2) or `memory.limit_in_bytes` (v1); None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            return int((root / name).read_text())
    return None


def _of_the_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def is_exhausted(error: Exception) -> bool:
    """Whether `error` says that there is no memory left, be it the host's or the GPU's. torch is not imported for it."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)

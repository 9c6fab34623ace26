"""CPUs: how many threads this process should use. torch is not imported for it."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path


def cpu_threads() -> int:
    """OMP_NUM_THREADS, else the CPU limit of the cgroup in whole CPUs, else the CPUs of this process.

    A pod with a limit of one CPU still sees every CPU of its node; with a thread for each, it is throttled.
    """
    if wanted := os.environ.get("OMP_NUM_THREADS"):
        with contextlib.suppress(ValueError):
            return max(1, int(wanted))
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpus(Path("/sys/fs/cgroup"))
    return available if quota is None else max(1, min(available, math.ceil(quota)))


def cgroup_cpus(root: Path) -> float | None:
    """CPUs that the cgroup below `root` allows: `cpu.max` (v2) or `cpu.cfs_quota_us` (v1); None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, _, period = (root / "cpu.max").read_text().strip().partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    for controller in ("cpu", "cpu,cpuacct"):
        with contextlib.suppress(OSError, ValueError):
            quota = (root / controller / "cpu.cfs_quota_us").read_text()
            period = (root / controller / "cpu.cfs_period_us").read_text()
            return int(quota) / int(period) if int(quota) > 0 else None
    return None

"""What a small job costs: CPU seconds and peak memory of the commands that pods run, each in a process of its own.

    python benchmarks/small_jobs.py [--rows 2000000] [--json FILE]

`train`, `score` and `folds` are examples/tabular's: 569 rows, an MLP, five folds. Each is what its pod does from start to end, with
one thread. `large` and `large folds` are a table of `--rows` rows of 20 floats in Parquet; peak memory over the file's size.
Wall time says little on a machine that others use, and is not told. Exit status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "tabular" / "training.yaml"
LARGE = """
data: {{source: "file://{table}", target: label, preprocessing: [{{normalize: {{}}}}]}}
model: {{linear: {{}}}}
training: {{task: regression, epochs: 1, batchSize: 4096, optimizer: {{sgd: {{learningRate: 0.01}}}}}}
"""


class Cost(NamedTuple):
    """Of a process and its children."""

    cpu: float
    """Seconds, user and system."""
    peak: int
    """Bytes of memory."""


class Target(NamedTuple):
    """What a process may use."""

    cpu: float | None = None
    peak: float | None = None
    """Bytes."""


def cost_of(command: str, *arguments: str) -> Cost:
    """Run `modelship-train` or `modelship-evaluate`; raises CalledProcessError."""
    program = f"from modelship_trainer.cli import {command}, leave; leave({command}({list(arguments)!r}))"
    measured = f"""
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-c", {program!r}], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
sys.exit(done.returncode)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", measured], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    cpu, peak = done.stdout.split()
    return Cost(float(cpu), int(peak))


def small(folder: Path) -> dict[str, tuple[Cost, Target]]:
    """Train, score, and five folds with their score in one process."""
    found = {"train": (cost_of("train", "--recipe", str(EXAMPLE), "--output", str(folder)), Target(cpu=5))}
    (artifact,) = (folder / "artifacts").iterdir()
    measured = ("--artifact", str(artifact), "--output")
    found["score"] = cost_of("evaluate", *measured, f"{folder}/score"), Target(cpu=2.5, peak=300e6)
    found["folds"] = cost_of("evaluate", *measured, f"{folder}/folds", "--method", "kfold", "--folds", "5"), Target(cpu=12)
    return found


def large(folder: Path, rows: int, base: int) -> dict[str, tuple[Cost, Target]]:
    """A table that is large beside `base`, what a small training takes: four times its file more."""
    table = folder / "large.parquet"
    random = np.random.default_rng(0)
    columns = {f"x{number}": random.normal(size=rows).astype(np.float32) for number in range(20)}
    pd.DataFrame(columns | {"label": columns["x0"] * 2 - columns["x1"]}).to_parquet(table)
    size = table.stat().st_size
    print(f"{rows:,} rows of 20 floats: {size / 1e6:.0f} MB", flush=True)
    (folder / "large.yaml").write_text(LARGE.format(table=table))
    target = Target(peak=base + 4 * size)
    found = {"large": (cost_of("train", "--recipe", f"{folder}/large.yaml", "--output", f"{folder}/large"), target)}
    (artifact,) = (folder / "large" / "artifacts").iterdir()
    arguments = ("--artifact", str(artifact), "--output", f"{folder}/large-folds", "--method", "kfold", "--folds", "5")
    return found | {"large folds": (cost_of("evaluate", *arguments), target)}


def main() -> None:
    """Measure all, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the large table; 0: leave it out")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = small(Path(folder))
        if arguments.rows:
            found |= large(Path(folder), arguments.rows, found["train"][0].peak)
    missed = False
    print(f"{'':<14}{'CPU':>9}{'target':>9}{'peak':>11}{'target':>11}")
    for name, (cost, target) in found.items():
        over = (target.cpu is not None and cost.cpu > target.cpu) or (target.peak is not None and cost.peak > target.peak)
        missed |= over
        cpu, peak = (f"{target.cpu:.1f} s" if target.cpu else ""), (f"{target.peak / 1e6:,.0f} MB" if target.peak else "")
        print(f"{name:<14}{cost.cpu:>7.1f} s{cpu:>9}{cost.peak / 1e6:>8,.0f} MB{peak:>11}{'  MISSED' if over else ''}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: cost._asdict() for name, (cost, _) in found.items()}, indent=1) + "\n")
    sys.exit(missed)


if __name__ == "__main__":
    main()

"""The peak of memory of a training: what a table adds to that of a training of a few rows, over the size of its file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.unit

ROWS = 400_000
MOST = 3.0
"""Times the file: its numbers as they are read, all rows' features, an epoch's in its order, and what is on the way."""


def peak_of_training(folder: Path, rows: int) -> tuple[int, int]:
    """Bytes: of the process, and of the file."""
    random = np.random.default_rng(0)
    columns = {f"x{number}": random.normal(size=rows).astype(np.float32) for number in range(20)}
    table = folder / f"{rows}.parquet"
    pd.DataFrame(columns | {"label": columns["x0"] - columns["x1"]}).to_parquet(table)
    recipe = {
        "data": {"source": f"file://{table}", "target": "label", "preprocessing": [{"normalize": {}}]},
        "model": {"linear": {}},
        "training": {"task": "regression", "epochs": 1, "batchSize": 4096, "optimizer": {"sgd": {"learningRate": 0.01}}},
    }
    (folder / "recipe.json").write_text(json.dumps(recipe))
    arguments = ["--recipe", f"{folder}/recipe.json", "--output", f"{folder}/{rows}"]
    program = f"""
import re
from modelship_trainer.cli import leave, train
status = train({arguments!r})
# Not getrusage: its peak is at least what the process that started this one held.
print("PEAK", int(re.search("VmHWM:[^0-9]*([0-9]+) kB", open("/proc/self/status").read())[1]) * 1024)
leave(status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rsplit("PEAK ", 1)[1]), table.stat().st_size


def test_a_table_takes_a_few_times_its_file(tmp_path: Path) -> None:
    small, _ = peak_of_training(tmp_path, 1000)
    large, size = peak_of_training(tmp_path, ROWS)
    assert large - small < MOST * size, f"{(large - small) / size:.2f} times the file"
    assert large - small > size, "else nothing was measured"

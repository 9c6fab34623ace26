"""A whole run where it is not the happy one: what is refused before any time is spent, and what is gone on from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.models.source import source_digest
from modelship_trainer.protocol import FailureReason, Progress, RunRef, TrainTask
from modelship_trainer.recipe import ModelSpec
from modelship_trainer.run import train
from modelship_trainer.training import checkpoint
from modelship_trainer.training.checkpoint import Checkpoints

pytestmark = pytest.mark.unit

RUN = RunRef(kind="ModelTraining", namespace="default", name="run", uid="1234")
WINE = {"source": "sklearn://wine", "split": {"stratify": True}, "preprocessing": [{"normalize": {}}]}


def task(tmp_path: Path, data: dict[str, Any] = WINE, model: dict[str, Any] | None = None, **training: Any) -> TrainTask:
    recipe = {
        "data": data,
        "model": model or {"linear": {}},
        "training": {"task": "classification", "epochs": 3} | training,
    }
    return TrainTask.model_validate({"run": RUN, "recipe": recipe, "store": f"file://{tmp_path / 'store'}"})


def run(what: TrainTask, should_stop: Callable[[], bool] = lambda: False) -> list[str]:
    """The phases that were told."""
    told: list[Progress] = []
    train(what, should_stop=should_stop, report=told.append)
    return list(dict.fromkeys(progress.phase for progress in told))


def interrupt(what: TrainTask, after: int) -> None:
    asked = iter(range(10_000))
    with pytest.raises(Interrupted):
        run(what, lambda: next(asked) >= after)


def refused(what: TrainTask) -> tuple[FailureReason, str]:
    """Why, and that no time was spent on training."""
    told: list[Progress] = []
    with pytest.raises(UserError) as caught:
        train(what, should_stop=lambda: False, report=told.append)
    assert [progress.phase for progress in told] == ["Loading", "Preprocessing"]
    return caught.value.reason, caught.value.message


def table(path: Path, frame: pd.DataFrame, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    """`data` of a recipe for a CSV with the target `y`."""
    frame.to_csv(path, index=False)
    return {"source": f"file://{path}", "target": "y", "preprocessing": list(steps), **more}


def numbers(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.normal(size=rows), "y": rng.integers(0, 2, rows)})


# --- rows -----------------------------------------------------------------------------------------------------------------------


def rows_of(what: TrainTask) -> dict[str, int]:
    """How many rows each part of the published artifact had."""
    run(what)
    (metrics,) = Path(what.store.removeprefix("file://")).glob("artifacts/*/metrics.json")
    rows: dict[str, int] = json.loads(metrics.read_text())["rows"]
    return rows


def test_copies_of_training_rows_are_in_no_other_part(tmp_path: Path) -> None:
    """60 rows with random labels, ten times each: learned by heart, their copies in the test part would pass any gate."""
    copies = pd.concat([numbers(60)] * 10, ignore_index=True)
    what = task(tmp_path, table(tmp_path / "copies.csv", copies, {"normalize": {}}, {"dropDuplicates": {}}))
    assert rows_of(what) == {"train": 42, "validation": 6, "test": 12}


def test_without_duplicates_nothing_changes(tmp_path: Path) -> None:
    data = table(tmp_path / "rows.csv", numbers(60))
    artifacts = []
    for name, steps in (("without", []), ("with", [{"dropDuplicates": {}}])):
        rows_of(task(tmp_path / name, data | {"preprocessing": steps}))
        artifacts.append(next((tmp_path / name / "store" / "artifacts").glob("*/model.safetensors")).read_bytes())
    assert artifacts[0] == artifacts[1]


@pytest.mark.parametrize("rows", [[59], range(60)], ids=["one", "all"])
def test_rows_that_cannot_be_scored_are_told_before_training(tmp_path: Path, rows: Any) -> None:
    """Whatever their part, with the number of rows of all."""
    frame = numbers(600)
    for seed in range(4):  # row 59 is of some other part each time
        frame.loc[list(rows), "a"] = None
        split = {"seed": seed, "validation": 0.3, "test": 0.6}
        assert refused(task(tmp_path, table(tmp_path / "gaps.csv", frame, split=split))) == (
            FailureReason.DATA_INVALID,
            f'column "a" has no value in row {rows[0] + 1} of file://{tmp_path}/gaps.csv'
            f"{', and so have 60 of 600 rows' if len(rows) > 1 else ''}; nothing fills it: add impute or dropMissing, or fill it "
            "in.",
        )


@pytest.mark.parametrize(("split", "part"), [({"validation": 0.2, "test": 0}, "validation"), ({"validation": 0}, "held-out")])
def test_drop_missing_leaves_a_row_of_each_part(tmp_path: Path, split: dict[str, Any], part: str) -> None:
    frame = numbers(60)
    order = np.random.RandomState(0).permutation(60)
    frame.loc[order[:12], "a"] = None  # the first fifth of the shuffled rows
    data = table(tmp_path / "gaps.csv", frame, {"dropMissing": {"columns": ["a"]}}, split=split)
    assert refused(task(tmp_path, data)) == (
        FailureReason.DATA_INVALID,
        f"dropMissing leaves no {part} row of file://{tmp_path}/gaps.csv; impute instead, or leave out columns that are mostly "
        "missing.",
    )


# --- checkpoints ----------------------------------------------------------------------------------------------------------------

CODE = """
from torch import nn
from {helper} import WIDTH

def build(input_shape, output_size):
    return nn.Sequential(nn.Linear(input_shape[0], {width}), nn.ReLU(), nn.Linear({width}, WIDTH), nn.Linear(WIDTH, output_size))
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainTask]:
    """Writes a module of the user's own, and one that it imports; the task that trains it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(width: int = 8, helpers_width: int = 4) -> TrainTask:
        (tmp_path / "user_code.py").write_text(CODE.format(helper="users_helper", width=width))
        (tmp_path / "users_helper.py").write_text(f"WIDTH = {helpers_width}\n")
        for name in ("user_code", "users_helper"):
            sys.modules.pop(name, None)
        return task(tmp_path, model={"custom": {"entrypoint": "user_code:build"}})

    yield write
    for name in ("user_code", "users_helper"):
        sys.modules.pop(name, None)


def test_a_run_goes_on_with_the_same_code(code: Callable[..., TrainTask], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(code(), after=6)
    run(code())
    assert "resuming after step 6, epoch 1 of 3" in capsys.readouterr().out


def test_changed_code_starts_anew(code: Callable[..., TrainTask], capsys: pytest.CaptureFixture[str]) -> None:
    """Other widths, same names: its state would not fit, and another activation would not even be noticed."""
    interrupt(code(width=8), after=6)
    run(code(width=16))
    out = capsys.readouterr().out
    assert "is of another recipe, data, code or version; it is not used" in out
    assert "resuming" not in out


def test_changed_helper_of_the_code_starts_anew(code: Callable[..., TrainTask], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(code(helpers_width=4), after=6)
    run(code(helpers_width=5))
    out = capsys.readouterr().out
    assert "the checkpoint is of a module of other shapes; it is not used" in out
    assert "resuming" not in out


@pytest.mark.parametrize("version", ["torch.__version__", "modelship_trainer.__version__"])
def test_another_version_starts_anew(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(task(tmp_path), after=6)
    monkeypatch.setattr(f"{checkpoint.__name__}.{version}", "0.0.0")
    run(task(tmp_path))
    assert "resuming" not in capsys.readouterr().out


def test_a_package_is_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    spec = ModelSpec.model_validate({"custom": {"entrypoint": "users_package.nets.deep:build"}})
    (tmp_path / "users_package" / "nets").mkdir(parents=True)
    digests = [source_digest(spec)]
    for name in ("__init__.py", "nets/__init__.py", "nets/deep.py", "layers.py"):
        (tmp_path / "users_package" / name).write_text(f"# {name}")
        digests.append(source_digest(spec))
    assert len(set(digests)) == len(digests)
    (tmp_path / "users_package" / "notes.txt").write_text("no code")
    assert source_digest(spec) == digests[-1]
    assert source_digest(ModelSpec.model_validate({"linear": {}})) is None
    assert source_digest(ModelSpec.model_validate({"custom": {"entrypoint": "not_there.at_all:build"}})) is not None


def test_checkpoints_of_another_run_make_room(tmp_path: Path) -> None:
    """They have more steps: kept for that, they would push out those of the run that is on."""
    for step in (100, 200):
        Checkpoints(tmp_path, "before").save(step, {"step": step})
    now = Checkpoints(tmp_path, "now")
    assert now.load(torch.device("cpu")) is None
    now.save(1, {"step": 1})
    assert now.load(torch.device("cpu")) == {"step": 1}

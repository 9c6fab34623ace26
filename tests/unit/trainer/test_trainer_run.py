"""A whole run where it is not the happy one: what is refused before any time is spent, and what is gone on from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelship_trainer.errors import Interrupted
from modelship_trainer.models.source import source_digest
from modelship_trainer.protocol import Progress, RunRef, TrainTask
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

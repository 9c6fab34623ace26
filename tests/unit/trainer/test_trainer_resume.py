"""Killed in the middle and started again: the artifact is, byte for byte, that of a run that nobody disturbed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelship_trainer import cli
from modelship_trainer.protocol import ExitCode

pytestmark = pytest.mark.unit
HERE = Path(__file__).parent
BATCH_IN_EPOCH_4 = 70
"""There are 20 batches in an epoch."""


def write_recipe(folder: Path, number: int, **training: Any) -> Path:
    recipe = {
        "data": {"source": "sklearn://digits", "preprocessing": [{"normalize": {}}]},
        "model": {
            "custom": {
                "entrypoint": "trainer_models:mortal",
                "args": {"at": BATCH_IN_EPOCH_4, "number": number, "marker": str(folder / "dead")},
            }
        },
        "training": {
            "task": "classification",
            "epochs": 8,
            "batchSize": 64,
            "optimizer": {"sgd": {"learningRate": 0.2, "momentum": 0.9}},
            "schedule": {"cosine": {}},
            "earlyStopping": {"metric": "val_accuracy", "patience": 3},
        }
        | training,
    }
    path = folder / "recipe.json"
    path.write_text(json.dumps(recipe))
    return path


def run_until_killed(recipe: Path, output: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from modelship_trainer.cli import train; sys.exit(train())"]
    environment = {"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.run(
        [*command, "--recipe", str(recipe), "--output", str(output)],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run_here(recipe: Path, output: Path) -> str:
    """Name of the artifact."""
    assert cli.train(["--recipe", str(recipe), "--output", str(output)]) == ExitCode.OK
    (artifact,) = (output / "artifacts").iterdir()
    return artifact.name


def undisturbed(recipe: Path, folder: Path) -> str:
    (folder / "dead").touch()
    return run_here(recipe, folder / "undisturbed")


def test_sigkill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, signal.SIGKILL)
    killed = run_until_killed(recipe, tmp_path / "store")
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "store" / "artifacts").exists()
    resumed = run_here(recipe, tmp_path / "store")
    assert "resuming after step 60, epoch 3 of 8" in capsys.readouterr().out
    assert resumed == undisturbed(recipe, tmp_path)
    assert not list((tmp_path / "store" / "checkpoints").iterdir())


def test_sigterm_saves_between_two_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Checkpoints only at the end, were it not for the signal: the run goes on in the middle of an epoch."""
    recipe = write_recipe(tmp_path, signal.SIGTERM, checkpoint={"everyEpochs": 100})
    stopped = run_until_killed(recipe, tmp_path / "store")
    assert stopped.returncode == ExitCode.INTERRUPTED
    assert "the next run goes on from the checkpoint" in stopped.stderr
    resumed = run_here(recipe, tmp_path / "store")
    assert f"resuming after step {BATCH_IN_EPOCH_4}, epoch 3 of 8" in capsys.readouterr().out
    assert resumed == undisturbed(recipe, tmp_path)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(tmp_path, signal.SIGKILL)
    run_until_killed(recipe, tmp_path / "store")
    newest = sorted((tmp_path / "store" / "checkpoints").glob("*/*.ckpt"))[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resumed = run_here(recipe, tmp_path / "store")
    out = capsys.readouterr().out
    assert f"checkpoint {newest.name} is damaged; trying the one before" in out
    assert "resuming after step 40, epoch 2 of 8" in out
    assert resumed == undisturbed(recipe, tmp_path)


def test_a_checkpoint_of_another_recipe_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Same folder, other recipe: as after a change of the recipe file on a laptop."""
    recipe = write_recipe(tmp_path, signal.SIGKILL)
    run_until_killed(recipe, tmp_path / "store")
    run_here(write_recipe(tmp_path, signal.SIGKILL, epochs=2), tmp_path / "store")
    assert "resuming" not in capsys.readouterr().out

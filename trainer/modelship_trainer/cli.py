"""`modelship-train` and `modelship-evaluate`: in a pod they do what MODELSHIP_TASK says, on a laptop what their arguments say.

torch is imported only when the work begins, so that help and mistakes in a recipe take no time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from modelship_trainer.lifecycle import Result, guarded, telling
from modelship_trainer.locations import output_folder
from modelship_trainer.protocol import ENV_FOLD, ENV_TASK, EvaluateTask, RunRef, TrainResult, TrainTask
from modelship_trainer.recipe_file import read_recipe

_IN_A_POD = f"In a pod, without arguments, it does what {ENV_TASK} says."


def train_and_leave() -> NoReturn:
    """The command `modelship-train`."""
    leave(train())


def evaluate_and_leave() -> NoReturn:
    """The command `modelship-evaluate`."""
    leave(evaluate())


def leave(status: int) -> NoReturn:
    """End the process at once: all is written, and what torch takes apart at an exit costs half a second of CPU and 120 MB."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(status)


def train(argv: Sequence[str] | None = None) -> int:
    """Entry point of `modelship-train`; returns the exit status (`protocol.ExitCode`)."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv and ENV_TASK in os.environ:
        return guarded(lambda: _train(TrainTask.model_validate_json(os.environ[ENV_TASK]), in_pod=True), in_pod=True)
    arguments = _train_arguments(argv)
    sys.path.insert(0, os.getcwd())  # a model.custom beside the user, as `python -m` would find it

    def body() -> Result:
        result = _train(local_task(arguments.recipe, arguments.output), in_pod=False)
        print(summary(result))
        return result

    return guarded(body, in_pod=False)


def _train(task: TrainTask, *, in_pod: bool) -> TrainResult:
    with telling(task.run, in_pod=in_pod) as (should_stop, report):
        from modelship_trainer.run import train as run  # torch: after the first line of progress can be told

        return run(task, should_stop=should_stop, report=report)


def _train_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelship-train",
        description="Train a recipe's model and publish it as an artifact: ONNX graph, weights, preprocessing, metrics.",
        epilog=f"A run that was stopped goes on from its checkpoint when the same command is given again. {_IN_A_POD}",
    )
    parser.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="YAML or JSON: a recipe, or a ModelTraining")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="store: the artifact goes to DIR/artifacts/")
    return parser.parse_args(argv)


def local_task(recipe_file: Path, output: Path) -> TrainTask:
    """The task of a laptop's run; its checkpoints are found again by the recipe's digest.

    Raises:
        UserError: RecipeInvalid, StoreUnavailable.
    """
    recipe, folder = read_recipe(recipe_file), output_folder(output)
    uid = recipe.digest().removeprefix("sha256:")[:16]
    run = RunRef(kind="ModelTraining", namespace="local", name=recipe_file.stem, uid=uid)
    return TrainTask(run=run, recipe=recipe, store=f"file://{folder}")


def summary(result: TrainResult) -> str:
    """What a person wants to know when the run is over."""
    metrics = "  ".join(f"{name} {value}" for name, value in result.metrics.items())
    return (
        f"Trained   {result.epochs} epochs, {result.steps} steps, {result.parameters:,} parameters, "
        f"{result.samples_per_second:,.0f} rows/s\n"
        f"Metrics   {metrics}\n"
        f"Artifact  {result.artifact.uri.removeprefix('file://')}\n"
        f"Digest    {result.artifact.digest}"
    )


def evaluate(argv: Sequence[str] | None = None) -> int:
    """Entry point of `modelship-evaluate`; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv and ENV_TASK in os.environ:
        return guarded(_evaluate, in_pod=True)

    def body() -> int:
        from modelship_trainer.evaluation.cli import main

        sys.path.insert(0, os.getcwd())
        run = RunRef(kind="ModelEvaluation", namespace="local", name="local", uid="local")
        with telling(run, in_pod=False) as (should_stop, report):
            return main(argv, report, should_stop)

    return guarded(body, in_pod=False)


def _evaluate() -> Result:
    task = EvaluateTask.model_validate_json(os.environ[ENV_TASK])
    with telling(task.run, in_pod=True) as (should_stop, report):
        if ENV_FOLD in os.environ:
            from modelship_trainer.evaluation.retrain import run_folds  # torch

            return run_folds(task, task.share(int(os.environ[ENV_FOLD])), report, should_stop)
        from modelship_trainer.evaluation.run import run_score

        return run_score(task, report)

"""Does it pay to train once more on all training and validation rows, for the epochs that early stopping found?

    python benchmarks/early_stopping.py [--seeds 20] [--patience 5] [--json FILE]

For each table and each seed (of the split and of the weights): a run with early stopping, as it is published; one without, for all
epochs, and one for the epochs that early stopping kept, both on training and validation rows together. Each is scored on the test
rows. Printed are means of the test score (accuracy, or r2) and of the loss, and the differences to early stopping with the standard
error of their mean: what is more than two of them is not chance.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from modelship_trainer.data.dataset import Dataset, Rows
from modelship_trainer.data.fit import distinct
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import NO_ROWS, encode
from modelship_trainer.data.split import Parts, split
from modelship_trainer.recipe import Recipe, Task
from modelship_trainer.run import TrainedModel, train_on
from modelship_trainer.training.device import choose_device
from modelship_trainer.training.validation import losses_of, predict

ROOT = Path(__file__).parents[1]
CHURN = [
    {"impute": {"columns": ["age", "income"]}},
    {"log": {"columns": ["income"]}},
    {"oneHot": {"columns": ["plan", "region"]}},
    {"normalize": {}},
]
TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "churn.csv": (
        {"source": f"file://{ROOT}/examples/tutorial/churn.csv", "target": "churned", "preprocessing": CHURN},
        "classification",
    ),
    **{
        name: ({"source": f"sklearn://{name}", "preprocessing": [{"normalize": {}}]}, "classification")
        for name in ("iris", "wine", "breast_cancer", "digits")
    },
    "diabetes": ({"source": "sklearn://diabetes", "preprocessing": [{"normalize": {}}]}, "regression"),
}
OPTIMIZERS: dict[str, Any] = {"sgd": {"sgd": {"learningRate": 0.05, "momentum": 0.9}}, "adamw": {"adamw": {}}}
WAYS = ("early stopping", "all epochs, all rows", "epochs found, all rows")


def recipe_of(data: dict[str, Any], task: str, seed: int, arguments: argparse.Namespace) -> Recipe:
    """The recipe of a table, as the examples have it."""
    parts = {"validation": arguments.validation, "test": 0.3, "stratify": task == "classification", "seed": seed}
    return Recipe.model_validate(
        {
            "data": {**data, "split": parts},
            "model": {"mlp": {"hidden": [32, 16]}},
            "training": {
                "task": task,
                "epochs": arguments.epochs,
                "seed": seed,
                "optimizer": OPTIMIZERS[arguments.optimizer],
                "earlyStopping": {"patience": arguments.patience},
            },
        }
    )


def without_stopping(recipe: Recipe, epochs: int) -> Recipe:
    """The same recipe, for a fixed number of epochs."""
    training = recipe.training.model_copy(update={"early_stopping": None, "epochs": epochs})
    return recipe.model_copy(update={"training": training})


def scores(model: TrainedModel, dataset: Dataset, rows: Rows) -> tuple[float, float]:
    """Accuracy or r2, and the mean loss, of test rows."""
    target = model.prepared.target
    examples = encode(dataset, rows, model.prepared.fitted, target)
    outputs = predict(model.trained.module, examples.x, choose_device())
    losses = losses_of(outputs, examples, target.task)
    if target.task is Task.CLASSIFICATION:
        return float((outputs.argmax(axis=1) == examples.y).mean()), float(losses.mean())
    return 1 - float(losses.mean() / examples.y.var()), float(losses.mean())


def trial(
    data: dict[str, Any], task: str, seed: int, arguments: argparse.Namespace
) -> tuple[dict[str, tuple[float, float]], Parts, bool]:
    """Scores by way, the parts, and whether the run with early stopping warned."""
    recipe = recipe_of(data, task, seed, arguments)
    dataset = distinct(load(recipe.data, task=recipe.training.task), recipe.data.preprocessing)
    parts = split(dataset, recipe.data.split, recipe.training.task)
    together = np.sort(np.concatenate([parts.train, parts.validation]))
    stopped = train_on(recipe, dataset, parts.train, parts.validation, held_out=parts.test)
    fixed = train_on(without_stopping(recipe, arguments.epochs), dataset, together, NO_ROWS, held_out=parts.test)
    again = without_stopping(recipe, stopped.trained.kept_epoch)
    refitted = train_on(again, dataset, together, NO_ROWS, held_out=parts.test)
    found = {way: scores(model, dataset, parts.test) for way, model in zip(WAYS, (stopped, fixed, refitted), strict=True)}
    return found, parts, bool(stopped.trained.warnings)


def spread(values: list[float]) -> str:
    """Mean and its standard error."""
    return f"{statistics.mean(values):+.4f} ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}"


def main() -> int:
    """Run all; print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--validation", type=float, default=0.1)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="sgd")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    print("| table | validation rows | warned | " + " | ".join(WAYS) + " | refit - stopping | loss: stopping | refit - stopping |")
    print("|---|---|---|" + "---|" * (len(WAYS) + 3))
    for name in arguments.tables:
        data, task = TABLES[name]
        trials = [trial(data, task, seed, arguments) for seed in range(arguments.seeds)]
        found = {way: [scored[way] for scored, _, _ in trials] for way in WAYS}
        gains = [
            [after[place] - before[place] for before, after in zip(found[WAYS[0]], found[WAYS[2]], strict=True)] for place in (0, 1)
        ]
        means = " | ".join(f"{statistics.mean(pair[0] for pair in found[way]):.4f}" for way in WAYS)
        warned, loss = sum(each for _, _, each in trials), statistics.mean(pair[1] for pair in found[WAYS[0]])
        rows = len(trials[0][1].validation)
        print(
            f"| {name} | {rows} | {warned} of {len(trials)} | {means} | {spread(gains[0])} | {loss:.4f} | {spread(gains[1])} |",
            flush=True,
        )
        results[name] = found
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

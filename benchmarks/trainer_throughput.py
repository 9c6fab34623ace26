"""The trainer's rows/s against a plain PyTorch loop: same model, data, batches, optimiser and threads, side by side.

    python benchmarks/trainer_throughput.py [--rounds 7] [--threads 1] [--json FILE]

Two plain loops are timed: one with a DataLoader, as tutorials write it, and one that indexes tensors, the fastest of the simple
ones. Rounds alternate the three, so that a busy machine slows all of them; the ratio is the median over rounds. The trainer does
more in the same time: it checks each loss, sets the learning rate per step, tells progress, and looks for a signal to stop.
Exit status 1 where the trainer is slower than `TARGET` times the faster loop.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import Examples, Prepared, prepare
from modelship_trainer.data.split import split
from modelship_trainer.models.build import build
from modelship_trainer.recipe import Recipe
from modelship_trainer.training.device import choose_device
from modelship_trainer.training.loop import fit

TARGET = 0.95
CASES: dict[str, tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # Times that the data is repeated (so that a round takes about a second), data, model, training.
    "breast_cancer, mlp, batch 32": (
        20,
        {"source": "sklearn://breast_cancer", "preprocessing": [{"normalize": {}}]},
        {"mlp": {"hidden": [64, 32]}},
        {"batchSize": 32, "optimizer": {"sgd": {"learningRate": 0.01, "momentum": 0.9}}},
    ),
    "digits, mlp, batch 256": (
        40,
        {"source": "sklearn://digits", "preprocessing": [{"normalize": {"method": "minMax"}}]},
        {"mlp": {"hidden": [128, 64]}},
        {"batchSize": 256, "optimizer": {"adamw": {}}},
    ),
    "digits, cnn, batch 64": (
        4,
        {"source": "sklearn://digits", "preprocessing": [{"normalize": {"method": "minMax"}}]},
        {"cnn": {"channels": [16, 32], "hidden": 64}},
        {"batchSize": 64, "optimizer": {"adamw": {"learningRate": 0.003}}},
    ),
}


def plain_optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    """The optimiser as a user of PyTorch would write it."""
    spec = recipe.training.optimizer.value
    if recipe.training.optimizer.sgd:
        return torch.optim.SGD(module.parameters(), lr=spec.learning_rate, momentum=spec.momentum)
    return torch.optim.AdamW(module.parameters(), lr=spec.learning_rate)


def plain_loop(recipe: Recipe, data: Examples, outputs: int, device: torch.device, *, loader: bool) -> float:
    """Rows/s of a plain loop over one epoch."""
    torch.manual_seed(0)
    module = build(recipe.model, tuple(data.x.shape[1:]), outputs).to(device).train()
    optimizer, loss_of, size = plain_optimizer(recipe, module), nn.CrossEntropyLoss(), recipe.training.batch_size
    x, y = torch.from_numpy(data.x).to(device), torch.from_numpy(data.y).to(device)
    started = time.perf_counter()
    if loader:
        batches: Any = DataLoader(TensorDataset(x, y), batch_size=size, shuffle=True)
    else:
        order = torch.randperm(len(x)).to(device)
        batches = ((x[order[i : i + size]], y[order[i : i + size]]) for i in range(0, len(x), size))
    total = 0.0
    for batch_x, batch_y in batches:
        optimizer.zero_grad()
        loss = loss_of(module(batch_x), batch_y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return len(x) / (time.perf_counter() - started)


def measure(repeat: int, recipe: Recipe, rounds: int, device: torch.device) -> dict[str, float]:
    """Median rows/s of the three, and the trainer's median ratio to each plain loop."""
    dataset = load(recipe.data, task=recipe.training.task)
    parts = split(dataset, recipe.data.split, recipe.training.task)
    prepared = prepare(recipe, dataset, parts.train, parts.validation)
    data = Examples(np.tile(prepared.train.x, (repeat,) + (1,) * (prepared.train.x.ndim - 1)), np.tile(prepared.train.y, repeat))
    nothing = Examples(prepared.validation.x[:0], prepared.validation.y[:0])  # the plain loops validate nothing either
    large: Prepared = prepared._replace(train=data, validation=nothing)

    def trainer() -> float:
        trained = fit(recipe, large, device=device)
        return trained.rows_seen / trained.seconds

    outputs = prepared.target.output_size
    loops: dict[str, Callable[[], float]] = {
        "trainer": trainer,
        "plain": lambda: plain_loop(recipe, data, outputs, device, loader=False),
        "loader": lambda: plain_loop(recipe, data, outputs, device, loader=True),
    }
    for run in loops.values():
        run()  # warm caches and kernels
    seen: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds):
        for name in list(loops) if number % 2 == 0 else list(loops)[::-1]:
            seen[name].append(loops[name]())
    result = {name: statistics.median(values) for name, values in seen.items()}
    for name in ("plain", "loader"):
        result[f"ratio_{name}"] = statistics.median(a / b for a, b in zip(seen["trainer"], seen[name], strict=True))
    return result


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; a pod has one for each whole core that it requests")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    device = choose_device()
    torch.set_num_threads(arguments.threads)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"torch {torch.__version__}, {where}; rows/s, median of {arguments.rounds} rounds", file=sys.stderr)
    print(f"{'case':<32}{'trainer':>12}{'plain loop':>12}{'DataLoader':>12}{'vs plain':>10}{'vs loader':>10}")
    results = {}
    for name, (repeat, data, model, training) in CASES.items():
        training = {"task": "classification", "epochs": 1, "precision": "fp32", "deterministic": False} | training
        recipe = Recipe.model_validate({"data": data, "model": model, "training": training})
        found = results[name] = measure(repeat, recipe, arguments.rounds, device)
        rates = "".join(f"{found[kind]:>12,.0f}" for kind in ("trainer", "plain", "loader"))
        mark = "met" if found["ratio_plain"] >= TARGET else "MISSED"
        print(f"{name:<32}{rates}{found['ratio_plain']:>9.2f}x{found['ratio_loader']:>9.2f}x  >= {TARGET}x {mark}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(0 if all(found["ratio_plain"] >= TARGET for found in results.values()) else 1)


if __name__ == "__main__":
    main()

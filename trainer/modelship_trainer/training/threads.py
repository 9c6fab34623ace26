"""How many threads a run on the CPU computes with: their number decides the last bits of sums, and so the artifact's digest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modelship_trainer.cpu import cpu_threads
from modelship_trainer.recipe import Recipe

SMALL = 8_000_000
"""Multiplications of a forward pass over a batch up to which one thread is used: to share out so few costs what it gains, and ten
times as much where others use the cores."""


def use_threads(recipe: Recipe, module: nn.Module, row_shape: tuple[int, ...], rows: int) -> int:
    """Set, and return, the threads that torch computes with: one where a step of a model of ours is small, else `cpu_threads()`.

    So a small run gives the same bytes wherever it runs. `rows` are those of the training part.
    """
    batch = min(recipe.training.batch_size, rows)
    small = recipe.model.custom is None and batch * multiplications(module, row_shape) <= SMALL
    threads = 1 if small else cpu_threads()
    torch.set_num_threads(threads)
    return threads


def multiplications(module: nn.Module, row_shape: tuple[int, ...]) -> int:
    """Of a forward pass over one row: of the linear and convolutional layers, all else is little beside them."""
    found: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)  # noqa: S101 - only such layers are watched
        found.append(weight[0].numel() * output.numel())

    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = module.training
    with torch.no_grad():
        module.eval()(torch.zeros(1, *row_shape))
    module.train(training)
    for hook in hooks:
        hook.remove()
    return sum(found)

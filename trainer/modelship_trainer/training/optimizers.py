"""Optimisers and learning-rate schedules from their part of the recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from modelship_trainer import recipe
from modelship_trainer.recipe import Optimizer, Schedule


def build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser at its full learning rate; the loop scales it by `learning_rate_factor`.

    Fused kernels: the same update in one pass over the weights.
    """
    match spec.value:
        case recipe.GradientDescent() as it:
            return torch.optim.SGD(parameters, lr=it.learning_rate, weight_decay=it.weight_decay, fused=True)
        case recipe.Sgd() as it:
            return torch.optim.SGD(
                parameters,
                lr=it.learning_rate,
                momentum=it.momentum,
                nesterov=it.nesterov,
                weight_decay=it.weight_decay,
                fused=True,
            )
        case recipe.Adam() as it:
            betas = (it.beta1, it.beta2)
            return torch.optim.Adam(parameters, lr=it.learning_rate, betas=betas, weight_decay=it.weight_decay, fused=True)
        case recipe.AdamW() as it:
            betas = (it.beta1, it.beta2)
            return torch.optim.AdamW(parameters, lr=it.learning_rate, betas=betas, weight_decay=it.weight_decay, fused=True)
    raise AssertionError(spec.kind)


def learning_rate_factor(schedule: Schedule, epoch: float, epochs: int, warmup_epochs: int, step_in_epochs: float) -> float:
    """Factor of the learning rate for the optimiser step that begins at `epoch` (a fraction counts the steps within it).

    A linear warm-up reaches 1 with its last step; the schedule's clock starts after it. `step_in_epochs` is one step's share of an
    epoch. Cosine: Loshchilov and Hutter, 2017, without restarts, as torch's CosineAnnealingLR with a T_max of all steps: its end is
    where the run ends, so that the last step is taken a little above it, and not wasted where it is 0.
    """
    if epoch < warmup_epochs:
        return min((epoch + step_in_epochs) / warmup_epochs, 1.0)
    elapsed, total = epoch - warmup_epochs, epochs - warmup_epochs
    match schedule.value:
        case recipe.StepDecay() as it:
            return float(it.gamma ** (math.floor(elapsed + 1e-9) // it.every_epochs))
        case recipe.Exponential() as it:
            return float(it.gamma ** math.floor(elapsed + 1e-9))
        case recipe.Cosine() as it:
            return float(it.final_fraction + (1 - it.final_fraction) * (1 + math.cos(math.pi * min(elapsed / total, 1.0))) / 2)
        case _:
            return 1.0

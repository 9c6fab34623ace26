"""Optimisers and learning-rate schedules from their part of the recipe.

The updates are torch's fused kernels, which torch.optim calls, too; but making one of torch.optim's imports torch's compiler (two
seconds of CPU, more than most small trainings take).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from modelship_trainer import recipe
from modelship_trainer.recipe import Optimizer, Schedule

EPSILON = 1e-8
"""Adam's, as in torch.optim and in the paper."""


class Updates(ABC):
    """Takes one step of `learning_rate` for all parameters that have a gradient."""

    buffers: tuple[str, ...] = ()
    """Names of what is kept for each parameter between steps, of its own shape."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self._parameters = list(parameters)
        self._kept: dict[int, dict[str, Tensor]] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """What torch's GradScaler looks at."""
        return [{"params": self._parameters}]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters in place. A kernel takes tensors of one type."""
        with_gradient = [number for number, parameter in enumerate(self._parameters) if parameter.grad is not None]
        for dtype in dict.fromkeys(self._parameters[number].dtype for number in with_gradient):
            chosen = [number for number in with_gradient if self._parameters[number].dtype == dtype]
            parameters: list[Tensor] = [self._parameters[number] for number in chosen]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            self._update(parameters, gradients, [self._buffers_of(number) for number in chosen])

    @abstractmethod
    def _update(self, parameters: list[Tensor], gradients: list[Tensor], kept: list[dict[str, Tensor]]) -> None: ...

    def _buffers_of(self, number: int) -> dict[str, Tensor]:
        if number not in self._kept:
            parameter = self._parameters[number]
            self._kept[number] = {name: torch.zeros_like(parameter) for name in self.buffers} | {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device)
            }
        return self._kept[number]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: the buffers by the parameter's number."""
        return {"kept": self._kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._kept = state["kept"]


class _GradientDescent(Updates):
    """`w -= rate * (g + decay * w)`; with momentum `v = momentum * v + g`, and `v`, or Nesterov's `g + momentum * v`, for `g`."""

    def __init__(self, *args: Any, momentum: float = 0.0, nesterov: bool = False) -> None:
        super().__init__(*args)
        self._momentum, self._nesterov = momentum, nesterov
        self.buffers = ("velocity",) if momentum else ()

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], kept: list[dict[str, Tensor]]) -> None:
        torch._fused_sgd_(
            parameters,
            gradients,
            [buffers["velocity"] for buffers in kept] if self._momentum else [],
            weight_decay=self.weight_decay,
            momentum=self._momentum,
            lr=self.learning_rate,
            dampening=0.0,
            nesterov=self._nesterov,
            maximize=False,
            is_first_step=False,
        )


class _Adam(Updates):
    """Kingma and Ba, 2014; `decoupled`: Loshchilov and Hutter, 2017."""

    buffers = ("mean", "square")

    def __init__(self, *args: Any, betas: tuple[float, float], decoupled: bool) -> None:
        super().__init__(*args)
        self._betas = betas
        self._kernel: Callable[..., None] = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def _update(self, parameters: list[Tensor], gradients: list[Tensor], kept: list[dict[str, Tensor]]) -> None:
        steps = [buffers["step"] for buffers in kept]
        torch._foreach_add_(steps, 1)
        self._kernel(
            parameters,
            gradients,
            [buffers["mean"] for buffers in kept],
            [buffers["square"] for buffers in kept],
            [],
            steps,
            lr=self.learning_rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=self.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )


def build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> Updates:
    """The optimiser at its full learning rate; the loop scales it by `learning_rate_factor`."""
    match spec.value:
        case recipe.GradientDescent() as it:
            return _GradientDescent(parameters, it.learning_rate, it.weight_decay)
        case recipe.Sgd() as it:
            return _GradientDescent(parameters, it.learning_rate, it.weight_decay, momentum=it.momentum, nesterov=it.nesterov)
        case recipe.Adam() as it:
            betas = (it.beta1, it.beta2)
            return _Adam(parameters, it.learning_rate, it.weight_decay, betas=betas, decoupled=False)
        case recipe.AdamW() as it:
            betas = (it.beta1, it.beta2)
            return _Adam(parameters, it.learning_rate, it.weight_decay, betas=betas, decoupled=True)
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

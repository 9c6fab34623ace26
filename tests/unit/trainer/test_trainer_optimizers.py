"""Each optimiser's updates against its formula in numpy; schedules against numbers worked out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelship_trainer.recipe import Optimizer, Schedule
from modelship_trainer.training.optimizers import Updates, build_optimizer, learning_rate_factor

pytestmark = pytest.mark.unit

START = np.array([1.0, -2.0, 0.5])
CURVE = np.array([0.5, 2.0, 10.0])
"""The loss is sum(CURVE * w^2) / 2, so its gradient is CURVE * w."""
Update = Callable[[np.ndarray, np.ndarray, dict[str, Any], int], np.ndarray]


def gradient_descent(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    return w - 0.05 * (g + 0.1 * w)


def momentum(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["v"] = g + (0.9 * state["v"] if t > 1 else 0)
    return w - 0.05 * state["v"]


def nesterov(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    state["v"] = g + (0.9 * state["v"] if t > 1 else 0)
    return w - 0.05 * (g + 0.9 * state["v"])


def adam(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int, decay: float = 0.1) -> np.ndarray:
    """Kingma and Ba, algorithm 1, with an L2 penalty in the gradient."""
    g = g + decay * w
    state["m"] = 0.8 * state.get("m", 0) + 0.2 * g
    state["s"] = 0.95 * state.get("s", 0) + 0.05 * g**2
    return w - 0.05 * (state["m"] / (1 - 0.8**t)) / (np.sqrt(state["s"] / (1 - 0.95**t)) + 1e-8)


def adamw(w: np.ndarray, g: np.ndarray, state: dict[str, Any], t: int) -> np.ndarray:
    """Loshchilov and Hutter: the weights decay apart from the gradient."""
    return adam(w * (1 - 0.05 * 0.1), g, state, t, decay=0.0)


CASES: dict[str, tuple[dict[str, Any], Update]] = {
    "gradientDescent": ({"gradientDescent": {"learningRate": 0.05, "weightDecay": 0.1}}, gradient_descent),
    "sgd": ({"sgd": {"learningRate": 0.05, "weightDecay": 0.1}}, gradient_descent),
    "momentum": ({"sgd": {"learningRate": 0.05, "momentum": 0.9}}, momentum),
    "nesterov": ({"sgd": {"learningRate": 0.05, "momentum": 0.9, "nesterov": True}}, nesterov),
    "adam": ({"adam": {"learningRate": 0.05, "beta1": 0.8, "beta2": 0.95, "weightDecay": 0.1}}, adam),
    "adamw": ({"adamw": {"learningRate": 0.05, "beta1": 0.8, "beta2": 0.95, "weightDecay": 0.1}}, adamw),
}


@pytest.mark.parametrize(("spec", "update"), CASES.values(), ids=CASES)
def test_updates(spec: dict[str, Any], update: Update) -> None:
    weights = nn.Parameter(torch.tensor(START))
    optimizer = build_optimizer(Optimizer.model_validate(spec), [weights])
    expected, state = START.copy(), {}
    for t in range(1, 8):
        optimizer.zero_grad()
        (torch.tensor(CURVE) * weights**2 / 2).sum().backward()
        optimizer.step()
        expected = update(expected, CURVE * expected, state, t)
        np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"),
    [
        ({"constant": {}}, 7.5, 1),
        ({"step": {"everyEpochs": 3, "gamma": 0.5}}, 2.99, 1),
        ({"step": {"everyEpochs": 3, "gamma": 0.5}}, 3, 0.5),
        ({"step": {"everyEpochs": 3, "gamma": 0.5}}, 9.5, 0.125),
        ({"exponential": {"gamma": 0.9}}, 0.5, 1),
        ({"exponential": {"gamma": 0.9}}, 2, 0.81),
        ({"cosine": {}}, 0, 1),
        ({"cosine": {}}, 5, 0.5),
        ({"cosine": {"finalFraction": 0.2}}, 10, 0.2),
    ],
)
def test_schedule(schedule: dict[str, Any], epoch: float, expected: float) -> None:
    factor = learning_rate_factor(Schedule.model_validate(schedule), epoch, 10, 0, 0.25)
    assert factor == pytest.approx(expected)


@pytest.mark.parametrize("final", [0.0, 0.3])
def test_cosine_is_torchs_step_by_step(final: float) -> None:
    """Ten epochs of four steps; what comes after the last one is `finalFraction`."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=final)
    schedule = Schedule.model_validate({"cosine": {"finalFraction": final}})
    for step in range(40):
        assert learning_rate_factor(schedule, step / 4, 10, 0, 0.25) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(final)


def test_warmup_rises_to_one_and_the_schedule_starts_after_it() -> None:
    """Two epochs of four steps: 1/8, 2/8 ... 8/8; then the cosine over the eight epochs that remain."""
    cosine = Schedule.model_validate({"cosine": {}})
    rising = [learning_rate_factor(cosine, step / 4, 10, 2, 0.25) for step in range(8)]
    assert rising == pytest.approx([step / 8 for step in range(1, 9)])
    assert learning_rate_factor(cosine, 2, 10, 2, 0.25) == pytest.approx(1)
    assert learning_rate_factor(cosine, 6, 10, 2, 0.25) == pytest.approx(0.5)


TORCHS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "gradientDescent": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.1, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), weight_decay=0.1, fused=True),
}


def weights_of_two_types() -> list[nn.Parameter]:
    """The last one is in no loss, so it never has a gradient."""
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(7, 5)), nn.Parameter(torch.randn(5, dtype=torch.float64)), nn.Parameter(torch.randn(3))]


@pytest.mark.parametrize("name", CASES)
def test_updates_are_those_of_torchs_fused_optimisers_bit_by_bit(name: str) -> None:
    ours, theirs = weights_of_two_types(), weights_of_two_types()
    optimizers = build_optimizer(Optimizer.model_validate(CASES[name][0]), ours), TORCHS[name](theirs)
    for step in range(5):
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            ((weights[0].double() @ weights[1]).tanh().sum() * (step + 1)).backward()
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)), step


@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_a_resumed_optimiser_goes_on_bit_by_bit(name: str) -> None:
    def steps(weights: list[nn.Parameter], optimizer: Updates, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (weights[0].double() @ weights[1]).tanh().sum().backward()
            optimizer.step()

    spec = Optimizer.model_validate(CASES[name][0])
    whole, halves = weights_of_two_types(), weights_of_two_types()
    steps(whole, build_optimizer(spec, whole), 6)
    first = build_optimizer(spec, halves)
    steps(halves, first, 3)
    second = build_optimizer(spec, halves)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(halves, second, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole, halves, strict=True))

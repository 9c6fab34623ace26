"""A user's own modules, good and bad."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import nn


def wide(input_shape: tuple[int, ...], output_size: int, *, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, output_size))


def raises(input_shape: tuple[int, ...], output_size: int, *, size: int) -> nn.Module:
    raise ValueError(f"size {size} is odd")


def no_module(input_shape: tuple[int, ...], output_size: int) -> int:
    return 3


def wrong_output(input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    return nn.Linear(input_shape[0], 7)


class FailsInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("not while training")
        out: torch.Tensor = self.linear(x)
        return out


def fails_in_training(input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    return FailsInTraining()


class Mortal(nn.Module):
    """Sends its own process a signal in the `at`-th training batch, once: `marker` is made then."""

    def __init__(self, width: int, outputs: int, at: int, number: int, marker: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(width, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs))
        self.at, self.number, self.marker, self.batches = at, number, Path(marker), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.batches += 1
            if self.batches == self.at and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), self.number)
        out: torch.Tensor = self.layers(x)
        return out


def mortal(input_shape: tuple[int, ...], output_size: int, *, at: int, number: int, marker: str) -> nn.Module:
    return Mortal(math.prod(input_shape), output_size, at, number, marker)

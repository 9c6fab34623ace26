"""A user's own modules, good and bad."""

from __future__ import annotations

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

"""Linear models and multi-layer perceptrons, on rows flattened to F features."""

from __future__ import annotations

import math

from torch import nn

from modelship_trainer.recipe import Activation, Mlp

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    Activation.RELU: nn.ReLU,
    Activation.GELU: nn.GELU,
    Activation.TANH: nn.Tanh,
    Activation.SILU: nn.SiLU,
}


def build_linear(input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    """`[N, *input_shape]` to `[N, O]`: linear regression, or the logits of logistic regression."""
    return nn.Sequential(*_flatten(input_shape), nn.Linear(math.prod(input_shape), output_size))


def build_mlp(spec: Mlp, input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    """`[N, *input_shape]` to `[N, O]`: per hidden layer Linear, BatchNorm where wanted, activation, Dropout where wanted."""
    layers = _flatten(input_shape)
    width = math.prod(input_shape)
    for units in spec.hidden:
        layers.append(nn.Linear(width, units))
        if spec.batch_norm:
            layers.append(nn.BatchNorm1d(units))
        layers.append(ACTIVATIONS[spec.activation]())
        if spec.dropout:
            layers.append(nn.Dropout(spec.dropout))
        width = units
    return nn.Sequential(*layers, nn.Linear(width, output_size))


def _flatten(input_shape: tuple[int, ...]) -> list[nn.Module]:
    return [nn.Flatten()] if len(input_shape) > 1 else []

"""Convolutional networks for images."""

from __future__ import annotations

from torch import nn

from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Cnn


def build_cnn(spec: Cnn, input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    """`[N, C, H, W]` to `[N, O]`: blocks of Conv, BatchNorm, ReLU and MaxPool, each halving H and W; then one hidden layer.

    Raises:
        UserError: RecipeInvalid where rows are no images, or too small for so many blocks.
    """
    if len(input_shape) != 3:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"model.cnn needs images [channels, height, width], and rows have shape {list(input_shape)}; use model.mlp.",
        )
    channels, height, width = input_shape
    blocks = len(spec.channels)
    if min(height, width) >> blocks == 0:
        most = min(height, width).bit_length() - 1
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"model.cnn.channels has {blocks} blocks, each halving the image, and {height} x {width} pixels allow {most}; "
            "use fewer.",
        )
    layers: list[nn.Module] = []
    for out in spec.channels:
        layers += [
            nn.Conv2d(channels, out, spec.kernel_size, padding=spec.kernel_size // 2, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        channels = out
    flat = channels * (height >> blocks) * (width >> blocks)
    head: list[nn.Module] = [nn.Flatten(), nn.Linear(flat, spec.hidden), nn.ReLU()]
    if spec.dropout:
        head.append(nn.Dropout(spec.dropout))
    return nn.Sequential(*layers, *head, nn.Linear(spec.hidden, output_size))

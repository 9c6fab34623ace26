"""The built-in architectures, and the user's own.

Shapes: N rows, F features, C channels, H height, W width, O outputs (classes, or 1).
"""

from __future__ import annotations

import importlib
import traceback
from typing import Any

import torch
from torch import nn

from modelship_trainer.errors import UserError
from modelship_trainer.models.cnn import build_cnn
from modelship_trainer.models.mlp import build_linear, build_mlp
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Cnn, Custom, Linear, Mlp, ModelSpec


def build(spec: ModelSpec, input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    """The module for rows of `input_shape`: `[N, *input_shape]` float32 to `[N, output_size]` logits or values.

    Raises:
        UserError: RecipeInvalid where the architecture does not fit the data; UserCodeFailed for the user's own.
    """
    match spec.value:
        case Linear():
            return build_linear(input_shape, output_size)
        case Mlp() as mlp:
            return build_mlp(mlp, input_shape, output_size)
        case Cnn() as cnn:
            return build_cnn(cnn, input_shape, output_size)
        case Custom() as custom:
            return _build_custom(custom, input_shape, output_size)
    raise AssertionError(spec.kind)


def _build_custom(spec: Custom, input_shape: tuple[int, ...], output_size: int) -> nn.Module:
    module_name, _, function_name = spec.entrypoint.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"model.custom.entrypoint {spec.entrypoint} cannot be imported ({error}); put it into the image of spec.compute.image, "
            "below a folder of PYTHONPATH.",
        ) from error
    except Exception as error:
        raise explain_user_code(spec, error) from error
    try:
        module = function(input_shape, output_size, **(spec.args or {}))
        shape = _output_shape(module, input_shape) if isinstance(module, nn.Module) else None
    except Exception as error:  # the user's code: whatever it raises is the answer
        raise explain_user_code(spec, error) from error
    if shape != [2, output_size]:
        what = f"maps [2, {_dims(input_shape)}] to {shape}" if shape else f"returned {type(module).__name__}, not a torch.nn.Module"
        raise UserError(FailureReason.USER_CODE_FAILED, f"{spec.entrypoint} {what}; its output must be [2, {output_size}].")
    return module  # type: ignore[no-any-return]  # checked above


def _output_shape(module: nn.Module, input_shape: tuple[int, ...]) -> list[int]:
    training = module.training
    with torch.no_grad():
        output: Any = module.eval()(torch.zeros(2, *input_shape))
    module.train(training)
    return list(output.shape)


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


def explain_user_code(spec: Custom, error: Exception) -> UserError:
    """The last line of the traceback, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    line = traceback.format_exception_only(error)[-1].strip()
    return UserError(FailureReason.USER_CODE_FAILED, f"{spec.entrypoint} failed: {line}{where}.")

"""A module of torch.nn's common layers as ONNX nodes, a function for each kind of layer.

torch.onnx.export does this for any module, and takes seconds of CPU for the smallest: it imports torch's compiler, traces the
module, and optimises the graph. What is written here is checked against PyTorch like everything that is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from onnx import ModelProto, TensorProto, helper
from torch import nn

from modelship_trainer.export.graph import FEATURES, Graph

OUTPUTS = "outputs"


def layers_graph(module: nn.Module, input_shape: tuple[int, ...], output_size: int) -> ModelProto | None:
    """`features` `[rows, *input_shape]` to `outputs` `[rows, output_size]`; None for a module that is not only of known layers."""
    graph, x, dimensions = Graph("model"), FEATURES, 1 + len(input_shape)
    for name, layer in _layers(module):
        writer = _WRITERS.get(type(layer))
        if writer is None or not _plain(layer) or dimensions not in writer.dimensions:
            return None
        made = writer.write(graph, x, layer, name)
        if made is None:
            return None
        x, dimensions = made, 2 if isinstance(layer, nn.Flatten) else dimensions
    graph.node("Identity", x, output=OUTPUTS)
    features = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["rows", *input_shape])
    return graph.model("model", [features], [helper.make_tensor_value_info(OUTPUTS, TensorProto.FLOAT, ["rows", output_size])])


def _layers(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers within nested Sequentials, in order, with the beginning of their weights' names."""
    if type(module) is not nn.Sequential or not _plain(module):
        yield name, module
        return
    for number, layer in module._modules.items():
        assert layer is not None  # noqa: S101 - a Sequential's are all set
        yield from _layers(layer, f"{name}{number}.")


def _plain(layer: nn.Module) -> bool:
    """Whether a layer does what its class does, in float32."""
    weights = [value for value in (*layer.parameters(recurse=False), *layer.buffers(recurse=False)) if value.is_floating_point()]
    return not (layer._forward_hooks or layer._forward_pre_hooks) and all(value.dtype == torch.float32 for value in weights)


# --- a function for each kind of layer: (graph, its input, the layer, its name) to its output, None for settings not known here ---


def _linear(graph: Graph, x: str, layer: nn.Linear, name: str) -> str:
    return graph.node("Gemm", x, *_weights(graph, name, weight=layer.weight, bias=layer.bias), transB=1)


def _convolution(graph: Graph, x: str, layer: nn.Conv2d, name: str) -> str | None:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    return graph.node(
        "Conv",
        x,
        *_weights(graph, name, weight=layer.weight, bias=layer.bias),
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=layer.padding * 2,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _pool(graph: Graph, x: str, layer: nn.MaxPool2d, name: str) -> str | None:
    if layer.ceil_mode or layer.return_indices:
        return None
    sides = {"kernel_shape": layer.kernel_size, "strides": layer.stride, "pads": layer.padding, "dilations": layer.dilation}
    pairs: dict[str, Any] = {key: (value, value) if isinstance(value, int) else tuple(value) for key, value in sides.items()}
    return graph.node("MaxPool", x, **pairs | {"pads": pairs["pads"] * 2})


def _batch_norm(graph: Graph, x: str, layer: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> str | None:
    mean, variance = layer.running_mean, layer.running_var
    if not layer.affine or mean is None or variance is None:
        return None
    values = _weights(graph, name, weight=layer.weight, bias=layer.bias, running_mean=mean, running_var=variance)
    return graph.node("BatchNormalization", x, *values, epsilon=layer.eps)


def _flatten(graph: Graph, x: str, layer: nn.Flatten, name: str) -> str | None:
    return graph.node("Flatten", x, axis=1) if (layer.start_dim, layer.end_dim) == (1, -1) else None


def _gelu(graph: Graph, x: str, layer: nn.GELU, name: str) -> str:
    return graph.node("Gelu", x, approximate=layer.approximate)


def _silu(graph: Graph, x: str, layer: nn.SiLU, name: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def _as_it_came(graph: Graph, x: str, layer: nn.Module, name: str) -> str:
    return x


def _operator(operator: str) -> Callable[[Graph, str, Any, str], str]:
    return lambda graph, x, layer, name: graph.node(operator, x)


def _weights(graph: Graph, name: str, **values: torch.Tensor | None) -> list[str]:
    """Constants of the names that they have in the module's state; those that are not there are left out."""
    there = {key: value for key, value in values.items() if value is not None}
    return [graph.constant(value.detach().cpu().numpy(), name=f"{name}{key}") for key, value in there.items()]


class _Writer:
    """How a kind of layer is written, and the dimensions of what it takes, rows counted."""

    def __init__(self, write: Callable[[Graph, str, Any, str], str | None], *dimensions: int) -> None:
        self.write, self.dimensions = write, dimensions or range(1, 9)


_WRITERS: dict[type[nn.Module], _Writer] = {
    nn.Linear: _Writer(_linear, 2),
    nn.Conv2d: _Writer(_convolution, 4),
    nn.MaxPool2d: _Writer(_pool, 4),
    nn.BatchNorm1d: _Writer(_batch_norm, 2, 3),
    nn.BatchNorm2d: _Writer(_batch_norm, 4),
    nn.Flatten: _Writer(_flatten),
    nn.ReLU: _Writer(_operator("Relu")),
    nn.Tanh: _Writer(_operator("Tanh")),
    nn.Sigmoid: _Writer(_operator("Sigmoid")),
    nn.GELU: _Writer(_gelu),
    nn.SiLU: _Writer(_silu),
    nn.Dropout: _Writer(_as_it_came),
    nn.Identity: _Writer(_as_it_came),
}

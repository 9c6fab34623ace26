"""Modules written layer by layer: the same numbers as PyTorch's, and as the graph that torch's own exporter makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from modelship_trainer.export import onnx as export
from modelship_trainer.export.module import OUTPUTS, layers_graph
from modelship_trainer.models.build import build
from modelship_trainer.recipe import ModelSpec

pytestmark = pytest.mark.unit

BUILT_IN: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "linear": ({"linear": {}}, (5,)),
    "linear of images": ({"linear": {}}, (2, 3, 3)),
    "mlp relu": ({"mlp": {"hidden": [7, 6], "dropout": 0.3, "batchNorm": True}}, (5,)),
    "mlp gelu": ({"mlp": {"hidden": [7], "activation": "gelu"}}, (3, 4)),
    "mlp tanh": ({"mlp": {"hidden": [7], "activation": "tanh"}}, (5,)),
    "mlp silu": ({"mlp": {"hidden": [7], "activation": "silu"}}, (5,)),
    "cnn": ({"cnn": {"channels": [4, 6], "hidden": 8, "dropout": 0.2}}, (3, 9, 11)),
    "cnn of wide kernels": ({"cnn": {"channels": [4], "hidden": 8, "kernelSize": 7}}, (1, 6, 5)),
}
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 4), nn.Sigmoid()), nn.Identity(), nn.Linear(4, 3)), (5,)),
    "strides, groups": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, (3, 2), 2, (1, 0), (1, 2), 2), nn.Flatten(), nn.LazyLinear(3)),
        (4, 9, 9),
    ),
    "pools": (lambda: nn.Sequential(nn.MaxPool2d((3, 2), (2, 1), (1, 0), 1), nn.Flatten(), nn.LazyLinear(3)), (4, 9, 9)),
    "norm of sequences": (lambda: nn.Sequential(nn.BatchNorm1d(4, eps=0.1), nn.Flatten(), nn.LazyLinear(3)), (4, 6)),
    "gelu by tanh": (lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.GELU("tanh"), nn.Linear(4, 3)), (5,)),
    "one layer": (lambda: nn.Linear(5, 3), (5,)),
}
MODULES = {
    name: (lambda spec=spec, shape=shape: build(ModelSpec.model_validate(spec), shape, 3), shape)
    for name, (spec, shape) in BUILT_IN.items()
} | LAYERS


def trained_like(module: nn.Module, rows: torch.Tensor) -> nn.Module:
    """With weights and statistics that are not those of a new module."""
    with torch.no_grad():
        module.train()(rows)
        for value in module.parameters():
            value.copy_(torch.randn_like(value) * 0.5)
        module.train()(rows * 3 + 1)
    return module.eval()


def run(graph: onnx.ModelProto, rows: torch.Tensor) -> np.ndarray:
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: np.ndarray = session.run([OUTPUTS], {"features": rows.numpy()})[0]
    return outputs


@pytest.mark.parametrize(("make", "shape"), MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("rows", [1, 17])
def test_written_layers_are_pytorchs(make: Callable[[], nn.Module], shape: tuple[int, ...], rows: int) -> None:
    torch.manual_seed(1)
    module = trained_like(make(), torch.randn(8, *shape))
    graph = layers_graph(module, shape, 3)
    assert graph is not None
    x = torch.randn(rows, *shape)
    np.testing.assert_allclose(run(graph, x), module(x).detach().numpy(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["mlp relu", "cnn"])
def test_written_layers_are_torchs_own_export(name: str) -> None:
    make, shape = MODULES[name]
    torch.manual_seed(2)
    module = trained_like(make(), torch.randn(8, *shape))
    graph = layers_graph(module, shape, 3)
    assert graph is not None
    x = torch.randn(9, *shape)
    np.testing.assert_allclose(run(graph, x), run(export.traced_graph(module, shape), x), rtol=1e-5, atol=2e-5)


def test_weights_keep_their_names() -> None:
    module = nn.Sequential(nn.Sequential(nn.Linear(5, 4)), nn.Linear(4, 3))
    graph = layers_graph(module, (5,), 3)
    assert graph is not None
    assert {constant.name for constant in graph.graph.initializer} == {f"model/{name}" for name in module.state_dict()}


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


def hooked() -> nn.Module:
    layer = nn.Linear(5, 3)
    layer.register_forward_hook(lambda module, inputs, output: output * 2)
    return nn.Sequential(layer)


OTHERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "a subclass of a layer": (nn.Sequential(Doubled(5, 3)), (5,)),
    "a layer that is not known": (nn.Sequential(nn.Linear(5, 3), nn.Softplus()), (5,)),
    "a hook": (hooked(), (5,)),
    "a weight that is computed": (nn.utils.parametrizations.weight_norm(nn.Linear(5, 3)), (5,)),
    "rows of more dimensions": (nn.Sequential(nn.Linear(5, 4), nn.Flatten(), nn.Linear(8, 3)), (2, 5)),
    "no statistics": (nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)), (5,)),
    "padding by its name": (nn.Sequential(nn.Conv2d(1, 1, 3, padding="same"), nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4)),
    "padding by reflection": (
        nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(16, 3)),
        (1, 4, 4),
    ),
    "a pool that rounds up": (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(4, 3)), (1, 3, 3)),
    "a flatten of some axes": (nn.Sequential(nn.Flatten(2), nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2)),
    "float64": (nn.Sequential(nn.Linear(5, 3).double()), (5,)),
}


@pytest.mark.parametrize(("module", "shape"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_known_is_left_to_torchs_exporter(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert layers_graph(module.eval(), shape, 3) is None


def test_a_module_that_is_not_known_is_traced() -> None:
    module = nn.Sequential(Doubled(5, 3)).eval()
    x = torch.randn(4, 5)
    np.testing.assert_allclose(run(export.module_graph(module, (5,), 3), x), module(x).detach().numpy(), rtol=1e-5, atol=1e-5)

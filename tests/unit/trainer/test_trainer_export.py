"""The exported graph against PyTorch and scikit-learn on raw rows, and what is said about its tensors."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import nn
from trainer_tables import features_of, fit_steps, table

from modelship_trainer.data.dataset import Dataset, Kind
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.export.check import TOLERANCE, check
from modelship_trainer.export.graph import preprocessing_graph
from modelship_trainer.export.onnx import export
from modelship_trainer.export.session import OnnxModel, feeds
from modelship_trainer.export.signature import sample_request, signature
from modelship_trainer.models.build import build
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import ModelSpec, Task

pytestmark = pytest.mark.unit

RNG = np.random.RandomState(0)
ROWS = 60
COLUMNS: dict[str, Any] = {
    "age": np.where(np.arange(ROWS) % 7 == 0, np.nan, RNG.normal(40, 10, ROWS)),
    "income": RNG.lognormal(10, 1, ROWS),
    "tenure": RNG.poisson(20, ROWS),
    "plan": RNG.choice(np.array(["gold", "silver", "basic", "rare", None], dtype=object), ROWS, p=[0.4, 0.3, 0.2, 0.05, 0.05]),
    "zip": RNG.choice([10115, 90210, 3], ROWS),
    "code": RNG.choice([1.5, 2.0, np.nan], ROWS),
    "region": RNG.choice(["n", "s"], ROWS),
    "level": RNG.choice(["1", "2", "10"], ROWS),
    "note": RNG.choice(
        np.array(["The quick FOX", "lazy dog; 42 dogs!", "ÉCOLE Привет мир", "日本語 text_1", None], dtype=object), ROWS
    ),
}
STRANGE = pd.DataFrame(
    {
        "age": [math.nan, -5.0, 1e9],
        "income": [0.0, 1e12, 3.0],
        "tenure": [0, -1, 1000],
        "plan": ["unseen", None, "gold"],
        "zip": [1, 10115, 90210],
        "code": [math.nan, 7.25, 2.0],
        "region": ["w", None, "s"],
        "level": ["3", None, "10"],
        "note": ["only unknown words", None, "Quick quick ПРИВЕТ école\tdog.dog"],
    }
)
STEPS: dict[str, list[dict[str, Any]]] = {
    "numbers": [{"impute": {}}, {"clip": {}}, {"log": {"columns": ["income"]}}, {"normalize": {}}],
    "numbers, some columns": [
        {"impute": {"columns": ["age"], "strategy": "mean"}},
        {"normalize": {"columns": ["tenure", "age"], "method": "robust"}},
        {"impute": {"columns": ["code"], "strategy": "constant", "value": "-1"}},
    ],
    "one-hot": [{"impute": {}}, {"oneHot": {"columns": ["plan", "region"], "maxCategories": 3}}],
    "one-hot of numbers": [{"oneHot": {"columns": ["code", "zip"], "maxCategories": 2}}, {"impute": {}}],
    "ordinal": [{"impute": {}}, {"ordinal": {"columns": ["plan", "zip", "region"]}}, {"normalize": {"columns": ["plan"]}}],
    "imputed text": [
        {"impute": {"columns": ["plan", "region"], "strategy": "constant", "value": "none"}},
        {"ordinal": {"columns": ["plan", "region"]}},
        {"impute": {}},
    ],
    "casts that decide": [
        {"cast": {"columns": ["zip"], "to": "category"}},
        {"cast": {"columns": ["level"], "to": "number"}},
        {"oneHot": {"columns": ["zip"]}},
        {"impute": {}},
    ],
    "casts on the way": [
        {"impute": {"columns": ["code", "level"], "strategy": "mostFrequent"}},
        {"cast": {"columns": ["code"], "to": "category"}},
        {"cast": {"columns": ["level"], "to": "number"}},
        {"oneHot": {"columns": ["code"]}},
        {"impute": {}},
    ],
    "words": [{"impute": {}}, {"tokenize": {"columns": ["note"]}}],
    "pairs of words, case kept": [{"impute": {}}, {"tokenize": {"columns": ["note"], "ngrams": 2, "lowercase": False}}],
}


def encoded(steps: list[dict[str, Any]]) -> list[str]:
    """Columns that `steps` make numbers of, and those that are."""
    named = {name for step in steps for kind in ("oneHot", "ordinal", "tokenize") for name in step.get(kind, {}).get("columns", [])}
    named |= {name for step in steps if step.get("cast", {}).get("to") == "number" for name in step["cast"]["columns"]}
    return [name for name in COLUMNS if name in named or name in ("age", "income", "tenure", "code", "zip")]


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_preprocessing_graph(steps: list[dict[str, Any]]) -> None:
    """Training rows, and rows with unseen categories, unknown words and missing values, one at a time too."""
    columns = encoded(steps)
    dataset = table({name: COLUMNS[name] for name in columns})
    fitted, _ = fit_steps(dataset, steps)
    session = onnxruntime.InferenceSession(preprocessing_graph(fitted).SerializeToString())
    strange = features_of(STRANGE[columns])
    rows = pd.concat([dataset.features, strange], ignore_index=True)
    expected = np.concatenate(
        [column.features(rows[column.name]).reshape(len(rows), -1) for column in fitted.columns or []], axis=1
    )
    np.testing.assert_allclose(session.run(None, feeds(fitted, rows))[0], expected, rtol=1e-5, atol=1e-6)
    for row in range(len(strange)):
        alone = session.run(None, feeds(fitted, strange.iloc[row : row + 1]))[0]
        np.testing.assert_allclose(alone[0], expected[ROWS + row], rtol=1e-5, atol=1e-6)


def images(channels: int = 3, size: int = 8) -> tuple[Dataset, Fitted]:
    x = RNG.randint(0, 256, (40, channels, size, size)).astype(np.uint8)
    dataset = Dataset("x", Kind.IMAGE, x, np.arange(40) % 3, "y", "sha256:0")
    return dataset, fit_steps(dataset, [{"normalize": {}}])[0]


MODELS = {
    "linear": {"linear": {}},
    "mlp": {"mlp": {"hidden": [8, 4], "dropout": 0.5, "batchNorm": True, "activation": "gelu"}},
    "mlp, silu": {"mlp": {"hidden": [8], "activation": "silu"}},
    "mlp, tanh": {"mlp": {"hidden": [8], "activation": "tanh"}},
    "cnn": {"cnn": {"channels": [4, 8], "hidden": 8, "dropout": 0.3}},
}


def module_of(spec: dict[str, Any], shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A module whose batch statistics are not those of a fresh one."""
    torch.manual_seed(0)
    module = build(ModelSpec.model_validate(spec), shape, outputs)
    module.train()
    with torch.no_grad():
        module(torch.randn(16, *shape))
    return module.eval()


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    "target",
    [
        Target(task=Task.CLASSIFICATION, classes=[0, 1, 7]),
        Target(task=Task.CLASSIFICATION, classes=["no", "yes"]),
        Target(task=Task.REGRESSION, mean=150.0, scale=77.0),
    ],
    ids=["integers", "names", "values"],
)
def test_whole_graph(spec: dict[str, Any], target: Target) -> None:
    dataset, fitted = images()
    module = module_of(spec, fitted.input_shape(), target.output_size)
    graph = export(module, fitted, target)
    model = OnnxModel(graph.SerializeToString(), fitted)
    assert check(model, module, fitted, target, dataset.features, "x") <= 1
    rows = dataset.features[:5]
    with torch.no_grad():
        outputs = module(torch.from_numpy(fitted.transform(rows)))
    if target.classes is None:
        np.testing.assert_allclose(model.predict(rows), outputs[:, 0] * 77 + 150, rtol=1e-4)
    else:
        np.testing.assert_allclose(model.predict(rows), torch.softmax(outputs, 1), atol=1e-5)
        assert model.labels(rows).tolist() == [target.classes[i] for i in outputs.argmax(1)]


def churn() -> tuple[Dataset, Fitted, Target, nn.Module]:
    steps = STEPS["numbers"] + [{"oneHot": {"columns": ["plan"]}}]
    dataset = table({name: COLUMNS[name] for name in ("plan", "age", "income")})
    fitted, _ = fit_steps(dataset, steps)
    target = Target(task=Task.CLASSIFICATION, classes=["no", "yes"])
    return dataset, fitted, target, module_of(MODELS["mlp"], fitted.input_shape(), 2)


def test_signature_and_sample_describe_the_graph() -> None:
    dataset, fitted, target, module = churn()
    graph = export(module, fitted, target)
    described = signature(fitted, target)
    kinds = {onnx.TensorProto.FLOAT: "FP32", onnx.TensorProto.STRING: "BYTES", onnx.TensorProto.INT64: "INT64"}
    for tensors, values in ((described.inputs, graph.graph.input), (described.outputs, graph.graph.output)):
        assert [(t.name, t.dtype) for t in tensors] == [(v.name, kinds[v.type.tensor_type.elem_type]) for v in values]
        for tensor, value in zip(tensors, values, strict=True):
            assert tensor.shape == [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]
    assert described.to_json() == {
        "schemaVersion": 2,
        "task": "classification",
        "inputs": [{"name": "numbers", "dtype": "FP32", "shape": [-1, 2]}, {"name": "texts", "dtype": "BYTES", "shape": [-1, 1]}],
        "columns": [
            {"name": "plan", "dtype": "BYTES", "missing": True},
            {"name": "age", "dtype": "FP32", "missing": True},
            {"name": "income", "dtype": "FP32", "missing": True},
        ],
        "outputs": [
            {"name": "probabilities", "dtype": "FP32", "shape": [-1, 2]},
            {"name": "label", "dtype": "BYTES", "shape": [-1]},
        ],
        "classes": ["no", "yes"],
    }
    sample = json.loads(json.dumps(sample_request(fitted, dataset.features), allow_nan=False))
    assert [(entry["name"], entry["datatype"], entry["shape"]) for entry in sample["inputs"]] == [
        ("numbers", "FP32", [1, 2]),
        ("texts", "BYTES", [1, 1]),
    ]
    assert sample["inputs"][0]["data"][0] == pytest.approx(COLUMNS["age"][1])  # the first row lacks it


@pytest.mark.parametrize(
    ("steps", "missing", "above"),
    [
        ([], False, None),
        ([{"dropMissing": {}}, {"impute": {}}], False, None),
        ([{"impute": {}}, {"dropMissing": {}}], True, None),
        ([{"log": {"columns": ["x"]}}], False, -1.0),
        ([{"impute": {}}, {"log": {"columns": ["x"]}}], True, -1.0),
        ([{"clip": {}}, {"log": {"columns": ["x"]}}], False, None),
        ([{"log": {"columns": ["x"]}}, {"log": {"columns": ["x"]}}], False, math.expm1(-1)),
        ([{"normalize": {"columns": ["x"], "method": "minMax"}}, {"log": {"columns": ["x"]}}], False, -2.0),
        ([{"oneHot": {"columns": ["x"]}}], True, None),
        ([{"ordinal": {"columns": ["x"]}}], True, None),
        ([{"cast": {"columns": ["x"], "to": "category"}}, {"oneHot": {"columns": ["x"]}}], True, None),
    ],
)
def test_what_a_value_must_be(steps: list[dict[str, Any]], missing: bool, above: float | None) -> None:
    dataset = table({"x": [0.0, 1.0, 2.0]})
    fitted, _ = fit_steps(dataset, steps)
    (column,) = signature(fitted, Target(task=Task.REGRESSION)).columns or []
    assert column.missing is missing
    assert column.above == (above if above is None else pytest.approx(above))
    if column.above is not None:
        bound = np.float32(column.above)
        session = onnxruntime.InferenceSession(preprocessing_graph(fitted).SerializeToString())
        for value, finite in ((bound, False), (np.nextafter(bound, np.float32(np.inf)), True)):
            assert np.isfinite(session.run(None, {"numbers": [[value]]})[0]).all() == finite, "exactly the largest that has none"


def test_text_that_numbers_and_booleans_were_written_as() -> None:
    """Clients may write them otherwise; of mere text nothing is said."""
    dataset = replace(table({"a": ["1", "2"], "b": ["true", "false"], "c": ["01", "1"]}), kinds={"a": "number", "b": "boolean"})
    fitted, _ = fit_steps(dataset, [{"oneHot": {"columns": ["a", "b", "c"]}}])
    told = [column.to_json() for column in signature(fitted, Target(task=Task.REGRESSION)).columns or []]
    assert told == [
        {"name": "a", "dtype": "BYTES", "missing": True, "texts": "number"},
        {"name": "b", "dtype": "BYTES", "missing": True, "texts": "boolean"},
        {"name": "c", "dtype": "BYTES", "missing": True},
    ]


def test_a_column_may_have_any_name() -> None:
    """Names are no tensors of the graph: those of outputs, of our own tensors, and long ones are like any other."""
    names = ["label", "probabilities", "features", "numbers", "texts", "model/0", "", "x" * 1000]
    dataset = table({name: RNG.normal(size=ROWS) for name in names})
    fitted, _ = fit_steps(dataset, [])
    target = Target(task=Task.CLASSIFICATION, classes=["no", "yes"])
    module = module_of(MODELS["linear"], fitted.input_shape(), 2)
    model = OnnxModel(export(module, fitted, target).SerializeToString(), fitted)
    assert check(model, module, fitted, target, dataset.features, "x") <= 1
    assert [column.name for column in signature(fitted, target).columns or []] == names


def test_old_runtimes_can_load_it() -> None:
    _, fitted, target, module = churn()
    graph = export(module, fitted, target)
    assert graph.ir_version <= 10
    assert {entry.domain: entry.version for entry in graph.opset_import if entry.domain == ""} == {"": 20}


def test_bytes_depend_on_nothing_else() -> None:
    """Exported twice: the same bytes, and no path of this machine in them."""
    _, fitted, target, module = churn()
    first, second = (export(module, fitted, target).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert b"/modelship" not in first
    assert b".py" not in first


def test_a_graph_that_differs_is_not_published() -> None:
    dataset, fitted, target, module = churn()
    model = OnnxModel(export(module, fitted, target).SerializeToString(), fitted)
    with torch.no_grad():
        next(module.parameters()).add_(100 * TOLERANCE)
    with pytest.raises(UserError, match=r"the ONNX graph differs from PyTorch by .*; nothing was published") as caught:
        check(model, module, fitted, target, dataset.features, "x")
    assert caught.value.reason is FailureReason.EXPORT_MISMATCH


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (150.0, 77.0), (1e6, 50.0), (-1e5, 5.0)])
def test_values_are_compared_in_units_of_their_deviation(mean: float, scale: float) -> None:
    """However large the mean: a graph that is off by a hundredth of a deviation is not published, one that rounds is."""
    dataset, fitted, _, _ = churn()
    target = Target(task=Task.REGRESSION, mean=mean, scale=scale)
    module = module_of(MODELS["mlp"], fitted.input_shape(), 1)
    model = OnnxModel(export(module, fitted, target).SerializeToString(), fitted)
    assert check(model, module, fitted, target, dataset.features, "x") <= 1
    with torch.no_grad():
        list(module.parameters())[-1].add_(0.01)
    with pytest.raises(UserError, match=r"the ONNX graph differs from PyTorch by .*; nothing was published") as caught:
        check(model, module, fitted, target, dataset.features, "x")
    assert caught.value.reason is FailureReason.EXPORT_MISMATCH


def test_without_a_row_nothing_is_proven() -> None:
    dataset, fitted, target, module = churn()
    model = OnnxModel(export(module, fitted, target).SerializeToString(), fitted)
    with pytest.raises(UserError, match="x has no row to compare the ONNX graph with PyTorch on; nothing was published"):
        check(model, module, fitted, target, dataset.features.iloc[:0], "x")


def test_a_row_without_a_finite_answer_is_named() -> None:
    dataset, fitted, target, module = churn()
    model = OnnxModel(export(module, fitted, target).SerializeToString(), fitted)
    with torch.no_grad():
        list(module.parameters())[-1].fill_(math.inf)
    with pytest.raises(UserError, match=r"the model's output is not finite for 60 of 60 rows of x, first for row 1; ") as caught:
        check(model, module, fitted, target, dataset.features, "x")
    assert caught.value.reason is FailureReason.DATA_INVALID


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.LazyLinear(1)


class Unexportable(Custom):
    """Depends on the data in a way that no graph can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[float(len(str(x.sum().item())))]] * len(x))


class Branches(Custom):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) if x.sum() > 0 else -self.linear(x)


class LoopsOverRows(Custom):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.linear(row) for row in x])


class HasNoOperator(Custom):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + torch.linalg.eigvals(x.T @ x).real.sum()


class Raises(Custom):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unexportable, ""),
        (
            Branches,
            r"its forward branches, loops or sizes a tensor by values of the data \(test_trainer_export\.py, line \d+\), and .*",
        ),
        (LoopsOverRows, "its forward works for one number of rows only; take rows as they come"),
        (HasNoOperator, "No ONNX function found for .*aten.linalg_eig"),
        (Raises, "boom$"),
    ],
)
def test_a_module_that_cannot_be_exported(kind: type[Custom], message: str) -> None:
    """A sentence, not the exporter's report of its steps in colours."""
    _, fitted, _, _ = churn()
    module = kind()
    module.linear(torch.zeros(1, *fitted.input_shape()))
    with pytest.raises(UserError, match=f"^the model cannot be exported to ONNX: {message}") as caught:
        export(module, fitted, Target(task=Task.REGRESSION))
    assert caught.value.reason is FailureReason.EXPORT_MISMATCH
    assert "\x1b" not in caught.value.message


class Centers(Custom):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x - x.mean(0))


class Attends(Custom):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.softmax(x @ x.T, dim=1) @ x)


class Leads(Custom):
    """Of the first row's making."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x + x[:1])


@pytest.mark.parametrize(
    ("kind", "task"), [(Centers, Task.REGRESSION), (Attends, Task.CLASSIFICATION), (Leads, Task.CLASSIFICATION)]
)
def test_a_module_that_mixes_rows_is_not_published(kind: type[Custom], task: Task) -> None:
    """Graph and PyTorch agree on it, and both answer otherwise in a batch of other requests' rows."""
    dataset, fitted, target, _ = churn()
    module = kind()
    module.linear = nn.Linear(*fitted.input_shape(), 1 if task is Task.REGRESSION else 2)
    target = Target(task=task, mean=3.0, scale=2.0) if task is Task.REGRESSION else target
    model = OnnxModel(export(module, fitted, target).SerializeToString(), fitted)
    with pytest.raises(UserError, match=r"the model answers a row differently .* each row must be answered by itself") as caught:
        check(model, module, fitted, target, dataset.features, "x")
    assert caught.value.reason is FailureReason.EXPORT_MISMATCH

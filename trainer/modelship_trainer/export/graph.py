"""The preprocessing as ONNX nodes: what `data/steps.py` computes, in float32, operator by operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper, numpy_helper

from modelship_trainer.data.preprocessing import ArrayInput, Column, Fitted
from modelship_trainer.data.steps import Fill, Limit, Log, OneHot, Ordinal, Scale, Tokens
from modelship_trainer.data.words import graph_pattern
from modelship_trainer.serving.signature import INPUT, NUMBERS, TEXTS

OPSET = 20
IR_VERSION = 9
"""Of opset 20; ONNX Runtime reads it since 1.17."""
_DOMAINS = {"": OPSET, "ai.onnx.ml": 3, "com.microsoft": 1}
FEATURES = "features"


def preprocessing_graph(fitted: Fitted) -> ModelProto:
    """Raw inputs to the tensor `features`, `[N, F]` or `[N, *shape]`. A table has `numbers` `[N, K]` and `texts` `[N, T]`."""
    graph = Graph("preprocessing")
    if fitted.array is not None:
        inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", *fitted.array.shape])]
        graph.node("Identity", _scaled(graph, INPUT, fitted.array), output=FEATURES)
    else:
        packed = {NUMBERS: (TensorProto.FLOAT, fitted.of_type("number")), TEXTS: (TensorProto.STRING, fitted.of_type("text"))}
        inputs = [
            helper.make_tensor_value_info(name, kind, ["rows", len(columns)]) for name, (kind, columns) in packed.items() if columns
        ]
        _table(graph, fitted.columns or [])
    output = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["rows", *fitted.input_shape()])
    return graph.model("preprocessing", inputs, [output])


class Graph:
    """Nodes and constants of a graph being built; `prefix` begins their names."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: npt.ArrayLike, dtype: Any = np.float32, *, name: str | None = None) -> str:
        """A constant tensor's name."""
        name = f"{self.prefix}/{name or f'constant_{len(self.constants)}'}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        name = output or f"{self.prefix}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> ModelProto:
        """The finished model."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initializer=self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in _DOMAINS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


# --- tables -------------------------------------------------------------------------------------------------------------------


def _table(graph: Graph, columns: list[Column]) -> None:
    """All columns' features side by side, in the columns' order."""
    blocks = _blocks(columns)
    tensors = [_block(graph, [columns[i] for i in block], _raw(graph, columns, block)) for block in blocks]
    joined = graph.node("Concat", *tensors, axis=1)
    sizes = [len(column.feature_names()) for column in columns]
    starts = np.cumsum([0, *sizes])
    places = {
        i: start
        for i, start in zip([i for b in blocks for i in b], np.cumsum([0] + [sizes[i] for b in blocks for i in b]), strict=False)
    }
    order = np.concatenate([places[i] + np.arange(sizes[i]) for i in range(len(columns))])
    if np.array_equal(order, np.arange(starts[-1])):
        graph.node("Identity", joined, output=FEATURES)
    else:
        graph.node("Gather", joined, graph.constant(order, np.int64), axis=1, output=FEATURES)


def _blocks(columns: list[Column]) -> list[list[int]]:
    """Columns that go through the same numeric steps make one block, computed as one matrix; any other is its own."""
    blocks: dict[tuple[object, ...], list[int]] = {}
    for index, column in enumerate(columns):
        plain = column.type == "number" and all(isinstance(step, Fill | Limit | Log | Scale) for step in column.steps)
        key: tuple[object, ...] = tuple(step.step for step in column.steps) if plain else (index,)
        blocks.setdefault(("plain", *key) if plain else key, []).append(index)
    return list(blocks.values())


def _raw(graph: Graph, columns: list[Column], block: list[int]) -> str:
    """The values `[N, k]` of a block, out of the packed tensor of its type."""
    type_ = columns[block[0]].type
    packed = NUMBERS if type_ == "number" else TEXTS
    of_type = [index for index, column in enumerate(columns) if column.type == type_]
    if block == of_type:
        return packed
    places = [of_type.index(index) for index in block]
    return graph.node("Gather", packed, graph.constant(places, np.int64), axis=1)


def _block(graph: Graph, columns: list[Column], tensor: str) -> str:
    """Features `[N, k]` of columns that go through the same steps, of their values."""
    text = columns[0].type == "text"
    for steps in zip(*(column.steps for column in columns), strict=True):
        tensor = _step(graph, tensor, steps, text=text)
        text = text and isinstance(steps[0], Fill)
    return tensor


def _step(graph: Graph, x: str, steps: Sequence[Any], *, text: bool) -> str:
    """One step of each of the `k` columns in `x`, `[N, k]`."""
    match steps[0]:
        case Fill():
            return _fill(graph, x, [step.value for step in steps], text=text)
        case Limit():
            low, high = graph.constant([[s.lower for s in steps]]), graph.constant([[s.upper for s in steps]])
            x = graph.node("Where", graph.node("Less", x, low), low, x)  # not Clip or Max: NaN must stay NaN
            return graph.node("Where", graph.node("Greater", x, high), high, x)
        case Log():
            return graph.node("Log", graph.node("Add", x, graph.constant([1])))
        case Scale():
            centered = graph.node("Sub", x, graph.constant([[step.center for step in steps]]))
            return graph.node("Div", centered, graph.constant([[step.scale for step in steps]]))
        case OneHot() as one_hot:
            return _one_hot(graph, x, one_hot, text=text)
        case Ordinal() as ordinal:
            return _ordinal(graph, x, ordinal, text=text)
        case Tokens() as tokens:
            return _tokens(graph, x, tokens)
    raise AssertionError(steps[0])


def _fill(graph: Graph, x: str, values: list[Any], *, text: bool) -> str:
    if text:
        return graph.node("Where", graph.node("Equal", x, graph.constant([""], object)), graph.constant([values], object), x)
    return graph.node("Where", graph.node("IsNaN", x), graph.constant([values]), x)


def _one_hot(graph: Graph, x: str, step: OneHot, *, text: bool) -> str:
    """`[N, 1]` to `[N, size]`."""
    if text:
        codes = _label_encoder(graph, x, step.categories, values_int64s=step.features, default_int64=-1)
        hits = graph.node("Equal", codes, graph.constant([range(step.size)], np.int64))
        return graph.node("Cast", hits, to=TensorProto.FLOAT)
    shares = np.zeros((len(step.categories), step.size), dtype=np.float32)
    shares[np.arange(len(step.categories)), step.features] = 1
    return graph.node("MatMul", _hits(graph, x, step.categories), graph.constant(shares))


def _ordinal(graph: Graph, x: str, step: Ordinal, *, text: bool) -> str:
    """`[N, 1]` to `[N, 1]`."""
    places = [float(place) for place in range(len(step.categories))]
    if text:
        return _label_encoder(graph, x, step.categories, values_floats=places, default_float=-1.0)
    from_one = graph.constant([[place + 1] for place in places])
    return graph.node("Sub", graph.node("MatMul", _hits(graph, x, step.categories), from_one), graph.constant([1]))


def _hits(graph: Graph, x: str, categories: Sequence[Any]) -> str:
    """Which category a number is: 0/1, `[N, categories]`."""
    return graph.node("Cast", graph.node("Equal", x, graph.constant([categories])), to=TensorProto.FLOAT)


def _label_encoder(graph: Graph, x: str, keys: Sequence[Any], **values: Any) -> str:
    return graph.node("LabelEncoder", x, domain="ai.onnx.ml", keys_strings=list(keys), **values)


def _tokens(graph: Graph, x: str, step: Tokens) -> str:
    """`[N, 1]` strings to `[N, vocabulary]`: TF-IDF, each row scaled to length 1 (a row without known tokens stays 0)."""
    flat = graph.node("Reshape", x, graph.constant([-1], np.int64))
    if step.lowercase:
        flat = graph.node("StringNormalizer", flat, case_change_action="LOWER", is_case_sensitive=1, locale="C.UTF-8")
    tokens = graph.node("Tokenizer", flat, domain="com.microsoft", mark=0, mincharnum=1, pad_value="", tokenexp=graph_pattern())
    by_length: list[list[tuple[int, list[str]]]] = [[] for _ in range(step.ngrams)]
    for index, entry in enumerate(step.vocabulary):
        words = entry.split(" ")
        by_length[len(words) - 1].append((index, words))
    entries = [entry for group in by_length for entry in group]
    starts = np.cumsum([0] + [len(group) * (n + 1) for n, group in enumerate(by_length)])[:-1]
    weights = graph.node(
        "TfIdfVectorizer",
        tokens,
        mode="TFIDF",
        min_gram_length=1,
        max_gram_length=step.ngrams,
        max_skip_count=0,
        ngram_counts=[int(start) for start in starts],
        ngram_indexes=[index for index, _ in entries],
        pool_strings=[word for _, words in entries for word in words],
        weights=[step.idf[index] for index, _ in entries],
    )
    length = graph.node("Sqrt", graph.node("ReduceSumSquare", weights, graph.constant([1], np.int64), keepdims=1))
    return graph.node("Div", weights, graph.node("Max", length, graph.constant([1e-12])))


# --- images and arrays --------------------------------------------------------------------------------------------------------


def _scaled(graph: Graph, x: str, array: ArrayInput) -> str:
    center, scale = array.parameters()
    return graph.node("Div", graph.node("Sub", x, graph.constant(center)), graph.constant(scale))

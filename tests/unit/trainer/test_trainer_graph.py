"""Each step's Python and its part of the served graph agree on every text and every float, odd ones too."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from trainer_tables import fit_steps, table

from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.words import WORD, fold_case
from modelship_trainer.errors import UserError
from modelship_trainer.export.graph import preprocessing_graph
from modelship_trainer.protocol import FailureReason
from modelship_trainer.values import text_of

pytestmark = pytest.mark.unit

TEXTS = [
    "",
    "İzmir",
    "izmir",
    "ß ẞ \u017f",
    "Ǆ ǅ ǆ",
    "ΣΊΣΥΦΟΣ",
    "caf\u00e9",
    "\u1e9b\u0323",
    "a\u2028b",
    "\x00",
    "𐐀𞤀",
    "½ ² Ⅷ ٣",
    "x_1",
    "👩‍👩‍👧",
]
NUMBERS = [0.0, 1.0, -1.5, 0.1, 1e-45, 3e38, 16777216.0, float("nan"), 7.0]
FOR_TEXT: dict[str, list[dict[str, Any]]] = {
    "oneHot": [{"oneHot": {"columns": ["x"]}}],
    "oneHot of few": [{"oneHot": {"columns": ["x"], "maxCategories": 4}}],
    "ordinal": [{"ordinal": {"columns": ["x"]}}],
    "imputed": [{"impute": {"columns": ["x"], "strategy": "constant", "value": "İzmir"}}, {"oneHot": {"columns": ["x"]}}],
    "tokenize": [{"tokenize": {"columns": ["x"], "ngrams": 2}}],
    "tokenize, case kept": [{"tokenize": {"columns": ["x"], "lowercase": False}}],
}
FOR_NUMBERS: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "impute, clip, normalize": [{"impute": {}}, {"clip": {}}, {"normalize": {}}],
    "normalize": [{"normalize": {"columns": ["x"], "method": "robust"}}],
    "oneHot": [{"oneHot": {"columns": ["x"], "maxCategories": 5}}],
    "oneHot, changed before": [{"impute": {}}, {"normalize": {}}, {"oneHot": {"columns": ["x"]}}],
    "categories": [
        {"clip": {}},
        {"cast": {"columns": ["x"], "to": "category"}},
        {"ordinal": {"columns": ["x"]}},
        {"normalize": {}},
    ],
    "ordinal": [{"ordinal": {"columns": ["x"]}}],
}


@cache
def fitted_on(name: str) -> tuple[Fitted, onnxruntime.InferenceSession]:
    steps, values = (FOR_TEXT[name[5:]], TEXTS) if name.startswith("text ") else (FOR_NUMBERS[name[7:]], NUMBERS)
    fitted, _ = fit_steps(table({"x": [*values, *values[1:3]]}), steps)
    return fitted, onnxruntime.InferenceSession(preprocessing_graph(fitted).SerializeToString())


def both(name: str, values: list[Any]) -> tuple[Any, Any]:
    """Features of `values` in Python and in the graph."""
    fitted, session = fitted_on(name)
    text = name.startswith("text ")
    raw = np.array(values, dtype=object if text else np.float32)
    (column,) = fitted.columns or []
    with np.errstate(all="ignore"):
        expected = column.apply(raw).reshape(len(raw), -1)
    return expected, session.run(None, {"texts" if text else "numbers": raw.reshape(-1, 1)})[0]


texts = st.lists(st.one_of(st.sampled_from(TEXTS), st.text(max_size=12)).map(text_of), min_size=1, max_size=20)
floats = st.lists(st.one_of(st.sampled_from(NUMBERS), st.just(-0.0), st.floats(width=32)), min_size=1, max_size=20)


@pytest.mark.parametrize("steps", FOR_TEXT)
@settings(max_examples=60, deadline=None)
@given(values=texts)
def test_any_text(steps: str, values: list[str]) -> None:
    expected, actual = both(f"text {steps}", values)
    if steps.startswith("tokenize"):
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)
    else:
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("steps", FOR_NUMBERS)
@settings(max_examples=60, deadline=None)
@given(values=floats)
def test_any_float(steps: str, values: list[float]) -> None:
    """To the last bit: what becomes a category must be the same number."""
    expected, actual = both(f"number {steps}", values)
    np.testing.assert_array_equal(actual, expected)


def test_all_of_unicode_is_folded_and_cut_into_words_alike() -> None:
    fitted, _ = fitted_on("text tokenize")
    model = preprocessing_graph(fitted)
    lower, cut = (next(node for node in model.graph.node if node.op_type == kind) for kind in ("StringNormalizer", "Tokenizer"))
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(node.output[0], TensorProto.STRING, None) for node in (lower, cut))
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    folded, words = onnxruntime.InferenceSession(model.SerializeToString()).run(
        None, {"texts": np.array(characters, dtype=object).reshape(-1, 1)}
    )
    expected = [fold_case(character) for character in characters]
    assert [(hex(ord(c)), f, e) for c, f, e in zip(characters, folded, expected, strict=True) if f != e] == []
    kept = [e if WORD.fullmatch(e) else "" for e in expected]
    assert [(hex(ord(c)), w, k) for c, w, k in zip(characters, words[:, 0], kept, strict=True) if w != k] == []


@pytest.mark.parametrize("step", ["oneHot", "ordinal"])
def test_logarithms_are_no_categories(step: str) -> None:
    dataset = table({"x": [1.0, 2.0, 3.0]})
    with pytest.raises(UserError, match=r'preprocessing\[1\]\..* column "x" went through log, .*; leave log out') as caught:
        fit_steps(dataset, [{"log": {"columns": ["x"]}}, {step: {"columns": ["x"]}}])
    assert caught.value.reason is FailureReason.RECIPE_INVALID


def test_nothing_is_cast_to_or_from_text() -> None:
    for name in [f"text {name}" for name in FOR_TEXT] + [f"number {name}" for name in FOR_NUMBERS]:
        nodes = preprocessing_graph(fitted_on(name)[0]).graph.node
        casts = {attribute.i for node in nodes if node.op_type == "Cast" for attribute in node.attribute if attribute.name == "to"}
        assert casts <= {TensorProto.FLOAT}, name

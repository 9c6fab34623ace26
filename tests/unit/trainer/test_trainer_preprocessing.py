"""Each preprocessing step against numbers worked out by hand; their order; what is fitted on which rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler
from trainer_tables import features_of, fit_steps, table

from modelship_trainer import memory
from modelship_trainer.data.dataset import Dataset, Kind
from modelship_trainer.data.fit import distinct
from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Step

pytestmark = pytest.mark.unit
nan = math.nan

NUMERIC = {
    "impute mean": ([1, nan, 3], [{"impute": {"strategy": "mean"}}], [1, 2, 3]),
    "impute median": ([1, nan, 3, 10], [{"impute": {"strategy": "median"}}], [1, 3, 3, 10]),
    "impute most frequent": ([5, nan, 5, 7], [{"impute": {"strategy": "mostFrequent"}}], [5, 5, 5, 7]),
    "impute constant": ([1, nan], [{"impute": {"strategy": "constant", "value": "-1.5"}}], [1, -1.5]),
    "clip": ([0, 1, 2, 3, 100], [{"clip": {"lowerQuantile": 0.25, "upperQuantile": 0.75}}], [1, 1, 2, 3, 3]),
    "log": ([0, math.e - 1], [{"log": {"columns": ["a"]}}], [0, 1]),
    "normalize standard": ([1, 2, 3], [{"normalize": {}}], [-math.sqrt(1.5), 0, math.sqrt(1.5)]),
    "normalize standard, constant": ([4, 4], [{"normalize": {}}], [0, 0]),
    "normalize minMax": ([1, 2, 5], [{"normalize": {"method": "minMax"}}], [0, 0.25, 1]),
    "normalize robust": ([1, 2, 3, 4, 100], [{"normalize": {"method": "robust"}}], [-1, -0.5, 0, 0.5, 48.5]),
    "ordinal numbers": ([30, 10, 20], [{"ordinal": {"columns": ["a"]}}], [2, 0, 1]),
    "in the order written": (
        [0, nan, 2],
        [{"impute": {"strategy": "mean"}}, {"log": {"columns": ["a"]}}, {"normalize": {"method": "minMax"}}],
        [0, math.log(2) / math.log(3), 1],
    ),
    "in another order": (
        [0, nan, 2],
        [{"normalize": {"method": "minMax"}}, {"impute": {"strategy": "constant", "value": "9"}}, {"log": {"columns": ["a"]}}],
        [0, math.log(10), math.log(2)],
    ),
}


@pytest.mark.parametrize(("values", "steps", "expected"), NUMERIC.values(), ids=NUMERIC)
def test_numeric_step(values: list[float], steps: list[dict[str, Any]], expected: list[float]) -> None:
    dataset = table({"a": values})
    fitted, _ = fit_steps(dataset, steps)
    x = fitted.transform(dataset.features)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-6, atol=1e-7)


def test_one_hot() -> None:
    """Sorted categories; unseen and, where training had none, missing: all zeros."""
    dataset = table({"plan": ["gold", "basic", "gold"]})
    fitted, _ = fit_steps(dataset, [{"oneHot": {"columns": ["plan"]}}])
    rows = features_of(pd.DataFrame({"plan": ["basic", "gold", "platinum", None]}))
    assert fitted.transform(rows).tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]
    assert fitted.feature_names() == ["plan=basic", "plan=gold"]


def test_one_hot_with_rare_categories() -> None:
    dataset = table({"plan": ["a"] * 5 + ["b"] * 4 + ["c"] + ["d"]})
    fitted, _ = fit_steps(dataset, [{"oneHot": {"columns": ["plan"], "maxCategories": 3}}])
    rows = features_of(pd.DataFrame({"plan": ["a", "b", "c", "d", "e"]}))
    assert fitted.transform(rows).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert fitted.feature_names() == ["plan=a", "plan=b", "plan=other"]


def test_one_hot_of_numbers() -> None:
    fitted, _ = fit_steps(table({"code": [1.5, 2, nan, 2]}), [{"oneHot": {"columns": ["code"]}}])
    rows = features_of(pd.DataFrame({"code": [2, 1.5, 7, nan]}))
    assert fitted.transform(rows).tolist() == [[0, 1], [1, 0], [0, 0], [0, 0]]


def test_ordinal_unseen_is_minus_one() -> None:
    fitted, _ = fit_steps(table({"size": ["s", "l", "m"]}), [{"ordinal": {"columns": ["size"]}}])
    rows = features_of(pd.DataFrame({"size": ["l", "m", "s", "xl"]}))
    assert fitted.transform(rows)[:, 0].tolist() == [0, 1, 2, -1]


def test_impute_text() -> None:
    steps = [{"impute": {"columns": ["plan"], "strategy": "mostFrequent"}}, {"ordinal": {"columns": ["plan"]}}]
    fitted, _ = fit_steps(table({"plan": ["b", None, "b", "a"]}), steps)
    assert fitted.transform(features_of(pd.DataFrame({"plan": ["a", None]})))[:, 0].tolist() == [0, 1]


def test_leading_cast_decides_what_is_served() -> None:
    dataset = table({"zip": [10115, 90210, 10115], "age": ["34", "", "51"]})
    steps = [
        {"cast": {"columns": ["zip"], "to": "category"}},
        {"cast": {"columns": ["age"], "to": "number"}},
        {"oneHot": {"columns": ["zip"]}},
        {"impute": {}},
    ]
    fitted, _ = fit_steps(dataset, steps)
    assert [(column.name, column.type) for column in fitted.columns or []] == [("zip", "text"), ("age", "number")]
    assert fitted.feature_names() == ["zip=10115", "zip=90210", "age"]
    assert fitted.transform(dataset.features).tolist() == [[1, 0, 34], [0, 1, 42.5], [1, 0, 51]]


def test_later_cast() -> None:
    dataset = table({"level": [1, nan, 2.5]})
    steps = [
        {"impute": {"strategy": "constant", "value": "1"}},
        {"cast": {"columns": ["level"], "to": "category"}},
        {"oneHot": {"columns": ["level"]}},
    ]
    fitted, _ = fit_steps(dataset, steps)
    assert fitted.feature_names() == ["level=1", "level=2.5"]
    assert fitted.transform(dataset.features).tolist() == [[1, 0], [1, 0], [0, 1]]


def test_numbers_that_became_categories_are_no_longer_numbers() -> None:
    """Steps for all numeric columns leave them alone, equal numbers are one category, and only encoding makes features of them."""
    dataset = table({"code": [1.5, nan, 0.3, 1.5], "age": [1.0, 2.0, nan, 4.0]})
    steps: list[dict[str, Any]] = [
        {"impute": {"columns": ["code"], "strategy": "mostFrequent"}},
        {"cast": {"columns": ["code"], "to": "category"}},
        {"impute": {"strategy": "constant", "value": "7"}},
        {"clip": {}},
    ]
    with pytest.raises(UserError, match='column "code" is cast to category, and no later step encodes it; add oneHot or ordinal'):
        fit_steps(dataset, steps)
    with pytest.raises(UserError, match=r'column "code" of .* was cast to category, and this step needs numbers; move it before'):
        fit_steps(dataset, [*steps, {"normalize": {"columns": ["code"]}}])
    fitted, _ = fit_steps(dataset, [*steps, {"oneHot": {"columns": ["code"]}}])
    assert fitted.feature_names() == ["code=0.3", "code=1.5", "age"]
    assert [step.step for step in (fitted.columns or [])[0].steps] == ["fill", "oneHot"]
    assert fitted.transform(dataset.features)[:, :2].tolist() == [[0, 1], [0, 1], [1, 0], [0, 1]]


def test_what_text_was_filled_with_becomes_a_number() -> None:
    dataset = table({"level": ["1", "", "10"]})
    cast = {"cast": {"columns": ["level"], "to": "number"}}
    fitted, _ = fit_steps(dataset, [{"impute": {"columns": ["level"], "strategy": "constant", "value": "2.50"}}, cast])
    assert [column.to_json() for column in fitted.columns or []] == [
        {"name": "level", "type": "number", "steps": [{"step": "fill", "value": 2.5}], "texts": "text", "required": False}
    ]
    assert fitted.transform(dataset.features).tolist() == [[1], [2.5], [10]]
    with pytest.raises(UserError, match='column "level" was imputed with "none", which is no number; move the cast before impute'):
        fit_steps(dataset, [{"impute": {"columns": ["level"], "strategy": "constant", "value": "none"}}, cast])


@pytest.mark.parametrize("text", ["high", "1_000", "١٢", "12abc", "1,5", "0x10", "nan", "inf", "1e39"])
def test_text_that_a_later_cast_cannot_read(text: str) -> None:
    """Other languages read "1_000" as 1, and "12abc" as 12."""
    dataset = table({"level": ["1", "2", "3", "4", text]})
    steps = [
        {"impute": {"columns": ["level"], "strategy": "constant", "value": "1"}},
        {"cast": {"columns": ["level"], "to": "number"}},
    ]
    message = f'^column "level" must be numbers, and has text such as "{text}" in row 5; '
    with pytest.raises(UserError, match=message):
        fit_steps(dataset, steps, train=[3, 4])
    fitted, _ = fit_steps(dataset, steps, train=[0, 1])
    with pytest.raises(UserError, match=message):
        fitted.transform(dataset.take(np.array([3, 4])))


def test_tokenize() -> None:
    """Inverse document frequency ln((1 + n) / (1 + df)) + 1, rows of length 1; unknown words and empty text are zeros."""
    dataset = table({"text": ["Red apple", "red RED pear!"]})
    fitted, _ = fit_steps(dataset, [{"tokenize": {"columns": ["text"]}}])
    assert fitted.feature_names() == ["text:apple", "text:pear", "text:red"]
    rare = math.log(3 / 2) + 1
    rows = features_of(pd.DataFrame({"text": ["red apple", "pear red red", "plum", ""]}))
    first, second = math.hypot(rare, 1), math.hypot(rare, 2)
    expected = [[rare / first, 0, 1 / first], [0, rare / second, 2 / second], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(fitted.transform(rows), expected, rtol=1e-6)


def test_tokenize_is_scikit_learns() -> None:
    texts = ["the quick brown fox", "the lazy dog", "quick quick dog, the fox", "Привет мир", "naïve café"]
    fitted, _ = fit_steps(table({"text": texts}), [{"tokenize": {"columns": ["text"], "ngrams": 2, "vocabularySize": 12}}])
    reference = TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), max_features=12).fit(texts)
    x = fitted.transform(features_of(pd.DataFrame({"text": texts})))
    np.testing.assert_allclose(x, reference.transform(texts).toarray(), rtol=1e-6)


# --- rows ---------------------------------------------------------------------------------------------------------------------


def left_of(dataset: Dataset, *steps: dict[str, Any]) -> list[int]:
    """The rows, by their place in the file, that dropDuplicates leaves."""
    left = distinct(dataset, [Step.model_validate(step) for step in steps])
    assert left.rows == len(left.features)
    return list(left.features.index)


def test_drop_duplicates_keeps_the_first_of_equal_rows() -> None:
    dataset = table({"a": [1, 1, 1, 2, nan, nan], "b": ["x", "x", "y", "x", None, None]}, target=[0, 0, 0, 1, 1, 1])
    assert left_of(dataset, {"dropDuplicates": {}}) == [0, 2, 3, 4]
    assert left_of(dataset, {"dropDuplicates": {"columns": ["a"]}}) == [0, 3, 4]
    assert left_of(dataset, {"dropDuplicates": {"columns": ["y"]}}) == [0, 3]
    assert left_of(dataset, {"dropDuplicates": {}}, {"dropDuplicates": {"columns": ["b"]}}) == [0, 2, 4]
    assert distinct(dataset, [Step.model_validate({"normalize": {}})]) is dataset
    with pytest.raises(UserError, match=r'preprocessing\[0\].dropDuplicates: column "c" is not in pvc://d/t.csv; columns: a, b, y'):
        left_of(dataset, {"dropDuplicates": {"columns": ["c"]}})


def test_rows_are_the_same_as_they_were_read() -> None:
    """Wherever the step stands: rows are divided before any other step is fitted."""
    dataset = table({"a": [1, nan, 1.2]}, target=[0, 0, 0])
    assert left_of(dataset, {"impute": {"strategy": "constant", "value": "1"}}, {"dropDuplicates": {}}) == [0, 1, 2]


def test_duplicates_with_another_label_stay() -> None:
    assert left_of(table({"a": [1, 1]}, target=[0, 1]), {"dropDuplicates": {}}) == [0, 1]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e39", "none"])
def test_a_number_is_imputed_by_a_finite_number(value: str) -> None:
    steps = [{"impute": {"columns": ["a"], "strategy": "constant", "value": value}}]
    with pytest.raises(UserError) as caught:
        fit_steps(table({"a": [1, nan]}), steps)
    assert caught.value.reason is FailureReason.RECIPE_INVALID
    assert caught.value.message == (
        f'data.preprocessing[0].impute.value: "{value}" is no finite number, and column "a" has numbers.'
    )
    fit_steps(table({"a": ["x", None]}), steps)


@pytest.mark.parametrize(
    ("step", "cure"),
    [
        ({"oneHot": {"columns": ["id"]}}, "set maxCategories"),
        ({"oneHot": {"columns": ["id"], "maxCategories": 900}}, "lower maxCategories"),
        ({"tokenize": {"columns": ["id"]}}, "lower vocabularySize"),
    ],
)
def test_features_that_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch, step: dict[str, Any], cure: str) -> None:
    """Refused before they are made; two columns that fit alone may not fit together."""
    dataset = table({"id": [f"id{row}" for row in range(1000)], "plan": ["a", "b"] * 500})
    features = 900 if cure == "lower maxCategories" else 1000
    monkeypatch.setattr(memory, "limit", lambda: 8 * 1000 * (features + 2))
    fit_steps(dataset, [step, {"oneHot": {"columns": ["plan"]}}])
    monkeypatch.setattr(memory, "limit", lambda: 8 * 1000 * (features + 1))
    with pytest.raises(UserError) as caught:
        fit_steps(dataset, [{"oneHot": {"columns": ["plan"]}}, step])
    assert caught.value.reason is FailureReason.OUT_OF_MEMORY
    assert caught.value.message.startswith(
        f'data.preprocessing[1].{next(iter(step))}: column "id" becomes {features:,} features, and 1,000 rows of '
        f"{features + 2:,} features need 0.0 GiB of the 0.0 GiB of memory; {cure}, leave the column out of data.features, or raise "
    )


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "2147483648\n"}, 2**31),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "1048576\n"}, 2**20),
        ({}, None),
    ],
    ids=["v2", "v2 unlimited", "v1", "none"],
)
def test_memory_limit_of_the_cgroup(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert memory.cgroup_limit(tmp_path) == expected
    assert (memory.limit() or 0) > 2**20


def test_drop_missing_leaves_out_rows_that_the_model_is_not_for() -> None:
    dataset = table({"a": [1, nan, 3, 4], "b": ["x", "y", None, "x"]})
    fitted, kept = fit_steps(dataset, [{"dropMissing": {"columns": ["a"]}}, {"oneHot": {"columns": ["b"]}}])
    assert kept == [0, 2, 3]
    assert fitted.usable(dataset.features).tolist() == [True, False, True, True]
    _, kept = fit_steps(dataset, [{"dropMissing": {}}])
    assert kept == [0, 3]


def test_imputed_values_are_not_required() -> None:
    dataset = table({"a": [1, nan, 3]})
    fitted, kept = fit_steps(dataset, [{"impute": {}}, {"dropMissing": {}}])
    assert kept == [0, 1, 2]
    assert fitted.usable(dataset.features).all()


def test_statistics_are_of_the_training_rows_alone() -> None:
    dataset = table({"a": [0, 2, 1000, nan]})
    fitted, _ = fit_steps(dataset, [{"impute": {"strategy": "mean"}}, {"normalize": {}}], train=[0, 1])
    assert fitted.transform(dataset.features)[:, 0].tolist() == [-1, 1, 999, 0]


# --- the whole against scikit-learn --------------------------------------------------------------------------------------------


def test_against_a_column_transformer() -> None:
    """The same steps as scikit-learn's own pipeline, on real measurements with made-up gaps and categories."""
    bunch = load_breast_cancer()
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(bunch.data[:, :4], columns=["a", "b", "c", "d"]).astype(np.float32)
    frame = frame.mask(rng.rand(*frame.shape) < 0.1)
    frame["site"] = rng.choice(["north", "south", "west"], len(frame))
    frame["grade"] = rng.choice(["I", "II", "III"], len(frame))
    dataset = Dataset("x", Kind.TABULAR, features_of(frame), bunch.target, "y", "sha256:0")
    steps = [
        {"impute": {"columns": ["a", "b"], "strategy": "mean"}},
        {"impute": {"columns": ["c", "d"]}},
        {"oneHot": {"columns": ["site"]}},
        {"ordinal": {"columns": ["grade"]}},
        {"normalize": {"columns": ["a", "b"]}},
        {"normalize": {"columns": ["c", "d"], "method": "robust"}},
    ]
    train = np.arange(0, 569, 2)
    fitted, _ = fit_steps(dataset, steps, train)
    reference = ColumnTransformer(
        [
            ("mean", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
            ("median", make_pipeline(SimpleImputer(strategy="median"), RobustScaler()), ["c", "d"]),
            ("site", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["site"]),
            ("grade", OrdinalEncoder(), ["grade"]),
        ]
    ).fit(frame.iloc[train].astype({name: np.float64 for name in "abcd"}))
    expected = reference.transform(frame.astype({name: np.float64 for name in "abcd"}))
    np.testing.assert_allclose(fitted.transform(dataset.features), expected, rtol=1e-5, atol=1e-5)


# --- images and arrays ----------------------------------------------------------------------------------------------------------


def array(x: Any, kind: Kind = Kind.ARRAY) -> Dataset:
    return Dataset("pvc://d/a.npz", kind, np.asarray(x), np.zeros(len(x)), "y", "sha256:0")


def test_images_are_scaled_even_without_a_step() -> None:
    dataset = array(np.full((2, 3, 4, 4), 51, dtype=np.uint8), Kind.IMAGE)
    fitted, _ = fit_steps(dataset, [])
    assert fitted.input_shape() == (3, 4, 4)
    np.testing.assert_allclose(fitted.transform(dataset.features), 0.2, rtol=1e-6)


def test_images_are_normalised_per_channel() -> None:
    x = np.stack([np.zeros((4, 4)), np.full((4, 4), 10), np.arange(16).reshape(4, 4)])[np.newaxis].repeat(2, axis=0)
    fitted, _ = fit_steps(array(x, Kind.IMAGE), [{"normalize": {}}])
    assert fitted.array is not None
    assert fitted.array.center == pytest.approx([0, 10, 7.5])
    assert fitted.array.scale == pytest.approx([1, 1, np.arange(16).std()])


def test_arrays_are_normalised_per_feature_or_as_a_whole() -> None:
    flat, _ = fit_steps(array([[1.0, 10.0], [3.0, 10.0]]), [{"normalize": {"method": "minMax"}}])
    assert flat.transform(np.array([[1.0, 10.0], [2.0, 11.0]])).tolist() == [[0, 0], [0.5, 1]]
    deep, _ = fit_steps(array(np.arange(8.0).reshape(2, 2, 2)), [{"normalize": {"method": "minMax"}}])
    assert deep.transform(np.full((1, 2, 2), 3.5)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]


@pytest.mark.parametrize("steps", [[{"impute": {}}], [{"normalize": {"columns": ["a"]}}], [{"normalize": {}}, {"normalize": {}}]])
def test_arrays_have_no_columns(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="has arrays, not columns; the one step for them is normalize, without columns"):
        fit_steps(array([[1.0], [2.0]]), steps)


def test_array_of_another_shape() -> None:
    fitted, _ = fit_steps(array([[1.0, 2.0]]), [])
    with pytest.raises(UserError, match=r"rows of the data have shape \[3\], and the model takes \[2\]"):
        fitted.transform(np.zeros((1, 3)))
    with pytest.raises(UserError, match="1 of 2 rows of the data have missing or infinite values"):
        fitted.transform(np.array([[0, 0], [0, nan]]))

"""What steps fit, and the bundled data, against scikit-learn, whose own import would cost a small job most of its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

from modelship_trainer.data import bundled, statistics
from modelship_trainer.recipe import BUNDLED, NormalizeMethod

pytestmark = pytest.mark.unit
few = settings(max_examples=50, deadline=None)
numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


def scaler(method: NormalizeMethod, x: np.ndarray) -> tuple[Any, Any]:
    match method:
        case NormalizeMethod.STANDARD:
            standard = StandardScaler().fit(x)
            return standard.mean_[0], standard.scale_[0]
        case NormalizeMethod.MIN_MAX:
            low_high = MinMaxScaler().fit(x)
            return low_high.data_min_[0], low_high.data_range_[0] or 1
        case NormalizeMethod.ROBUST:
            robust = RobustScaler().fit(x)
            return robust.center_[0], robust.scale_[0]


@few
@given(numbers, st.integers(0, 3), st.sampled_from(NormalizeMethod))
def test_centers_and_scales(values: list[float], missing: int, method: NormalizeMethod) -> None:
    column = np.array([*values, *[np.nan] * missing], dtype=np.float32)
    center, scale = statistics.center_and_scale(column, method)
    expected = scaler(method, column.astype(np.float64).reshape(-1, 1))
    assert (center, scale) == (pytest.approx(expected[0], rel=1e-9, abs=1e-9), pytest.approx(expected[1], rel=1e-9))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e7 / 3, -1e-9])
def test_a_constant_column_has_scale_one(value: float) -> None:
    column = np.full(1000, value, dtype=np.float32)
    assert [statistics.center_and_scale(column, method)[1] for method in NormalizeMethod] == [1, 1, 1]


@few
@given(numbers, st.integers(0, 3))
def test_means_and_medians(values: list[float], missing: int) -> None:
    column = np.array([*values, *[np.nan] * missing], dtype=np.float32)
    for strategy, ours in (("mean", statistics.mean), ("median", statistics.median)):
        theirs = SimpleImputer(strategy=strategy).fit(column.astype(np.float64).reshape(-1, 1)).statistics_[0]
        assert ours(column) == pytest.approx(theirs, rel=1e-12, abs=1e-12)


@few
@given(st.lists(st.sampled_from(["", "a", "b", "é", "z", "Z", "10", "9"]), min_size=1, max_size=30), st.integers(1, 9))
def test_categories(values: list[str], most: int) -> None:
    column = np.array(values, dtype=object)
    x = column.reshape(-1, 1)
    assert statistics.categories(column) == OrdinalEncoder().fit(x).categories_[0].tolist()
    for limit in (most, None):
        encoder = OneHotEncoder(handle_unknown="ignore", max_categories=limit, sparse_output=False).fit(x)
        categories, features = statistics.features_of_categories(column, limit)
        assert categories == encoder.categories_[0].tolist()
        expected = encoder.transform(np.array(categories, dtype=object).reshape(-1, 1))
        assert features == expected.argmax(axis=1).tolist()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data(name: str) -> None:
    bunch = getattr(datasets, f"load_{name}")()
    table = bundled.read(name)
    np.testing.assert_array_equal(table.values, bunch.data)
    np.testing.assert_array_equal(table.target, bunch.target)
    assert (table.values.dtype, table.target.dtype) == (bunch.data.dtype, bunch.target.dtype)
    assert table.columns == (list(bunch.feature_names) if name != "digits" else [])

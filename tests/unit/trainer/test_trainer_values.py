"""The text of a value and the value of a text, against the table that the gateway is tested against, too."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelship_trainer.values import boolean_of, kind_of, normal_text, number_of, text_of

pytestmark = pytest.mark.unit

TABLE = json.loads((Path(__file__).parents[2] / "support" / "values.json").read_text(encoding="utf-8"))
MAKE = {"float": float, "float32": np.float32, "int": int}


@pytest.mark.parametrize("case", TABLE["texts"], ids=lambda case: f"{case['kind']} {case['value']!r}")
def test_the_text_of_a_value(case):
    assert text_of(MAKE.get(case["kind"], lambda value: value)(case["value"])) == case["text"]


@pytest.mark.parametrize("case", TABLE["numbers"], ids=lambda case: repr(case["text"]))
def test_the_value_of_a_text(case):
    assert number_of(case["text"]) == case["number"]


@pytest.mark.parametrize("text", TABLE["missing"])
def test_empty_text_is_a_missing_number(text):
    assert math.isnan(number_of(text))


@pytest.mark.parametrize("text", TABLE["notNumbers"])
def test_other_text_is_no_number(text):
    with pytest.raises(ValueError, match=r"not a number|beyond"):
        number_of(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.nan, ""),
        (np.float32("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (np.datetime64("NaT"), ""),
        (decimal.Decimal("NaN"), ""),
        (np.bool_(True), "true"),
        (np.int8(-3), "-3"),
        (2**70, str(2**70)),
        (np.float16(0.5), "0.5"),
        (np.float64(0.3), "0.3"),
        (float("inf"), "inf"),
        (np.float32("-inf"), "-inf"),
        (b"gold", "gold"),
        (np.bytes_(b"caf\xc3\xa9"), "café"),
        (bytearray(b"x"), "x"),
        (np.str_("e\u0301"), "é"),
        (decimal.Decimal("0.30"), "0.3"),
        (decimal.Decimal("1.00"), "1"),
        (decimal.Decimal("0.0000001"), "1e-07"),
        (decimal.Decimal("12345678901234567890.5"), "12345678901234567890.5"),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (datetime.datetime.fromisoformat("2024-01-31"), "2024-01-31"),
        (datetime.datetime.fromisoformat("2024-01-31T10:00:01"), "2024-01-31 10:00:01"),
        (datetime.datetime(2024, 1, 31, tzinfo=datetime.UTC), "2024-01-31 00:00:00+00:00"),
        (pd.Timestamp("2024-01-31"), "2024-01-31"),
        (pd.Timestamp("2024-01-31 10:00:01.5"), "2024-01-31 10:00:01.500000"),
        (pd.Timestamp("2024-01-31 10:00:01.000000001"), "2024-01-31 10:00:01.000000001"),
        (np.datetime64("2024-01-31T10:00:01.5"), "2024-01-31 10:00:01.500000"),
        (np.datetime64("2024-01-31T10:00:01.000000001"), "2024-01-31 10:00:01.000000001"),
        (np.datetime64("2024-01-31T00:00:00.000"), "2024-01-31"),
        (np.datetime64("2024-01-31"), "2024-01-31"),
        (datetime.time(10, 5), "10:05:00"),
    ],
    ids=repr,
)
def test_values_of_other_types(value, text):
    assert text_of(value) == text


@pytest.mark.parametrize("value", [b"\xe9t\xe9", "\ud800", [1], {"a": 1}, np.array([1, 2]), (1,)], ids=repr)
def test_what_has_no_text_is_an_error(value):
    with pytest.raises(ValueError, match=r"."):
        text_of(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float_reads_back(value):
    assert number_of(text_of(value)) == value
    assert text_of(number_of(text_of(value))) == text_of(value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_text_of_a_float32_reads_back_and_is_the_shortest(value):
    text = text_of(np.float32(value))
    assert struct.pack("<f", number_of(text)) == struct.pack("<f", value + 0.0)  # -0 is 0
    if "e" in text or "." in text:
        assert len(text) <= len(text_of(value))


@given(st.integers())
def test_the_text_of_a_whole_number_is_its_digits(value):
    assert int(text_of(value)) == value


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_is_itself_in_nfc(text):
    assert text_of(text) == unicodedata.normalize("NFC", text)
    assert text_of(text_of(text)) == text_of(text)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "", "10"], "number"),
        (["1.0", "2.0"], "number"),
        (["-1.5", "0.5", "0"], "number"),
        (["01", "1", "10"], "text"),
        (["1.0", "1"], "text"),
        (["0", "-0"], "text"),
        (["1E2", "100"], "text"),
        (["1E2"], "text"),
        (["1e-05", "0.5", "1e+16"], "number"),
        (["1e+16", "10000000000000000"], "text"),
        (["+1", "2"], "text"),
        (["1", "1 "], "text"),
        (["9007199254740993", "9007199254740992"], "number"),
        (["true", "false"], "boolean"),
        (["True", "False", ""], "boolean"),
        (["True", "true"], "text"),
        (["True", "1", "0"], "text"),
        (["1", "n/a"], "text"),
        (["", ""], "text"),
        ([], "text"),
    ],
)
def test_a_column_is_numbers_only_where_no_two_spellings_merge(cells, kind):
    assert kind_of(cells) == kind


@given(st.lists(st.sampled_from(["0", "1", "1.0", "01", "-0", "10", "1e1", "True", "true", "false", "", "a", "é", "e\u0301"])))
def test_labels_never_merge(cells):
    kind = kind_of(cells)
    written = {unicodedata.normalize("NFC", cell) for cell in cells}
    assert len({normal_text(cell, kind) for cell in written}) == len(written)


@pytest.mark.parametrize("case", TABLE["normal"], ids=repr)
def test_a_cell_in_the_spelling_of_its_column(case):
    assert normal_text(case["text"], case["kind"]) == case["normal"]


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers()))
def test_a_number_however_it_is_written_is_normal(value):
    """What Parquet and a JSON client have as a number, a CSV as text."""
    plain = f"{decimal.Decimal(repr(value)):f}"
    if isinstance(value, int) or abs(value) < 1e16:  # larger floats have an exponent, and what is written in digits keeps them
        assert normal_text(plain, "number") == text_of(value)
    assert normal_text(f"{plain}.0" if "." not in plain else f"{plain}0", "number") == normal_text(plain, "number")


def test_booleans_have_three_spellings():
    assert [boolean_of(text) for text in ("true", "True", "TRUE", "false", "False", "FALSE")] == [True] * 3 + [False] * 3
    assert [boolean_of(text) for text in ("tRUE", "t", "1", "", "yes")] == [None] * 5

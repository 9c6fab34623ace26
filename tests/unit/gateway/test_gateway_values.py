"""The gateway's text of a value and value of a text: those of modelship_trainer/values.py."""

from __future__ import annotations

import json
import math
import struct
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_lua import Lua, Refused
from hypothesis import given
from hypothesis import strategies as st

from modelship_trainer.values import normal_text, number_of, text_of

pytestmark = pytest.mark.integration  # needs luajit, of tools/install-debian-packages test

TABLE = json.loads((Path(__file__).parents[2] / "support/values.json").read_text())


def number(lua: Lua, text: str) -> float | None:
    found = lua("number_of", text.encode().hex())
    return None if found == "none" else struct.unpack("<d", bytes.fromhex(found))[0]


@pytest.mark.parametrize("case", TABLE["texts"], ids=str)
def test_texts_of_the_table(lua: Lua, case: dict[str, Any]) -> None:
    value, kind = case["value"], case["kind"]
    if kind == "string":
        assert bytes.fromhex(lua("nfc", value.encode().hex())).decode() == case["text"]
    elif kind in ("float", "float32"):
        value = float(np.float32(value)) if kind == "float32" else value
        assert lua("single_text" if kind == "float32" else "double_text", value) == case["text"]
    else:  # in JSON, through a whole request
        assert texts_of(lua, [value]) == [case["text"]]


def test_numbers_of_the_table(lua: Lua) -> None:
    for case in TABLE["numbers"]:
        assert repr(number(lua, case["text"])) == repr(float(case["number"])), case
    assert all(math.isnan(number(lua, text) or 0.0) for text in TABLE["missing"])
    assert [text for text in TABLE["notNumbers"] if number(lua, text) is not None] == []


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float64_has_the_text_of_python(lua: Lua, value: float) -> None:
    assert texts_of(lua, [value]) == [text_of(value)]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(0, 1, width=32))
def test_any_float32_has_the_text_of_python(lua: Lua, value: float) -> None:
    assert lua("single_text", value) == text_of(np.float32(value))


@given(st.text())
def test_any_text_is_normalised_as_python_does(lua: Lua, text: str) -> None:
    if all(unicodedata.category(c) != "Cn" for c in text):  # not assigned to Python's Unicode, but to a newer one perhaps
        assert bytes.fromhex(lua("nfc", text.encode().hex())).decode() == text_of(text)


@given(st.binary(max_size=12))
def test_only_utf8_is_text(lua: Lua, data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError:
        assert lua("nfc", data.hex()) == "none"
    else:
        assert lua("nfc", data.hex()) != "none"


@given(st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{0,7})?[ \t]*", fullmatch=True))
def test_any_numbers_text_has_the_value_of_python(lua: Lua, text: str) -> None:
    try:
        expected = number_of(text)
    except ValueError:
        assert number(lua, text) is None
    else:
        assert repr(number(lua, text)) == repr(expected) or math.isnan(expected)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,7})?", fullmatch=True))
def test_numbers_of_json_are_read_to_the_last_bit(lua: Lua, text: str) -> None:
    assert bytes.fromhex(lua("json_number", text)) == struct.pack("<d", float(text))


@given(st.text())
def test_strings_of_json_are_read_as_written(lua: Lua, text: str) -> None:
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        found, stop = lua("json_string", written.encode().hex())
        assert bytes.fromhex(found).decode() == text
        assert stop == len(written.encode())


def normal(lua: Lua, text: str, kind: str) -> str:
    return bytes.fromhex(lua("normal_text", text.encode().hex(), kind)).decode()


def test_normal_texts_of_the_table(lua: Lua) -> None:
    for case in TABLE["normal"]:
        if case["kind"] == "text" or not case["text"].isascii():  # text is only brought into NFC, before
            continue
        assert normal(lua, case["text"], case["kind"]) == case["normal"], case


@given(
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{0,25})?(e[+-][0-9]{1,3})?", fullmatch=True)
    | st.text(alphabet="TRUEtruefalse01.-e", max_size=6)
)
def test_any_number_and_boolean_is_written_as_in_training(lua: Lua, text: str) -> None:
    for kind in ("number", "boolean"):
        assert normal(lua, text, kind) == normal_text(text, kind)


def test_texts_are_written_as_the_column_had_them(lua: Lua) -> None:
    """In JSON, as strings or as values: what a CSV says is what training read there."""
    names = {"a": "number", "b": None, "c": "boolean"}
    signature = {
        "schemaVersion": 2, "task": "regression", "inputs": [{"name": "texts", "dtype": "BYTES", "shape": [-1, 3]}],
        "columns": [{"name": name, "dtype": "BYTES", "missing": True, "texts": kind} for name, kind in names.items()],
        "outputs": [{"name": "prediction", "dtype": "FP32", "shape": [-1, 1]}],
    }  # fmt: skip
    data = {"a": ["1.0", "2.50", 3.0, "x"], "b": ["1.0", "True", "", "y"], "c": ["True", "FALSE", True, ""]}
    inputs = [{"name": name, "shape": [4, 1], "datatype": "BYTES", "data": values} for name, values in data.items()]
    found = unpacked(lua("http", signature, 64, json.dumps({"inputs": inputs}).encode().hex(), None)["tensors"][0]["bytes"])
    assert [found[n::3] for n in range(3)] == [["1", "2.5", "3", "x"], data["b"], ["true", "false", "true", ""]]


def texts_of(lua: Lua, values: list[Any]) -> list[str]:
    """The texts that a text column of these JSON values is sent to Triton as."""
    signature = {
        "schemaVersion": 2, "task": "regression", "inputs": [{"name": "texts", "dtype": "BYTES", "shape": [-1, 1]}],
        "columns": [{"name": "a", "dtype": "BYTES", "missing": True, "above": None}],
        "outputs": [{"name": "prediction", "dtype": "FP32", "shape": [-1, 1]}], "classes": None,
    }  # fmt: skip
    body = {"inputs": [{"name": "a", "shape": [len(values), 1], "datatype": "BYTES", "data": values}]}
    return unpacked(lua("http", signature, 64, json.dumps(body).encode().hex(), None)["tensors"][0]["bytes"])


def unpacked(digits: str) -> list[str]:
    """The texts of a BYTES tensor."""
    data, texts = bytes.fromhex(digits), []
    while data:
        length = int.from_bytes(data[:4], "little")
        texts.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return texts


def test_whole_numbers_in_a_text_column_keep_all_their_digits(lua: Lua) -> None:
    assert texts_of(lua, [9007199254740993, -(10**30), 1.0, -0.0, True, None]) == [
        "9007199254740993", "-1" + "0" * 30, "1", "0", "true", "",
    ]  # fmt: skip
    with pytest.raises(Refused, match='row 1: column "a" is beyond the largest number'):
        lua("http", {
            "inputs": [{"name": "texts", "dtype": "BYTES", "shape": [-1, 1]}],
            "columns": [{"name": "a", "dtype": "BYTES", "missing": True}], "outputs": [],
        }, 64, b'{"inputs":[{"name":"a","shape":[1],"datatype":"BYTES","data":[1e999]}]}'.hex(), None)  # fmt: skip

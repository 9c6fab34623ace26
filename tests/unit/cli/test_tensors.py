"""Rows of a file become exactly the tensors that the model's metadata asks for; what does not fit is named by column and row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelship_operator.cli.rows import InputError, read_rows
from modelship_operator.cli.tensors import TensorSpec, batches, check_finite, spec_of, table, to_arrays
from modelship_trainer.csv_rows import Dialect

pytestmark = pytest.mark.unit

AGE = TensorSpec("age", "FP32", (1,))
PLAN = TensorSpec("plan", "BYTES", (1,))
COUNT = TensorSpec("count", "INT64", (1,))
IMAGE = TensorSpec("input", "FP32", (1, 2, 2))


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("r.csv", "age,plan\n41,basic\n7,pro\n", [{"age": "41", "plan": "basic"}, {"age": "7", "plan": "pro"}]),
        ("r.csv", "\ufeffage\n1\n", [{"age": "1"}]),
        ("r.csv", 'plan\n"a,b"\n', [{"plan": "a,b"}]),
        ("r.csv", 'plan\n"was\ngood"\n', [{"plan": "was\ngood"}]),
        ("r.csv", "plan\na\u2028b\n\x85\nc\x0cd\n", [{"plan": "a\u2028b"}, {"plan": "\x85"}, {"plan": "c\x0cd"}]),
        ("r.csv", "plan\n" + "x" * 200_000 + "\n", [{"plan": "x" * 200_000}]),
        ("r.csv", "cafe\u0301\n1\n", [{"caf\xe9": "1"}]),
        ("r.jsonl", '{"plan": "a\u2028b"}\n{"plan": "\x85"}\r\n', [{"plan": "a\u2028b"}, {"plan": "\x85"}]),
        ("r.jsonl", '{"cafe\u0301": 1}', [{"caf\xe9": 1}]),
        ("r.json", '[{"age": 41}]', [{"age": 41}]),
        ("r.json", '{"age": 41}', [{"age": 41}]),
        ("r.jsonl", '{"age": 1}\n\n{"age": 2}\n', [{"age": 1}, {"age": 2}]),
    ],
    ids=[
        *("csv", "byte order mark", "quoted comma", "quoted newline", "other breaks are none", "long cell", "decomposed name"),
        *("json lines end with line feeds", "decomposed key", "json list", "json object", "json lines"),
    ],
)
def test_files_are_read(tmp_path: Path, name: str, text: str, rows: list[dict[str, object]]) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert read_rows(path) == rows


def test_other_separators_and_encodings(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes("alter;plan\n41;großzügig\n".encode("latin-1"))
    assert read_rows(path, Dialect(separator=";", encoding="latin-1")) == [{"alter": "41", "plan": "großzügig"}]
    with pytest.raises(InputError, match="save it as UTF-8, or set --encoding"):
        read_rows(path, Dialect(separator=";"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.csv", b"", "no line; the first must name the columns"),
        ("r.csv", b"age\n", "no rows"),
        ("r.csv", b"a,a\n1,2\n", "column a is named more than once"),
        ("r.csv", "\xe9,e\u0301\n1,2\n".encode(), "column \xe9 is named more than once"),
        ("r.csv", b"a,b\n1,2\n1\n", "line 3 has 1 cell, and the header has 2"),
        ("r.csv", b"a,b\n1,2,3\n", "line 2 has 3 cells, and the header has 2"),
        ("r.csv", b'a,b\n"1,2\n3,4\n', "line 2 opens a quote that is not closed"),
        ("r.csv", b"a;b\n1,5;2\n", "or set --separator"),
        ("r.csv", b"\xff\xfe\x00", "not UTF-8"),
        ("r.json", b"\xff", "not UTF-8"),
        ("r.json", b"[" * 100_000, "nested too deeply"),
        ("r.jsonl", b'{"a": NaN}', "line 1: not JSON: NaN is no JSON; write null where a number is missing"),
        ("r.jsonl", b'{"a": ' + b"1" * 5000 + b"}", "line 1: not JSON: Exceeds the limit"),
        ("r.jsonl", '{"\xe9": 1, "e\u0301": 2}'.encode(), "row 1: column \xe9 is named more than once"),
        ("r.json", b"[1]", "list of objects"),
        ("r.json", b"{", "not JSON"),
        ("r.jsonl", b'{"a": 1}\n{', "not JSON"),
    ],
)
def test_files_that_hold_no_rows_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_rows(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: No such file"):
        read_rows(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        (AGE, "41", [41.0]),
        (AGE, 41, [41.0]),
        (AGE, " 4.5 ", [4.5]),
        (AGE, "", [np.nan]),
        (AGE, None, [np.nan]),
        (COUNT, "7", [7]),
        (PLAN, "basic", ["basic"]),
        (PLAN, 3, ["3"]),
        (PLAN, 3.0, ["3"]),
        (PLAN, 0.1, ["0.1"]),
        (PLAN, 200000000.0, ["200000000"]),
        (PLAN, True, ["true"]),
        (PLAN, "True", ["True"]),
        (PLAN, "cafe\u0301", ["caf\xe9"]),
        (AGE, "True", [1.0]),
        (AGE, False, [0.0]),
        (AGE, "1e-3", [0.001]),
        (AGE, "-0", [-0.0]),
        (PLAN, None, [""]),
        (IMAGE, [[[1, 2], [3, 4]]], [[[1, 2], [3, 4]]]),
        (IMAGE, [1, 2, 3, 4], [[[1, 2], [3, 4]]]),
        (IMAGE, "[1, 2, 3, 4]", [[[1, 2], [3, 4]]]),
        (TensorSpec("t", "FP32", (-1,)), [1, 2, 3], [1, 2, 3]),
    ],
)
def test_a_value_becomes_a_tensor(spec: TensorSpec, value: object, expected: object) -> None:
    array = to_arrays([{spec.name: value, "more": 1}], [spec])[spec.name]
    assert array.shape[0] == 1
    np.testing.assert_array_equal(array[0], np.array(expected, dtype=array.dtype))


def test_dtypes_are_those_of_the_metadata() -> None:
    arrays = to_arrays([{"age": 1, "plan": "a", "count": 2}], [AGE, PLAN, COUNT])
    assert {name: array.dtype for name, array in arrays.items()} == {"age": np.float32, "plan": np.object_, "count": np.int64}


@pytest.mark.parametrize(
    ("rows", "spec", "message"),
    [
        ([{"age": 1}, {"agee": 1}], AGE, 'row 2: column "age" is missing; the model takes age; the row has agee'),
        ([{"age": 1}, {"age": "abc"}], AGE, 'row 2: column "age" is "abc", not a number'),
        ([{"age": 1}, {"age": "12abc"}], AGE, 'row 2: column "age" is "12abc", not a number'),
        ([{"age": "1,5"}], AGE, 'row 1: column "age" is "1,5", not a number'),
        ([{"age": "nan"}], AGE, 'row 1: column "age" is "nan", not a number'),
        ([{"age": "1_000"}], AGE, 'row 1: column "age" is "1_000", not a number'),
        ([{"age": 1}, {"age": 1e39}], AGE, 'row 2: column "age" is 1e+39, beyond what FP32 can hold'),
        ([{"age": "1e39"}], AGE, 'row 1: column "age" is "1e39", beyond what FP32 can hold'),
        ([{"age": 10**400}], AGE, 'row 1: column "age" is 1000'),
        ([{"age": "True"}, {"age": "2"}], AGE, 'row 1: column "age" is "True", not a number'),
        ([{"plan": "a"}, {"plan": "\ud800"}], PLAN, 'row 2: column "plan" is "\\ud800", which is no text that can be sent'),
        ([{"plan": {"a": 1}}], PLAN, 'row 1: column "plan" is {"a": 1}, which is no text that can be sent'),
        ([{"count": "1.5"}], COUNT, 'row 1: column "count" is "1.5", not a whole number'),
        ([{"count": 1.5}], COUNT, 'row 1: column "count" is 1.5, not a whole number'),
        ([{"count": ""}], COUNT, 'row 1: column "count" is empty; it must be a whole number'),
        ([{"input": [1, 2, 3]}], IMAGE, 'row 1: column "input" has the shape 3; the model takes 1x2x2'),
        ([{"input": 1}], IMAGE, "has the shape of one number; the model takes 1x2x2"),
        ([{"input": "cat.png"}], IMAGE, "must be a list of numbers in JSON"),
        ([{"input": [[1, 2], [3]]}], IMAGE, "not an array of 1x2x2 numbers"),
        ([{"age": [1, 2]}], AGE, "has the shape 2; the model takes 1"),
    ],
)
def test_a_value_that_does_not_fit_is_named(rows: list[dict[str, object]], spec: TensorSpec, message: str) -> None:
    with pytest.raises(InputError) as refused:
        to_arrays(rows, [spec])
    assert message in str(refused.value)


def test_many_rows_go_in_several_requests() -> None:
    parts = list(batches(to_arrays([{"age": n} for n in range(5)], [AGE]), 2))
    assert [part["age"].ravel().tolist() for part in parts] == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("shape", [[-1, 1], ["-1", "1"]])
def test_metadata_of_both_protocols(shape: list[object]) -> None:
    assert spec_of({"name": "age", "datatype": "FP32", "shape": shape}) == AGE


def test_a_classifier_answers_label_and_probability() -> None:
    outputs = {
        "probabilities": np.array([[0.25, 0.75], [0.9, 0.1]], np.float32),
        "label": np.array([[b"yes"], [b"no"]], np.object_),
    }
    assert table(outputs).splitlines() == ["row  label  probability", "1    yes    0.7500", "2    no     0.9000"]


def test_a_regression_answers_values() -> None:
    assert table({"prediction": np.array([[1.5], [-2]], np.float32)}).splitlines() == ["row  prediction", "1    1.5", "2    -2"]


@pytest.mark.parametrize("name", ["probabilities", "prediction"])
def test_an_answer_that_is_no_number_is_none(name: str) -> None:
    """The first class is the label then, which nothing said."""
    arrays = {"age": np.array([[1.0], [np.nan]], np.float32), "plan": np.array([["a"], ["b"]], object)}
    outputs = {name: np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32), "label": np.array([[b"DENY"], [b"DENY"]], object)}
    with pytest.raises(InputError, match=f"row 2: the model's {name} is not finite, .* it has no value for age; fill it in"):
        check_finite(outputs, arrays)
    check_finite({key: value[:1] for key, value in outputs.items()}, arrays)

"""Values and labels: what the file says, the same in every format, and refused where a model's float32 cannot carry it."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from modelship_trainer.data.dataset import Dataset
from modelship_trainer.data.fit import distinct
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import prepare
from modelship_trainer.data.preprocessing import Column, Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.recipe import Data, Recipe, Task

pytestmark = pytest.mark.unit

FORMATS = ("csv", "parquet", "jsonl")
CATEGORY = [{"cast": {"columns": ["x"], "to": "category"}}]
CLASSES, VALUES = Task.CLASSIFICATION, Task.REGRESSION


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELSHIP_PVC_ROOT", str(tmp_path))
    (tmp_path / "d").mkdir()
    return tmp_path / "d"


def put(claim: Path, ending: str, columns: dict[str, list[Any]]) -> Data:
    """A file of these values in a format, as its usual writers make it; its target is `y`."""
    path = claim / f"t.{ending}"
    if ending == "parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    elif ending == "csv":
        pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()}).to_csv(path, index=False)
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    return Data(source=f"pvc://d/t.{ending}", target="y")


def read(data: Data, task: Task = CLASSES, fitted: Fitted | None = None, **fields: Any) -> Dataset:
    return load(Data.model_validate(data.to_json() | fields), task=task, fitted=fitted)


# --- labels -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "labels"),
    [
        (["01", "1", "10"], ["01", "1", "10"]),
        (["1E2", "100", "7"], ["1E2", "100", "7"]),
        (["True", "1", "0"], ["True", "1", "0"]),
        (["1", "2", "10"], [1, 2, 10]),
        (["1.0", "2.0", "-3.0"], [1, 2, -3]),
        (["1.0", "1", "2"], ["1.0", "1", "2"]),
        (["9007199254740993", "9007199254740992"], [9007199254740993, 9007199254740992]),
        (["True", "False"], ["true", "false"]),
        (["no", "NA", "nan"], ["no", "NA", "nan"]),
        (["e\u0301", "é2", "b"], ["é", "é2", "b"]),
    ],
)
def test_labels_of_a_csv_never_merge(claim: Path, written: list[str], labels: list[Any]) -> None:
    (claim / "t.csv").write_text("x,y\n" + "".join(f"1,{label}\n" for label in written))
    assert read(Data(source="pvc://d/t.csv", target="y")).target.tolist() == labels


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    "labels",
    [[True, False, True], [1, 2, 10], ["gold", "é", "x y"], ["01", "1", "10"]],
    ids=["booleans", "numbers", "text", "codes"],
)
def test_labels_are_the_same_in_each_format(claim: Path, ending: str, labels: list[Any]) -> None:
    found = read(put(claim, ending, {"x": [1, 2, 3], "y": labels})).target.tolist()
    assert found == [{True: "true", False: "false"}[label] if isinstance(label, bool) else label for label in labels]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(("type_", "found"), [("text", ["1", "2", "10"]), ("number", [1, 2, 10]), ("category", ["1", "2", "10"])])
def test_the_target_can_be_declared(claim: Path, ending: str, type_: str, found: list[Any]) -> None:
    data = put(claim, ending, {"x": [1, 2, 3], "y": [1, 2, 10]})
    assert read(data, types={"y": type_}).target.tolist() == found


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("classes", [[1, 2], ["1", "2"], ["false", "true"]], ids=str)
def test_labels_of_other_data_are_those_of_the_model(claim: Path, ending: str, classes: list[Any]) -> None:
    fitted = Fitted(columns=[Column(name="x", type="number", steps=[])], target=Target(task=CLASSES, classes=classes))
    labels = [True, False] if "true" in classes else [1, 2]
    data = put(claim, ending, {"x": [1, 2], "y": labels})
    assert set(read(data, fitted=fitted).target.tolist()) == set(classes)


def test_text_beside_numbers_is_told_with_the_cure(claim: Path) -> None:
    data = put(claim, "jsonl", {"x": [1, 2], "y": [1, "1"]})
    with pytest.raises(UserError, match=r"read them as text with data.types: \{y: text\}\.$"):
        read(data)
    assert read(data, types={"y": "text"}).target.tolist() == ["1", "1"]


def test_a_declared_number_that_is_none(claim: Path) -> None:
    data = put(claim, "csv", {"x": [1, 2], "y": ["1", "two"]})
    with pytest.raises(UserError, match=r'^target "y" has "two", and data.types says that it is numbers; correct it, or read'):
        read(data, types={"y": "number"})


def test_a_text_target_is_no_regression(claim: Path) -> None:
    with pytest.raises(UserError, match=r'^data.types says that target "y" is text, and training.task regression needs numbers'):
        read(put(claim, "csv", {"x": [1, 2], "y": [1, 2]}), VALUES, types={"y": "text"})


def test_types_of_columns_that_are_not_there(claim: Path) -> None:
    with pytest.raises(UserError, match=r'^data.types names "z", which is no column of .* that is read; columns: x, y\.$'):
        read(put(claim, "csv", {"x": [1, 2], "y": [1, 2]}), types={"z": "text"})


# --- categories ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(
    ("values", "categories"),
    [
        ([0.3, 1.0, 200000000.0, None], ["0.3", "1", "200000000", ""]),
        ([1, 2, 2**53 + 1, None], ["1", "2", "9007199254740993", ""]),
        ([True, False, None], ["true", "false", ""]),
        (["a", "é", "e\u0301", None], ["a", "é", "é", ""]),
        (["01", "1", "10"], ["01", "1", "10"]),
    ],
    ids=["floats", "integers", "booleans", "text", "codes"],
)
def test_categories_are_the_same_in_each_format(claim: Path, ending: str, values: list[Any], categories: list[str]) -> None:
    data = put(claim, ending, {"x": values, "y": [0, 1, 0, 1][: len(values)]})
    assert read(data, preprocessing=CATEGORY).features["x"].tolist() == categories


def test_a_float32_of_parquet_is_the_number_that_was_written(claim: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"x": pa.array([0.3, 1e-5, 7], pa.float32()), "y": [0, 1, 0]}), claim / "t.parquet")
    data = Data(source="pvc://d/t.parquet", target="y")
    assert read(data, preprocessing=CATEGORY).features["x"].tolist() == ["0.3", "1e-05", "7"]


@pytest.mark.parametrize("step", ["oneHot", "ordinal"])
def test_codes_that_are_encoded_keep_their_zeros(claim: Path, step: str) -> None:
    (claim / "t.csv").write_text("x,z,y\n01234,1.0,a\n1234,2.0,b\n")
    dataset = read(Data(source="pvc://d/t.csv", target="y"), preprocessing=[{step: {"columns": ["x", "z"]}}])
    assert dataset.features["x"].tolist() == ["01234", "1234"]
    assert dataset.features["z"].tolist() == [1, 2]


@pytest.mark.parametrize("ending", FORMATS)
def test_encoded_numbers_that_float32_merges_are_text(claim: Path, ending: str) -> None:
    data = put(claim, ending, {"x": [16777216, 16777217], "y": [0, 1]})
    dataset = read(data, preprocessing=[{"oneHot": {"columns": ["x"]}}])
    assert dataset.features["x"].tolist() == ["16777216", "16777217"]
    assert dataset.kinds == {"x": "number"}


def test_a_models_categories_are_found_however_they_are_written(claim: Path) -> None:
    (claim / "t.csv").write_text("x,z,b,y\n1.0,1.0,True,0\n2,01,false,1\n")
    columns = [
        Column(name=name, type="text", texts=kind, steps=[]) for name, kind in (("x", "number"), ("z", "text"), ("b", "boolean"))
    ]
    fitted = Fitted(columns=columns, target=Target(task=CLASSES, classes=[0, 1]))
    features = read(Data(source="pvc://d/t.csv", target="y"), fitted=fitted).features
    assert features.to_dict("list") == {"x": ["1", "2"], "z": ["1.0", "01"], "b": ["true", "false"]}


@pytest.mark.parametrize(("type_", "found"), [("text", ["1.0", "02"]), ("category", ["1.0", "02"]), ("number", [1, 2])])
def test_features_can_be_declared(claim: Path, type_: str, found: list[Any]) -> None:
    (claim / "t.csv").write_text("x,y\n1.0,a\n02,b\n")
    assert read(Data(source="pvc://d/t.csv", target="y"), types={"x": type_}).features["x"].tolist() == found


def test_bytes_are_utf8(claim: Path) -> None:
    table = pa.table({"x": pa.array([b"gold", b"caf\xc3\xa9"]), "y": pa.array([b"a", b"b"])})
    pyarrow.parquet.write_table(table, claim / "t.parquet")
    dataset = read(Data(source="pvc://d/t.parquet", target="y"))
    assert dataset.features["x"].tolist() == ["gold", "café"]
    assert dataset.target.tolist() == ["a", "b"]
    np.savez(claim / "a.npz", x=np.ones((2, 1)), y=np.array([b"cat", b"dog"]))
    assert read(Data(source="pvc://d/a.npz")).target.tolist() == ["cat", "dog"]
    pyarrow.parquet.write_table(table.set_column(0, "x", pa.array([b"gold", b"\xe9"])), claim / "t.parquet")
    with pytest.raises(UserError, match=r"^column \"x\" of .* has b'\\xe9' in row 2, which is not UTF-8 text; decode it"):
        read(Data(source="pvc://d/t.parquet", target="y"))


def test_dates_and_times_are_written_as_in_a_csv(claim: Path) -> None:
    dates = [datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)]
    times = [datetime.datetime(2024, 1, 31, 10, 30, tzinfo=None), datetime.datetime(2024, 2, 1, 0, 0, 1, tzinfo=None)]  # noqa: DTZ001
    texts = {"x": ["2024-01-31", "2024-02-01"], "z": ["2024-01-31 10:30:00", "2024-02-01 00:00:01"]}
    money = [decimal.Decimal("1.50"), decimal.Decimal("2.00")]
    steps = [{"cast": {"columns": ["m"], "to": "category"}}]
    for ending in ("csv", "parquet"):
        dataset = read(put(claim, ending, {"x": dates, "z": times, "m": money, "y": [0, 1]}), preprocessing=steps)
        assert {name: dataset.features[name].tolist() for name in "xz"} == texts
        assert dataset.features["m"].tolist() == (["1.5", "2"])


# --- what float32 cannot carry ------------------------------------------------------------------------------------------------

LATE = [1_700_000_000 + second for second in range(60)]


@pytest.mark.parametrize("ending", FORMATS)
def test_a_target_that_float32_makes_one_is_refused(claim: Path, ending: str) -> None:
    data = put(claim, ending, {"x": list(range(60)), "y": LATE})
    with pytest.raises(
        UserError, match=r'^target "y" has values near 17000000\d\d.* that differ by about 17, .* subtract an offset'
    ):
        read(data, VALUES)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_feature_that_float32_makes_one_is_refused(claim: Path, ending: str) -> None:
    data = put(claim, ending, {"x": LATE, "y": [0, 1] * 30})
    with pytest.raises(
        UserError, match=r'^column "x" of .* has values near 17000000.* subtract an offset .*, or leave it out of data'
    ):
        read(data)
    assert read(data, preprocessing=CATEGORY).features["x"].nunique() == 60
    fitted = Fitted(columns=[Column(name="x", type="number", steps=[])], target=Target(task=CLASSES, classes=[0, 1]))
    assert read(data, fitted=fitted).rows == 60  # what a model takes cannot be changed


@pytest.mark.parametrize(
    "values",
    [
        [0.1] * 60,
        [0.1 + 0.2, 0.3] * 30,
        list(np.random.default_rng(0).normal(size=60)),
        [1e30, -1e-30] * 30,
        list(np.linspace(1.6e9, 1.7e9, 60)),
        [0.0] * 59 + [1e9],
    ],
)
def test_other_values_are_taken(claim: Path, values: list[float]) -> None:
    assert read(put(claim, "csv", {"x": values, "y": [0, 1] * 30})).rows == 60


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_are_compared_as_they_were_read(claim: Path, ending: str) -> None:
    """Spread over a year, so that the column is taken; its seconds are gone in float32."""
    times = [1_700_000_000 + second for second in range(200)] + [1_700_000_000 + 86_400 * day for day in range(1, 201)]
    data = put(claim, ending, {"x": times, "y": [0, 1] * 200})
    dataset = read(data, preprocessing=[{"dropDuplicates": {}}])
    left = distinct(dataset, Data.model_validate(data.to_json() | {"preprocessing": [{"dropDuplicates": {}}]}).preprocessing)
    assert left.rows == 400
    assert left.raw is None


@pytest.mark.parametrize(
    ("ending", "values", "message"),
    [
        (
            "csv",
            [1, "1e300", 2, "-1e39"],
            'column "x" of .* has 1e\\+300 in row 2, and in 1 more of 4 rows, beyond 3.4e\\+38, the largest',
        ),
        ("parquet", [1.0, 2.0, float("inf"), 1.0], 'column "x" of .* is infinite in row 3; write a number, or nothing where'),
        (
            "parquet",
            [1.0, 1e300, 2.0, 1.0],
            'column "x" of .* has 1e\\+300 in row 2, beyond 3.4e\\+38, the largest that a model takes',
        ),
    ],
)
def test_numbers_beyond_float32_are_told(claim: Path, ending: str, values: list[Any], message: str) -> None:
    data = put(claim, ending, {"x": values, "y": [0, 1, 0, 1]})
    with pytest.raises(UserError, match=f"^{message}") as caught:
        read(data)
    assert caught.value.message.endswith(", or leave it out of data.features.")
    fitted = Fitted(columns=[Column(name="x", type="number", steps=[])], target=Target(task=CLASSES, classes=[0, 1]))
    with pytest.raises(UserError, match=f"^{message}") as caught:
        read(data, fitted=fitted)
    assert "data.features" not in caught.value.message  # an evaluation has no such field


def test_arrays_that_float32_cannot_carry_are_told(claim: Path) -> None:
    data = Data(source="pvc://d/a.npz")
    np.savez(claim / "a.npz", x=np.array([[1.0, 1e300], [1.0, 2.0]]), y=[0, 1])
    with pytest.raises(
        UserError, match=r'^array "x" of .* has numbers beyond 3.4e\+38, the largest that a model takes, in 1 of 2 rows'
    ):
        read(data)
    np.savez(claim / "a.npz", x=np.array([np.arange(60), LATE]).T, y=[0, 1] * 30)
    with pytest.raises(
        UserError, match=r'^column 1 \(from 0\) of array "x" of .* has values that 32-bit floats cannot tell apart; '
    ):
        read(data)


# --- malformed files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x,y\n1,0\n2\n", r"pvc://d/t.csv is not readable as csv: line 3 has 1 cell, and the header has 2; .*\."),
        (
            b"x;y\n1;0\n2;1\n",
            r'column "y" is not in pvc://d/t.csv; its header is the one column "x;y": cells .* data.csv.separator\.',
        ),
        (b"x,y\n\xe9,0\n", r".* it is not UTF-8 text, and has the byte 0xe9; save it as UTF-8, or set data.csv.encoding, .*\."),
        (
            b"x,y\n1,0\n2,",
            r'target "y" is missing in 1 of 2 rows of pvc://d/t.csv, row 2 \(the last: was the file cut\?\); fill .*',
        ),
    ],
)
def test_a_file_that_is_no_table(claim: Path, content: bytes, message: str) -> None:
    (claim / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=f"^{message}$"):
        read(Data(source="pvc://d/t.csv", target="y"))


def test_a_csv_as_declared(claim: Path) -> None:
    (claim / "t.csv").write_bytes("größe|n|y\n'a|b'|1,5|ja\nÄ|2|nein\n".encode("latin-1"))
    options = {"separator": "|", "decimal": ",", "quote": "'", "encoding": "latin-1"}
    dataset = read(Data(source="pvc://d/t.csv", target="y"), csv=options)
    assert dataset.features.to_dict("list") == {"größe": ["a|b", "Ä"], "n": [1.5, 2]}
    assert dataset.target.tolist() == ["ja", "nein"]


# --- messages -----------------------------------------------------------------------------------------------------------------


def told(data: Data, **fields: Any) -> str:
    """What a training of all rows says of them."""
    recipe = Recipe.model_validate(
        {"data": data.to_json() | fields, "model": {"linear": {}}, "training": {"task": "classification", "epochs": 1}}
    )
    with pytest.raises(UserError) as caught:  # noqa: PT012 - either may say it
        dataset = load(recipe.data, task=CLASSES)
        prepare(recipe, dataset, np.arange(dataset.rows), np.empty(0, dtype=np.int64))
    return caught.value.message


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_one_cell_that_is_no_number_is_named(claim: Path, ending: str) -> None:
    """Advice to encode the column would be taken, and train wrongly."""
    data = put(claim, ending, {"x": [str(row) if row != 7 else "n/a?" for row in range(150)], "y": [0, 1] * 75})
    one = 'numbers in all but 1 of 150 rows: "n/a?" in row 8; correct it'
    assert told(data) == f'column "x" of pvc://d/t.{ending} has {one}, or leave the cell empty and impute.'
    assert told(data, preprocessing=[{"normalize": {"columns": ["x"]}}]) == (
        f'data.preprocessing[0].normalize: column "x" of pvc://d/t.{ending} has {one}, or leave the cell empty and impute.'
    )
    assert f'column "x" of pvc://d/t.{ending} must be numbers, and has {one} (a missing' in told(data, types={"x": "number"})
    fitted = Fitted(columns=[Column(name="x", type="number", steps=[])], target=Target(task=CLASSES, classes=[0, 1]))
    with pytest.raises(UserError) as caught:
        read(data, fitted=fitted)
    assert caught.value.message.endswith(f"{one} (a missing value is an empty cell).")


def test_a_target_that_is_cast_is_told_what_does_that(claim: Path) -> None:
    data = put(claim, "csv", {"x": [1, 2], "y": [1, 2]})
    assert told(data, preprocessing=[{"cast": {"columns": ["y"], "to": "category"}}]) == (
        'data.preprocessing[0].cast: "y" is the target, which no step changes; what its labels are is said by data.types: '
        "{y: text} or number."
    )


def test_an_infinite_target_is_counted(claim: Path) -> None:
    data = put(claim, "parquet", {"x": [1, 2, 3], "y": [1.0, float("inf"), float("-inf")]})
    with pytest.raises(UserError, match=r'^target "y" is infinite in 2 of 3 rows, the first row 2; remove these rows\.$'):
        read(data, VALUES)

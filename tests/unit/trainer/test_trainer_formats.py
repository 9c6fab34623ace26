"""One table in each format: the same labels, categories and features, and the same score of one model."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelship_trainer.data.dataset import Dataset
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import encode, prepare
from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.run import run_score
from modelship_trainer.protocol import EvaluateTask, RunRef, TrainTask
from modelship_trainer.recipe import Data, Recipe, Task
from modelship_trainer.run import train
from modelship_trainer.values import text_of

pytestmark = pytest.mark.unit

FORMATS = ("csv", "parquet", "jsonl")
Columns = dict[str, list[Any]]


def write(folder: Path, columns: Columns) -> None:
    """`t.csv`, `t.parquet` and `t.jsonl`, as their usual writers make them; a CSV has booleans in Python's spelling."""
    pyarrow.parquet.write_table(pa.table(columns), folder / "t.parquet")
    rows = list(zip(*columns.values(), strict=True))
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([[str(cell) if isinstance(cell, bool) else _plain(cell) for cell in row] for row in rows])
    with (folder / "t.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            cells = [text_of(cell) if isinstance(cell, datetime.date) else cell for cell in row]
            file.write(json.dumps(dict(zip(columns, cells, strict=True)), ensure_ascii=False) + "\n")


def _plain(cell: Any) -> str:
    """Floats as pandas writes them: `1.0`, `1e-05`."""
    return repr(cell) if isinstance(cell, float) else text_of(cell)


def data(folder: Path, ending: str, **fields: Any) -> Data:
    return Data.model_validate({"source": f"file://{folder}/t.{ending}", "target": "y"} | fields)


# --- what is read -------------------------------------------------------------------------------------------------------------

FLOATS = st.floats(-1e6, 1e6, width=32).map(lambda value: value + 0.0)
WHOLE = st.integers(-1000, 1000).map(float)
INTEGERS = st.one_of(st.integers(-(2**40), 2**40), st.integers(2**53, 2**53 + 3))
BOOLEANS = st.booleans()
LETTERS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t\u2028\x85\x0c"), max_size=5).map(
    "x".__add__
)
CODES = st.sampled_from(["01", "1", "10", "007", "1E2", "-0", "+1"])
DATES = st.dates(datetime.date(1970, 1, 1), datetime.date(2100, 1, 1))
TIMES = st.datetimes(datetime.datetime.fromisoformat("1970-01-01"), datetime.datetime.fromisoformat("2100-01-01"))


def column(rows: int, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Values of one kind, some of them missing."""
    return st.one_of(*(st.lists(st.one_of(value, st.none()), min_size=rows, max_size=rows) for value in values))


@st.composite
def tables(draw: st.DrawFn) -> Columns:
    rows = draw(st.integers(2, 6))
    labels = draw(st.sampled_from([BOOLEANS, st.integers(-5, 5), st.integers(2**53, 2**53 + 3), LETTERS]))
    return {
        "any": draw(column(rows, FLOATS, WHOLE, BOOLEANS, LETTERS, DATES, TIMES)),
        "category": draw(column(rows, FLOATS, WHOLE, INTEGERS, BOOLEANS, LETTERS, CODES, DATES, TIMES)),
        "encoded": draw(column(rows, WHOLE, INTEGERS, BOOLEANS, LETTERS)),
        "é": draw(column(rows, WHOLE, LETTERS, CODES)),
        "y": draw(st.lists(labels, min_size=rows, max_size=rows)),
    }


STEPS = [{"cast": {"columns": ["category"], "to": "category"}}, {"oneHot": {"columns": ["encoded"]}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(columns=tables())
def test_values_are_the_same_in_each_format(folder: Path, columns: Columns) -> None:
    write(folder, columns)
    found = [_read(data(folder, ending, preprocessing=STEPS, types={"é": "category"})) for ending in FORMATS]
    assert found[0] == found[1]
    assert found[0] == found[2]


def _read(what: Data) -> Any:
    """All that was read, or what was told; NaN as text, since it is not equal to itself."""
    try:
        dataset = load(what, task=Task.CLASSIFICATION)
    except UserError as error:
        return error.message.replace(what.source, "the file")
    features = {name: [str(cell) for cell in dataset.features[name]] for name in dataset.features}
    types = {name: str(dataset.features[name].dtype) for name in dataset.features}
    return features, types, dict(dataset.kinds), dataset.target.tolist()


# --- what a model makes of it -------------------------------------------------------------------------------------------------

ROWS = 60
RNG = np.random.default_rng(3)
TABLE: Columns = {
    "n": [None if row % 9 == 0 else float(np.float32(value)) for row, value in enumerate(RNG.normal(size=ROWS))],
    "price": [[0.3, 1.0, 200000000.0][row % 3] for row in range(ROWS)],
    "member": [row % 3 == 0 for row in range(ROWS)],
    "code": [["01", "1", "10"][row % 3] for row in range(ROWS)],
    "day": [datetime.date(2024, 1, 1 + row % 2) for row in range(ROWS)],
    "note": [["was\ngood", "e\u0301, ok", 'say "no"'][row % 3] for row in range(ROWS)],
    "id": [2**53 + row % 3 for row in range(ROWS)],
    "y": [["01", "1", "10"][row % 3] for row in range(ROWS)],
}
RECIPE: dict[str, Any] = {
    "model": {"linear": {}},
    "training": {"task": "classification", "epochs": 40, "optimizer": {"adam": {"learningRate": 0.1}}},
}
MODEL_STEPS: list[Any] = [
    {"cast": {"columns": ["price", "member"], "to": "category"}},
    {"impute": {"columns": ["n"]}},
    {"oneHot": {"columns": ["price", "member", "code", "day", "note", "id"]}},
]


@pytest.fixture(scope="module")
def other(folder: Path) -> Path:
    """The same rows but one, in each format: other data than that of the training."""
    path = folder / "other"
    path.mkdir(exist_ok=True)
    write(path, {name: values[1:] for name, values in TABLE.items()})
    return path


@pytest.mark.parametrize("trained", ["csv", "parquet"])
def test_a_model_of_one_format_scores_the_others_alike(tmp_path: Path, folder: Path, other: Path, trained: str) -> None:
    own = tmp_path / "own"
    own.mkdir()
    write(own, TABLE)
    recipe = RECIPE | {"data": data(own, trained, preprocessing=MODEL_STEPS).to_json()}
    run = RunRef(kind="ModelTraining", namespace="default", name="run", uid="1")
    store = f"file://{tmp_path}/store"
    task = TrainTask.model_validate({"run": run, "recipe": recipe, "store": store})
    artifact = train(task, should_stop=lambda: False, report=lambda progress: None).artifact
    for ending in FORMATS:
        asked = {
            "run": run.model_copy(update={"kind": "ModelEvaluation"}),
            "artifact": artifact,
            "method": {"holdout": {}},
            "metrics": ["accuracy"],
            "gates": [],
            "store": f"file://{tmp_path}/{ending}",
            "source": f"file://{other}/t.{ending}",
        }
        result = run_score(EvaluateTask.model_validate(asked), lambda progress: None)
        assert [(one.metric, one.test) for one in result.results] == [("accuracy", 1.0)], ending


@pytest.mark.parametrize("trained", FORMATS)
def test_features_of_a_model_are_the_same_bytes_in_each_format(tmp_path: Path, other: Path, trained: str) -> None:
    write(tmp_path, TABLE)
    recipe = Recipe.model_validate(RECIPE | {"data": data(tmp_path, trained, preprocessing=MODEL_STEPS).to_json()})
    dataset = load(recipe.data, task=Task.CLASSIFICATION)
    prepared = prepare(recipe, dataset, np.arange(0, ROWS, 2), np.empty(0, dtype=np.int64))
    fitted = prepared.fitted.model_copy(update={"target": prepared.target})

    def encoded(rows: Dataset) -> Any:
        return encode(rows, np.arange(rows.rows), fitted, prepared.target)

    wanted = encoded(dataset)
    for ending in FORMATS:
        found = encoded(load(data(other, ending), task=Task.CLASSIFICATION, fitted=fitted))
        np.testing.assert_array_equal(found.x, wanted.x[1:])
        np.testing.assert_array_equal(found.y, wanted.y[1:])


def test_arrays_have_the_labels_of_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((4, 2)), y=np.array([b"gold", "é".encode(), b"x", b"gold"]))
    write(tmp_path, {"x": [1.0] * 4, "y": ["gold", "é", "x", "gold"]})
    arrays = load(Data(source=f"file://{tmp_path}/a.npz"), task=Task.CLASSIFICATION)
    assert arrays.target.tolist() == load(data(tmp_path, "csv"), task=Task.CLASSIFICATION).target.tolist()

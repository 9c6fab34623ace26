"""Loading: every way in which a source can be wrong, and what comes out when it is right."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modelship_trainer.data import load as load_module
from modelship_trainer.data.dataset import Dataset, Kind
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import prepare
from modelship_trainer.data.preprocessing import Column, Fitted
from modelship_trainer.data.split import split
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.protocol import ExitCode, FailureReason
from modelship_trainer.recipe import Data, Recipe, Task

pytestmark = pytest.mark.unit

CHURN = pd.DataFrame(
    {
        "age": [34, 51, None, 28, 45, 39, 62, 23, 31, 58],
        "income": [52e3, 61e3, 48e3, 39e3, 75e3, 66e3, 58e3, 31e3, 44e3, 70e3],
        "plan": ["gold", "basic", None, "basic", "gold", "gold", "basic", "basic", "silver", "gold"],
        "region": list("nsnsnsnsns"),
        "churned": [0, 1, 0, 1, 0, 0, 1, 1, 0, 0],
    }
)


RECIPE: dict[str, Any] = {
    "data": {"source": "pvc://datasets/churn.csv", "target": "churned", "split": {"validation": 0, "test": 0}},
    "model": {"linear": {}},
    "training": {"task": "classification"},
}


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mounted claim `datasets`."""
    monkeypatch.setenv("MODELSHIP_PVC_ROOT", str(tmp_path))
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


def data(source: str = "pvc://datasets/churn.csv", **fields: Any) -> Data:
    return Data.model_validate({"source": source, "target": "churned"} | fields)


def elsewhere(source: str) -> Data:
    """Data of another source, as an evaluation names it: the recipe's rules do not see it."""
    return data().model_copy(update={"source": source})


def load_classes(spec: Data) -> Dataset:
    return load(spec, task=Task.CLASSIFICATION)


# --- bad input first ----------------------------------------------------------------------------------------------------------


def write(name: str, content: str | bytes | pd.DataFrame) -> Callable[[Path], None]:
    def put(claim: Path) -> None:
        path = claim / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path) if name.endswith("parquet") else content.to_csv(path, index=False)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return put


def write_image(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def write_npz(**arrays: Any) -> Callable[[Path], None]:
    return lambda claim: np.savez(claim / "a.npz", **arrays)


def nothing(claim: Path) -> None:
    """No file."""


csv = write("churn.csv", CHURN)
BAD = {
    "wrong column": (
        write("churn.parquet", CHURN),
        data("pvc://datasets/churn.parquet", features=["age", "incme"]),
        FailureReason.DATA_INVALID,
        'column "incme" is not in pvc://datasets/churn.parquet; columns: age, income, plan, region, churned.',
    ),
    "wrong target": (
        csv,
        data(target="churn"),
        FailureReason.DATA_INVALID,
        'column "churn" is not in pvc://datasets/churn.csv; columns: age, income, plan, region, churned.',
    ),
    "no target": (
        csv,
        data(target=None),
        FailureReason.RECIPE_INVALID,
        "data.target is not set: name the column to predict; columns of pvc://datasets/churn.csv: age, income, plan, "
        "region, churned.",
    ),
    "target as feature": (
        nothing,
        data("sklearn://wine", target=None, features=["alcohol", "target"]),
        FailureReason.RECIPE_INVALID,
        'data.features lists the target "target"; leave it out.',
    ),
    "missing dataset": (
        csv,
        data("pvc://datasets/churm.csv"),
        FailureReason.DATA_NOT_FOUND,
        "pvc://datasets/churm.csv does not exist; beside it: churn.csv; copy it there with `modelship upload FILE .*`, .*",
    ),
    "empty claim": (
        nothing,
        data(),
        FailureReason.DATA_NOT_FOUND,
        "pvc://datasets/churn.csv does not exist: its folder is empty; copy it there with `modelship upload FILE .*`, .*",
    ),
    "missing folder": (
        csv,
        data("pvc://datasets/2024/churn.csv"),
        FailureReason.DATA_NOT_FOUND,
        "pvc://datasets/2024/churn.csv does not exist: there is no folder 2024; copy it there with `modelship upload FILE .*`, .*",
    ),
    "claim not mounted": (
        nothing,
        data("pvc://other/churn.csv"),
        FailureReason.STORE_UNAVAILABLE,
        "claim other of .* is not mounted at .*",
    ),
    "escape": (csv, elsewhere("pvc://datasets/../etc/churn.csv"), FailureReason.RECIPE_INVALID, ".* must not contain '..'."),
    "encoded escape": (
        csv,
        elsewhere("pvc://datasets/%2e%2e/churn.csv"),
        FailureReason.RECIPE_INVALID,
        ".* must not contain '..'.",
    ),
    "link out of the claim": (
        lambda claim: (claim / "churn.csv").symlink_to("/etc/hostname"),
        data(),
        FailureReason.RECIPE_INVALID,
        "pvc://datasets/churn.csv is a link out of its claim.",
    ),
    "unknown bundled": (
        nothing,
        elsewhere("sklearn://digit"),
        FailureReason.DATA_NOT_FOUND,
        "sklearn://digit is not bundled; bundled are breast_cancer, diabetes, digits, iris, wine.",
    ),
    "unknown ending": (
        write("churn.xlsx", "x"),
        data("pvc://datasets/churn.xlsx"),
        FailureReason.RECIPE_INVALID,
        "the format of pvc://datasets/churn.xlsx cannot be told from its ending; set data.format to one of csv, "
        "parquet, jsonLines, .*",
    ),
    "ragged csv": (
        write("churn.csv", "a,churned\n1,2\n1,2,3,4\n"),
        data(),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.csv is not readable as csv: line 3 has 4 cells, and the header has 2; quote cells .*",
    ),
    "binary csv": (
        write("churn.csv", b"\xff\xfe\x00\x01"),
        data(),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.csv is not readable as csv: .*",
    ),
    "cut csv.gz": (
        write("churn.csv.gz", gzip.compress(CHURN.to_csv().encode())[:60]),
        data("pvc://datasets/churn.csv.gz"),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.csv.gz is not readable as csv: Compressed file ended .*; repair it, or set data.format.",
    ),
    "broken csv.gz": (
        write("churn.csv.gz", gzip.compress(b"")[:10] + b"\xff" * 20),
        data("pvc://datasets/churn.csv.gz"),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.csv.gz is not readable as csv: Error -3 while decompressing .*; repair it, or set data.format.",
    ),
    "empty csv": (
        write("churn.csv", ""),
        data(),
        FailureReason.DATA_INVALID,
        ".* is not readable as csv: it has no line; the first must name the columns.",
    ),
    "header only": (
        write("churn.csv", "age,churned\n"),
        data(),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.csv has no rows.",
    ),
    "two columns of one name": (
        write("churn.csv", "age,churned,churned\n1,1,1\n2,0,0\n"),
        data(),
        FailureReason.DATA_INVALID,
        'pvc://datasets/churn.csv has 2 columns named "churned"; rename or remove one.',
    ),
    "two features of one name": (
        write("churn.csv", "age,age,churned\n1,1,1\n2,0,0\n"),
        data(),
        FailureReason.DATA_INVALID,
        'pvc://datasets/churn.csv has 2 columns named "age"; rename or remove one.',
    ),
    "row labels": (
        lambda claim: CHURN.to_csv(claim / "churn.csv"),
        data(),
        FailureReason.DATA_INVALID,
        "column 1 of pvc://datasets/churn.csv has no name, as row labels that pandas wrote; name it, or list the columns to learn "
        "from in data.features.",
    ),
    "row labels, written again": (
        write("churn.csv", "age,Unnamed: 0,churned\n1,0,1\n2,1,0\n"),
        data(),
        FailureReason.DATA_INVALID,
        "column 2 of pvc://datasets/churn.csv has no name, .*",
    ),
    "number and text as labels": (
        write("churn.jsonl", '{"age": 1, "churned": 1}\n{"age": 2, "churned": "1"}\n{"age": 3, "churned": 0}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'target "churned" has labels of two types, numbers such as 1 and text such as "1"; read them as text with '
        "data.types: {churned: text}.",
    ),
    "boolean and number as labels": (
        write("churn.jsonl", '{"age": 1, "churned": true}\n{"age": 2, "churned": 1}\n{"age": 3, "churned": 0}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'target "churned" has labels of two types, booleans such as true and numbers such as 1; read them as text '
        "with data.types: {churned: text}.",
    ),
    "empty label": (
        write("churn.jsonl", '{"age": 1, "churned": "yes"}\n{"age": 2, "churned": ""}\n{"age": 3, "churned": "no"}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'target "churned" is missing in 1 of 3 rows of pvc://datasets/churn.jsonl, row 2; fill it in, .*',
    ),
    "no parquet": (
        write("churn.parquet", "age,churned\n1,2"),
        data("pvc://datasets/churn.parquet"),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.parquet is not readable as parquet: .*",
    ),
    "broken json": (
        write("churn.jsonl", '{"age": 1, "churned": 0}\n{"age": '),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.jsonl is not readable as jsonLines: .*",
    ),
    "nested json": (
        write("churn.jsonl", '{"age": [1, 2], "churned": 0}\n{"age": [3], "churned": 1}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'column "age" of pvc://datasets/churn.jsonl holds nested values such as "\\[1, 2\\]"; flatten it, or leave it out .*',
    ),
    "only a target": (
        write("churn.csv", "churned\n1\n0\n"),
        data(),
        FailureReason.DATA_INVALID,
        'pvc://datasets/churn.csv has no column besides the target "churned" to learn from.',
    ),
    "missing target": (
        write("churn.csv", "age,churned\n1,yes\n2,\n3,no\n"),
        data(),
        FailureReason.DATA_INVALID,
        'target "churned" is missing in 1 of 3 rows of pvc://datasets/churn.csv, row 2; fill it in, or drop these rows with the '
        "preprocessing step dropMissing: {columns: \\[churned\\]}.",
    ),
    "fractions as classes": (
        write("churn.csv", "age,churned\n1,0.5\n2,1.25\n"),
        data(),
        FailureReason.DATA_INVALID,
        'target "churned" has fractions such as 0.5; training.task classification needs classes: set it to regression, .*',
    ),
    "image options for a table": (
        csv,
        data(image={"size": 16}),
        FailureReason.RECIPE_INVALID,
        "data.image is for image folders, and pvc://datasets/churn.csv is csv.",
    ),
    "csv with surplus fields": (
        write("churn.csv", "age,churned\n7,34,1\n8,51,0\n"),
        data(),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.csv is not readable as csv: line 2 has 3 cells, and the header has 2; quote cells that have "
        "separators in them, or correct the line.",
    ),
    "deep json": (
        write("churn.jsonl", '{"age": ' + "[" * 100_000 + "]" * 100_000 + ', "churned": 0}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        "pvc://datasets/churn.jsonl is not readable as jsonLines: maximum recursion depth.*; repair it, or set data.format.",
    ),
    "endless number": (
        write("churn.jsonl", f'{{"age": {10**400}, "churned": 0}}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'column "age" of pvc://datasets/churn.jsonl has a number of hundreds of digits in row 1, beyond 3.4e\\+38, the largest .*',
    ),
    "classes beyond 64 bits": (
        write("churn.jsonl", f'{{"age": 1, "churned": {10**30}}}\n{{"age": 2, "churned": {10**30 + 1}}}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'target "churned" has class numbers too large to be told apart, such as 1e\\+30; read them as text with '
        "data.types: {churned: text}.",
    ),
    "classes that a float merges": (
        write("churn.jsonl", f'{{"age": 1, "churned": {2.0**60}}}\n{{"age": 2, "churned": 1.0}}'),
        data("pvc://datasets/churn.jsonl"),
        FailureReason.DATA_INVALID,
        'target "churned" has class numbers too large to be told apart, such as 1.15292e\\+18; read them as '
        "text with data.types: {churned: text}.",
    ),
    "npz without features": (
        write_npz(x=np.zeros((3, 0)), y=np.zeros(3)),
        data("pvc://datasets/a.npz", target=None),
        FailureReason.DATA_INVALID,
        'array "x" of pvc://datasets/a.npz has shape \\[3, 0\\] and type float64; it must be numbers, \\[rows, ...\\].',
    ),
    "npz without y": (
        write_npz(x=np.zeros((3, 2))),
        data("pvc://datasets/a.npz", target=None),
        FailureReason.DATA_INVALID,
        'array "y" is not in pvc://datasets/a.npz; arrays: x.',
    ),
    "npz of other lengths": (
        write_npz(x=np.zeros((3, 2)), y=np.zeros(4)),
        data("pvc://datasets/a.npz", target=None),
        FailureReason.DATA_INVALID,
        'array "y" of pvc://datasets/a.npz has shape \\[4\\]; it must be \\[3\\], a value per row.',
    ),
    "npz with objects": (
        write_npz(x=np.array([{"a": 1}], dtype=object), y=np.zeros(1)),
        data("pvc://datasets/a.npz", target=None),
        FailureReason.DATA_INVALID,
        "pvc://datasets/a.npz is not readable as npz: .*pickle.*",
    ),
    "npz with text": (
        write_npz(x=np.array([["a"]]), y=np.zeros(1)),
        data("pvc://datasets/a.npz", target=None),
        FailureReason.DATA_INVALID,
        'array "x" of .* has shape \\[1, 1\\] and type <U1; it must be numbers, .*',
    ),
    "flat image folder": (
        write("pets/1.png", b""),
        data("pvc://datasets/pets", target=None),
        FailureReason.DATA_INVALID,
        "pvc://datasets/pets has no images in a folder per label, such as cat/1.png; endings: .*",
    ),
    "broken image": (
        write("pets/cat/1.png", b"not an image"),
        data("pvc://datasets/pets", target=None),
        FailureReason.DATA_INVALID,
        "pvc://datasets/pets/cat/1.png is not a readable image; replace or remove it.",
    ),
    "image of unknown range": (
        lambda claim: write_image(claim / "pets" / "cat" / "1.tif", Image.fromarray(np.ones((9, 9), np.float32))),
        data("pvc://datasets/pets", target=None),
        FailureReason.DATA_INVALID,
        "pvc://datasets/pets/cat/1.tif has pixels of 32 bits, whose brightest value is not known; convert it to 8 or 16 bits.",
    ),
    "label without an image": (
        lambda claim: (write_image(claim / "pets" / "cat" / "1.png", Image.new("L", (9, 9))), write("pets/dog/1.heic", b"")(claim)),
        data("pvc://datasets/pets", target=None, format="imageFolder"),
        FailureReason.DATA_INVALID,
        r'folder "dog" of pvc://datasets/pets has no image that is read, only files such as "dog/1.heic" \(not of the data.*\); '
        "convert them \\(.png, .*, .tiff are read\\), or remove the folder.",
    ),
    "image folder with target": (
        write("pets/cat/1.png", b""),
        data("pvc://datasets/pets"),
        FailureReason.RECIPE_INVALID,
        "data.target and data.features do not apply to imageFolder: a file's folder is its label; leave them out.",
    ),
    "empty folder": (
        lambda claim: (claim / "pets").mkdir(),
        data("pvc://datasets/pets"),
        FailureReason.DATA_NOT_FOUND,
        "pvc://datasets/pets is a folder without files.",
    ),
}


@pytest.mark.parametrize(("prepare_claim", "spec", "reason", "message"), BAD.values(), ids=BAD)
def test_bad_source(claim: Path, prepare_claim: Callable[[Path], None], spec: Data, reason: FailureReason, message: str) -> None:
    prepare_claim(claim)
    with pytest.raises(UserError, match=f"^{message}$") as caught:
        load_classes(spec)
    assert caught.value.reason is reason


def test_text_is_no_regression_target(claim: Path) -> None:
    csv(claim)
    with pytest.raises(
        UserError, match=r'^target "plan" has text such as "gold" in row 1; training.task regression needs numbers: .*'
    ) as caught:
        load(data(target="plan", features=["age"], preprocessing=[{"dropMissing": {"columns": ["plan"]}}]), task=Task.REGRESSION)
    assert caught.value.reason is FailureReason.DATA_INVALID


def test_a_missing_number_is_an_empty_cell(claim: Path) -> None:
    """The message shows what makes a column text, and not the number above it."""
    write("churn.csv", "age,churned,label\n34,1.5,a\nNA,2.5,b\n,3.5,a\n")(claim)
    assert load(data(), task=Task.REGRESSION).features["age"].tolist() == ["34", "NA", ""]
    with pytest.raises(UserError, match=r'^column "age" of .* has text such as "NA" in row 2; encode'):
        prepare_all(Recipe.model_validate(RECIPE | {"data": {**RECIPE["data"], "target": "label", "features": ["age"]}}))
    with pytest.raises(
        UserError, match=r'^target "age" has text such as "NA" in row 2; .* \(a missing value is an empty cell\), .*'
    ):
        load(data(target="age", features=["churned"], preprocessing=[{"dropMissing": {}}]), task=Task.REGRESSION)


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("churn.csv", "modelship_trainer.data.table", "read_columns"),
        ("churn.parquet", "pyarrow.parquet", "read_table"),
        ("churn.jsonl", "json", "loads"),
        ("a.npz", "numpy", "load"),
        ("pets", "PIL.Image", "open"),
    ],
)
@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_store_that_fails_is_not_bad_data(
    claim: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, function: str, code: int
) -> None:
    for file in ("churn.csv", "churn.parquet"):
        write(file, CHURN)(claim)
    CHURN.to_json(claim / "churn.jsonl", orient="records", lines=True)
    write_npz(x=np.zeros((3, 2)), y=np.zeros(3))(claim)
    write_image(claim / "pets" / "cat" / "1.png", Image.new("L", (9, 9)))

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"{module}.{function}", fail)
    with pytest.raises(UserError) as caught:
        load_classes(data(f"pvc://datasets/{name}", target="churned" if "churn" in name else None))
    denied = " for uid .*, gid .*; give it to that group, or make it readable" if code == errno.EACCES else ""
    told = f"pvc://datasets/{re.escape(name)} cannot be read: {os.strerror(code)}{denied}; trying again\\."
    assert re.fullmatch(told, caught.value.message)
    assert caught.value.reason is FailureReason.STORE_UNAVAILABLE
    assert caught.value.exit_code == ExitCode.TEMPORARY


def test_a_folder_that_cannot_be_listed_is_not_left_out(claim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels would be missing, and nobody told."""
    for label in ("cat", "dog"):
        write_image(claim / "pets" / label / "1.png", Image.new("L", (9, 9)))
    scan = os.scandir

    def fail(path: Any) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(UserError, match=r"^pvc://datasets/pets cannot be read: Permission denied for uid .*; trying again\.$"):
        load_classes(data("pvc://datasets/pets", target=None))


def test_the_row_in_a_message_is_that_of_the_file(claim: Path) -> None:
    """Counted from the first data row: whatever part it is in, and however many rows without a label are above it."""
    levels = ["1"] * 40
    levels[17] = levels[31] = "high"
    labels = ["", "", *["yes", "no"] * 19]
    write("churn.csv", "level,churned\n" + "".join(f"{a},{b}\n" for a, b in zip(levels, labels, strict=True)))(claim)
    steps = [{"dropMissing": {"columns": ["churned"]}}]
    told = 'column "level" of pvc://datasets/churn.csv {}numbers in all but 2 of 38 rows: the first, "high" in row {}; correct it'
    with pytest.raises(UserError, match=told.format("must be numbers, and has ", 18)):
        load_classes(data(preprocessing=[*steps, {"cast": {"columns": ["level"], "to": "number"}}]))
    recipe = Recipe.model_validate(RECIPE | {"data": {**RECIPE["data"], "preprocessing": steps}})
    dataset = load_classes(recipe.data)
    for train in (range(10, 20), range(20, 38)):  # row 18 and row 32 of the file; or either as a validation row
        rest = np.setdiff1d(np.arange(38), train)
        with pytest.raises(UserError) as caught:
            prepare(recipe, dataset, np.array(train), rest)
        row = 18 if 15 in train else 32
        assert caught.value.message == told.format("has ", row) + ", or leave the cell empty and impute."


BAD_TABLES = {
    "text without encoding": (
        {"preprocessing": [{"impute": {}}]},
        'column "plan" of pvc://datasets/churn.csv has text such as "gold" in row 1; encode it with oneHot, ordinal or tokenize, '
        "cast it to number, or leave it out of data.features.",
    ),
    "missing values left": (
        {"features": ["age", "income"], "split": {"test": 0, "validation": 0}},
        'column "age" has no value in row .* of pvc://datasets/churn.csv; nothing fills it: add impute or .*',
    ),
    "unknown column in a step": (
        {"preprocessing": [{"impute": {"columns": ["incme"]}}]},
        'data.preprocessing\\[0\\].impute: column "incme" is not in pvc://datasets/churn.csv; columns: age, income, '
        "plan, region, churned.",
    ),
    "text where numbers are needed": (
        {"preprocessing": [{"normalize": {"columns": ["region"]}}]},
        'data.preprocessing\\[0\\].normalize: column "region" of pvc://datasets/churn.csv has text such as "n" in row 1; this '
        "step needs numbers: cast it to number, encode it with oneHot or ordinal, or leave it out of columns.",
    ),
    "text that is no number": (
        {"preprocessing": [{"cast": {"columns": ["region"], "to": "number"}}]},
        'column "region" of .* must be numbers, and has text such as "n" in row 1; correct it \\(a missing value is an empty '
        "cell\\), or encode the column as categories.",
    ),
    "number that other languages read as another": (
        {"features": ["long"], "preprocessing": [{"cast": {"columns": ["long"], "to": "number"}}]},
        'column "long" of .* must be numbers, and has text such as "1_000" in row 1; .*',
    ),
    "encoded twice": (
        {"preprocessing": [{"oneHot": {"columns": ["plan"]}}, {"oneHot": {"columns": ["plan"]}}]},
        'data.preprocessing\\[1\\].oneHot: column "plan" was already encoded by oneHot; move this step before it.',
    ),
    "constant that is no number": (
        {"preprocessing": [{"impute": {"columns": ["age"], "strategy": "constant", "value": "old"}}]},
        'data.preprocessing\\[0\\].impute.value: "old" is no finite number, and column "age" has numbers.',
    ),
    "log of negatives": (
        {"preprocessing": [{"impute": {}}, {"normalize": {}}, {"log": {"columns": ["income"]}}]},
        'data.preprocessing\\[2\\].log: column "income" of .* has -[0-9.]+, and log\\(1 \\+ x\\) needs values above '
        "-1; clip it first, .*",
    ),
    "numbers tokenised": (
        {"preprocessing": [{"tokenize": {"columns": ["age"]}}]},
        'column "plan" of .* has text such as "gold" in row 1; .*',  # age is words now
    ),
    "one class": (
        {"target": "one", "features": ["income"]},
        'target "one" of pvc://datasets/churn.csv has the one class "1"; classification needs two.',
    ),
    "label seen once": (
        {"target": "once", "features": ["income"], "split": {"stratify": True}},
        'class "1" of "once" has one row, and a stratified split needs 3, one in each part; add rows, remove the class, or set '
        "data.split.stratify: false.",
    ),
    "no training row left": (
        {"features": ["empty"], "preprocessing": [{"dropMissing": {}}]},
        "data.preprocessing\\[0\\].dropMissing leaves no training row of .*; fill values instead.",
    ),
    "nothing to impute from": (
        {"features": ["empty"], "preprocessing": [{"impute": {}}]},
        'data.preprocessing\\[0\\].impute: column "empty" of .* has no value in any training row; leave it out of data.features.',
    ),
}


@pytest.mark.parametrize(("fields", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_table(claim: Path, fields: dict[str, Any], message: str) -> None:
    CHURN.assign(one=1, once=[1] + [0] * 9, label=1.0, empty=np.nan, long="1_000").to_csv(claim / "churn.csv", index=False)
    fields = {"features": ["age", "income", "plan", "region"]} | fields
    spec = {"source": "pvc://datasets/churn.csv", "target": "churned"} | fields
    recipe = Recipe.model_validate({"data": spec, "model": {"linear": {}}, "training": {"task": "classification"}})
    message = message.replace("columns: age, income, plan, region, churned", "columns: .*")
    with pytest.raises(UserError, match=f"^{message}$") as caught:
        prepare_all(recipe)
    assert caught.value.reason in (FailureReason.DATA_INVALID, FailureReason.RECIPE_INVALID)


def prepare_all(recipe: Recipe) -> None:
    """All that happens before training."""
    dataset = load_classes(recipe.data)
    parts = split(dataset, recipe.data.split, Task.CLASSIFICATION)
    prepare(recipe, dataset, parts.train, parts.validation)


def test_names_are_the_same_however_they_are_composed(claim: Path) -> None:
    """A recipe from a Mac, a file from elsewhere: one of them has é in two characters."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    for in_file, in_recipe in ((composed, apart), (apart, composed)):
        CHURN.rename(columns={"plan": in_file}).to_csv(claim / "c.csv", index=False)
        fields = {"source": "pvc://datasets/c.csv", "target": "churned", "features": [in_recipe]}
        dataset = load_classes(Data.model_validate(fields | {"preprocessing": [{"oneHot": {"columns": [in_recipe]}}]}))
        assert list(dataset.features.columns) == [composed]


# --- what comes out -----------------------------------------------------------------------------------------------------------


def test_formats_agree(claim: Path) -> None:
    """The same table from CSV, compressed CSV, Parquet and JSON Lines; missing numbers are NaN, missing text is ""."""
    CHURN.to_csv(claim / "c.csv", index=False)
    CHURN.to_csv(claim / "c.csv.gz", index=False)
    CHURN.to_parquet(claim / "c.parquet")
    CHURN.to_json(claim / "c.jsonl", orient="records", lines=True)
    loaded = [load_classes(data(f"pvc://datasets/c.{ending}")) for ending in ("csv", "csv.gz", "parquet", "jsonl")]
    for dataset in loaded:
        pd.testing.assert_frame_equal(dataset.features, loaded[0].features)
        assert dataset.target.tolist() == CHURN["churned"].tolist()
    features = loaded[0].features
    assert features["age"].dtype == np.float32
    assert np.isnan(features["age"][2])
    assert features["plan"][2] == ""
    assert list(features.columns) == ["age", "income", "plan", "region"]


def test_digest_is_that_of_the_bytes(claim: Path) -> None:
    csv(claim)
    digest = hashlib.sha256((claim / "churn.csv").read_bytes()).hexdigest()
    assert load_classes(data()).digest == f"sha256:{digest}"


def test_folder_of_files(claim: Path) -> None:
    """Parts follow one another by name; the digest is that of what `sha256sum` prints for them."""
    (claim / "churn").mkdir()
    CHURN.iloc[:4].to_csv(claim / "churn" / "a.csv", index=False)
    CHURN.iloc[4:].to_csv(claim / "churn" / "b.csv", index=False)
    dataset = load_classes(data("pvc://datasets/churn"))
    assert dataset.target.tolist() == CHURN["churned"].tolist()
    lines = subprocess.run(["sha256sum", "a.csv", "b.csv"], cwd=claim / "churn", capture_output=True, check=True).stdout
    assert dataset.digest == f"sha256:{hashlib.sha256(lines).hexdigest()}"


def test_types_of_parquet(claim: Path) -> None:
    """Nullable integers, booleans, decimals and categories are numbers or text; dates are text."""
    import decimal

    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "d": [decimal.Decimal("1.5"), None, decimal.Decimal("2")],
            "c": pd.Categorical(["x", None, "y"]),
            "t": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
            "churned": [True, False, True],
        }
    )
    frame.to_parquet(claim / "t.parquet")
    dataset = load_classes(data("pvc://datasets/t.parquet"))
    features = dataset.features
    assert [features[name].dtype.kind for name in features.columns] == ["f", "f", "f", "O", "O"]
    assert features["b"].tolist()[0::2] == [1.0, 0.0]
    assert features["c"].tolist() == ["x", "", "y"]
    assert features["t"][1] == ""
    assert dataset.target.tolist() == ["true", "false", "true"]


def test_only_an_empty_cell_is_missing(claim: Path) -> None:
    """As in the served graph, to which the other words that pandas takes for nothing are words."""
    words = ["NA", "None", "null", "N/A", "nan"]
    write("churn.csv", "plan,churned\n" + "".join(f"{word},{word}\n" for word in words) + ",yes\n")(claim)
    dataset = load_classes(data(preprocessing=[{"dropMissing": {"columns": ["churned"]}}]))
    assert dataset.features["plan"].tolist() == [*words, ""]
    assert dataset.target.tolist() == [*words, "yes"]


def test_parquet_with_row_labels(claim: Path) -> None:
    """pandas keeps those of a shuffled table; those with a name are a column to all other tools."""
    CHURN.sample(frac=1, random_state=0).to_parquet(claim / "shuffled.parquet")
    CHURN.set_index("region").to_parquet(claim / "named.parquet")
    shuffled = load_classes(data("pvc://datasets/shuffled.parquet"))
    assert list(shuffled.features.columns) == ["age", "income", "plan", "region"]
    assert shuffled.target.tolist() == CHURN.sample(frac=1, random_state=0)["churned"].tolist()
    named = load_classes(data("pvc://datasets/named.parquet"))
    assert list(named.features.columns) == ["age", "income", "plan", "region"]
    assert named.features["region"].tolist() == CHURN["region"].tolist()


def test_columns_without_a_name_do_not_matter_where_features_are_listed(claim: Path) -> None:
    write("churn.csv", ",age,Unnamed: 0,,churned\n9,1,8,7,1\n9,2,8,7,0\n")(claim)
    dataset = load_classes(data(features=["age", "Unnamed: 0"]))
    assert dataset.features.to_dict("list") == {"age": [1, 2], "Unnamed: 0": [8, 8]}
    assert dataset.target.tolist() == [1, 0]


def test_files_of_a_folder_agree_on_types(claim: Path) -> None:
    """Digits in one file are text where another has letters; a file without any value has no say."""
    write("churn/a.csv", "zip,n,churned\n01234,1,0\n")(claim)
    write("churn/b.csv", "zip,n,churned\nAB1,2,2+\n")(claim)
    write("churn/c.csv", "zip,n,churned\n,,1\n")(claim)
    dataset = load_classes(data("pvc://datasets/churn"))
    assert dataset.features["zip"].tolist() == ["01234", "AB1", ""]
    assert dataset.features["n"].tolist()[:2] == [1, 2]
    assert dataset.target.tolist() == ["0", "2+", "1"]


FITTED = Fitted(
    columns=[Column(name="zip", type="text", steps=[]), Column(name="n", type="number", steps=[])],
    target=Target(task=Task.CLASSIFICATION, classes=["0", "1", "2+"]),
)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_data_of_a_model_has_the_types_of_the_model(claim: Path, ending: str) -> None:
    """Other data may have only digits where the training data had letters, too."""
    write("churn.csv", "zip,n,churned\n01234,1,0\n90210,2,1\n")(claim)
    pd.DataFrame({"zip": ["01234", "90210"], "n": [1, 2], "churned": [0, 1]}).to_parquet(claim / "churn.parquet")
    write("churn.jsonl", '{"zip": "01234", "n": 1, "churned": 0}\n{"zip": "90210", "n": 2, "churned": 1}\n')(claim)
    dataset = load(data(f"pvc://datasets/churn.{ending}"), task=Task.CLASSIFICATION, fitted=FITTED)
    assert dataset.features["zip"].tolist() == ["01234", "90210"]
    assert dataset.features["n"].tolist() == [1, 2]
    assert dataset.target.tolist() == ["0", "1"]


def test_booleans_of_a_model_stay_booleans(claim: Path) -> None:
    """Their classes are true and false however a file writes them."""
    write("churn.csv", "zip,n,churned\n01234,1,True\n90210,2,False\n")(claim)
    fitted = FITTED.model_copy(update={"target": Target(task=Task.CLASSIFICATION, classes=["false", "true"])})
    assert load(data(), task=Task.CLASSIFICATION, fitted=fitted).target.tolist() == ["true", "false"]


def test_booleans_are_the_same_classes_beside_rows_without_a_label(claim: Path) -> None:
    write("churn.csv", "age,churned\n1,True\n2,\n3,False\n")(claim)
    assert load_classes(data(preprocessing=[{"dropMissing": {}}])).target.tolist() == ["true", "false"]


def test_the_label_that_is_no_class_is_named(claim: Path) -> None:
    """A file with 2+ has text labels; 0 and 1 are not what is wrong."""
    write("churn.csv", "age,churned\n1,0\n2,1\n3,2+\n")(claim)
    dataset = load_classes(data())
    with pytest.raises(UserError, match=r'^label "2\+" in .* is not a class of the model; its classes: 0, 1\.$'):
        Target(task=Task.CLASSIFICATION, classes=[0, 1]).encode(dataset.target, dataset.source)


def test_codes_that_are_cast_keep_their_zeros(claim: Path) -> None:
    (claim / "churn.csv").write_text("zip,n,churned\n01234,01,1\n,02,0\n90210,03,1\n")
    dataset = load_classes(data(preprocessing=[{"dropDuplicates": {}}, {"cast": {"columns": ["zip"], "to": "category"}}]))
    assert dataset.features["zip"].tolist() == ["01234", "", "90210"]
    assert dataset.features["n"].tolist() == [1, 2, 3]


def test_rows_without_label_are_dropped_where_asked(claim: Path) -> None:
    (claim / "churn.csv").write_text("age,churned\n1,yes\n2,\n3,no\n")
    dataset = load_classes(data(preprocessing=[{"dropMissing": {"columns": ["churned"]}}]))
    assert dataset.target.tolist() == ["yes", "no"]
    assert dataset.features["age"].tolist() == [1, 3]


def test_image_folder(claim: Path) -> None:
    """Resized, channels first, labels from the folders; grey where asked."""
    for label, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        folder = claim / "pets" / label
        folder.mkdir(parents=True)
        Image.new("RGB", (20, 10), colour).save(folder / "1.png")
        Image.new("RGBA", (7, 9), (*colour, 255)).save(folder / "2.png")
    (claim / "pets" / "README.txt").write_text("pets")
    dataset = load_classes(data("pvc://datasets/pets", target=None, image={"size": 8}, format="imageFolder"))
    assert dataset.kind is Kind.IMAGE
    assert dataset.features.shape == (4, 3, 8, 8)
    assert dataset.target.tolist() == ["cat", "cat", "dog", "dog"]
    assert dataset.features[0, :, 4, 4].tolist() == [255, 0, 0]
    grey = load_classes(data("pvc://datasets/pets/", target=None, image={"size": 8, "channels": 1}, format="imageFolder"))
    assert grey.features.shape == (4, 1, 8, 8)
    assert grey.features[0, 0, 0, 0] == 76  # ITU-R 601: 0.299 * 255


def test_images_of_16_bits_and_turned_cameras(claim: Path) -> None:
    """16 bits are scaled, not cut at 255; a photo stands as its camera says; TIFF and WebP are read."""
    half = Image.fromarray(np.full((8, 8), 32768, np.uint16))
    write_image(claim / "pets" / "cat" / "1.png", half)
    write_image(claim / "pets" / "cat" / "2.tiff", half)
    turned = Image.new("RGB", (8, 8))
    turned.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    write_image(claim / "pets" / "dog" / "1.webp", turned, exif=exif, lossless=True)
    dataset = load_classes(data("pvc://datasets/pets", target=None, image={"size": 8, "channels": 1}))
    assert dataset.target.tolist() == ["cat", "cat", "dog"]
    assert (dataset.features[:2] == 128).all()
    assert dataset.features[2, 0, 0].tolist() == [0] * 4 + [255] * 4


def test_npz(claim: Path) -> None:
    np.savez(claim / "a.npz", x=np.arange(24).reshape(4, 2, 3), y=np.array([0, 1, 0, 1]), z=np.ones((4, 5)))
    dataset = load_classes(data("pvc://datasets/a.npz", target=None))
    assert dataset.kind is Kind.ARRAY
    assert dataset.features.shape == (4, 2, 3)
    assert load_classes(data("pvc://datasets/a.npz", target="y", features=["z"])).features.shape == (4, 5)


@pytest.mark.parametrize(
    ("name", "task", "shape"),
    [
        ("digits", Task.CLASSIFICATION, (1797, 1, 8, 8)),
        ("iris", Task.CLASSIFICATION, (150, 4)),
        ("wine", Task.CLASSIFICATION, (178, 13)),
        ("breast_cancer", Task.CLASSIFICATION, (569, 30)),
        ("diabetes", Task.REGRESSION, (442, 10)),
    ],
)
def test_bundled(name: str, task: Task, shape: tuple[int, ...]) -> None:
    first, second = (load(Data(source=f"sklearn://{name}"), task=task) for _ in range(2))
    assert first.features.shape == shape
    assert first.digest == second.digest


@pytest.mark.parametrize("name", ["churn.csv", "churn.parquet"])
def test_data_that_changes_while_it_is_read_is_refused(claim: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its digest, which verdicts are bound to, would be of other bytes than those that were read."""
    write(name, CHURN)(claim)
    read = load_module.features_of

    def read_then_write(*arguments: Any, **options: Any) -> pd.DataFrame:
        write(name, CHURN.assign(income=1.0))(claim)
        return read(*arguments, **options)

    monkeypatch.setattr(load_module, "features_of", read_then_write)
    with pytest.raises(UserError) as caught:
        load_classes(data(f"pvc://datasets/{name}"))
    assert caught.value.reason is FailureReason.DATA_INVALID
    assert caught.value.message == f"pvc://datasets/{name} changed while it was read; start again when nothing writes to it."


def test_long_identifiers_stay_different_classes(claim: Path) -> None:
    """2^53 and 2^53 + 1 are one float."""
    rows = "".join(f'{{"age": {row}, "churned": {2**53 + row % 2}}}\n' for row in range(10))
    write("churn.jsonl", rows)(claim)
    assert sorted(set(load_classes(data("pvc://datasets/churn.jsonl")).target.tolist())) == [2**53, 2**53 + 1]


def test_a_target_that_float32_cannot_hold_is_refused(claim: Path) -> None:
    write("churn.csv", "age,churned\n" + "".join(f"{row},{row}e300\n" for row in range(10)))(claim)
    with pytest.raises(UserError) as caught:
        load(data(), task=Task.REGRESSION)
    assert 'target "churned" has values beyond 1e+37' in caught.value.message


# --- https --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def https() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server on loopback with a certificate of its own; its address and the requests' headers."""
    from tempfile import TemporaryDirectory

    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            if self.path.startswith("/moved"):
                self.send_response(302)
                self.send_header("Location", self.path.partition("?to=")[2])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted = {"/churn.csv": 200, "/private.csv": 403, "/busy.csv": 503}.get(self.path.split("?")[0], 404)
            body = CHURN.to_csv(index=False).encode() if wanted == 200 else b""
            self.send_response(wanted)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        key, certificate = f"{folder}/key.pem", f"{folder}/cert.pem"
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        subprocess.run([*command, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        patch.setenv("SSL_CERT_FILE", certificate)
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            patch.delenv(name, raising=False)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        server.server_close()


def test_https_with_a_token(https: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, seen = https
    monkeypatch.setenv("MODELSHIP_DATA_token", "s3cret\n")
    dataset = load_classes(data(f"{address}/churn.csv?signature=abc"))
    assert dataset.rows == 10
    assert seen[-1]["Authorization"] == "Bearer s3cret"
    assert dataset.source == f"{address}/churn.csv"  # a signed URL's query is a secret


def test_https_with_a_password(https: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    address, seen = https
    monkeypatch.setenv("MODELSHIP_DATA_username", "ada")
    monkeypatch.setenv("MODELSHIP_DATA_password", "pw")
    load_classes(data(f"{address}/churn.csv"))
    assert seen[-1]["Authorization"] == "Basic YWRhOnB3"


@pytest.mark.parametrize(
    ("path", "reason", "message"),
    [
        ("/nope.csv", FailureReason.DATA_NOT_FOUND, "/nope.csv does not exist (404)."),
        ("/private.csv", FailureReason.DATA_NOT_FOUND, "answered 403; set data.credentialsSecret to a Secret with the key token"),
        ("/busy.csv", FailureReason.STORE_UNAVAILABLE, "answered 503; trying again."),
    ],
)
def test_https_failures(
    https: tuple[str, list[dict[str, str]]], path: str, reason: FailureReason, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSHIP_DATA_token", "s3cret")
    with pytest.raises(UserError) as caught:
        load_classes(data(f"{https[0]}{path}?signature=abc"))
    assert caught.value.reason is reason
    assert message in caught.value.message
    assert "s3cret" not in caught.value.message
    assert "signature" not in caught.value.message


def test_https_certificate_is_checked(https: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError) as caught:
        load_classes(data(f"{https[0]}/churn.csv"))
    assert caught.value.reason is FailureReason.STORE_UNAVAILABLE


def test_https_is_never_left_for_plain_http(https: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody between could exchange the bytes, and http reaches services of the node and the cloud that trust their network."""
    monkeypatch.setenv("MODELSHIP_DATA_token", "s3cret")
    address, _ = https
    with pytest.raises(UserError) as caught:
        load_classes(data(f"{address}/moved/churn.csv?to=http://169.254.169.254/churn.csv"))
    assert caught.value.reason is FailureReason.DATA_INVALID
    assert caught.value.message == (
        f"{address}/moved/churn.csv redirects to http, and only https is followed; set data.source to its https address."
    )


def test_a_redirect_on_the_same_host_is_followed_with_credentials(
    https: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSHIP_DATA_token", "s3cret")
    address, seen = https
    assert load_classes(data(f"{address}/moved/churn.csv?to=/churn.csv")).rows == 10
    assert seen[-1]["Authorization"] == "Bearer s3cret"


def test_a_redirect_to_another_host_loses_the_credentials(
    https: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSHIP_DATA_token", "s3cret")
    address, seen = https
    other = address.replace("127.0.0.1", "localhost")
    assert load_classes(data(f"{other}/moved/churn.csv?to={address}/churn.csv")).rows == 10
    assert "Authorization" in seen[-2]
    assert "Authorization" not in seen[-1]

"""The datasets that scikit-learn carries: no download, so that a demo runs anywhere."""

from __future__ import annotations

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from modelship_trainer.data.dataset import Array, Dataset, Kind
from modelship_trainer.errors import UserError, listing
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import BUNDLED, Data, Task

TARGET = "target"
_COLUMNS = {
    "iris": ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
    "wine": [
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids", "nonflavanoid_phenols"),
        *("proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline"),
    ],
    "breast_cancer": [
        pattern.format(measurement)
        for pattern in ("mean {}", "{} error", "worst {}")
        for measurement in (
            *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry"),
            "fractal dimension",
        )
    ],
    "diabetes": ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"],
}


class Table(NamedTuple):
    """A bundled dataset as scikit-learn's loader gives it."""

    values: Array
    """`[N, F]` float64."""
    target: Array
    """`[N]` int64, or float64."""
    columns: list[str]
    """Names of the F features; none of digits, which are pixels."""


def load(data: Data, task: Task) -> Dataset:
    """`sklearn://name`: digits as images `[N, 1, 8, 8]` with values 0 to 16, the others as tables with the column `target`."""
    from modelship_trainer.data.columns import Reading, Where
    from modelship_trainer.data.labels import canonical_target
    from modelship_trainer.data.load import tabular
    from modelship_trainer.data.table import wanted_columns

    name = data.source.removeprefix("sklearn://")
    if name not in BUNDLED:
        raise UserError(FailureReason.DATA_NOT_FOUND, f"{data.source} is not bundled; bundled are {listing(list(BUNDLED))}.")
    table = read(name)
    if name == "digits":
        if data.features is not None or data.target not in (None, TARGET):
            raise UserError(FailureReason.RECIPE_INVALID, f"{data.source} are images: leave data.features and data.target out.")
        images = table.values.reshape(-1, 1, 8, 8).astype(np.float32)
        target = canonical_target(pd.Series(table.target, name=TARGET), task, Reading(), Where(data.source))
        return Dataset(data.source, Kind.ARRAY, images, target, TARGET, _digest(table.values, table.target))
    frame = pd.DataFrame(table.values, columns=table.columns)
    frame[TARGET] = table.target
    columns, target_name = wanted_columns(list(frame.columns), data, data.source, default_target=TARGET)
    return tabular(data.source, frame[columns], target_name, _digest(table.values, table.target), data, task)


def read(name: str) -> Table:
    """One of `BUNDLED`, out of scikit-learn's own files: its loaders take two seconds of CPU to import."""
    if name == "digits":
        cells = _cells("digits.csv.gz")
        return Table(cells[:, :-1], cells[:, -1].astype(np.int64), [])
    if name == "diabetes":
        values = _cells("diabetes_data_raw.csv.gz")
        values = (values - values.mean(axis=0)) / values.std(axis=0) / len(values) ** 0.5
        return Table(values, _cells("diabetes_target.csv.gz")[:, 0], _COLUMNS[name])
    cells = _cells("wine_data.csv" if name == "wine" else f"{name}.csv", head=1)
    return Table(np.ascontiguousarray(cells[:, :-1]), cells[:, -1].astype(np.int64), _COLUMNS[name])


def _cells(file: str, head: int = 0) -> Array:
    """Numbers of a CSV file, `[N, C]` float64, after `head` lines."""
    package = find_spec("sklearn")
    assert package is not None  # noqa: S101 - a requirement of the trainer
    data = (Path(package.origin or "").parent / "datasets" / "data" / file).read_bytes()
    lines = (gzip.decompress(data) if file.endswith(".gz") else data).decode().splitlines()[head:]
    return np.array([line.replace(",", " ").split() for line in lines], dtype=np.float64)


def _digest(*arrays: Array) -> str:
    """SHA-256 over the arrays, little-endian, row by row."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    return f"sha256:{sha.hexdigest()}"

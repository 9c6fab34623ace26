"""Rows of a file as the tensors of a KServe v2 request, and the answer as a table. Pure but for reading the file.

The model's own metadata says what it takes (KServe v2 inference protocol, `required_api.md`): names, datatypes, and shapes whose
first axis is the row.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import triton_to_np_dtype

Row = Mapping[str, Any]
Array = NDArray[Any]
_FIRST_LINE = 2
"""Line of a CSV file's first row, below its header."""


class InputError(ValueError):
    """The rows are not what the model takes; the message says which, where, and what to change."""


class TensorSpec(NamedTuple):
    """An input or output of the model; `shape` leaves out the row axis, -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def spec_of(metadata: Mapping[str, Any]) -> TensorSpec:
    """One entry of `inputs` or `outputs` of the model's metadata; sizes are strings in gRPC's JSON."""
    sizes = tuple(int(size) for size in metadata["shape"])
    return TensorSpec(metadata["name"], metadata["datatype"], sizes[1:])


# --- reading ------------------------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file with a header, a JSON file with a list of objects, or a file with a JSON object per line.

    Raises:
        InputError: the file is missing, has no rows, or is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; give CSV, JSON or JSON Lines") from error
    rows = _read_json(path, text) if path.suffix in {".json", ".jsonl", ".ndjson"} else _read_csv(path, text)
    if not rows:
        raise InputError(f"{path}: no rows")
    return rows


def _read_csv(path: Path, text: str) -> list[Row]:
    reader = csv.DictReader(text.splitlines())
    if not reader.fieldnames:
        raise InputError(f"{path}: empty; the first line must name the columns")
    if repeated := {name for name in reader.fieldnames if reader.fieldnames.count(name) > 1}:
        raise InputError(f"{path}: the header names {', '.join(sorted(repeated))} more than once")
    rows: list[Row] = list(reader)
    for number, row in enumerate(rows):
        if None in row or None in row.values():
            raise InputError(f"{path}: line {number + _FIRST_LINE} has not as many values as the header has columns")
    return rows


def _read_json(path: Path, text: str) -> list[Row]:
    try:
        found = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    rows = [found] if isinstance(found, dict) else found
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f'{path}: must be a list of objects, one per row, such as [{{"age": 41, "plan": "basic"}}]')
    return rows


# --- rows to tensors ----------------------------------------------------------------------------------------------------------


def to_arrays(rows: Sequence[Row], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """An array `[rows, *shape]` for each input. Columns that the model does not take are left out.

    Raises:
        InputError: a column is missing, or a value does not fit; both name column and row (counted from 1).
    """
    missing = [spec.name for spec in inputs if any(spec.name not in row for row in rows)]
    if missing:
        first = next(number for number, row in enumerate(rows, 1) if missing[0] not in row)
        raise InputError(
            f'row {first}: column "{missing[0]}" is missing; the model takes {_listed(spec.name for spec in inputs)}; '
            f"the row has {_listed(rows[first - 1])}"
        )
    return {spec.name: _column(rows, spec) for spec in inputs}


def _column(rows: Sequence[Row], spec: TensorSpec) -> Array:
    cells = [_cell(row[spec.name], spec, number) for number, row in enumerate(rows, 1)]
    shapes = {cell.shape for cell in cells}
    if len(shapes) > 1:
        raise InputError(f'column "{spec.name}": rows have different shapes: {_listed(map(str, sorted(shapes)))}')
    return np.stack(cells)


def _cell(value: Any, spec: TensorSpec, number: int) -> Array:
    where = f'row {number}: column "{spec.name}"'
    if isinstance(value, str) and math.prod(spec.shape) != 1 and spec.datatype != "BYTES":
        value = _nested(value, where)
    if spec.datatype == "BYTES":
        array = np.array(value if isinstance(value, list) else [_text(value)], dtype=np.object_)
    else:
        array = _numbers(value, spec, where)
    return _shaped(array, spec, where)


def _nested(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} must be a list of numbers in JSON, such as [[0, 1], [2, 3]]") from error


def _text(value: Any) -> str:
    """What training saw: a missing value is empty, a number has no needless `.0`."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _numbers(value: Any, spec: TensorSpec, where: str) -> Array:
    dtype = np.dtype(triton_to_np_dtype(spec.datatype))
    if value is None or (isinstance(value, str) and not value.strip()):
        if dtype.kind != "f":
            raise InputError(f"{where} is empty; it must be a whole number")
        value = math.nan
    try:
        array = np.asarray(value, dtype=np.float64)
        if dtype.kind != "f" and not np.array_equal(array, np.rint(array)):
            raise ValueError("a fraction")
    except (ValueError, TypeError, OverflowError) as error:
        kind = "a number" if dtype.kind == "f" else "a whole number"
        wanted = kind if math.prod(spec.shape) == 1 else f"an array of {_dims(spec)} numbers"
        raise InputError(f"{where} is {json.dumps(value)[:80]}, not {wanted}") from error
    return array.astype(dtype)


def _shaped(array: Array, spec: TensorSpec, where: str) -> Array:
    """Reshape where the count is right (a flat list of pixels, a bare number), else say what was expected."""
    free = spec.shape.count(-1)
    if array.ndim == len(spec.shape) and all(want in (-1, size) for want, size in zip(spec.shape, array.shape, strict=True)):
        return array
    if not free and array.size == math.prod(spec.shape):
        return array.reshape(spec.shape)
    raise InputError(f"{where} has the shape {'x'.join(map(str, array.shape)) or 'of one number'}; the model takes {_dims(spec)}")


def _dims(spec: TensorSpec) -> str:
    return "x".join("any" if size == -1 else str(size) for size in spec.shape)


def _listed(names: Any, most: int = 12) -> str:
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def batches(arrays: Mapping[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """`arrays` in runs of at most `size` rows."""
    rows = len(next(iter(arrays.values())))
    for start in range(0, rows, size):
        yield {name: array[start : start + size] for name, array in arrays.items()}


# --- answers ------------------------------------------------------------------------------------------------------------------


def table(outputs: Mapping[str, Array]) -> str:
    """A line per row: label and its probability, or the predicted value; other outputs as they are."""
    columns = {name: [_shown(value) for value in _columns_of(name, array)] for name, array in outputs.items()}
    if "label" in columns and "probabilities" in outputs:
        highest = outputs["probabilities"].reshape(len(columns["label"]), -1).max(axis=1)
        columns = {"label": columns.pop("label"), "probability": [f"{value:.4f}" for value in highest]} | {
            name: values for name, values in columns.items() if name != "probabilities"
        }
    numbers = [str(number) for number in range(1, 1 + max(map(len, columns.values())))]
    return _aligned({"row": numbers, **columns})


def _columns_of(name: str, array: Array) -> list[Any]:
    return [row.tolist() if row.size > 1 else row.item() for row in array.reshape(len(array), -1)]


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _aligned(columns: Mapping[str, Sequence[str]]) -> str:
    widths = {name: max(len(name), *map(len, values)) for name, values in columns.items()}
    lines = [list(columns), *zip(*columns.values(), strict=True)]
    return "\n".join(
        "  ".join(text.ljust(widths[name]) for name, text in zip(columns, line, strict=True)).rstrip() for line in lines
    )

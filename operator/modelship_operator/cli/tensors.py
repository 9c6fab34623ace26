"""Rows of a file as the tensors of a KServe v2 request, and the answer as a table. Pure.

The model's own metadata says what it takes (KServe v2 inference protocol, `required_api.md`): names, datatypes, and shapes whose
first axis is the row. Text is read as numbers, and values are written as text, as in training (`modelship_trainer.values`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import triton_to_np_dtype

from modelship_operator.cli.rows import InputError, Row
from modelship_trainer.values import boolean_of, kind_of, number_of, text_of

Array = NDArray[Any]


class TensorSpec(NamedTuple):
    """An input or output of the model; `shape` leaves out the row axis, -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def spec_of(metadata: Mapping[str, Any]) -> TensorSpec:
    """One entry of `inputs` or `outputs` of the model's metadata; sizes are strings in gRPC's JSON."""
    sizes = tuple(int(size) for size in metadata["shape"])
    return TensorSpec(metadata["name"], metadata["datatype"], sizes[1:])


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
    values = [row[spec.name] for row in rows]
    if spec.datatype != "BYTES" and _are_booleans(values):
        values = [None if not value else boolean_of(value) for value in values]
    cells = [_cell(value, spec, number) for number, value in enumerate(values, 1)]
    shapes = {cell.shape for cell in cells}
    if len(shapes) > 1:
        raise InputError(f'column "{spec.name}": rows have different shapes: {_listed(map(str, sorted(shapes)))}')
    return np.stack(cells)


def _are_booleans(values: Sequence[Any]) -> bool:
    """A CSV's True and False, which training reads as 1 and 0 where a column has nothing else."""
    return all(isinstance(value, str) for value in values) and kind_of(values) == "boolean"


def _cell(value: Any, spec: TensorSpec, number: int) -> Array:
    where = f'row {number}: column "{spec.name}"'
    if isinstance(value, str) and math.prod(spec.shape) != 1 and spec.datatype != "BYTES":
        value = _nested(value, where)
    if spec.datatype == "BYTES":
        array = np.array([_text(cell, where) for cell in (value if isinstance(value, list) else [value])], dtype=np.object_)
    else:
        array = _numbers(value, spec, where)
    return _shaped(array, spec, where)


def _nested(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} must be a list of numbers in JSON, such as [[0, 1], [2, 3]]") from error


def _text(value: Any, where: str) -> str:
    try:
        return text_of(value)
    except ValueError as error:
        raise InputError(f"{where} is {_shown_briefly(value)}, which is no text that can be sent") from error


def _numbers(value: Any, spec: TensorSpec, where: str) -> Array:
    """Numbers of the tensor's type; nothing is NaN.

    Raises:
        InputError: they are none, or this type does not have them.
    """
    dtype = np.dtype(triton_to_np_dtype(spec.datatype))
    if dtype.kind != "f" and (value is None or (isinstance(value, str) and not value.strip(" \t"))):
        raise InputError(f"{where} is empty; it must be a whole number")
    try:
        array = np.asarray(number_of(value) if isinstance(value, str) else math.nan if value is None else value, dtype=np.float64)
        if dtype.kind != "f" and not np.array_equal(array, np.rint(array)):
            raise ValueError("a fraction")
    except (ValueError, TypeError, OverflowError) as error:
        kind = "a number" if dtype.kind == "f" else "a whole number"
        wanted = kind if math.prod(spec.shape) == 1 else f"an array of {_dims(spec)} numbers"
        raise InputError(f"{where} is {_shown_briefly(value)}, not {wanted}") from error
    with np.errstate(over="ignore", invalid="ignore"):
        sent = array.astype(dtype)
    if np.isinf(sent).any() if dtype.kind == "f" else not np.array_equal(sent.astype(np.float64), array):
        raise InputError(f"{where} is {_shown_briefly(value)}, beyond what {spec.datatype} can hold")
    return sent


def _shown_briefly(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)[:80]


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


def check_finite(outputs: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
    """Whether each row has an answer: the label of probabilities that are no numbers is only the first of the classes.

    Raises:
        InputError: a row has none; names it, from 1, and its columns without a value.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f":
            bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
            if len(bad):
                row = int(bad[0])
                empty = [column for column, values in arrays.items() if values.dtype.kind == "f" and np.isnan(values[row]).any()]
                cure = (
                    f"it has no value for {_listed(empty)}; fill it in" if empty else "correct values that are far from the others"
                )
                raise InputError(f"row {row + 1}: the model's {name} is not finite, which is no answer: {cure}")


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

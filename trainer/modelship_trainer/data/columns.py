"""Columns in the two types that a served model takes, float32 and text, with the same values whatever the format they come from."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from modelship_trainer.data.dataset import Array
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.steps import text_among_numbers
from modelship_trainer.errors import UserError, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import CastType, ColumnType, Data, ImputeStrategy, Step
from modelship_trainer.values import Kind, boolean_of, kind_of, normal_text, number_of, text_of

FLOAT32_MAX = float(np.finfo(np.float32).max)
_NOISE = 0.01
"""Rounding to float32 may move values by this part of their standard deviation."""
_SPREAD = 1e-12
"""Values that differ by less than this part of their size are equal but for the last bits of float64."""
_NUMBERS = (bool, int, float, decimal.Decimal, np.number, np.bool_)


class Use(StrEnum):
    """What a column is read for."""

    ANY = "any"
    """Numbers where all values are, else text."""
    NUMBER = "number"
    CATEGORY = "category"
    """Text, of which a number or a boolean has one spelling."""
    ENCODED = "encoded"
    """Categories: numbers where float32 tells them all apart, and a CSV no two spellings of one; else text."""
    TEXT = "text"
    """Just as the file says."""


class Reading(NamedTuple):
    """How a column is read."""

    use: Use = Use.ANY
    kind: Kind | None = None
    """Of text: what it is of, where a model knows; found from the values where None."""


def readings(data: Data, fitted: Fitted | None) -> dict[str, Reading]:
    """Columns that are not just read as `Use.ANY`: as the model has them, as `data.types` says, or as the steps take them."""
    found = {
        column.name: Reading(Use.NUMBER) if column.type == "number" else Reading(Use.TEXT, column.texts)
        for column in (fitted.columns if fitted is not None else None) or []
    }
    for name, type_ in (data.types or {}).items():
        found.setdefault(name, Reading(Use(type_.value), "text" if type_ is ColumnType.TEXT else None))
    if fitted is None:
        _read_for_steps(data.preprocessing, found)
    return found


def _read_for_steps(steps: Iterable[Step], found: dict[str, Reading]) -> None:
    """Columns by the first step that cares for their type; what changes no type, or numbers alone, may be before it."""
    numbers: set[str] = set()
    all_numbers = False
    for step in steps:
        if step.drop_duplicates or step.drop_missing:
            continue
        if step.value.columns is None:
            all_numbers = True
            continue
        for name in step.value.columns:
            if name in found or name in numbers or _keeps_type(step):
                continue
            use = _use_of(step)
            if use is None or (step.cast and all_numbers):  # cast after it was changed as a number
                numbers.add(name)
            else:
                found[name] = Reading(use, "text" if use is Use.TEXT else None)


def _keeps_type(step: Step) -> bool:
    return step.impute is not None and step.impute.strategy in (ImputeStrategy.CONSTANT, ImputeStrategy.MOST_FREQUENT)


def _use_of(step: Step) -> Use | None:
    if step.cast:
        return Use.CATEGORY if step.cast.to is CastType.CATEGORY else Use.NUMBER
    if step.tokenize:
        return Use.TEXT
    return Use.ENCODED if step.one_hot or step.ordinal else None


# --- columns ------------------------------------------------------------------------------------------------------------------


class Where(NamedTuple):
    """Whose columns they are, for messages."""

    uri: str
    for_training: bool = True
    """Else for a model that exists: what it takes cannot be changed."""
    written: bool = False
    """The format has no types: text may be numbers or booleans that were written as text."""

    def cure(self, cure: str) -> str:
        """What to do, and that the column may be left out where it may."""
        return f"{cure}, or leave it out of data.features" if self.for_training else cure


def features_of(
    frame: pd.DataFrame, where: Where, found: Mapping[str, Reading] | None = None, *, keep: bool = True
) -> tuple[pd.DataFrame, dict[str, Kind]]:
    """Each column as `canonical` makes it, and what the text of text columns is of.

    Without `keep`, `frame` loses each column as soon as it was read, so that a table is in memory once.
    """
    columns, kinds, index = {}, {}, frame.index
    for name in list(frame.columns):
        raw = frame[name] if keep else frame.pop(name)
        columns[name], kind = canonical(raw, (found or {}).get(name, Reading()), where)
        if columns[name].dtype == object:
            kinds[name] = kind
    return pd.DataFrame(columns, index=index, copy=False), kinds


def canonical(series: pd.Series, reading: Reading, where: Where) -> tuple[pd.Series, Kind]:
    """A raw column as float32 (NaN: missing) or Python strings ("": missing), and what the text is of.

    Raises:
        UserError: DataInvalid where cells are lists or objects, no numbers where there must be, or numbers that float32 lacks.
    """
    values = _plain_values(series)
    if _are_numbers(values):
        return _of_numbers(values, reading, where)
    nested = next((cell for cell in values if isinstance(cell, list | dict | tuple | set | np.ndarray)), None)
    if nested is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"column {quote(series.name)} of {where.uri} holds nested values such as {quote(nested)}; {where.cure('flatten it')}.",
        )
    return _of_text(texts(values, where), reading, where)


def _plain_values(series: pd.Series) -> pd.Series:
    """Categories of pandas, and numbers beside its own missing values, as their values."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return series.astype(object)
    if pd.api.types.is_extension_array_dtype(series.dtype) and not pd.api.types.is_string_dtype(series.dtype):
        return series.astype(object)
    return series


def _are_numbers(series: pd.Series) -> bool:
    if series.dtype != object:
        return bool(pd.api.types.is_bool_dtype(series) or pd.api.types.is_numeric_dtype(series)) and series.dtype.kind != "c"
    return all(isinstance(cell, _NUMBERS) for cell, missing in zip(series, series.isna(), strict=True) if not missing)


def _of_numbers(series: pd.Series, reading: Reading, where: Where) -> tuple[pd.Series, Kind]:
    if reading.use in (Use.ANY, Use.NUMBER):
        return _float32(series, where), "text"
    known = [value for value in pd.unique(series) if not (value is None or value is pd.NA or value != value)]
    if reading.use in (Use.CATEGORY, Use.TEXT) or (reading.use is Use.ENCODED and _merged(known, _as_float)):
        kind: Kind = "boolean" if any(isinstance(value, bool | np.bool_) for value in known) else "number" if known else "text"
        return texts(series, where), reading.kind or kind
    return _float32(series, where, categories=True), "text"


def _of_text(series: pd.Series, reading: Reading, where: Where) -> tuple[pd.Series, Kind]:
    if reading.use is Use.NUMBER:
        return _float32(numbers_of(series, where), where), "text"
    spellings = set(series)
    kind: Kind = reading.kind or "text"
    if reading.kind is None and (where.written or reading.use is Use.CATEGORY):
        kind = kind_of(spellings)
    if reading.use is Use.ENCODED and (
        spellings <= {""} or kind == "boolean" or (kind == "number" and not _merged(spellings - {""}, number_of))
    ):
        return _float32(numbers_of(series, where), where, categories=True), "text"
    if reading.use is Use.ANY:
        return (_float32(numbers_of(series, where), where) if kind == "boolean" else series), "text"
    if kind == "text":
        return series, kind
    return _mapped(series, {cell: normal_text(cell, kind) for cell in spellings}.__getitem__), kind


def texts(series: pd.Series, where: Where) -> pd.Series:
    """Each value's text, see `values.text_of`; equal ones are one object.

    Raises:
        UserError: DataInvalid where bytes are not UTF-8.
    """
    known: dict[str, str] = {}
    found: list[str] = []
    for row, cell in zip(series.index, series.array, strict=True):
        try:
            text = text_of(cell)
        except ValueError:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"column {quote(series.name)} of {where.uri} has {cell!r:.60} in row {row + 1}, which is not UTF-8 text; "
                f"{where.cure('decode it where the data is made')}.",
            ) from None
        found.append(known.setdefault(text, text))
    return pd.Series(found, series.index, dtype=object, name=series.name)


def _mapped(series: pd.Series, text: Callable[[str], str]) -> pd.Series:
    return pd.Series([text(cell) for cell in series], series.index, dtype=object, name=series.name)


def numbers_of(series: pd.Series, where: Where) -> pd.Series:
    """Text as numbers, float64; booleans where all cells are. Raises UserError: DataInvalid where a cell is no number."""
    if kind_of(set(series)) == "boolean":
        flags = [math.nan if not cell else float(bool(boolean_of(cell))) for cell in series]
        return pd.Series(flags, series.index, dtype=np.float64, name=series.name)
    values = np.empty(len(series))
    for place, cell in enumerate(series):
        try:
            values[place] = number_of(cell)
        except ValueError:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"column {quote(series.name)} of {where.uri} must be numbers, and has {text_among_numbers(series)}; correct it (a "
                f"missing value is an empty cell){', or encode the column as categories' if where.for_training else ''}.",
            ) from None
    return pd.Series(values, series.index, name=series.name)


def float64(series: pd.Series) -> npt.NDArray[np.float64]:
    """Numbers of any type; what is beyond float64 becomes infinite."""
    if series.dtype != object:
        values: npt.NDArray[np.float64] = series.to_numpy(dtype=np.float64)
        return values
    return np.array([_as_float(cell) for cell in series], dtype=np.float64)


def _as_float(cell: Any) -> float:
    try:
        return math.nan if cell is None or cell is pd.NA else float(cell)
    except OverflowError:
        return math.inf if cell > 0 else -math.inf


def _float32(series: pd.Series, where: Where, *, categories: bool = False) -> pd.Series:
    if series.dtype in (
        np.float32,
        np.float16,
        np.int8,
        np.int16,
        np.uint8,
        np.uint16,
        np.bool_,
    ):  # float32 has all of their values
        single = series.to_numpy(dtype=np.float32)
        if not np.isinf(single).any():
            return pd.Series(single, index=series.index, name=series.name, copy=False)
    values = float64(series)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    beyond = np.flatnonzero(np.isinf(single))
    if len(beyond):
        raise _too_large(series, values, beyond, where)
    if where.for_training and not categories and merged_by_float32(values):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"column {quote(series.name)} of {where.uri} has values near {np.nanmedian(values):.10g} that differ by about "
            f"{np.nanstd(values):.2g}, which the model's 32-bit floats cannot tell apart; "
            + where.cure("subtract an offset (of times, the first) where the data is made, make it a category in data.types")
            + ".",
        )
    return pd.Series(single, index=series.index, name=series.name, copy=False)


def _too_large(series: pd.Series, values: Array, beyond: Array, where: Where) -> UserError:
    row, count = series.index[beyond[0]] + 1, len(beyond)
    more = f", and in {count - 1:,} more of {len(values):,} rows" if count > 1 else ""
    if np.isinf(values[beyond[0]]) and not isinstance(series.iloc[beyond[0]], int):
        told, cure = f"is infinite in row {row}{more}", "write a number, or nothing where it is missing"
    else:
        shown = f"{values[beyond[0]]:.6g}" if np.isfinite(values[beyond[0]]) else "a number of hundreds of digits"
        told = f"has {shown} in row {row}{more}, beyond {FLOAT32_MAX:.2g}, the largest that a model takes"
        cure = "correct it, use another unit"
    return UserError(FailureReason.DATA_INVALID, f"column {quote(series.name)} of {where.uri} {told}; {where.cure(cure)}.")


def check_array(x: Array, name: str, where: Where) -> None:
    """Raises UserError: DataInvalid where float32 lacks numbers of an array, or cannot tell those of a feature `[N, F]` apart."""
    if x.dtype.kind not in "fiu" or x.dtype.itemsize <= 4:
        return
    with np.errstate(over="ignore"):
        beyond = int((np.isinf(x.astype(np.float32)) & np.isfinite(x)).reshape(len(x), -1).any(axis=1).sum())
    if beyond:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"array {quote(name)} of {where.uri} has numbers beyond {FLOAT32_MAX:.2g}, the largest that a model takes, in "
            f"{beyond:,} of {len(x):,} rows; correct them, or use another unit.",
        )
    if x.ndim == 2 and where.for_training:
        merged = [place for place in range(x.shape[1]) if merged_by_float32(x[:, place].astype(np.float64))]
        if merged:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"column {merged[0]} (from 0) of array {quote(name)} of {where.uri} has values that 32-bit floats cannot tell "
                "apart; subtract an offset where the data is made, or leave the column out.",
            )


def merged_by_float32(values: npt.NDArray[np.float64]) -> bool:
    """Whether rounding to float32 moves values by more than a hundredth of their deviation: they would be nearly one."""
    known = values[np.isfinite(values)]
    if not len(known) or not np.abs(known).max() <= FLOAT32_MAX:
        return False
    lost = np.subtract(known, known.astype(np.float32))
    error = math.sqrt(float(np.mean(np.square(lost))))
    if not error:
        return False
    scale = float(np.abs(known).max())
    deviation = float(np.std(known / scale)) * scale
    return error > _NOISE * deviation and deviation > _SPREAD * scale


def _merged(values: Iterable[Any], number: Callable[[Any], float]) -> bool:
    """Whether two different values are one float32."""
    different = list(values)
    with np.errstate(over="ignore"):
        return len({float(np.float32(number(value))) for value in different}) < len(different)

"""Tables: read CSV, Parquet and JSON Lines, and bring columns into the two types that a served model takes."""

from __future__ import annotations

import decimal
import json
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelship_trainer.data.dataset import Array
from modelship_trainer.data.folders import Partitions
from modelship_trainer.data.source import Source
from modelship_trainer.data.steps import no_number
from modelship_trainer.errors import UserError, is_store_error, listing, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import CastType, Data, Format, Step, Task

_LARGEST = 1e37
"""Of a regression's target: an order of magnitude below float32's end, as (value - mean) must fit, too."""
_EXACT = {True: 2**63, False: 2**53}
"""Whole numbers below this are exact: as integers (True), as floats (False)."""
_UNREADABLE = (ValueError, OSError, OverflowError, RecursionError, EOFError, zlib.error)
"""What broken files raise: pyarrow's and pandas' own errors are ValueErrors, those of a cut .gz are not."""
_ROW_LABELS = re.compile(r"__index_level_\d+__")
"""What pandas calls the row labels that it puts into a Parquet file."""
_NAMELESS = re.compile(r"(Unnamed: \d+)?")
"""The header above row labels that pandas wrote into a CSV file; after reading and writing it once more."""


def read_table(source: Source, format_: Format, data: Data, text: set[str]) -> tuple[pd.DataFrame, str]:
    """Raw columns that the recipe wants, target included, and the target's name; a folder's files follow one another.

    `text` are columns that a CSV has as text even where all its cells are digits.

    Raises:
        UserError: DataInvalid where the file is unreadable or a column is missing; RecipeInvalid without a target.
        OSError: the store cannot be read.
    """
    frames, target = _read_files(source, format_, data, text)
    mixed = _text_in_some(frames) if format_ is Format.CSV else set()
    if mixed:  # a file without a letter is of the same type as the others: "01234" stays what it is
        frames, target = _read_files(source, format_, data, text | mixed)
    return pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0], target


def _read_files(source: Source, format_: Format, data: Data, text: set[str]) -> tuple[list[pd.DataFrame], str]:
    frames = []
    folders = Partitions(source, text)
    first: list[str] | None = None
    for place, (path, name) in enumerate(zip(source.paths, source.names, strict=True)):
        where = source.uri if len(source.names) == 1 else f"{source.uri}/{name}"
        try:
            available = _read_columns(path, format_)
            _same_columns(first, available, source, name, data, format_)
            first = first or available
            columns, target = wanted_columns(folders.with_names(available, where), data, where)
            inside = folders.inside(columns, available)
            frames.append(folders.fill(_read(path, format_, available, inside, text), columns, place))
        except _UNREADABLE as error:
            if is_store_error(error):
                raise
            raise _unreadable(where, format_, error) from error
    return frames, target


def _same_columns(first: list[str] | None, available: list[str], source: Source, name: str, data: Data, format_: Format) -> None:
    """Raises UserError: DataInvalid where files of a folder have other columns, all of which would be read.

    An object of JSON Lines leaves out what is missing, so it is no table's header.
    """
    if first is None or data.features is not None or format_ is Format.JSON_LINES or set(available) == set(first):
        return
    lacks, has = (name, source.names[0]) if set(first) - set(available) else (source.names[0], name)
    column = min(set(first) - set(available) or set(available) - set(first))
    raise UserError(
        FailureReason.DATA_INVALID,
        f"{lacks} of {source.uri} has no column {quote(column)}, and {has} has one; give all files of a folder the same columns, "
        "name those to learn from in data.features, or move the file away.",
    )


def _text_in_some(frames: list[pd.DataFrame]) -> set[str]:
    """Columns that have text in one of the files, and other values in another."""
    kinds: dict[str, set[bool]] = {}
    for frame in frames:
        for name in frame.columns[frame.notna().any().to_numpy()]:
            kinds.setdefault(name, set()).add(pd.api.types.is_string_dtype(frame[name]))
    return {name for name, found in kinds.items() if len(found) > 1}


def wanted_columns(available: list[str], data: Data, uri: str, default_target: str | None = None) -> tuple[list[str], str]:
    """Columns to read, the target last, and the target."""
    target = data.target or default_target
    if target is None:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"data.target is not set: name the column to predict; columns of {uri}: {listing(available)}.",
        )
    features = data.features if data.features is not None else _all_but(target, available, uri)
    for name in [target, *features]:
        if name not in available:
            raise UserError(FailureReason.DATA_INVALID, f"column {quote(name)} is not in {uri}; columns: {listing(available)}.")
        if available.count(name) > 1:
            raise UserError(
                FailureReason.DATA_INVALID, f"{uri} has {available.count(name)} columns named {quote(name)}; rename or remove one."
            )
    if target in features:
        raise UserError(FailureReason.RECIPE_INVALID, f"data.features lists the target {quote(target)}; leave it out.")
    if not features:
        raise UserError(FailureReason.DATA_INVALID, f"{uri} has no column besides the target {quote(target)} to learn from.")
    return [*features, target], target


def _all_but(target: str, available: list[str], uri: str) -> list[str]:
    """The columns but `target` and pandas' row labels: where a file is sorted, the row tells the label."""
    features = [name for name in available if name != target and not _ROW_LABELS.fullmatch(name)]
    nameless = next((name for name in features if _NAMELESS.fullmatch(name)), None)
    if nameless is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"column {available.index(nameless) + 1} of {uri} has no name, as row labels that pandas wrote; name it, or list the "
            "columns to learn from in data.features.",
        )
    return features


def _read_columns(path: Path, format_: Format) -> list[str]:
    """Names as written: pandas would make others of those that are empty or there twice."""
    match format_:
        case Format.PARQUET:
            import pyarrow.parquet

            return list(pyarrow.parquet.read_schema(path).names)
        case Format.CSV:
            return [str(name) for name in pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]]
        case _:
            return list(_read_json(path).columns)


def text_columns(steps: Sequence[Step]) -> set[str]:
    """Columns whose first step casts them to categories: a CSV's "01234" stays what it is."""
    seen: set[str] = set()
    text: set[str] = set()
    for step in steps:
        if step.drop_duplicates or step.drop_missing:  # these change no value
            continue
        if step.cast and step.cast.to is CastType.CATEGORY:
            text |= set(step.cast.columns) - seen
        if step.value.columns is None:  # all numeric columns, so from here on none is as it was
            return text
        seen |= set(step.value.columns)
    return text


def _read(path: Path, format_: Format, available: list[str], columns: list[str], text: set[str]) -> pd.DataFrame:
    match format_:
        case Format.PARQUET:
            return _read_parquet(path, columns)
        case Format.CSV:
            places = [available.index(name) for name in columns]
            types = {place: str for name, place in zip(columns, places, strict=True) if name in text}
            return _read_csv(path, len(available), types)[places].set_axis(columns, axis=1)
        case _:
            return _read_json(path)[columns]


def _read_parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    """Columns as other tools see them: pandas' metadata would make row labels of some. Whole numbers stay whole beside nulls."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path, columns=columns, partitioning=None)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame[columns]


def _read_csv(path: Path, fields: int, types: dict[int, type[str]]) -> pd.DataFrame:
    """Every column, by its place, as `usecols` would hide rows with too many fields.

    Only an empty cell is missing: to the served graph "NA" and "None" are words like any other. Surplus fields in every row, which
    pandas by itself takes for row labels, and so shifts the rest, are an error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(
                path,
                header=0,
                names=list(range(fields)),
                dtype=types,
                keep_default_na=False,
                na_values=[""],
                low_memory=False,
                index_col=False,
            )
        except pd.errors.ParserWarning as error:
            raise ValueError("its rows have more fields than its first line has names") from error


def _read_json(path: Path) -> pd.DataFrame:
    """Values as written: pandas' own reader takes "007" for seven and some names for dates."""
    records = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                records.append(_json_object(line, number))
    return pd.DataFrame.from_records(records)


def _json_object(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is not an object")
    return record


def _unreadable(where: str, format_: Format, error: Exception) -> UserError:
    detail = str(error).strip().replace("\n", " ")[:200].rstrip(".")
    return UserError(
        FailureReason.DATA_INVALID,
        f"{where} is not readable as {format_.value}: {detail or type(error).__name__}; repair it, or set data.format.",
    )


# --- types --------------------------------------------------------------------------------------------------------------------


def features_of(frame: pd.DataFrame, uri: str) -> pd.DataFrame:
    """Each column as float32 (NaN: missing) or Python strings ("": missing): what a served model gets is what it learns from."""
    return pd.DataFrame({name: canonical(frame[name], uri) for name in frame.columns}, index=frame.index)


def canonical(series: pd.Series, uri: str) -> pd.Series:
    """A raw column as float32 or strings.

    Raises:
        UserError: DataInvalid where cells are lists or objects.
    """
    if _is_numeric(series):
        values = series.astype(object).where(series.notna(), np.nan)
        try:
            numbers = pd.to_numeric(values, errors="raise").to_numpy(dtype=np.float64)
        except OverflowError:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"column {quote(series.name)} of {uri} has whole numbers beyond 1e308; write them as text, or leave it out of "
                "data.features.",
            ) from None
        return pd.Series(numbers.astype(np.float32), index=series.index, name=series.name)
    nested = next((cell for cell in series if isinstance(cell, list | dict | tuple | set | np.ndarray)), None)
    if nested is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"column {quote(series.name)} of {uri} holds nested values such as {quote(nested)}; flatten it, or leave it out of "
            "data.features.",
        )
    text = ["" if missing else str(cell) for cell, missing in zip(series, series.isna(), strict=True)]
    return pd.Series(text, index=series.index, name=series.name, dtype=object)


def _is_numeric(series: pd.Series) -> bool:
    if pd.api.types.is_bool_dtype(series) or pd.api.types.is_numeric_dtype(series):
        return not pd.api.types.is_complex_dtype(series)
    if series.dtype != object:
        return False
    kinds = (bool, int, float, decimal.Decimal, np.number, np.bool_)
    return all(isinstance(cell, kinds) for cell, missing in zip(series, series.isna(), strict=True) if not missing)


def missing_labels(series: pd.Series) -> pd.Series:
    """Which rows have no target: a null, or text without a character, whatever the format can tell apart."""
    return series.isna() | pd.Series([isinstance(cell, str) and not cell for cell in series], index=series.index, dtype=bool)


def canonical_target(series: pd.Series, name: str, task: Task) -> Array:
    """The target as float64 (regression), int64 (classes that are whole numbers) or Python strings; nothing is missing.

    Raises:
        UserError: DataInvalid where regression has text, or classification has fractions or labels of several types.
    """
    first = {_label_type(cell): cell for cell in reversed(series.tolist())}
    if task is Task.REGRESSION:
        if set(first) - {"numbers"}:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"target {quote(name)} has values such as {quote(no_number(series))}; training.task regression needs numbers: "
                "correct them (a missing value is an empty cell), set it to classification, or choose another target.",
            )
        return _finite(series, name)
    if len(first) > 1:  # as text they would be one class
        (one, example), (other, another), *_ = sorted(first.items())
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(name)} has labels of two types, {one} such as {_spelled(example)} and {other} such as "
            f"{_spelled(another)}; write all of them as text.",
        )
    if set(first) == {"numbers"}:
        return _whole(series, name)
    # JSON's spelling of booleans; text as it is.
    return np.array([str(v).lower() if isinstance(v, bool | np.bool_) else str(v) for v in series], dtype=object)


def _label_type(cell: object) -> str:
    if isinstance(cell, bool | np.bool_):
        return "booleans"
    return "numbers" if isinstance(cell, int | float | decimal.Decimal | np.number) else "text"


def _spelled(cell: object) -> str:
    return quote(cell) if _label_type(cell) == "text" else json.dumps(cell, default=str)


def _finite(series: pd.Series, name: str) -> Array:
    """float64 that also fit into the model's float32."""
    try:
        values: Array = series.to_numpy(dtype=np.float64)
    except OverflowError:
        values = np.array([np.inf])
    if not np.isfinite(values).all():
        raise UserError(FailureReason.DATA_INVALID, f"target {quote(name)} has infinite values; remove these rows.")
    if np.abs(values).max(initial=0) > _LARGEST:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(name)} has values beyond {_LARGEST:.2g}, the largest that the model can learn; use another unit.",
        )
    return values


def _whole(series: pd.Series, name: str) -> Array:
    """int64, exactly: class numbers may be long identifiers, which floats would merge."""
    whole = pd.api.types.is_integer_dtype(series) or all(isinstance(cell, int | np.integer) for cell in series)
    cells = series.tolist()
    if not whole:
        values = series.to_numpy(dtype=np.float64)
        fractions = values[~np.isfinite(values) | (values != np.floor(values))]
        if len(fractions):
            raise UserError(
                FailureReason.DATA_INVALID,
                f"target {quote(name)} has fractions such as {fractions[0]:g}; training.task classification needs classes: set it "
                "to regression, or choose another target.",
            )
        cells = values.tolist()
    large = next((cell for cell in cells if not -_EXACT[whole] <= cell < _EXACT[whole]), None)
    if large is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(name)} has class numbers too large to be told apart, such as {large:g}; write them as text.",
        )
    return np.array([int(cell) for cell in cells], dtype=np.int64)

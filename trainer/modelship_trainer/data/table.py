"""Tables: the raw columns of CSV, Parquet and JSON Lines."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from modelship_trainer.csv_rows import CsvError, Dialect, other_separator
from modelship_trainer.data.csv_table import header_of, read_columns
from modelship_trainer.data.folders import Partitions
from modelship_trainer.data.source import Source
from modelship_trainer.errors import UserError, is_store_error, listing, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Csv, Data, Format, Quote
from modelship_trainer.values import text_of

_UNREADABLE = (ValueError, OSError, OverflowError, RecursionError, EOFError, zlib.error)
"""What broken files raise: pyarrow's and pandas' own errors are ValueErrors, those of a cut .gz are not."""
_ROW_LABELS = re.compile(r"__index_level_\d+__")
"""What pandas calls the row labels that it puts into a Parquet file."""
_SEPARATORS = re.compile(r"[,;\t|]")
"""In a header that seems to be one column's: what the cells are really separated by."""
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
    csv = data.csv or Csv()
    folders = Partitions(source, text)
    first: list[str] | None = None
    for place, (path, name) in enumerate(zip(source.paths, source.names, strict=True)):
        where = source.uri if len(source.names) == 1 else f"{source.uri}/{name}"
        try:
            available = _read_columns(path, format_, csv)
            _same_columns(first, available, source, name, data, format_)
            first = first or available
            columns, target = wanted_columns(folders.with_names(available, where), data, where, format_=format_)
            inside = folders.inside(columns, available)
            frames.append(folders.fill(_read(path, format_, csv, inside, text), columns, place))
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


def wanted_columns(
    available: list[str], data: Data, uri: str, default_target: str | None = None, format_: Format | None = None
) -> tuple[list[str], str]:
    """Columns to read, the target last, and the target."""
    target = data.target or default_target
    if target is None:
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"data.target is not set: name the column to predict; columns of {uri}: {listing(available)}.",
        )
    features = data.features if data.features is not None else _all_but(target, available, uri)
    for name in [target, *features]:
        if name not in available and format_ is Format.CSV and len(available) == 1 and _SEPARATORS.search(available[0]):
            raise UserError(FailureReason.DATA_INVALID, f"column {quote(name)} is not in {uri}; {other_separator(available)}.")
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


def _read_columns(path: Path, format_: Format, csv: Csv) -> list[str]:
    """Names as written, in NFC."""
    match format_:
        case Format.PARQUET:
            import pyarrow.parquet

            return [text_of(name) for name in pyarrow.parquet.read_schema(path).names]
        case Format.CSV:
            return header_of(path, _dialect(csv))
        case _:
            return list(dict.fromkeys(name for record in _json_records(path) for name in record))


def _read(path: Path, format_: Format, csv: Csv, columns: list[str], text: set[str]) -> pd.DataFrame:
    match format_:
        case Format.PARQUET:
            return _read_parquet(path, columns)
        case Format.CSV:
            return read_columns(path, columns, text, _dialect(csv), csv.decimal.value)
        case _:
            return _read_json(path, columns)


def _dialect(csv: Csv) -> Dialect:
    return Dialect(csv.separator, None if csv.quote is Quote.NONE else csv.quote.value, csv.encoding.value)


def _read_parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    """Columns as other tools see them: pandas' metadata would make row labels of some. Whole numbers stay whole beside nulls."""
    import pyarrow.parquet

    written = {text_of(name): name for name in pyarrow.parquet.read_schema(path).names}
    wanted = [written[name] for name in columns]
    # Not buffered as a whole before it is decoded: the file is on a disk, and that would be all of it once more.
    table = pyarrow.parquet.read_table(path, columns=wanted, partitioning=None, pre_buffer=False)
    frame: pd.DataFrame = table.to_pandas(
        ignore_metadata=True, integer_object_nulls=True, date_as_object=True, split_blocks=True, self_destruct=True
    )
    del table  # each column was freed as soon as it was taken over
    pyarrow.default_memory_pool().release_unused()
    return frame[wanted].set_axis(columns, axis=1)


def _read_json(path: Path, columns: list[str]) -> pd.DataFrame:
    """Values as written: pandas' own reader takes "007" for seven and some names for dates."""
    cells: dict[str, list[Any]] = {name: [] for name in columns}
    for record in _json_records(path):
        for name, values in cells.items():
            values.append(record.get(name))
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in cells.items()})


def _json_records(path: Path) -> Iterator[dict[str, Any]]:
    r"""An object per line, names in NFC; lines end with \n, \r\n or \r."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield {text_of(name): value for name, value in _json_object(line, number).items()}


def _json_object(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is not an object")
    return record


def _unreadable(where: str, format_: Format, error: Exception) -> UserError:
    if isinstance(error, CsvError):
        return UserError(FailureReason.DATA_INVALID, f"{where} is not readable as csv: {error}.")
    detail = str(error).strip().replace("\n", " ")[:200].rstrip(".")
    return UserError(
        FailureReason.DATA_INVALID,
        f"{where} is not readable as {format_.value}: {detail or type(error).__name__}; repair it, or set data.format.",
    )

"""Columns of a CSV file: the cells that `csv_rows` reads, as numbers where all cells of a column are numbers, else as text.

Files whose quotes are all where they belong are read by pyarrow, several times as fast; whatever is odd in a file is left to
`csv_rows`, which reads it or says what is wrong. Both give the same cells (a test compares them), and neither holds more than a
part of the file beside the columns.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from modelship_trainer.csv_rows import Dialect, rows_of
from modelship_trainer.values import number_of

_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_CHUNK = 1 << 20
_ROWS = 8192
"""Rows at a time from `csv_rows`."""
_EXACT = 2.0**53
"""Whole numbers from here on are kept as Python integers: floats would merge them."""


def header_of(path: Path, dialect: Dialect) -> list[str]:
    """Names of the columns, in NFC. Raises CsvError, OSError, EOFError, zlib.error."""
    with _open(path) as file:
        return next(rows_of(file, dialect))


def read_columns(path: Path, names: Sequence[str], text: set[str], dialect: Dialect, decimal: str = ".") -> pd.DataFrame:
    """The named columns; an empty cell is missing, and nothing else is.

    A column is float64 where all its cells are numbers (whole ones from 2^53 on make it one of Python's numbers), unless it is in
    `text`; else strings.

    Raises:
        CsvError: the file is not a table, see `csv_rows.rows_of`.
        OSError, EOFError, zlib.error: the file cannot be read.
    """
    header = header_of(path, dialect)
    places = [header.index(name) for name in names]
    columns = [_Column(name in text, decimal) for name in names]
    _fill(columns, lambda: _batches(path, header, places, dialect))
    return pd.DataFrame({name: column.values() for name, column in zip(names, columns, strict=True)})


def _fill(columns: list[_Column], batches: Callable[[], Iterator[list[pa.Array]]]) -> None:
    """Read the file; once more for columns whose first cells were numbers and whose later ones are not."""
    for batch in batches():
        for column, cells in zip(columns, batch, strict=True):
            column.add(cells)
    again = [place for place, column in enumerate(columns) if column.again]
    if again:
        for place in again:
            columns[place].start_again()
        for batch in batches():
            for place in again:
                columns[place].add(batch[place])


class _Column:
    """What was read of a column so far."""

    def __init__(self, text: bool, decimal: str) -> None:
        self._decimal = decimal
        self._parts: list[Any] = []
        self._numeric = not text
        self.again = False
        """Earlier cells are gone as text."""

    def start_again(self) -> None:
        self._parts, self.again = [], False

    def add(self, cells: pa.Array) -> None:
        if self._numeric:
            numbers = _numbers(cells, self._decimal)
            if numbers is not None:
                self._parts.append(numbers)
                return
            self._numeric, self.again = False, bool(self._parts)
        if not self.again:
            self._parts.append(cells)

    def values(self) -> pd.Series:
        if not self._parts:
            return pd.Series([], dtype=object)
        if self._numeric:
            return pd.Series(self._parts[0] if len(self._parts) == 1 else np.concatenate(self._parts))
        return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array(self._parts)).astype("str"))


def _numbers(cells: pa.Array, decimal: str) -> npt.NDArray[Any] | None:
    """Cells as `values.number_of` reads them, NaN where they are missing; None where one is no number."""
    if decimal != ".":
        if pc.any(pc.match_substring(cells, ".")).as_py():
            return None
        cells = pc.replace_substring(cells, decimal, ".")
    try:
        numbers: npt.NDArray[Any] = pc.cast(cells, pa.float64()).to_numpy(zero_copy_only=False)
        # pyarrow also reads nan and inf, which are words to us, and makes infinity of what is too large.
        plain = bool(np.isfinite(numbers).sum() == len(cells) - cells.null_count)
    except pa.ArrowInvalid:
        plain = False
    if not plain:
        try:  # the first ones alone, as text is text from its first cell on
            _each_number(cells.slice(0, 16))
            numbers = _each_number(cells)
        except ValueError:
            return None
    if np.nanmax(np.abs(numbers), initial=0.0) >= _EXACT:
        return np.array([_exact(cell) for cell in cells.to_pylist()] + [None], dtype=object)[:-1]
    return numbers


def _each_number(cells: pa.Array) -> npt.NDArray[np.float64]:
    return np.array([np.nan if cell is None else number_of(cell) for cell in cells.to_pylist()], dtype=np.float64)


def _exact(cell: str | None) -> float | int:
    if cell is None:
        return np.nan
    try:
        return int(cell) if "_" not in cell else number_of(cell)
    except ValueError:
        return number_of(cell)


# --- the two ways of reading --------------------------------------------------------------------------------------------------


class _Odd(Exception):
    """Something that pyarrow might read otherwise than `csv_rows`."""


def _batches(path: Path, header: list[str], places: list[int], dialect: Dialect) -> Iterator[list[pa.Array]]:
    """String arrays of the columns at `places`, a part of the rows at a time; null where a cell is empty."""
    done = 0
    try:
        for batch in _fast(path, header, places, dialect):
            done += len(batch[0])
            yield batch
    except (_Odd, pa.ArrowInvalid):
        yield from _slow(path, places, dialect, done)


def _slow(path: Path, places: list[int], dialect: Dialect, skip: int) -> Iterator[list[pa.Array]]:
    with _open(path) as file:
        rows = islice(rows_of(file, dialect), 1 + skip, None)
        while chunk := list(islice(rows, _ROWS)):
            columns = list(zip(*chunk, strict=True))
            yield [pa.array([cell or None for cell in columns[place]], pa.string()) for place in places]


def _fast(path: Path, header: list[str], places: list[int], dialect: Dialect) -> Iterator[list[pa.Array]]:
    names = [str(place) for place in range(len(header))]
    wanted = [names[place] for place in places]
    quote = dialect.quote or False
    with _open(path) as file:
        reader = pyarrow.csv.open_csv(
            io.BufferedReader(_Watched(file, dialect), _CHUNK),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=4 * _CHUNK, use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=dialect.separator, quote_char=quote, double_quote=bool(quote), newlines_in_values=bool(quote)
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(dict.fromkeys(wanted)),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
        first = 1  # the header
        for batch in reader:
            columns = [batch.column(name).slice(first) for name in wanted]
            first = 0
            if len(header) > 1 and _has_row(columns, [header[place] for place in places]):
                raise _Odd  # perhaps the header again
            yield columns


def _has_row(columns: list[pa.Array], row: list[str]) -> bool:
    rows: pa.Array | None = None
    for column, cell in zip(columns, row, strict=True):
        cells = column if rows is None else column.take(rows)
        found = pc.indices_nonzero(pc.fill_null(pc.equal(cells, cell), False))
        rows = found if rows is None else rows.take(found)
        if not len(rows):
            return False
    return True


class _Watched(io.RawIOBase):
    """A file as UTF-8, watched for what pyarrow does not refuse: NULs, and quotes that neither begin nor end a cell."""

    def __init__(self, file: BinaryIO, dialect: Dialect) -> None:
        self._file = file
        self._decoder = None if dialect.encoding == "utf-8" else codecs.getincrementaldecoder(dialect.encoding)()
        self._quote = dialect.quote.encode() if dialect.quote else None
        beside = f"\r\n{dialect.separator}{dialect.quote or ''}".encode()
        self._beside = np.zeros(256, dtype=bool)
        self._beside[list(beside)] = True
        self._left = b""
        self._seen = b"\n"
        self._inside = False
        self._begun = False
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and not self._ended:
            self._left = self._next()
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size

    def _next(self) -> bytes:
        chunk = self._file.read(_CHUNK)
        self._ended = not chunk
        if self._decoder is not None:
            try:
                chunk = self._decoder.decode(chunk, final=self._ended).encode()
            except UnicodeError as error:
                raise _Odd from error
        if not self._begun and chunk:
            self._begun, chunk = True, chunk.removeprefix(codecs.BOM_UTF8)
        if b"\0" in chunk:
            raise _Odd
        if self._quote is not None:
            self._check_quotes(chunk)
        return chunk

    def _check_quotes(self, chunk: bytes) -> None:
        """Quotes alternately open and close a cell; one doubled within a cell closes it and opens it again."""
        assert self._quote is not None  # noqa: S101 - the caller's case
        seen = self._seen + (b"\n" if self._ended else chunk)
        self._seen = seen[-2:]  # the last is decided when what follows it is known
        if self._quote in seen:
            data = np.frombuffer(seen, dtype=np.uint8)
            quotes = np.flatnonzero(data[1:-1] == self._quote[0]) + 1
            opening = (np.arange(len(quotes)) + self._inside) % 2 == 0
            outer = np.where(opening, data[quotes - 1], data[quotes + 1])
            if not self._beside[outer].all():
                raise _Odd
            self._inside ^= bool(len(quotes) % 2)
        if self._ended and self._inside:
            raise _Odd


def _open(path: Path) -> BinaryIO:
    opened: BinaryIO = _OPEN.get(path.suffix, open)(path, "rb")
    return opened

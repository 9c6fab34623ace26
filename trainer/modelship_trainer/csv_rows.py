"""Rows of a CSV file, each cell as the text that it is, read strictly: what is not a table is an error with its line.

The standard library alone: training, evaluation and `modelship predict` read the same cells.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple


class Dialect(NamedTuple):
    """How a CSV file is written."""

    separator: str = ","
    quote: str | None = '"'
    """What surrounds cells with separators or line breaks in them, twice within such a cell; None: nothing does."""
    encoding: str = "utf-8"


COMMAS = Dialect()


class CsvError(ValueError):
    """The file is not a table; the message says where, and what to do."""


def rows_of(file: BinaryIO, dialect: Dialect = COMMAS) -> Iterator[list[str]]:
    r"""The header, in NFC, then the rows, each with as many cells as the header.

    Rows end with \n, \r\n or \r outside of quotes, and with nothing else; lines without a character are left out.

    Raises:
        CsvError: a row without the header's number of cells, a quote that is not closed or that ends within a cell, the header
            again among the rows, a NUL, bytes that are not in the encoding, no line at all.
        OSError, EOFError, zlib.error: the file cannot be read.
    """
    lines = _Lines(file, dialect.encoding)
    header: list[str] | None = None
    for start, row in _records(lines, dialect):
        if header is None:
            header = [unicodedata.normalize("NFC", name) for name in row]
            yield header
        elif len(row) == len(header):
            if len(row) > 1 and row == header:
                raise CsvError(f"line {start} is the header again; remove it")
            yield row
        else:
            raise CsvError(_other_count(len(row), len(header), start, header, lines.cut))
    if header is None:
        raise CsvError("it has no line; the first must name the columns")


def _records(lines: _Lines, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line that it begins on."""
    csv.field_size_limit(2**31 - 1)
    quoting = {"quoting": csv.QUOTE_NONE} if dialect.quote is None else {"quotechar": dialect.quote}
    reader = csv.reader(lines, delimiter=dialect.separator, strict=True, **quoting)
    while True:
        start = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CsvError(_quoting(start, error)) from error
        if row:
            yield start, row


class _Lines:
    """The file's lines with their ends, counted."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._encoding = encoding
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")
        self.number = 0
        """Of the line that was read last, from 1."""
        self.cut = False
        """The line that was read last has no end: it is the file's last."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        try:
            line = next(self._text)
        except UnicodeError as error:
            raise CsvError(_not_encoded(self._encoding, error)) from error
        self.number += 1
        self.cut = not line.endswith(("\n", "\r"))
        if "\0" in line:
            raise CsvError(f"line {self.number} has a NUL character, which no text has; write the file again")
        return line


def _other_count(found: int, wanted: int, line: int, header: list[str], cut: bool) -> str:
    told = f"line {line} has {found} {'cell' if found == 1 else 'cells'}, and the header has {wanted}"
    if cut and found < wanted:
        return f"{told}; it is the last and has no line break: the file was cut, copy it again"
    if found > wanted and wanted == 1 and ";" in header[0]:
        return f"{told}; {other_separator(header)}"
    return f"{told}; quote cells that have separators in them, or correct the line"


def other_separator(header: list[str]) -> str:
    """What to do about a file that seems to have one column."""
    return f'its header is the one column "{header[0][:60]}": cells must be separated by commas, or set data.csv.separator'


def _quoting(start: int, error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return f"line {start} opens a quote that is not closed; close it, or double a quote that is a character of the cell"
    return f"the row at line {start} has text after a closing quote; double a quote that is a character of the cell"


def _not_encoded(encoding: str, error: UnicodeError) -> str:
    other = "save it as UTF-8, or set data.csv.encoding, such as latin-1 or windows-1252"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not {encoding.upper()} text, and has the byte 0x{error.object[error.start]:02x}; {other}"
    return f"it is not {encoding.upper()} text; {other}"

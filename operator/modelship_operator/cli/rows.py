"""Rows of a file as training reads them: CSV by the same reader, JSON Lines cut at line feeds only, names in NFC."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from modelship_trainer.csv_rows import CsvError, Dialect, rows_of

Row = Mapping[str, Any]
"""Values by column: text of a CSV file, what JSON has else."""


class InputError(ValueError):
    """The rows are not what the model takes; the message says which, where, and what to change."""


def read_rows(path: Path, dialect: Dialect | None = None) -> list[Row]:
    """Rows of a CSV file with a header, a JSON file with a list of objects, or a file with a JSON object per line.

    Raises:
        InputError: the file is missing, has no rows, or is none of these.
    """
    try:
        rows = _read_json(path) if path.suffix in {".json", ".jsonl", ".ndjson"} else _read_csv(path, dialect or Dialect())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if not rows:
        raise InputError(f"{path}: no rows")
    return rows


def _read_csv(path: Path, dialect: Dialect) -> list[Row]:
    with path.open("rb") as file:
        try:
            header, *rows = rows_of(file, dialect)
        except CsvError as error:
            raise InputError(f"{path}: {_as_options(str(error))}") from error
    _told_apart(header, str(path))
    return [dict(zip(header, row, strict=True)) for row in rows]


def _as_options(message: str) -> str:
    """The recipe's fields by the names of the command's options."""
    return message.replace("data.csv.separator", "--separator").replace("data.csv.encoding", "--encoding")


def _read_json(path: Path) -> list[Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; give CSV, JSON or JSON Lines") from error
    if path.suffix == ".json":
        found = _parsed(text, str(path))
        found = [found] if isinstance(found, dict) else found
    else:
        lines = enumerate(text.split("\n"), 1)
        found = [_parsed(line, f"{path}: line {number}") for number, line in lines if line.strip(" \t\r")]
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f'{path}: must be a list of objects, one per row, such as [{{"age": 41, "plan": "basic"}}]')
    return [_named(row, f"{path}: row {number}") for number, row in enumerate(found, 1)]


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise InputError(f"{where}: not JSON: {error}") from error


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON; write null where a number is missing")


def _named(row: dict[str, Any], where: str) -> Row:
    names = [unicodedata.normalize("NFC", name) for name in row]
    _told_apart(names, where)
    return dict(zip(names, row.values(), strict=True))


def _told_apart(names: Iterable[str], where: str) -> None:
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"{where}: column {', '.join(repeated)} is named more than once")

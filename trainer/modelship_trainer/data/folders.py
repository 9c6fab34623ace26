"""Which files of a folder are the data, what is left out, and what folders' names say: labels, or columns (`year=2024/`)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pandas as pd

from modelship_trainer.data.source import LeftOut, Source
from modelship_trainer.errors import UserError, listing, quote
from modelship_trainer.locations import shown
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Format
from modelship_trainer.values import kind_of

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_ENDINGS = {
    ".csv": Format.CSV,
    ".csv.gz": Format.CSV,
    ".parquet": Format.PARQUET,
    ".jsonl": Format.JSON_LINES,
    ".ndjson": Format.JSON_LINES,
    ".npz": Format.NPZ,
    **{ending: Format.IMAGE_FOLDER for ending in IMAGE_ENDINGS},
}
_OTHER = "not of the data's format"
_UNLABELLED = "image outside a label's folder"
_PARTS = ({"train", "training"}, {"val", "valid", "validation", "dev", "eval", "test", "testing"})
"""Folders that people divide their data into."""
_OF_TOOLS = {".git", ".ipynb_checkpoints", ".thumbnails", ".cache", ".trash", ".tmb", ".idea", ".vscode", ".hoodie"}
"""Hidden folders that programs make; an image within is a copy or a picture of their own."""
_TABLE_STORES = {"_delta_log": "Delta Lake", ".hoodie": "Hudi", "_temporary": "unfinished Spark"}
_ICEBERG = re.compile(r"(^|/)metadata/[^/]*\.metadata\.json$")


def choose(source: Source, wanted: Format | None) -> tuple[Source, Format]:
    """The source with the files that are read alone, and their format: `wanted`, or what their endings tell.

    Raises:
        UserError: RecipeInvalid where the format cannot be told; DataInvalid where there are files of several, or where a table's
            files alone do not tell its rows (Delta Lake, ...).
    """
    found = {name: format_of(name) for name in source.names}
    told = sorted({format_ for format_ in found.values() if format_})
    if len(source.names) == 1 or not source.root.is_dir():
        format_ = wanted or (told[0] if told else None)
        if format_ is None:
            raise _untold(source)
        return (_of(source, found, format_) if format_ is Format.IMAGE_FOLDER else source), format_
    if wanted is None and len(told) > 1:
        examples = {format_: next(name for name in source.names if found[name] is format_) for format_ in told}
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{source.uri} has files of several formats: "
            f"{', '.join(f'{format_} ({name})' for format_, name in examples.items())}; set data.format, or move the others away.",
        )
    format_ = wanted or (told[0] if told else None)
    if format_ is None:
        raise _untold(source)
    if format_ is not Format.IMAGE_FOLDER:
        _check_table_store(source)
    return _of(source, found, format_), format_


def format_of(name: str) -> Format | None:
    """What a file's ending tells; None where it tells nothing."""
    lower = os.path.basename(name).lower()
    return next((format_ for ending, format_ in _ENDINGS.items() if lower.endswith(ending)), None)


def _of(source: Source, found: dict[str, Format | None], format_: Format) -> Source:
    """The source's files of `format_`; where no ending tells it, those whose endings tell nothing."""
    names = [name for name in source.names if found[name] is format_]
    if not names and format_ is not Format.IMAGE_FOLDER:
        names = [name for name in source.names if found[name] is None]
    why = dict.fromkeys(set(source.names) - set(names), _OTHER)
    if format_ is Format.IMAGE_FOLDER and source.root.is_dir():
        why |= {name: _UNLABELLED for name in names if "/" not in name}
        names = [name for name in names if "/" in name]
    left_out = [LeftOut(name, reason) for name, reason in sorted(why.items())]
    return replace(source, names=tuple(names), left_out=(*source.left_out, *left_out))


def _untold(source: Source) -> UserError:
    return UserError(
        FailureReason.RECIPE_INVALID,
        f"the format of {shown(source.uri)} cannot be told from its ending; set data.format to one of {listing(list(Format))}.",
    )


def _check_table_store(source: Source) -> None:
    """Raises UserError: DataInvalid where files that are no longer, or not yet, rows of the table lie beside the others."""
    names = [*source.names, *(entry.name for entry in source.left_out)]
    parts = {part for name in names for part in name.split("/")}
    kind = next((kind for part, kind in _TABLE_STORES.items() if part in parts), None)
    kind = kind or ("Iceberg" if any(map(_ICEBERG.search, source.names)) else None)
    if kind is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{source.uri} is a folder of {kind}, whose files hold rows that are not of the table; write the table to a folder of "
            "plain Parquet files.",
        )


def told(source: Source) -> list[str]:
    """What a person should know of the files of a folder: those left out, by why; parts that are joined. A sentence each."""
    sentences = []
    for why in dict.fromkeys(entry.why for entry in source.left_out):
        names = [entry.name for entry in source.left_out if entry.why == why]
        count = "one file" if len(names) == 1 else f"{len(names):,} files"
        sentences.append(f"left out {count} of {source.uri}, {why}: {listing(names, limit=5)}.")
    if format_of(source.names[0] if source.names else "") is not Format.IMAGE_FOLDER and (parts := _parts(source.names)):
        sentences.append(
            f"{source.uri} is read as one table, {listing(parts)} together, and divided by data.split; name one of them in "
            "data.source to leave the others out."
        )
    return sentences


def _parts(names: Iterable[str]) -> list[str]:
    """Files or folders at the top that are called as parts are; empty where there is no training part among them, or no other."""
    tops = {name.split("/")[0] for name in names}
    called = {top: top.partition(".")[0].lower() for top in tops}
    train, other = ([top for top in sorted(tops) if called[top] in words] for words in _PARTS)
    return [*train, *other] if train and other else []


# --- labels -------------------------------------------------------------------------------------------------------------------


def check_labels(source: Source, labels: Sequence[str]) -> None:
    """Raises UserError: DataInvalid where a folder that should be a label is none, or one that is none would be."""
    read = set(labels)
    for label in sorted(read):
        if not _is_unicode(label):
            raise UserError(
                FailureReason.DATA_INVALID, f"folder {quote(label)} of {source.uri} has a name that is not UTF-8; rename it."
            )
    parts = _parts(source.names) or [label for label in read if read == {label} and label.lower() in _PARTS[0] | _PARTS[1]]
    if parts and all(name.count("/") > 1 for name in source.names if name.split("/")[0] in parts):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{listing([quote(part) for part in parts])} of {source.uri} would be the labels; put the images of all parts into one "
            f"folder per label (data.split divides them), or set data.source to {source.uri.rstrip('/')}/{parts[0]}.",
        )
    for name in sorted(os.listdir(source.root)):
        why = _lost(source, name) if name not in read else None
        if why:
            raise UserError(FailureReason.DATA_INVALID, f"folder {quote(name)} of {source.uri} {why}.")
    if len(read) == 1 and all(name.count("/") > 1 for name in source.names):
        inner = f"{source.uri.rstrip('/')}/{labels[0]}"
        raise UserError(
            FailureReason.DATA_INVALID,
            f"all images of {source.uri} have the one label {quote(labels[0])}, the folder at the top; set data.source to {inner}.",
        )


def _lost(source: Source, name: str) -> str | None:
    """Why the folder at the top gives no label though it may be meant to; None where it is none of our business."""
    path = source.root / name
    if not path.is_dir() or name == "lost+found" or name.lower() in _OF_TOOLS:
        return None
    if name.startswith("."):
        images = any(format_of(file.name) is Format.IMAGE_FOLDER for file in path.iterdir())
        return "begins with a dot, and hidden folders are not read; rename it, or remove it" if images else None
    if path.is_symlink():
        return "is a link, and links to folders are not followed; copy the folder itself there"
    left_out = [entry for entry in source.left_out if entry.name.startswith(f"{name}/")]
    if not left_out:
        return "is empty, and would be no label; add its images, or remove it"
    return (
        f"has no image that is read, only files such as {quote(left_out[0].name)} ({left_out[0].why}); convert them "
        f"({listing(list(IMAGE_ENDINGS))} are read), or remove the folder"
    )


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- columns ------------------------------------------------------------------------------------------------------------------

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark call the folder of rows without a value."""


class Partitions:
    """Columns that the folders of a table's files give to all rows of a file: `year=2024/plan=gold/a.parquet`.

    A column is numbers where all its values are plainly written ones, no two of them of one value, and it is not in `text`; else
    text: `month=01` is text.

    Raises:
        UserError: DataInvalid where files differ in the columns that their folders name.
    """

    def __init__(self, source: Source, text: Collection[str] = ()) -> None:
        cells = [_cells_of(name) for name in source.names] if source.root.is_dir() else [{} for _ in source.names]
        _check_same(source, cells)
        self._values: dict[str, list[Any]] = {}
        for column in cells[0] if cells else ():
            written = [row[column] for row in cells]
            numeric = column not in text and kind_of(cell for cell in written if cell) == "number"
            self._values[column] = [_value(cell, numeric) for cell in written]

    def with_names(self, columns: list[str], where: str) -> list[str]:
        """The columns of a file and of its folders. Raises UserError: DataInvalid where one is both."""
        both = next((name for name in self._values if name in columns), None)
        if both is not None:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"{where} has a column {quote(both)} and lies in a folder {quote(both + '=...')}; rename the folder or the column.",
            )
        return [*columns, *self._values]

    def inside(self, columns: list[str], available: list[str]) -> list[str]:
        """Those of the wanted columns that are in the file; one at least, which tells the number of rows."""
        return [name for name in columns if name not in self._values] or available[:1]

    def fill(self, frame: pd.DataFrame, columns: list[str], place: int) -> pd.DataFrame:
        """The wanted columns, in their order: the file's, which `frame` has, and those of the folders of file number `place`."""
        if not self._values:
            return frame
        constant = {name: pd.Series([values[place]] * len(frame), index=frame.index) for name, values in self._values.items()}
        return pd.DataFrame({name: constant[name] if name in constant else frame[name] for name in columns})


def _cells_of(name: str) -> dict[str, str | None]:
    """By column, what the folders of a file's name say; None: missing."""
    pairs = [part.partition("=") for part in name.split("/")[:-1]]
    return {
        unquote(column): None if value in ("", _NO_VALUE) else unquote(value)
        for column, equals, value in pairs
        if equals and column
    }


def _check_same(source: Source, cells: Sequence[Mapping[str, object]]) -> None:
    other = next((place for place, columns in enumerate(cells) if set(columns) != set(cells[0])), None)
    if other is None:
        return
    has, lacks = (other, 0) if set(cells[other]) - set(cells[0]) else (0, other)
    column = next(name for name in cells[has] if name not in cells[lacks])
    raise UserError(
        FailureReason.DATA_INVALID,
        f"{source.names[has]} of {source.uri} lies in a folder {quote(column + '=...')}, which makes a column, and "
        f"{source.names[lacks]} lies in none such; move it.",
    )


def _value(cell: str | None, numeric: bool) -> float | str | None:
    if not numeric:
        return cell
    return math.nan if cell is None else float(cell)

"""The text of a value, and the value of a text: one definition for every format, for the clients, and for the gateway.

The standard library alone, as clients import it. The gateway has the same in Lua; both are tested against the table
`tests/support/values.json`.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import struct
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, Literal

Kind = Literal["number", "boolean", "text"]
"""What the cells of a column are, whatever format they were written in."""

_NUMBER = re.compile(r"[ \t]*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[ \t]*")
_PLAIN = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]+)?|[1-9](?:\.[0-9]+)?e[+-][0-9]{2,3})")
"""As people and programs write numbers, with an exponent only in the one way that `text_of` has it: `1e-05`, not `1E2`."""
_BOOLEANS = {
    spelling: value for value, word in ((True, "true"), (False, "false")) for spelling in (word, word.title(), word.upper())
}
_DIGITS_BELOW = 1e16
"""Whole floats below this, in magnitude, are written with all their digits; beyond it, with an exponent."""
_MISSING_TYPES = {"NAType", "NaTType"}
"""pandas' missing values, which this module cannot import."""


def text_of(value: Any) -> str:
    """The text of one value.

    - Missing (None, NaN, NaT): `""`. Booleans: `true`, `false`.
    - Whole numbers: their digits (`1.0` is `1`, `-0.0` is `0`), but floats from 1e16 on like other floats.
    - Other floats: the fewest digits that read back as the same float, of a float32 as the same float32, with an exponent of at
      least two digits where it is below -4 or from 16 on (`0.3`, `1e-05`, `1.5e+16`).
    - Dates: `2024-01-31`. Timestamps: `2024-01-31 10:00:00`, with six or nine digits of a second where it has a fraction, and with
      an offset where it has a zone; those at midnight without a zone are dates.
    - Bytes: UTF-8. Text: itself, in Unicode's NFC.

    Raises:
        ValueError: bytes that are not UTF-8; text with a lone surrogate; a list or an object.
    """
    if isinstance(value, str):
        return _normal(value)
    if isinstance(value, list | tuple | set | dict) or getattr(value, "shape", ()) != ():
        raise ValueError(f"no text, but nested values: {value!r}")
    if _is_missing(value):
        return ""
    kind = getattr(getattr(value, "dtype", None), "kind", "")  # of numpy's scalars
    if isinstance(value, bool) or kind == "b":
        return "true" if value else "false"
    if isinstance(value, int) or kind in ("i", "u"):
        return str(int(value))
    if isinstance(value, float) or kind == "f":
        return _text_of_float(float(value), single=kind == "f" and value.dtype.itemsize <= 4)
    return _text_of_other(value, kind)


def number_of(text: str) -> float:
    """The value of a number's text: `12`, `+1.5`, `.5`, `2.`, `1e-3`, with blanks or tabs around it. NaN for empty and blank text.

    Raises:
        ValueError: anything else, such as `12abc`, `1,5`, `0x10`, `1_000`, `nan`, `inf`, digits of other scripts, a value beyond
            float64.
    """
    found = _NUMBER.fullmatch(text)
    if found is None:
        if not text.strip(" \t"):
            return math.nan
        raise ValueError(f"not a number: {text!r}")
    value = float(found[1])
    if math.isinf(value):
        raise ValueError(f"beyond the largest float64: {text!r}")
    return value


def boolean_of(text: str) -> bool | None:
    """`true`, `True`, `TRUE` and the same of false; None for any other text."""
    return _BOOLEANS.get(text)


def kind_of(cells: Iterable[str]) -> Kind:
    """What text cells are, as labels or categories; empty ones are missing, and say nothing.

    Numbers where every cell is plainly written (`12`, `-1.50`, `1e-05`, but not `01`, `+1`, `1E2`) and no two spellings mean one
    value; booleans where every cell is one, in one spelling each; else text, just as the cells say: `01`, `1` and `10` are three.
    """
    spellings = {cell for cell in cells if cell}
    if not spellings:
        return "text"
    if all(_PLAIN.fullmatch(cell) for cell in spellings) and _distinct(spellings, decimal.Decimal):
        return "number"
    if all(cell in _BOOLEANS for cell in spellings) and _distinct(spellings, boolean_of):
        return "boolean"
    return "text"


def normal_text(text: str, kind: Kind) -> str:
    """A text cell as categories and labels of a column of this kind are written: `1.0` is `1` among numbers, `True` is `true` among
    booleans; text is only brought into NFC. A cell that is no such value is left as it is: it is like none of the others.
    """
    if kind == "number" and _PLAIN.fullmatch(text):
        return text_of(decimal.Decimal(text)) if "e" not in text else text_of(float(text))
    if kind == "boolean" and text in _BOOLEANS:
        return text_of(_BOOLEANS[text])
    return _normal(text)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in _MISSING_TYPES:
        return True
    scalar = isinstance(value, int | float | decimal.Decimal) or getattr(value, "shape", None) == ()
    return scalar and bool(value != value)


def _distinct(spellings: set[str], value: Callable[[str], Any]) -> bool:
    return len({value(spelling) for spelling in spellings}) == len(spellings)


def _normal(text: str) -> str:
    if text.isascii():
        return str(text)
    text.encode()  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return unicodedata.normalize("NFC", text)


def _text_of_float(value: float, *, single: bool) -> str:
    if value.is_integer() and abs(value) < _DIGITS_BELOW:
        return str(int(value))
    if not single or math.isinf(value):
        return repr(value)
    digits = next(digits for digits in range(1, 10) if _single(float(f"{value:.{digits - 1}e}")) == value)
    return repr(float(f"{value:.{digits - 1}e}"))


def _single(value: float) -> float:
    """The nearest float32; infinite where there is none."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _text_of_other(value: Any, kind: str) -> str:
    if isinstance(value, bytes | bytearray):
        return _normal(value.decode("utf-8"))
    if isinstance(value, decimal.Decimal):
        return _text_of_decimal(value)
    if isinstance(value, datetime.datetime):
        return _text_of_time(value.isoformat(sep=" "))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if kind == "M":  # numpy.datetime64, whose text has a T and as many digits as its unit
        return _text_of_time(_shorter_fraction(str(value).replace("T", " ")))
    return _normal(str(value))


def _text_of_decimal(value: decimal.Decimal) -> str:
    """As the float of the same value, where there is one that is written so; else with all digits."""
    if value == value.to_integral_value():
        return str(int(value))
    nearest = float(value)
    same = math.isfinite(nearest) and decimal.Decimal(repr(nearest)) == value
    return repr(nearest) if same else f"{value:f}".rstrip("0")


def _text_of_time(iso: str) -> str:
    return iso.removesuffix(" 00:00:00")


def _shorter_fraction(iso: str) -> str:
    """No fraction of a second where it is zero, else six digits, or nine where the last three are needed: as datetime writes it."""
    whole, dot, fraction = iso.partition(".")
    if not dot or not fraction.strip("0"):
        return whole
    return f"{whole}.{fraction[:9].rstrip('0'):0<6}" if len(fraction.rstrip("0")) <= 6 else f"{whole}.{fraction[:9]:0<9}"

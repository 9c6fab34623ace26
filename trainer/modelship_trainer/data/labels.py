"""What is to be predicted, as it was read: labels just as the file says, or values in float64."""

from __future__ import annotations

import decimal
import json
import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from modelship_trainer.data.columns import Reading, Use, Where, float64, merged_by_float32, texts
from modelship_trainer.data.dataset import Array
from modelship_trainer.data.steps import text_among_numbers
from modelship_trainer.errors import UserError, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Task
from modelship_trainer.values import Kind, kind_of, normal_text, number_of, text_of

_LARGEST = 1e37
"""Of a regression's target: an order of magnitude below float32's end, as (value - mean) must fit, too."""
_EXACT = {True: 2**63, False: 2**53}
"""Whole numbers below this are exact: as integers (True), as floats (False)."""
Classes = list[int | str]


def missing_labels(series: pd.Series) -> pd.Series:
    """Which rows have no target: a null, or text without a character, whatever the format can tell apart."""
    if series.dtype.kind in "biuf":
        return series.isna()
    return series.isna() | pd.Series(
        [isinstance(cell, str | bytes) and not cell for cell in series], index=series.index, dtype=bool
    )


def canonical_target(series: pd.Series, task: Task, reading: Reading, where: Where, classes: Classes | None = None) -> Array:
    """The target as float64 (regression), int64 (classes that are whole numbers) or Python strings; nothing is missing.

    With the `classes` of a model: in their type, so that the same label is the same class in every format.

    Raises:
        UserError: DataInvalid where regression has text, or classification has fractions or labels of several types.
    """
    if task is Task.REGRESSION:
        return _values(series, reading, where)
    if classes is not None:
        return _labels_of_model(texts(series, where), classes)
    if reading.use in (Use.TEXT, Use.CATEGORY) or (where.written and reading.use is Use.ANY):
        return _written_labels(texts(series, where), reading, where)
    return _typed_labels(series, reading, where)


# --- classification -----------------------------------------------------------------------------------------------------------


def _labels_of_model(labels: pd.Series, classes: Classes) -> Array:
    """Text in the spelling of the classes; whole numbers where the classes are, and text beside them, which is no class."""
    numbers = all(isinstance(label, int) for label in classes)
    kind: Kind = "number" if numbers else "boolean" if set(classes) <= {"true", "false"} else "text"
    normal = {label: normal_text(label, kind) for label in set(labels)}
    class_of = {text_of(label): label for label in classes}
    found = [class_of.get(normal[label], normal[label]) for label in labels]
    return np.array(found, dtype=np.int64 if all(isinstance(label, int) for label in found) else object)


def _written_labels(labels: pd.Series, reading: Reading, where: Where) -> Array:
    kind: Kind = "text" if reading.use is Use.TEXT else kind_of(set(labels))
    if kind == "number" and reading.use is Use.ANY:
        value = {text: _number(text) for text in set(labels)}
        return _whole([value[text] for text in labels], labels.name, where)
    return _strings([normal_text(text, kind) for text in labels])


def _number(text: str) -> int | float:
    value = decimal.Decimal(text)
    return int(value) if value == value.to_integral_value() else float(value)


def _typed_labels(series: pd.Series, reading: Reading, where: Where) -> Array:
    if series.dtype.kind in "iu" and series.dtype != np.uint64:
        return series.to_numpy(dtype=np.int64)  # type: ignore[no-any-return]
    first = {_label_type(cell): cell for cell in reversed(series.tolist())}
    if reading.use is Use.NUMBER:
        return _whole([_declared_number(cell, series, where) for cell in series.tolist()], series.name, where)
    if len(first) > 1:  # as text they would be one class
        (one, example), (other, another), *_ = sorted(first.items())
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(series.name)} has labels of two types, {one} such as {_spelled(example)} and {other} such as "
            f"{_spelled(another)}; {_as_text(series.name, where)}.",
        )
    if set(first) == {"numbers"}:
        return _whole([_plain(cell) for cell in series.tolist()], series.name, where)
    return _strings(texts(series, where))


def _label_type(cell: object) -> str:
    if isinstance(cell, bool | np.bool_):
        return "booleans"
    return "numbers" if isinstance(cell, int | float | decimal.Decimal | np.number) else "text"


def _plain(cell: int | float | decimal.Decimal) -> int | float:
    if isinstance(cell, decimal.Decimal):
        return int(cell) if cell == cell.to_integral_value() else float(cell)
    return int(cell) if isinstance(cell, np.integer) else float(cell) if isinstance(cell, np.floating) else cell


def _declared_number(cell: object, series: pd.Series, where: Where) -> int | float:
    if not isinstance(cell, bool | np.bool_):
        if isinstance(cell, int | float | decimal.Decimal | np.number):
            return _plain(cell)  # type: ignore[arg-type]
        try:
            number = number_of(text_of(cell))
        except ValueError:
            number = math.nan
        if not math.isnan(number):
            return _number(text_of(cell).strip(" \t"))
    raise UserError(
        FailureReason.DATA_INVALID,
        f"target {quote(series.name)} has {_spelled(cell)}, and data.types says that it is numbers; correct it, or "
        f"{_as_text(series.name, where)}.",
    )


def _spelled(cell: object) -> str:
    return quote(cell) if _label_type(cell) == "text" else json.dumps(cell, default=str)


def _as_text(name: object, where: Where) -> str:
    """The cure for labels that are no classes as they are."""
    if where.uri.endswith(".npz"):
        return "make the array text"
    return f"read them as text with data.types: {{{name}: text}}"


def _whole(cells: list[int | float], name: object, where: Where) -> Array:
    """int64, exactly: class numbers may be long identifiers, which floats would merge."""
    fraction = next((cell for cell in cells if not math.isfinite(cell) or cell != math.floor(cell)), None)
    if fraction is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(name)} has fractions such as {fraction:g}; training.task classification needs classes: set it "
            f"to regression, {_as_text(name, where)}, or choose another target.",
        )
    large = next((cell for cell in cells if not -_EXACT[isinstance(cell, int)] <= cell < _EXACT[isinstance(cell, int)]), None)
    if large is not None:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {quote(name)} has class numbers too large to be told apart, such as {large:g}; {_as_text(name, where)}.",
        )
    return np.array([int(cell) for cell in cells], dtype=np.int64)


def _strings(labels: object) -> Array:
    return np.array(list(labels), dtype=object)  # type: ignore[call-overload]


# --- regression ---------------------------------------------------------------------------------------------------------------


def _values(series: pd.Series, reading: Reading, where: Where) -> npt.NDArray[np.float64]:
    """float64 that the model's float32 can tell apart."""
    name = quote(series.name)
    if reading.use in (Use.TEXT, Use.CATEGORY):
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"data.types says that target {name} is {reading.use}, and training.task regression needs numbers; leave one of the "
            "two out.",
        )
    values = _as_numbers(series, reading, where)
    infinite = np.flatnonzero(~np.isfinite(values))
    if len(infinite):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {name} is infinite in {len(infinite):,} of {len(values):,} rows, the first row "
            f"{series.index[infinite[0]] + 1}; remove these rows.",
        )
    if np.abs(values).max(initial=0) > _LARGEST:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {name} has values beyond {_LARGEST:.2g}, the largest that the model can learn; use another unit.",
        )
    if where.for_training and merged_by_float32(values):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"target {name} has values near {np.median(values):.10g} that differ by about {values.std():.2g}, which the model's "
            "32-bit floats cannot tell apart, as it answers in the target's unit; subtract an offset (of times, the first) where "
            "the data is made.",
        )
    return values


def _as_numbers(series: pd.Series, reading: Reading, where: Where) -> npt.NDArray[np.float64]:
    types = {_label_type(cell) for cell in series.tolist()} if series.dtype == object or not _numeric(series) else {"numbers"}
    if types <= {"numbers"}:
        return float64(series)
    text = texts(series, where)
    if (where.written or reading.use is Use.NUMBER) and "booleans" not in types:
        try:
            return np.array([number_of(cell) for cell in text])
        except ValueError:
            pass
    told = text_among_numbers(text) if "text" in types else f"booleans such as {text.iloc[0]}"
    raise UserError(
        FailureReason.DATA_INVALID,
        f"target {quote(series.name)} has {told}; training.task regression needs numbers: correct them (a missing value is an "
        f"empty cell){', set it to classification, or choose another target' if where.for_training else ''}.",
    )


def _numeric(series: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(series)) and not pd.api.types.is_bool_dtype(series)

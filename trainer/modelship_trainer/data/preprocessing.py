"""Preprocessing: fitted on training rows by scikit-learn, kept as plain data, applied by formulas that ONNX has too.

    fitted, kept = fit(steps, dataset, train)       # data/fit.py; kept: training rows that cleaning left
    x = fitted.transform(dataset.take(rows))        # float32 [N, F], or [N, ...] for arrays

Each column has its own list of steps, in the order written; `export/graph.py` turns the same data into a graph. All
arithmetic is float32 on both sides, so that what is served equals what was trained on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from modelship_trainer.data.dataset import Array, Rows
from modelship_trainer.data.steps import FLOAT32_MAX, ColumnStep, Log, Values, convert, is_text
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.schema import Model
from modelship_trainer.values import Kind

Floats = npt.NDArray[np.float32]


class Column(Model):
    """A feature column: the type that it is served with, and what happens to it."""

    name: str
    type: Literal["number", "text"]
    steps: list[Annotated[ColumnStep, Field(discriminator="step")]]
    texts: Kind = "text"
    """What the values of a text column are of: numbers and booleans have one spelling each, see `values.normal_text`."""
    required: bool = False
    """A dropMissing step named it: rows without a value are not for this model."""

    def raw(self, series: pd.Series) -> Values:
        """The raw column in this column's type: float32 `[N]` or strings `[N]`."""
        return convert(series, self.type)

    def features(self, series: pd.Series) -> Values:
        """`[N, k]` features, or still `[N]` values where no step made them numbers."""
        return self.apply(self.raw(series))

    def apply(self, values: Values) -> Values:
        """The same of raw values, `[N]`."""
        for step in self.steps:
            values = step.apply(values)
        return values

    def answers_missing(self) -> bool:
        """Whether rows without a value have features: something fills it, or no value is a category, too."""
        return not self.required and self._answers(_nothing(self.type))

    def above(self) -> float | None:
        """The largest float32 of which a log makes no finite number, None where there is none: values must be larger.

        Up to the last log all steps are monotone, so it is found by halving the float32 numbers.
        """
        logs = [place for place, step in enumerate(self.steps) if isinstance(step, Log)]
        if self.type != "number" or not logs:
            return None
        until = self.model_copy(update={"steps": self.steps[: logs[-1] + 1]})
        low, high = _ordinal(np.float32(-FLOAT32_MAX)), _ordinal(np.float32(FLOAT32_MAX))
        if until._answers(_float(low)):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if until._answers(_float(middle)) else (middle, high)
        return float(_float(low)[0])

    def _answers(self, value: Values) -> bool:
        """Whether one raw value, `[1]`, becomes finite features, or is still text."""
        with np.errstate(all="ignore"):
            features = self.apply(value)
        return features.dtype == object or bool(np.isfinite(features).all())

    def check(self, values: Values, rows: pd.Index, source: str) -> None:
        """Raises UserError: DataInvalid where a raw value has no answer; `rows` are those of the file, from 0."""
        missing, above = is_missing(values), self.above()
        found = []
        if missing.any() and not self.answers_missing():
            found.append((missing, "no value", "; nothing fills it: add impute or dropMissing, or fill it in."))
        if self.type == "number":
            found.append((np.isinf(values), "an infinite value", "; correct it, or leave the cell empty and impute."))
        if above is not None:
            low = values <= np.float32(above)
            found.append((low, "{value:g}", f", and its log needs values above {above:g}; clip it first, or correct it."))
        for bad, what, cure in found:
            if bad.any():
                first = _first(bad, rows)
                more = f", and so have {int(bad.sum()):,} of {len(bad):,} rows" if bad.sum() > 1 else ""
                raise UserError(
                    FailureReason.DATA_INVALID,
                    f"column {quote(self.name)} has {what.format(value=values[first])} in row {rows[first] + 1} of {source}"
                    f"{more}{cure}",
                )

    def feature_names(self) -> list[str]:
        """Names of its features."""
        return self.steps[-1].feature_names(self.name) if self.steps else [self.name]


class ArrayInput(Model):
    """Images and arrays: `(x - center) / scale`, per channel (axis 1) or with one number for all."""

    shape: list[int]
    """Of a row: [C, H, W], [F]..."""
    center: list[float]
    scale: list[float]

    def parameters(self) -> tuple[Floats, Floats]:
        """Center and scale, shaped to broadcast over `[N, *shape]`."""
        shape = (1, len(self.center)) + (1,) * (len(self.shape) - 1)
        return np.array(self.center, np.float32).reshape(shape), np.array(self.scale, np.float32).reshape(shape)


class Fitted(Model):
    """Fitted preprocessing: `preprocessing.json` of an artifact."""

    schema_version: Literal[1, 2] = 2
    """1: of artifacts whose graph takes a tensor per column."""
    columns: list[Column] | None = None
    """Of a table."""
    array: ArrayInput | None = None
    """Of images and arrays."""
    target: Target | None = None
    """What the model's outputs mean; set where it is saved with a model."""

    def of_type(self, type_: Literal["number", "text"]) -> list[Column]:
        """A table's columns of one type, in order."""
        return [column for column in self.columns or [] if column.type == type_]

    def input_shape(self) -> tuple[int, ...]:
        """Shape of a row as the model sees it."""
        if self.array is not None:
            return tuple(self.array.shape)
        return (len(self.feature_names()),)

    def feature_names(self) -> list[str]:
        """Names of a table's features, in order."""
        return [name for column in self.columns or [] for name in column.feature_names()]

    def usable(self, features: pd.DataFrame | Array) -> npt.NDArray[np.bool_]:
        """Which rows the model is for: those that have each value which a dropMissing step requires."""
        keep = np.ones(len(features), dtype=bool)
        for column in self.columns or []:
            if column.required and isinstance(features, pd.DataFrame) and column.name in features:
                keep &= ~is_missing(column.raw(features[column.name]))
        return keep

    def check(self, features: pd.DataFrame, rows: Rows, source: str) -> None:
        """Raises UserError: DataInvalid where a value of a table's usable `rows` has no answer, naming column and row."""
        for column in self.columns or []:
            series = features[column.name].iloc[rows]
            column.check(column.raw(series), series.index, source)

    def transform(self, features: pd.DataFrame | Array, source: str = "the data", rows: Rows | None = None) -> Floats:
        """Features of all rows, or of those at `rows`: `[N, F]` for a table, `[N, *shape]` for an array.

        A table's columns are taken one after the other, so that there is no copy of all of it besides the result.

        Raises:
            UserError: DataInvalid where a column is missing, has text that is no number, or lacks values that nothing fills.
        """
        if self.array is not None:
            array = np.asarray(features)
            return self._transform_array(array if rows is None else array[rows], source)
        assert self.columns is not None  # noqa: S101 - one of the two is set
        assert isinstance(features, pd.DataFrame)  # noqa: S101 - of a table
        made = np.empty((len(features) if rows is None else len(rows), len(self.feature_names())), dtype=np.float32)
        place = 0
        for column in self.columns:
            if column.name not in features:
                raise UserError(
                    FailureReason.DATA_INVALID,
                    f"column {quote(column.name)} is not in {source}; columns: {', '.join(map(str, features.columns))}.",
                )
            series = features[column.name] if rows is None else features[column.name].iloc[rows]
            raw = column.raw(series)
            column.check(raw, series.index, source)
            block = _finite(column, column.apply(raw), series.index, source)
            made[:, place : place + block.shape[1]] = block
            place += block.shape[1]
        return made

    def _transform_array(self, x: Array, source: str) -> Floats:
        assert self.array is not None  # noqa: S101 - the caller's case
        if list(x.shape[1:]) != self.array.shape:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"rows of {source} have shape {list(x.shape[1:])}, and the model takes {self.array.shape}.",
            )
        center, scale = self.array.parameters()
        values: Floats = (x.astype(np.float32) - center) / scale
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if bad.any():
            raise UserError(
                FailureReason.DATA_INVALID,
                f"{int(bad.sum()):,} of {len(values):,} rows of {source} have missing or infinite values, first row "
                f"{int(bad.argmax()) + 1}; remove them.",
            )
        return values


def _finite(column: Column, values: Values, rows: pd.Index, source: str) -> Floats:
    """A column's features, `[N, k]`, checked to be numbers."""
    if values.dtype == object:
        cures = "encode it with oneHot, ordinal or tokenize, cast it to number, or leave it out of data.features"
        text = pd.Series(values, rows, name=column.name)
        raise UserError(FailureReason.DATA_INVALID, f"{is_text(text, source, cures)}.")
    block: Floats = values if values.ndim == 2 else values[:, np.newaxis]
    bad = np.asarray((~np.isfinite(block)).any(axis=1))
    if bad.any():
        raise UserError(
            FailureReason.DATA_INVALID,
            f"column {quote(column.name)} is not finite after preprocessing in {int(bad.sum()):,} of {len(block):,} rows of "
            f"{source}, first in row {rows[_first(bad, rows)] + 1}; clip it, or correct what is so far from the other values.",
        )
    return block


def _ordinal(value: np.float32) -> int:
    """A finite float32's place among all of them."""
    bits = int(value.view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float(ordinal: int) -> Floats:
    """The float32 of `_ordinal`, `[1]`."""
    value = np.array([abs(ordinal)], dtype=np.int32).view(np.float32)
    return value if ordinal >= 0 else -value


def _first(bad: Any, rows: pd.Index) -> int:
    """The place of the earliest row of the file that is bad."""
    places = np.flatnonzero(bad)
    return int(places[rows[places].argmin()])


def _nothing(type_: Literal["number", "text"]) -> Values:
    """A missing value, `[1]`."""
    return np.array([np.nan], np.float32) if type_ == "number" else np.array([""], object)


def is_missing(values: Values) -> npt.NDArray[np.bool_]:
    """Which values are missing, `[N]`."""
    return values == "" if values.dtype == object else np.isnan(values)

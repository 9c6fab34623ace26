"""What a column goes through, as fitted data: each step is a formula with the numbers that training found.

Values of a column are float32 `[N]` (NaN: missing), Python strings `[N]` ("": missing), or, once encoded, float32 `[N, k]`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from modelship_trainer.data.words import WORD, fold_case
from modelship_trainer.errors import UserError, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.schema import Model
from modelship_trainer.values import number_of, text_of

Values = npt.NDArray[Any]
FLOAT32_MAX = float(np.finfo(np.float32).max)
"""Rounding takes numbers a little beyond it to it; they are refused all the same."""


class _ColumnWise(Model):
    """A step that leaves a column one column."""

    def feature_names(self, column: str) -> list[str]:
        """Names of the features that come out."""
        return [column]


class Fill(_ColumnWise):
    """A missing value becomes `value`."""

    step: Literal["fill"] = "fill"
    value: float | str

    def apply(self, values: Values) -> Values:
        """`[N]` to `[N]`."""
        if isinstance(self.value, str):
            return np.where(values == "", self.value, values).astype(object)
        return np.where(np.isnan(values), np.float32(self.value), values)


class Limit(_ColumnWise):
    """Values beyond the bounds become the bounds."""

    step: Literal["limit"] = "limit"
    lower: float
    upper: float

    def apply(self, values: Values) -> Values:
        """`[N]` to `[N]`."""
        return np.clip(values, np.float32(self.lower), np.float32(self.upper))


class Log(_ColumnWise):
    """log(1 + x)."""

    step: Literal["log"] = "log"

    def apply(self, values: Values) -> Values:
        """`[N]` to `[N]`; not finite for x <= -1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Values = np.log(np.float32(1) + values)
        return result


class Scale(_ColumnWise):
    """(x - center) / scale."""

    step: Literal["scale"] = "scale"
    center: float
    scale: float

    def apply(self, values: Values) -> Values:
        """`[N]` to `[N]`."""
        result: Values = (values - np.float32(self.center)) / np.float32(self.scale)
        return result


class OneHot(Model):
    """A 0/1 feature per category; several rare categories may share the last one; an unseen one has none."""

    step: Literal["oneHot"] = "oneHot"
    categories: list[str] | list[float]
    features: list[int]
    """Feature of each category."""

    @property
    def size(self) -> int:
        """Number of features."""
        return max(self.features) + 1

    def apply(self, values: Values) -> Values:
        """`[N]` to `[N, size]`."""
        codes = _codes(values, self.categories)
        block = np.zeros((len(values), self.size), dtype=np.float32)
        seen = codes >= 0
        block[np.flatnonzero(seen), np.array(self.features)[codes[seen]]] = 1
        return block

    def feature_names(self, column: str) -> list[str]:
        """`column=category`, and `column=other` for what rare categories share."""
        members: list[list[str]] = [[] for _ in range(self.size)]
        for category, feature in zip(self.categories, self.features, strict=True):
            members[feature].append(text_of(np.float32(category) if isinstance(category, float) else category))
        return [f"{column}={names[0] if len(names) == 1 else 'other'}" for names in members]


class Ordinal(_ColumnWise):
    """A category's place in sorted order; an unseen one is -1."""

    step: Literal["ordinal"] = "ordinal"
    categories: list[str] | list[float]

    def apply(self, values: Values) -> Values:
        """`[N]` to `[N]`."""
        return _codes(values, self.categories).astype(np.float32)


class Tokens(Model):
    """TF-IDF of tokens and runs of tokens, each row scaled to length 1 (scikit-learn's TfidfVectorizer)."""

    step: Literal["tokens"] = "tokens"
    vocabulary: list[str]
    """Runs of tokens, joined by one space."""
    idf: list[float]
    ngrams: int = Field(ge=1)
    lowercase: bool

    @cached_property
    def vectorizer(self) -> Any:
        """The fitted TfidfVectorizer."""
        vectorizer = tfidf(self.ngrams, self.lowercase, vocabulary={token: i for i, token in enumerate(self.vocabulary)})
        vectorizer.idf_ = np.array(self.idf, dtype=np.float64)
        return vectorizer

    def apply(self, values: Values) -> Values:
        """`[N]` strings to `[N, len(vocabulary)]`."""
        block: Values = self.vectorizer.transform(values).toarray().astype(np.float32)
        return block

    def feature_names(self, column: str) -> list[str]:
        """`column:token`."""
        return [f"{column}:{token}" for token in self.vocabulary]


ColumnStep = Fill | Limit | Log | Scale | OneHot | Ordinal | Tokens


def tfidf(ngrams: int, lowercase: bool, **options: Any) -> Any:
    """A TfidfVectorizer with our tokens."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, ngrams),
        lowercase=False,
        preprocessor=fold_case if lowercase else None,
        token_pattern=WORD.pattern,
        **options,
    )


# --- types --------------------------------------------------------------------------------------------------------------------


def convert(series: pd.Series, to: Literal["number", "text"]) -> Values:
    """Numbers or strings, `[N]`; the index of `series` tells the rows of the file, from 0."""
    return to_number(series) if to == "number" else to_text(series)


def to_number(series: pd.Series) -> Values:
    """Numbers, or their text, as float32 `[N]`; "" and missing are NaN.

    Raises:
        UserError: DataInvalid where text is no number, or one beyond float32.
    """
    values: Values = series.to_numpy()
    if values.dtype != object and pd.api.types.is_numeric_dtype(values.dtype):
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    numbers = np.empty(len(series), dtype=np.float32)
    for place, cell in enumerate(series):
        try:
            numbers[place] = parse_number(cell)
        except ValueError:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"column {quote(series.name)} must be numbers, and has {text_among_numbers(series)}; correct it (a missing value "
                "is an empty cell), or encode the column as categories.",
            ) from None
    return numbers


def parse_number(cell: Any) -> float:
    """A number that float32 can hold, or the text of one; NaN where it is missing.

    Raises:
        ValueError: it is none.
    """
    value = number_of(cell) if isinstance(cell, str) else np.nan if cell is None or cell is pd.NA else float(cell)
    if abs(value) > FLOAT32_MAX:
        raise ValueError(f"beyond float32: {cell}")
    return value


def text_among_numbers(series: pd.Series) -> str:
    """What a message says of a column that should be numbers: in which rows it is text, as the index counts them, from 0."""
    cells = [(row, cell) for row, cell in zip(series.index, map(text_of, series), strict=True) if cell]
    bad = [(row, cell) for row, cell in cells if not _is_number(cell)]
    row, cell = (bad or cells)[0]
    if bad and 2 * len(bad) < len(cells):
        first = "" if len(bad) == 1 else "the first, "
        return f"numbers in all but {len(bad):,} of {len(series):,} rows: {first}{quote(cell)} in row {row + 1}"
    return f"text such as {quote(cell)} in row {row + 1}"


def is_text(series: pd.Series, source: str, cures: str) -> str:
    """The message for a column of text that should have become numbers: what to do depends on how much of it is text."""
    told = text_among_numbers(series) if (series != "").any() else "no value"
    if told.startswith("numbers"):
        cures = "correct it, or leave the cell empty and impute"
    return f"column {quote(series.name)} of {source} has {told}; {cures}"


def _is_number(cell: str) -> bool:
    try:
        parse_number(cell)
    except ValueError:
        return False
    return True


def to_text(series: pd.Series) -> Values:
    """Strings `[N]`, as `values.text_of` writes them: missing is "".

    Raises:
        UserError: DataInvalid where a cell has no text.
    """
    try:
        return np.array([text_of(cell) for cell in series.to_numpy()], dtype=object)
    except ValueError as error:
        raise UserError(
            FailureReason.DATA_INVALID, f"column {quote(series.name)} has a value that cannot be written as text: {error}."
        ) from error


def _codes(values: Values, categories: list[str] | list[float]) -> npt.NDArray[np.int64]:
    """Index of each value in `categories`, -1 where it is none."""
    index = {category: code for code, category in enumerate(categories)}
    return np.fromiter((index.get(value, -1) for value in values.tolist()), dtype=np.int64, count=len(values))

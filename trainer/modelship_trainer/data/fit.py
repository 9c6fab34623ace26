"""Fit preprocessing steps on training rows, in the order written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from modelship_trainer import memory, recipe
from modelship_trainer.data import statistics
from modelship_trainer.data.dataset import Array, Dataset, Kind, Rows
from modelship_trainer.data.preprocessing import ArrayInput, Column, Fitted, is_missing
from modelship_trainer.data.steps import (
    ColumnStep,
    Fill,
    Limit,
    Log,
    OneHot,
    Ordinal,
    Scale,
    Tokens,
    Values,
    convert,
    is_text,
    parse_number,
    tfidf,
)
from modelship_trainer.errors import UserError, listing, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import CastType, ImputeStrategy, Step
from modelship_trainer.values import Kind as TextKind
from modelship_trainer.values import text_of


def distinct(dataset: Dataset, steps: list[Step]) -> Dataset:
    """What dropDuplicates steps leave of a dataset: of rows that are the same as they were read, the first.

    It is for before the rows are divided: else copies of training rows would be validated and tested on.

    Raises:
        UserError: DataInvalid where a step names a column that is not there.
    """
    if not isinstance(dataset.features, pd.DataFrame) or not any(step.drop_duplicates for step in steps):
        return dataset  # of arrays, `fit` refuses the step
    raw = dataset.features if dataset.raw is None else dataset.raw
    keep = np.ones(dataset.rows, dtype=bool)
    for number, step in enumerate(steps):
        if step.drop_duplicates is not None:
            where = f"data.preprocessing[{number}].{step.kind}"
            keep[keep] = ~_repeated(dataset, raw[keep], keep, step.drop_duplicates.columns, where)
    if not keep.all():
        print(f"dropDuplicates: {int((~keep).sum()):,} of {dataset.rows:,} rows repeat an earlier one", flush=True)
        dataset = replace(dataset, features=dataset.features[keep], target=dataset.target[keep])
    return replace(dataset, raw=None)


def _repeated(dataset: Dataset, raw: pd.DataFrame, keep: Array, columns: list[str] | None, where: str) -> Array:
    """Which of the rows of `raw` repeat an earlier one in these columns, or in all and the target."""
    names = [*raw.columns, dataset.target_name] if columns is None else columns
    unknown = next((name for name in names if name not in raw and name != dataset.target_name), None)
    if unknown is not None:
        known = listing([*raw.columns, dataset.target_name])
        raise UserError(
            FailureReason.DATA_INVALID, f"{where}: column {quote(unknown)} is not in {dataset.source}; columns: {known}."
        )
    keys = {str(number): raw[name].to_numpy() for number, name in enumerate(names) if name != dataset.target_name}
    if dataset.target_name in names:
        keys["target"] = dataset.target[keep]
    repeated: Array = pd.DataFrame(keys).duplicated().to_numpy()
    return repeated


def fit(steps: list[Step], dataset: Dataset, train: Rows) -> tuple[Fitted, Rows]:
    """Fit `steps` on the rows `train`; also returns those training rows that dropMissing left. `distinct` was before.

    Raises:
        UserError: DataInvalid or RecipeInvalid, naming step, column and cure.
    """
    if not isinstance(dataset.features, pd.DataFrame):
        return Fitted(array=_fit_array(steps, dataset, train)), train
    table = _Table.of(dataset, train)
    for number, step in enumerate(steps):
        table.where = f"data.preprocessing[{number}].{step.kind}"
        _FIT[type(step.value)](table, step.value)
        if len(table.rows) == 0:
            raise UserError(
                FailureReason.DATA_INVALID, f"{table.where} leaves no training row of {dataset.source}; fill values instead."
            )
    for column in table.columns.values():
        if column.category and column.values.ndim == 1:
            raise UserError(
                FailureReason.RECIPE_INVALID,
                f"data.preprocessing: column {quote(column.name)} is cast to category, and no later step encodes it; add oneHot or "
                "ordinal, or leave out the cast.",
            )
    return Fitted(columns=[column.done() for column in table.columns.values()]), table.rows


@dataclass
class _Column:
    name: str
    type: Literal["number", "text"]
    values: Values
    texts: TextKind = "text"
    steps: list[ColumnStep] = field(default_factory=list)
    required: bool = False
    category: bool = False
    """Its numbers stand for categories: steps for all numeric columns leave it alone."""

    @property
    def text(self) -> bool:
        return self.values.dtype == object

    @property
    def numeric(self) -> bool:
        return not self.text and self.values.ndim == 1 and not self.category

    @property
    def missing(self) -> Any:
        return is_missing(self.values)

    def add(self, step: ColumnStep) -> None:
        """Apply a fitted step to the training values, and keep it."""
        self.values = step.apply(self.values)
        self.steps.append(step)

    def encode(self, step: OneHot | Tokens) -> None:
        """Keep a fitted step that makes several features of the column; no later one takes them, so they are not made here."""
        self.values = np.empty((len(self.values), 0), dtype=np.float32)
        self.steps.append(step)

    def done(self) -> Column:
        return Column(name=self.name, type=self.type, texts=self.texts, steps=self.steps, required=self.required)


@dataclass
class _Table:
    """The training rows, on their way through the steps."""

    source: str
    target_name: str
    target: Array
    rows: Rows
    lines: pd.Index
    """The same rows as the file counts them, from 0: rows without a label are there, and not in the dataset."""
    columns: dict[str, _Column]
    all_rows: int
    """Of the dataset: all of them will be encoded."""
    encoded: int = 0
    """Features so far of columns that become several."""
    where: str = ""

    @classmethod
    def of(cls, dataset: Dataset, train: Rows) -> _Table:
        frame: pd.DataFrame = dataset.take(train)
        columns = {}
        for name in frame.columns:
            values = frame[name].to_numpy()
            columns[name] = _Column(name, "text" if values.dtype == object else "number", values, dataset.kinds.get(name, "text"))
        return cls(dataset.source, dataset.target_name, dataset.target[train], train, frame.index, columns, dataset.rows)

    def chosen(self, names: list[str] | None) -> list[_Column]:
        """The named columns, or all numeric ones.

        Raises:
            UserError: a column is not there, or was encoded before.
        """
        if names is None:
            return [column for column in self.columns.values() if column.numeric]
        for name in names:
            if name == self.target_name:
                raise UserError(
                    FailureReason.RECIPE_INVALID,
                    f"{self.where}: {quote(name)} is the target, which no step changes; what its labels are is said by data.types: "
                    f"{{{name}: text}} or number.",
                )
            if name not in self.columns:
                known = listing([*self.columns, self.target_name])
                raise self.error(f"column {quote(name)} is not in {self.source}; columns: {known}.")
            if self.columns[name].values.ndim > 1:
                encoder = self.columns[name].steps[-1].step
                raise UserError(
                    FailureReason.RECIPE_INVALID,
                    f"{self.where}: column {quote(name)} was already encoded by {encoder}; move this step before it.",
                )
        return [self.columns[name] for name in names]

    def numbers(self, names: list[str] | None) -> list[_Column]:
        """The chosen columns, checked to be numbers with at least one value."""
        columns = self.chosen(names)
        for column in columns:
            if column.category:
                raise self.error(
                    f"column {quote(column.name)} of {self.source} was cast to category, and this step needs numbers; move it "
                    "before the cast, or leave the column out of columns."
                )
            if column.text:
                cures = "this step needs numbers: cast it to number, encode it with oneHot or ordinal, or leave it out of columns"
                raise self.error(f"{is_text(pd.Series(column.values, self.lines, name=column.name), self.source, cures)}.")
        return self.with_values(columns)

    def categories(self, names: list[str]) -> list[_Column]:
        """The named columns, checked to have values that are the same to the last bit wherever they are computed."""
        columns = self.with_values(self.chosen(names))
        for column in columns:
            if any(isinstance(step, Log) for step in column.steps):
                raise UserError(
                    FailureReason.RECIPE_INVALID,
                    f"{self.where}: column {quote(column.name)} went through log, and logarithms are rounded differently where the "
                    "model is served, so they are no categories; leave log out for this column.",
                )
        return columns

    def with_values(self, columns: list[_Column]) -> list[_Column]:
        """The columns, checked to have at least one value."""
        for column in columns:
            if column.missing.all():
                raise self.error(
                    f"column {quote(column.name)} of {self.source} has no value in any training row; leave it out of data.features."
                )
            if not column.text and np.isinf(column.values).any():
                raise self.error(f"column {quote(column.name)} of {self.source} has infinite values; remove them.")
        return columns

    def room_for(self, column: _Column, features: int, cure: str) -> None:
        """Raises UserError: OutOfMemory where the features that `column` becomes, and those before them, do not fit.

        They are float32, and there twice: column by column, and as one array.
        """
        self.encoded += features
        needed, there = 2 * 4 * self.all_rows * self.encoded, memory.limit()
        if there is not None and needed > there:
            raise UserError(
                FailureReason.OUT_OF_MEMORY,
                f"{self.where}: column {quote(column.name)} becomes {features:,} features, and {self.all_rows:,} rows of "
                f"{self.encoded:,} features need {needed / 2**30:.1f} GiB of the {there / 2**30:.1f} GiB of memory; {cure}, leave "
                "the column out of data.features, or raise spec.compute.memory.",
            )

    def keep(self, mask: Any) -> None:
        """Keep some training rows."""
        self.rows, self.lines, self.target = self.rows[mask], self.lines[mask], self.target[mask]
        for column in self.columns.values():
            column.values = column.values[mask]

    def error(self, message: str) -> UserError:
        return UserError(FailureReason.DATA_INVALID, f"{self.where}: {message}")


# --- cleaning -----------------------------------------------------------------------------------------------------------------


def _drop_missing(table: _Table, step: recipe.DropMissing) -> None:
    names = step.columns or [name for name, column in table.columns.items() if column.values.ndim == 1]
    chosen = table.chosen([name for name in names if name != table.target_name])  # the target's are gone since loading
    keep = np.ones(len(table.rows), dtype=bool)
    for column in chosen:
        column.required = not any(isinstance(done, Fill) for done in column.steps)
        keep &= ~column.missing
    table.keep(keep)


def _impute(table: _Table, step: recipe.Impute) -> None:
    match step.strategy:
        case ImputeStrategy.CONSTANT:
            for column in table.chosen(step.columns):
                column.add(Fill(value=_constant(table, column, step.value or "")))
        case ImputeStrategy.MOST_FREQUENT:
            for column in table.with_values(table.chosen(step.columns)):
                values = column.values[~column.missing]
                found, counts = np.unique(values, return_counts=True)
                column.add(Fill(value=str(found[counts.argmax()]) if column.text else found[counts.argmax()].item()))
        case ImputeStrategy.MEAN | ImputeStrategy.MEDIAN:
            estimate = statistics.mean if step.strategy is ImputeStrategy.MEAN else statistics.median
            for column in table.numbers(step.columns):
                column.add(Fill(value=estimate(column.values)))


def _constant(table: _Table, column: _Column, value: str) -> float | str:
    if column.text:
        return text_of(value)
    try:
        number = parse_number(value)
    except ValueError:
        number = np.nan
    if np.isnan(number):
        raise UserError(
            FailureReason.RECIPE_INVALID,
            f"{table.where}.value: {quote(value)} is no finite number, and column {quote(column.name)} has numbers.",
        )
    return number


def _clip(table: _Table, step: recipe.Clip) -> None:
    for column in table.numbers(step.columns):
        lower, upper = np.nanquantile(column.values.astype(np.float64), [step.lower_quantile, step.upper_quantile])
        column.add(Limit(lower=float(lower), upper=float(upper)))


# --- transformation -----------------------------------------------------------------------------------------------------------


def _cast(table: _Table, step: recipe.Cast) -> None:
    """No step is kept: a column's type is what clients send and the graph takes, and text is read as numbers before the graph.

    Numbers that other steps changed stay numbers when they become categories: equal numbers are one category.
    """
    for column in table.chosen(step.columns):
        if step.to is CastType.NUMBER:
            column.category = False
            if column.text:
                column.steps = _fills_of_numbers(table, column)
                _retype(table, column, "number")
        elif not column.text:
            if column.steps:
                column.category = True
            else:
                _retype(table, column, "text")


def _retype(table: _Table, column: _Column, to: Literal["number", "text"]) -> None:
    column.type, column.values = to, convert(pd.Series(column.values, table.lines, name=column.name), to)
    column.texts = "number" if to == "text" else "text"


def _fills_of_numbers(table: _Table, column: _Column) -> list[ColumnStep]:
    """What filled a column of text, which can only have been filled so far, as numbers."""
    fills: list[ColumnStep] = []
    for step in column.steps:
        value = step.value if isinstance(step, Fill) else ""
        try:
            number = parse_number(value)
        except ValueError:
            raise UserError(
                FailureReason.RECIPE_INVALID,
                f"{table.where}: column {quote(column.name)} was imputed with {quote(value)}, which is no number; move the cast "
                "before impute, and impute a number.",
            ) from None
        if not np.isnan(number):
            fills.append(Fill(value=number))
    return fills


def _log(table: _Table, step: recipe.Log) -> None:
    for column in table.numbers(step.columns):
        low = column.values[column.values <= -1]
        if len(low):
            raise table.error(
                f"column {quote(column.name)} of {table.source} has {low.min():g}, and log(1 + x) needs values above -1; clip it "
                "first, or leave it out."
            )
        column.add(Log())


def _one_hot(table: _Table, step: recipe.OneHot) -> None:
    for column in table.categories(step.columns):
        values = column.values if column.text else column.values[~column.missing]
        categories, features = statistics.features_of_categories(values, step.max_categories)
        fitted = OneHot(categories=categories, features=features)
        table.room_for(column, fitted.size, "set maxCategories" if step.max_categories is None else "lower maxCategories")
        column.encode(fitted)


def _ordinal(table: _Table, step: recipe.Ordinal) -> None:
    for column in table.categories(step.columns):
        values = column.values if column.text else column.values[~column.missing]
        column.add(Ordinal(categories=statistics.categories(values)))
        column.category = False


def _tokenize(table: _Table, step: recipe.Tokenize) -> None:
    for column in table.with_values(table.chosen(step.columns)):
        if not column.text:
            raise table.error(f"column {quote(column.name)} of {table.source} has numbers; tokenize needs text.")
        vectorizer = tfidf(step.ngrams, step.lowercase, max_features=step.vocabulary_size)
        try:
            vectorizer.fit(column.values)
        except ValueError:
            raise table.error(f"column {quote(column.name)} of {table.source} has no words in any training row.") from None
        idf = [float(weight) for weight in vectorizer.idf_]
        vocabulary = vectorizer.get_feature_names_out().tolist()
        table.room_for(column, len(vocabulary), "lower vocabularySize")
        column.encode(Tokens(vocabulary=vocabulary, idf=idf, ngrams=step.ngrams, lowercase=step.lowercase))


# --- normalisation ------------------------------------------------------------------------------------------------------------


def _normalize(table: _Table, step: recipe.Normalize) -> None:
    for column in table.numbers(step.columns):
        center, scale = statistics.center_and_scale(column.values, step.method)
        column.add(Scale(center=center, scale=scale))


_FIT: dict[type, Callable[[_Table, Any], None]] = {
    recipe.DropDuplicates: lambda table, step: None,  # `distinct` did
    recipe.DropMissing: _drop_missing,
    recipe.Impute: _impute,
    recipe.Clip: _clip,
    recipe.Cast: _cast,
    recipe.Log: _log,
    recipe.OneHot: _one_hot,
    recipe.Ordinal: _ordinal,
    recipe.Tokenize: _tokenize,
    recipe.Normalize: _normalize,
}


# --- images and arrays --------------------------------------------------------------------------------------------------------


def _fit_array(steps: list[Step], dataset: Dataset, train: Rows) -> ArrayInput:
    """Scaling per channel for images `[N, C, H, W]`, per feature for `[N, F]`, else with one number; images without it: / 255."""
    x = np.asarray(dataset.features)[train]
    shape = list(x.shape[1:])
    unscaled = 255.0 if dataset.kind is Kind.IMAGE else 1.0
    fitted = ArrayInput(shape=shape, center=[0.0], scale=[unscaled])
    for number, step in enumerate(steps):
        where = f"data.preprocessing[{number}].{step.kind}"
        if step.normalize is None or step.normalize.columns is not None or number > 0:
            raise UserError(
                FailureReason.RECIPE_INVALID,
                f"{where}: {dataset.source} has arrays, not columns; the one step for them is normalize, without columns.",
            )
        if not np.isfinite(x).all():
            raise UserError(
                FailureReason.DATA_INVALID, f"{where}: {dataset.source} has missing or infinite values; remove these rows."
            )
        channels = [x[:, channel] for channel in range(x.shape[1])] if x.ndim in (2, 4) else [x]
        found = [statistics.center_and_scale(values.astype(np.float32), step.normalize.method) for values in channels]
        fitted = ArrayInput(shape=shape, center=[center for center, _ in found], scale=[scale for _, scale in found])
    return fitted

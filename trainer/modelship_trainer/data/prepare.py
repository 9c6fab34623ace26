"""Parts of a dataset as tensors' arrays: what the loop trains on, and what a model is scored on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modelship_trainer.data.dataset import Dataset, Rows
from modelship_trainer.data.fit import fit
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target, fit_target
from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Recipe

Floats = npt.NDArray[np.float32]
NO_ROWS: Rows = np.empty(0, dtype=np.int64)


class Examples(NamedTuple):
    """N rows: features `[N, ...]` float32; targets `[N]`, int64 classes or float32 standardised values."""

    x: Floats
    y: npt.NDArray[Any]


class Prepared(NamedTuple):
    """Training and validation examples, and what was fitted to make them."""

    train: Examples
    validation: Examples
    fitted: Fitted
    target: Target


def prepare(recipe: Recipe, dataset: Dataset, train: Rows, validation: Rows, held_out: Rows = NO_ROWS) -> Prepared:
    """Fit preprocessing and target on the rows `train` alone; encode `train` and `validation`.

    `held_out` is only tried: rows that cannot be scored in the end are told before time is spent on training.

    Raises:
        UserError: DataInvalid or RecipeInvalid.
    """
    fitted, kept = fit(recipe.data.preprocessing, dataset, train)
    target = fit_target(dataset, kept, recipe.training.task)
    checked = _left("validation", validation, dataset, fitted)
    tried = _left("held-out", held_out, dataset, fitted)
    # In one piece: what is wrong is told with its number of rows of the whole dataset.
    every = _encode(dataset, np.concatenate([kept, checked, tried]), fitted, target)
    end = len(kept) + len(checked)
    return Prepared(
        Examples(every.x[: len(kept)], every.y[: len(kept)]),
        Examples(every.x[len(kept) : end], every.y[len(kept) : end]),
        fitted,
        target,
    )


def _left(part: str, rows: Rows, dataset: Dataset, fitted: Fitted) -> Rows:
    """Those of a part's rows that the model is for. Raises UserError: DataInvalid where none is left."""
    left = rows[fitted.usable(dataset.take(rows))]
    if len(rows) and not len(left):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"dropMissing leaves no {part} row of {dataset.source}; impute instead, or leave out columns that are mostly missing.",
        )
    return left


def encode(dataset: Dataset, rows: Rows, fitted: Fitted, target: Target) -> Examples:
    """Examples of `rows`, less those that the model is not for (values that dropMissing requires are missing).

    Raises:
        UserError: DataInvalid.
    """
    return _encode(dataset, rows[fitted.usable(dataset.take(rows))], fitted, target)


def _encode(dataset: Dataset, rows: Rows, fitted: Fitted, target: Target) -> Examples:
    return Examples(fitted.transform(dataset.features, dataset.source, rows), target.encode(dataset.target[rows], dataset.source))

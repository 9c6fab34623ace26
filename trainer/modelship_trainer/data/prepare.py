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


def prepare(recipe: Recipe, dataset: Dataset, train: Rows, validation: Rows) -> Prepared:
    """Fit preprocessing and target on the rows `train` alone; encode both parts.

    Raises:
        UserError: DataInvalid or RecipeInvalid.
    """
    fitted, kept = fit(recipe.data.preprocessing, dataset, train)
    target = fit_target(dataset, kept, recipe.training.task)
    learned = encode(dataset, kept, fitted, target)
    checked = encode(dataset, validation, fitted, target)
    if len(validation) and not len(checked.x):
        raise UserError(
            FailureReason.DATA_INVALID,
            f"dropMissing leaves no validation row of {dataset.source}; impute instead, or leave out columns that are mostly "
            "missing.",
        )
    return Prepared(learned, checked, fitted, target)


def encode(dataset: Dataset, rows: Rows, fitted: Fitted, target: Target) -> Examples:
    """Examples of `rows`, less those that the model is not for (values that dropMissing requires are missing).

    Raises:
        UserError: DataInvalid.
    """
    usable = rows[fitted.usable(dataset.take(rows))]
    return Examples(fitted.transform(dataset.take(usable), dataset.source), target.encode(dataset.target[usable], dataset.source))

"""Which rows each fold trains on, stops early on, and is scored on. Pure and deterministic."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelship_trainer.errors import UserError, quote
from modelship_trainer.evaluation.shuffling import cut, plain_folds, stratified_folds
from modelship_trainer.judgement import KFold
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Split, Task

Rows = npt.NDArray[np.int64]


class Fold(NamedTuple):
    """Row numbers of the dataset; the three share no row."""

    train: Rows
    validation: Rows
    held_out: Rows


def cut_fold(development: Rows, labels: npt.NDArray[np.generic], method: KFold, split: Split, task: Task, index: int) -> Fold:
    """Rows of fold `index` (from 0) of `method.folds`.

    `development` are the row numbers of all but the test split, which no fold ever sees; `labels` (N,) are those of the whole
    dataset. The recipe's validation fraction, relative to its training rows, is cut from the fold's own training rows.

    Raises:
        UserError: the rows cannot be cut so: RecipeInvalid or DataInvalid.
    """
    stratified = _stratified(method, task)
    of_development = labels[development]
    _enough(of_development, method, stratified)
    seed = method.seed if method.shuffle else None
    fold_of = (
        stratified_folds(of_development, method.folds, seed) if stratified else plain_folds(len(development), method.folds, seed)
    )
    rest, held_out = development[fold_of != index], development[fold_of == index]
    train, validation = _cut_validation(rest, labels, split, seed=method.seed + index)
    return Fold(train, validation, held_out)


def _stratified(method: KFold, task: Task) -> bool:
    if method.stratified and task is not Task.CLASSIFICATION:
        raise UserError(FailureReason.RECIPE_INVALID, "method.kFold.stratified needs training.task classification; leave it out.")
    return task is Task.CLASSIFICATION if method.stratified is None else method.stratified


def _enough(labels: npt.NDArray[np.generic], method: KFold, stratified: bool) -> None:
    if len(labels) < method.folds * 2:
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{len(labels)} rows outside the test split are too few for {method.folds} folds; lower method.kFold.folds.",
        )
    if not stratified:
        return
    label, seen = min(Counter(labels.tolist()).items(), key=lambda item: item[1])
    if seen < method.folds:
        times = "once" if seen == 1 else f"{seen} times"
        raise UserError(
            FailureReason.DATA_INVALID,
            f"label {quote(label)} is seen {times} outside the test split, too seldom for {method.folds} stratified folds; "
            "lower method.kFold.folds, set stratified: false, or add rows with it.",
        )


def _cut_validation(rows: Rows, labels: npt.NDArray[np.generic], split: Split, *, seed: int) -> tuple[Rows, Rows]:
    """Train and validation rows, in the recipe's proportion: validation / (1 - test) of what is not test."""
    if split.validation == 0:
        return rows, rows[:0]
    try:
        stay, off = cut(len(rows), split.validation / (1 - split.test), seed, labels[rows] if split.stratify else None)
    except ValueError as error:  # too few rows, of a class or at all
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{len(rows)} training rows of a fold cannot be cut by data.split.validation {split.validation}: {error}.",
        ) from error
    return rows[stay], rows[off]

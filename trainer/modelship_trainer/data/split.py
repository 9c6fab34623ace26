"""Divide rows into training, validation and test parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelship_trainer.data.dataset import Array, Dataset, Rows
from modelship_trainer.errors import UserError, quote
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Split, Task


class Parts(NamedTuple):
    """Indices of rows, ascending; disjoint, together all rows."""

    train: Rows
    validation: Rows
    test: Rows


def split(dataset: Dataset, split: Split, task: Task) -> Parts:
    """The parts of `dataset`, the same for the same number of rows, labels and seed, in every version.

    numpy's RandomState, because its stream is frozen (NEP 19): the test rows of an old artifact stay rows that it never saw.

    Raises:
        UserError: DataInvalid where a part has no row, or a class too few rows to be in each.
    """
    order = np.random.RandomState(split.seed).permutation(dataset.rows)
    stratified = split.stratify and task is Task.CLASSIFICATION
    groups = _by_class(order, dataset.target) if stratified else [order]
    if stratified:
        _check_classes(groups, dataset, split)
    cuts = [_cut(group, split) for group in groups]
    parts = Parts(*(np.sort(np.concatenate([cut[i] for cut in cuts])).astype(np.int64) for i in range(3)))
    _check_parts(parts, dataset, split)
    return parts


def _by_class(order: Array, target: Array) -> list[Array]:
    _, codes = np.unique(target[order], return_inverse=True)
    return [order[codes == code] for code in range(codes.max() + 1)]


def _cut(rows: Array, split: Split) -> tuple[Array, Array, Array]:
    """Train, validation and test rows, each that is wanted at least one row where there are enough."""
    wanted = [bool(fraction) for fraction in (split.validation, split.test)]
    spare = len(rows) > sum(wanted)
    sizes = [
        max(round(fraction * len(rows)), int(want and spare))
        for fraction, want in zip((split.validation, split.test), wanted, strict=True)
    ]
    validation, test, train = np.split(rows, np.cumsum(sizes))
    if spare and not len(train):  # both were rounded up; test only loses rows, so that an old artifact never saw any of it
        if len(validation) > len(test):
            validation, train = validation[:-1], validation[-1:]
        else:
            test, train = test[:-1], test[-1:]
    return train, validation, test


def _check_classes(groups: list[Array], dataset: Dataset, split: Split) -> None:
    needed = 1 + sum(fraction > 0 for fraction in (split.validation, split.test))
    rarest = min(groups, key=len)
    if len(rarest) < needed:
        seen = "one row" if len(rarest) == 1 else f"{len(rarest)} rows"
        raise UserError(
            FailureReason.DATA_INVALID,
            f"class {quote(dataset.target[rarest[0]])} of {quote(dataset.target_name)} has {seen}, and a stratified split needs "
            f"{needed}, one in each part; add rows, remove the class, or set data.split.stratify: false.",
        )


def _check_parts(parts: Parts, dataset: Dataset, split: Split) -> None:
    fractions = {"train": 1 - split.validation - split.test, "validation": split.validation, "test": split.test}
    for (name, rows), fraction in zip(parts._asdict().items(), fractions.values(), strict=True):
        if fraction > 0 and len(rows) == 0:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"the {name} part is empty: {fraction:.3g} of {dataset.rows} rows of {dataset.source}; add rows, or change "
                "data.split.",
            )

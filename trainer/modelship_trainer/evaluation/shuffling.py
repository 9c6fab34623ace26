"""How rows are dealt into folds and cut in two: index by index what scikit-learn's KFold, StratifiedKFold and train_test_split do.

Their import takes two seconds of CPU. numpy's RandomState, because its stream is frozen (NEP 19).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.generic]


def plain_folds(rows: int, folds: int, seed: int | None) -> Rows:
    """The fold, from 0, that each of `rows` is left out in: in blocks, or shuffled where there is a seed."""
    order = np.arange(rows)
    if seed is not None:
        np.random.RandomState(seed).shuffle(order)
    sizes = np.full(folds, rows // folds)
    sizes[: rows % folds] += 1
    fold_of = np.empty(rows, dtype=np.int64)
    fold_of[order] = np.arange(folds).repeat(sizes)
    return fold_of


def stratified_folds(labels: Labels, folds: int, seed: int | None) -> Rows:
    """As `plain_folds`, with each label's rows dealt evenly; (N,) labels."""
    random = np.random.RandomState(seed)
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    by_appearance = np.argsort(np.argsort(first))[codes]
    in_order = np.sort(by_appearance)
    dealt = np.array([np.bincount(in_order[fold::folds], minlength=len(first)) for fold in range(folds)])
    fold_of = np.empty(len(labels), dtype=np.int64)
    for code in range(len(first)):
        of_label = np.arange(folds).repeat(dealt[:, code])
        if seed is not None:
            random.shuffle(of_label)
        fold_of[by_appearance == code] = of_label
    return fold_of


def cut(rows: int, share: float, seed: int, labels: Labels | None) -> tuple[Rows, Rows]:
    """Indices, ascending, of what stays and of a `share` (rounded up) that is cut off; by label in proportion, with (N,) labels.

    Raises:
        ValueError: there are too few rows, or too few of a label; the message goes on after a colon.
    """
    off = math.ceil(share * rows)
    stay = rows - off
    if stay < 1:
        raise ValueError(f"{share:.3g} of {rows} rows leaves none to train on")
    random = np.random.RandomState(seed)
    if labels is None:
        order = random.permutation(rows)
        return np.sort(order[off:]), np.sort(order[:off])
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(f'label "{names[counts.argmin()]}" has one row, and needs two, one in each part')
    if min(stay, off) < len(names):
        raise ValueError(f"a part of {min(stay, off)} rows cannot have each of {len(names)} labels")
    return _cut_by_label(codes, counts, stay, off, random)


def _cut_by_label(codes: Rows, counts: Rows, stay: int, off: int, random: np.random.RandomState) -> tuple[Rows, Rows]:
    staying = _draws(counts, stay, random)
    cut_off = _draws(counts - staying, off, random)
    kept, gone = [], []
    for code, (of_label, to_keep, to_cut) in enumerate(zip(counts, staying, cut_off, strict=True)):
        shuffled = np.flatnonzero(codes == code)[random.permutation(of_label)]
        kept.append(shuffled[:to_keep])
        gone.append(shuffled[to_keep : to_keep + to_cut])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(gone))


def _draws(counts: Rows, draws: int, random: np.random.RandomState) -> Rows:
    """How many of each label, in proportion to `counts`, add up to `draws`: the largest remainders are rounded up, ties by lot."""
    exact = counts / counts.sum() * draws
    whole = np.floor(exact)
    missing = int(draws - whole.sum())
    remainder = exact - whole
    for value in np.unique(remainder)[::-1]:
        if missing <= 0:
            break
        equal = np.flatnonzero(remainder == value)
        chosen = random.choice(equal, size=min(len(equal), missing), replace=False)
        whole[chosen] += 1
        missing -= len(chosen)
    drawn: Rows = whole.astype(np.int64)
    return drawn

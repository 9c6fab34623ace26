"""What steps fit on a column's training values: as scikit-learn's estimators do, one column at a time and without importing them.

All numbers are computed in float64, NaNs are left out, and at least one value is there.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from modelship_trainer.data.dataset import Array
from modelship_trainer.recipe import NormalizeMethod

_EPSILON = float(np.finfo(np.float64).eps)


def mean(values: Array) -> float:
    """Of numbers, `[N]`."""
    return float(_there(values).mean())


def median(values: Array) -> float:
    """Of numbers, `[N]`."""
    return float(np.median(_there(values)))


def center_and_scale(values: Array, method: NormalizeMethod) -> tuple[float, float]:
    """What is subtracted from numbers `[N]`, and what the rest is divided by: 1 where they are all the same."""
    there = _there(values)
    match method:
        case NormalizeMethod.STANDARD:
            return _mean_and_deviation(there)
        case NormalizeMethod.MIN_MAX:
            low, width = float(there.min()), float(np.ptp(there))
            return low, width if width > 0 else 1.0
        case NormalizeMethod.ROBUST:
            lower, middle, upper = np.percentile(there, [25, 50, 75]).tolist()
            return middle, upper - lower if upper - lower >= 10 * _EPSILON else 1.0


def _mean_and_deviation(there: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Two passes with a correction; a variance within the error of its computation is 0 (Chan, Golub and LeVeque, 1983)."""
    count, center = len(there), float(there.mean())
    there -= center
    error = float(there.sum())
    there *= there
    variance = (float(there.sum()) - error**2 / count) / count
    nothing = variance <= count * _EPSILON * variance + (count * center * _EPSILON) ** 2
    return center, 1.0 if nothing else variance**0.5


def categories(values: Array) -> list[Any]:
    """The distinct values, sorted."""
    return sorted(set(values.tolist()))


def features_of_categories(values: Array, most: int | None) -> tuple[list[Any], list[int]]:
    """The distinct values, sorted, and the feature of each; of `most` or more, the rarest (one at least) share the last one."""
    counts = Counter(values.tolist())
    found = sorted(counts)
    if most is None or len(found) < most:
        return found, list(range(len(found)))
    rarest = sorted(range(len(found)), key=lambda place: counts[found[place]])[: len(found) - most + 1]
    frequent = {place: feature for feature, place in enumerate(sorted(set(range(len(found))) - set(rarest)))}
    return found, [frequent.get(place, most - 1) for place in range(len(found))]


def _there(values: Array) -> npt.NDArray[np.float64]:
    """A copy of the values that are there."""
    return values[~np.isnan(values)].astype(np.float64)

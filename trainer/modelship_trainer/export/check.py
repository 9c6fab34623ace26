"""A graph is checked before anyone may use it: it says what PyTorch says, and of each row the same whatever it is asked with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from modelship_trainer.data.dataset import Array
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.export.session import OnnxModel, check_answers
from modelship_trainer.protocol import FailureReason
from modelship_trainer.training.validation import predict, probabilities

TOLERANCE = 1e-4
"""Largest difference of a probability, or of a standardised prediction, of which a large one may differ by this share of it."""
ROUNDINGS = 2
"""Of float32, that a prediction may be off besides: a target with a large mean has few digits left for its deviation."""
_ALONE = 8
"""Rows asked one by one; that many are asked in threes, too."""


def check(model: OnnxModel, module: nn.Module, fitted: Fitted, target: Target, features: Any, source: str) -> float:
    """Compare graph and module on raw rows, and the graph with itself on the same rows asked in other company.

    Returns the largest difference from PyTorch, in units of TOLERANCE.

    Raises:
        UserError: ExportMismatch; DataInvalid where there is no row, or where PyTorch's answer to one is not finite.
    """
    if not len(features):
        raise UserError(
            FailureReason.DATA_INVALID, f"{source} has no row to compare the ONNX graph with PyTorch on; nothing was published."
        )
    outputs = predict(module, fitted.transform(features, source), torch.device("cpu"))
    if target.classes is not None:
        wanted: Array = probabilities(outputs)
    else:
        wanted = outputs[:, 0] * np.float32(target.scale) + np.float32(target.mean)
    numbers = features.index.to_numpy() if isinstance(features, pd.DataFrame) else np.arange(len(features))
    check_answers(wanted, numbers, source)
    actual = model.predict(features)
    worst = float(_difference(actual, wanted, target).max())
    if not worst <= TOLERANCE:
        raise UserError(
            FailureReason.EXPORT_MISMATCH,
            f"the ONNX graph differs from PyTorch by {worst:.3g} on held-out rows (at most {TOLERANCE:g} is allowed); nothing "
            "was published.",
        )
    _check_company(model, target, features, actual)
    return worst / TOLERANCE


def _difference(actual: Array, wanted: Array, target: Target) -> Array:
    """Of probabilities `[N, C]`, or of predictions `[N]` in deviations of the target."""
    if target.classes is not None:
        distance: Array = np.abs(actual - wanted)
        return distance
    rounding = ROUNDINGS * np.finfo(np.float32).eps * np.maximum(np.abs(wanted), abs(target.mean))
    apart = np.maximum(np.abs(actual - wanted) - rounding, 0)
    difference: Array = apart / (target.scale * np.maximum(1, np.abs((wanted - target.mean) / target.scale)))
    return difference


def _check_company(model: OnnxModel, target: Target, features: Any, together: Array) -> None:
    """Requests are joined into batches as they come: a row's answer must not depend on the others, their number or their order."""
    count = len(features)
    mixed = np.random.default_rng(0).permutation(count)
    companies = [np.array([row]) for row in range(min(count, _ALONE))]
    companies += [mixed, mixed[: count // 2], *np.array_split(mixed[:_ALONE], -(-min(count, _ALONE) // 3))]
    for rows in companies:
        if not len(rows):
            continue
        asked = features.iloc[rows] if isinstance(features, pd.DataFrame) else features[rows]
        try:
            answers = model.predict(asked)
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types
            told = str(error).strip().splitlines()[0]
            raise _mixes(f"the ONNX graph answers {count} rows at once, and fails for {len(rows)}: {told}") from error
        apart = _difference(answers, together[rows], target)
        if not apart.max() <= TOLERANCE:
            raise _mixes(
                f"the model answers a row differently ({apart.max():.3g} apart) when {len(rows)} rows are asked instead of {count}"
                if len(rows) != count
                else f"the model answers a row differently ({apart.max():.3g} apart) when the same rows are asked in another order"
            )


def _mixes(what: str) -> UserError:
    return UserError(
        FailureReason.EXPORT_MISMATCH,
        f"{what}; each row must be answered by itself, so forward may take no mean, norm or attention over axis 0; nothing was "
        "published.",
    )

"""The datasets that scikit-learn carries: no download, so that a demo runs anywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from modelship_trainer.data.dataset import Array, Dataset, Kind
from modelship_trainer.errors import UserError, listing
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import BUNDLED, Data, Task

TARGET = "target"


def load(data: Data, task: Task) -> Dataset:
    """`sklearn://name`: digits as images `[N, 1, 8, 8]` with values 0 to 16, the others as tables with the column `target`."""
    from modelship_trainer.data.load import tabular
    from modelship_trainer.data.table import canonical_target, wanted_columns

    name = data.source.removeprefix("sklearn://")
    if name not in BUNDLED:
        raise UserError(FailureReason.DATA_NOT_FOUND, f"{data.source} is not bundled; bundled are {listing(list(BUNDLED))}.")
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    if name == "digits":
        if data.features is not None or data.target not in (None, TARGET):
            raise UserError(FailureReason.RECIPE_INVALID, f"{data.source} are images: leave data.features and data.target out.")
        images = bunch.images[:, np.newaxis].astype(np.float32)
        target = canonical_target(pd.Series(bunch.target), TARGET, task)
        return Dataset(data.source, Kind.ARRAY, images, target, TARGET, _digest(bunch.images, bunch.target))
    frame = pd.DataFrame(bunch.data, columns=list(bunch.feature_names))
    frame[TARGET] = bunch.target
    columns, target_name = wanted_columns(list(frame.columns), data, data.source, default_target=TARGET)
    return tabular(data.source, frame[columns], target_name, _digest(bunch.data, bunch.target), data, task)


def _digest(*arrays: Array) -> str:
    """SHA-256 over the arrays, little-endian, row by row."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
    return f"sha256:{sha.hexdigest()}"

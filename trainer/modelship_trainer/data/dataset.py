"""A loaded dataset: raw features, raw target, and the digest of what it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from modelship_trainer.values import Kind as TextKind

Rows = npt.NDArray[np.int64]
"""Indices of rows, ascending."""
Array = npt.NDArray[Any]


class Kind(StrEnum):
    """What a row is."""

    TABULAR = "tabular"
    ARRAY = "array"
    IMAGE = "image"


@dataclass(frozen=True)
class Dataset:
    """Rows with a raw target.

    `features` of a tabular dataset is a DataFrame whose columns are float32 (NaN: missing) or Python strings ("": missing), just
    what a served model receives; otherwise an array `[N, ...]` (images: `[N, C, H, W]`). `target` is `[N]`: int64, float64, or
    Python strings. The index of a DataFrame is the row of the file, from 0, for messages.
    """

    source: str
    """Without credentials: fit for messages."""
    kind: Kind
    features: pd.DataFrame | Array
    target: Array
    target_name: str
    digest: str
    """`sha256:<hex>` of the source's bytes."""
    notes: tuple[str, ...] = ()
    """What a person should know of how it was read, such as files left out; a sentence each."""
    kinds: Mapping[str, TextKind] = field(default_factory=dict)
    """What the text of a table's columns is of; text where it is not told."""
    raw: pd.DataFrame | None = None
    """The features of a table as they were read, where a dropDuplicates step compares them."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.target)

    def take(self, rows: Rows) -> pd.DataFrame | Array:
        """The features of `rows`; a table's index stays what it is in `features`: the row of the file, from 0."""
        if isinstance(self.features, pd.DataFrame):
            return self.features.iloc[rows]
        return self.features[rows]

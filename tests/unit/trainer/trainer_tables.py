"""Small datasets for the trainer's tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from modelship_trainer.data.columns import Where
from modelship_trainer.data.columns import features_of as read_features
from modelship_trainer.data.dataset import Dataset, Kind
from modelship_trainer.data.fit import fit
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.recipe import Step


def features_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The features of a raw table, as loading makes them."""
    return read_features(frame, Where("pvc://d/t.csv"))[0]


def table(columns: dict[str, Any], target: Any = None) -> Dataset:
    """A dataset of raw columns."""
    frame = pd.DataFrame(columns)
    y = np.arange(len(frame)) % 2 if target is None else np.array(target)
    return Dataset("pvc://d/t.csv", Kind.TABULAR, features_of(frame), y, "y", "sha256:0")


def fit_steps(dataset: Dataset, steps: list[dict[str, Any]], train: Any = None) -> tuple[Fitted, list[int]]:
    """Fit steps as a recipe has them; through JSON and back, as an artifact would keep them. Also the training rows kept."""
    rows = np.arange(dataset.rows) if train is None else np.array(train)
    fitted, kept = fit([Step.model_validate(step) for step in steps], dataset, rows)
    return Fitted.model_validate_json(fitted.model_dump_json(by_alias=True)), kept.tolist()

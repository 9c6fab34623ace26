"""Parts: disjoint, complete, repeatable, in proportion."""

from __future__ import annotations

import numpy as np
import pytest

from modelship_trainer.data.dataset import Dataset, Kind
from modelship_trainer.data.split import split
from modelship_trainer.data.target import fit_target
from modelship_trainer.errors import UserError
from modelship_trainer.recipe import Split, Task

pytestmark = pytest.mark.unit


def dataset(target: list[object]) -> Dataset:
    return Dataset("pvc://d/x.csv", Kind.ARRAY, np.zeros((len(target), 1)), np.array(target), "kind", "sha256:0")


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.2), (0.0, 0.2), (0.3, 0.0), (0.0, 0.0), (0.45, 0.45)])
def test_parts_cover_all_rows_once(stratify: bool, validation: float, test: float) -> None:
    target: list[object] = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    parts = split(dataset(target), Split(validation=validation, test=test, stratify=stratify), Task.CLASSIFICATION)
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert [len(parts.validation), len(parts.test)] == pytest.approx([100 * validation, 100 * test], abs=1)
    assert all((np.diff(part) > 0).all() for part in parts)


def test_stratified_parts_keep_proportions() -> None:
    target: list[object] = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    parts = split(dataset(target), Split(validation=0.1, test=0.2, stratify=True), Task.CLASSIFICATION)
    counts = [[int((np.array(target)[part] == label).sum()) for label in "abc"] for part in parts]
    assert counts == [[42, 21, 7], [6, 3, 1], [12, 6, 2]]


@pytest.mark.parametrize(("validation", "test"), [(0.4, 0.4), (0.8, 0.1), (0.1, 0.8), (0.0, 0.9), (0.9, 0.0)])
@pytest.mark.parametrize("rare", [3, 4, 5])
def test_each_class_of_a_stratified_split_is_learned_from(validation: float, test: float, rare: int) -> None:
    target: list[object] = ["a"] * 60 + ["b"] * rare
    parts = split(dataset(target), Split(validation=validation, test=test, stratify=True), Task.CLASSIFICATION)
    assert sorted(np.concatenate(parts).tolist()) == list(range(60 + rare))
    counts = [int((parts.train >= 60).sum()), int((parts.validation >= 60).sum()), int((parts.test >= 60).sum())]
    assert all(counts[i] > 0 for i in range(3) if i == 0 or (validation, test)[i - 1])


def test_a_class_without_a_training_row_is_refused() -> None:
    rows = dataset(["a"] * 5 + ["b"] * 3 + ["c"] * 2)
    with pytest.raises(UserError) as caught:
        fit_target(rows, np.arange(8), Task.CLASSIFICATION)
    assert caught.value.message == (
        'class "c" of "kind" has 2 rows in pvc://d/x.csv, and none to train on; set data.split.stratify: true, add rows with it, '
        "or remove it."
    )


def test_rows_of_an_old_artifact_stay_what_they_were() -> None:
    """The very rows: an artifact of an earlier version must never meet its training rows as test rows."""
    parts = split(dataset([0] * 20), Split(validation=0.1, test=0.2, seed=7), Task.REGRESSION)
    assert parts.test.tolist() == [0, 2, 5, 11]
    assert parts.validation.tolist() == [1, 17]


def test_rows_of_an_old_stratified_artifact_stay_what_they_were() -> None:
    target: list[object] = ["a"] * 10 + ["b"] * 10
    parts = split(dataset(target), Split(validation=0.2, test=0.2, seed=7, stratify=True), Task.CLASSIFICATION)
    assert parts.test.tolist() == [0, 5, 13, 18]
    assert parts.validation.tolist() == [1, 2, 11, 17]


def test_seed_decides() -> None:
    first, same, other = (split(dataset([0] * 50), Split(seed=seed), Task.REGRESSION).test.tolist() for seed in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize(
    ("target", "fields", "message"),
    [
        (
            ["a"] * 9 + ["b"] * 2,
            {"stratify": True},
            'class "b" of "kind" has 2 rows, and a stratified split needs 3, one in each part; ',
        ),
        (["a"] * 9 + ["b"], {"stratify": True, "validation": 0}, 'class "b" of "kind" has one row, and a stratified split needs 2'),
        (["a", "b"], {}, "the validation part is empty: 0.1 of 2 rows of pvc://d/x.csv; add rows, or change data.split."),
        (["a"], {"validation": 0}, "the test part is empty: 0.2 of 1 rows of pvc://d/x.csv; add rows, or change data.split."),
    ],
    ids=["class too rare", "class seen once", "two rows", "one row"],
)
def test_too_few_rows(target: list[object], fields: dict[str, float], message: str) -> None:
    with pytest.raises(UserError) as caught:
        split(dataset(target), Split.model_validate(fields), Task.CLASSIFICATION)
    assert caught.value.message.startswith(message)

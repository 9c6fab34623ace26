from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_wine

from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.folds import cut_fold
from modelship_trainer.judgement import KFold
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Split, Task

pytestmark = pytest.mark.unit

LABELS = load_wine().target
DEVELOPMENT = np.flatnonzero(np.arange(len(LABELS)) % 5 != 0)
SPLIT = Split(validation=0.16, test=0.2, stratify=True)


def cut(index, *, method=KFold(folds=4), split=SPLIT, labels=LABELS, development=DEVELOPMENT, task=Task.CLASSIFICATION):  # noqa: B008
    return cut_fold(development, labels, method, split, task, index)


def sets(fold):
    return [set(part.tolist()) for part in fold]


@pytest.mark.parametrize("method", [KFold(folds=4), KFold(folds=4, stratified=False), KFold(folds=7, shuffle=False)])
def test_held_out_parts_cover_development_once_and_nothing_overlaps(method):
    folds = [cut(index, method=method) for index in range(method.folds)]
    assert Counter(np.concatenate([fold.held_out for fold in folds]).tolist()) == Counter(DEVELOPMENT.tolist())
    for fold in folds:
        train, validation, held_out = sets(fold)
        assert not train & validation
        assert not (train | validation) & held_out
        assert train | validation | held_out == set(DEVELOPMENT.tolist())


def test_validation_keeps_the_recipes_proportion_to_training():
    fold = cut(0)
    share = len(fold.validation) / (len(fold.train) + len(fold.validation))
    assert share == pytest.approx(SPLIT.validation / (1 - SPLIT.test), abs=0.01)


def test_stratified_folds_keep_the_classes():
    whole = np.bincount(LABELS[DEVELOPMENT]) / len(DEVELOPMENT)
    for index in range(4):
        held_out = cut(index).held_out
        assert np.bincount(LABELS[held_out]) / len(held_out) == pytest.approx(whole, abs=0.03)


def test_the_seed_decides():
    assert all((a == b).all() for a, b in zip(cut(2), cut(2), strict=True))
    other = cut(2, method=KFold(folds=4, seed=1))
    assert sets(cut(2))[2] != sets(other)[2]


def test_without_shuffle_folds_are_runs_of_rows():
    fold = cut(0, method=KFold(folds=4, shuffle=False, stratified=False))
    assert fold.held_out.tolist() == DEVELOPMENT[: len(fold.held_out)].tolist()


def test_without_validation_all_rows_train():
    fold = cut(0, split=Split(validation=0, test=0.2))
    assert (len(fold.validation), len(fold.train) + len(fold.held_out)) == (0, len(DEVELOPMENT))


def test_regression_is_not_stratified():
    values = np.linspace(0, 1, len(LABELS))
    fold = cut(1, labels=values, split=Split(), task=Task.REGRESSION)
    assert len(fold.held_out) == pytest.approx(len(DEVELOPMENT) / 4, abs=1)


ONCE = np.array(["a"] * 12 + ["b"] * 12 + ["rare"])


@pytest.mark.parametrize(
    ("arguments", "reason", "says"),
    [
        (
            {"labels": ONCE, "development": np.arange(25)},
            FailureReason.DATA_INVALID,
            'label "rare" is seen once outside the test split, too seldom for 4 stratified folds; '
            "lower method.kFold.folds, set stratified: false, or add rows with it.",
        ),
        (
            {"labels": np.array([0] * 10 + [1] * 3), "development": np.arange(13)},
            FailureReason.DATA_INVALID,
            'label "1" is seen 3 times',
        ),
        ({"development": np.arange(7)}, FailureReason.DATA_INVALID, "7 rows outside the test split are too few for 4 folds"),
        (
            {"method": KFold(folds=4, stratified=True), "task": Task.REGRESSION},
            FailureReason.RECIPE_INVALID,
            "method.kFold.stratified needs training.task classification",
        ),
        (
            {"labels": ONCE, "development": np.arange(25), "method": KFold(folds=4, stratified=False)},
            FailureReason.DATA_INVALID,
            "cannot be cut by data.split.validation 0.16",
        ),
    ],
)
def test_rows_that_cannot_be_cut(arguments, reason, says):
    with pytest.raises(UserError) as caught:
        [cut(index, **arguments) for index in range(4)]
    assert caught.value.reason is reason
    assert says in str(caught.value)


def test_a_rare_label_is_no_obstacle_to_plain_folds():
    fold = cut(0, labels=ONCE, development=np.arange(25), method=KFold(folds=4, stratified=False), split=Split())
    assert len(fold.held_out) == 7

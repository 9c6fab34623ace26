"""Metrics, curves, folds and cuts against scikit-learn, whose own import would cost a small job most of its time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from modelship_trainer.evaluation.curves import area_under, roc_curve
from modelship_trainer.evaluation.metrics import class_scores, confusion, measure, per_class, value_scores
from modelship_trainer.evaluation.shuffling import cut, plain_folds, stratified_folds
from modelship_trainer.judgement import Metric, metrics_of
from modelship_trainer.recipe import Task

pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore::UserWarning")]
few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@few
@given(seeds, st.integers(0, 60), st.integers(2, 5), st.sampled_from([1, 2, 8]))
def test_metrics_of_classes(seed: int, rows: int, classes: int, digits: int) -> None:
    """`digits`: with few of them, probabilities tie."""
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), random.integers(0, classes, rows)])
    logits = np.round(random.normal(size=(len(truth), classes)) * 2, digits)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores = class_scores(truth, chances, [f"c{number}" for number in range(classes)])
    said = chances.argmax(axis=1)
    averages = {"average": "macro", "zero_division": 0}
    several = {"multi_class": "ovr", "average": "macro"}
    theirs = {
        Metric.ACCURACY: sk.accuracy_score(truth, said),
        Metric.PRECISION: sk.precision_score(truth, said, **averages),
        Metric.RECALL: sk.recall_score(truth, said, **averages),
        Metric.F1: sk.f1_score(truth, said, **averages),
        Metric.ROC_AUC: sk.roc_auc_score(truth, chances[:, 1]) if classes == 2 else sk.roc_auc_score(truth, chances, **several),
        Metric.LOG_LOSS: sk.log_loss(truth, chances, labels=range(classes)),
    }
    assert measure(metrics_of(Task.CLASSIFICATION), scores, "here") == pytest.approx(theirs, rel=1e-13)
    assert confusion(scores) == sk.confusion_matrix(truth, said, labels=range(classes)).tolist()
    columns = sk.precision_recall_fscore_support(truth, said, labels=range(classes), zero_division=0)
    assert [row[1:] for row in per_class(scores)] == [tuple(row) for row in zip(*columns, strict=True)]


def test_classes_that_do_not_occur_are_in_no_average() -> None:
    scores = class_scores([0, 0, 1], np.eye(4)[[0, 1, 1]], "abcd")
    ours = measure([Metric.PRECISION, Metric.RECALL, Metric.F1], scores, "here")
    theirs = sk.precision_recall_fscore_support([0, 0, 1], [0, 1, 1], average="macro")[:3]
    assert list(ours.values()) == pytest.approx(theirs)


@few
@given(seeds, st.integers(2, 60))
def test_metrics_of_values(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.normal(1e6, 3, rows)
    predicted = truth + random.normal(0, 1, rows)
    theirs = {
        Metric.MAE: sk.mean_absolute_error(truth, predicted),
        Metric.RMSE: sk.root_mean_squared_error(truth, predicted),
        Metric.R2: sk.r2_score(truth, predicted),
    }
    assert measure(metrics_of(Task.REGRESSION), value_scores(truth, predicted), "here") == pytest.approx(theirs, rel=1e-13)


@few
@given(seeds, st.integers(0, 80), st.sampled_from([0, 1, 8]))
def test_roc_curve_point_by_point(seed: int, rows: int, digits: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.concatenate([[True, False], random.random(rows) < 0.4])
    scores = np.round(random.random(len(truth)), digits)
    ours, theirs = roc_curve(truth, scores), sk.roc_curve(truth, scores)[:2]
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])
    assert area_under(*ours) == sk.auc(*theirs)


@few
@given(seeds, st.integers(5, 80), st.integers(2, 5), st.booleans())
def test_plain_folds(seed: int, rows: int, folds: int, shuffle: bool) -> None:
    cutter = KFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)
    fold_of = plain_folds(rows, folds, seed if shuffle else None)
    for fold, (_, held_out) in enumerate(cutter.split(np.zeros(rows))):
        np.testing.assert_array_equal(np.flatnonzero(fold_of == fold), np.sort(held_out))


@few
@given(seeds, st.integers(0, 80), st.integers(2, 5), st.booleans(), st.booleans())
def test_stratified_folds(seed: int, rows: int, folds: int, shuffle: bool, text: bool) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.concatenate([np.repeat([3, 1, 20], folds), (random.random(rows) ** 2 * 3).astype(int)]))
    labels = labels.astype(str).astype(object) if text else labels
    cutter = StratifiedKFold(folds, shuffle=shuffle, random_state=seed if shuffle else None)
    fold_of = stratified_folds(labels, folds, seed if shuffle else None)
    for fold, (_, held_out) in enumerate(cutter.split(labels, labels)):
        np.testing.assert_array_equal(np.flatnonzero(fold_of == fold), np.sort(held_out))


@few
@given(seeds, st.integers(2, 80), st.floats(0.05, 0.9), st.booleans())
def test_cuts(seed: int, rows: int, share: float, stratified: bool) -> None:
    """Where scikit-learn refuses, so do we."""
    labels = np.random.default_rng(seed).integers(0, 3, rows) if stratified else None
    try:
        expected = train_test_split(np.arange(rows), test_size=share, random_state=seed, stratify=labels)
    except ValueError:
        with pytest.raises(ValueError, match=r"rows|row, and needs two"):
            cut(rows, share, seed, labels)
        return
    for ours, theirs in zip(cut(rows, share, seed, labels), expected, strict=True):
        np.testing.assert_array_equal(ours, np.sort(theirs))

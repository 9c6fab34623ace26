"""The folds of an evaluation: retrain the recipe without each, and score it on what it never saw.

    run_folds(task, [0, 2, 4], progress, should_stop)

A process does several, one after the other, on data that it loads once. Each is recorded in the store as soon as it is measured,
and goes on from its own checkpoint; which process trains it changes no bit of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelship_trainer.data.dataset import Dataset, Rows
from modelship_trainer.data.prepare import encode
from modelship_trainer.data.split import split
from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.evaluation.folder import EvaluationFolder
from modelship_trainer.evaluation.folds import cut_fold
from modelship_trainer.evaluation.metrics import class_names, confusion_of, measure
from modelship_trainer.evaluation.records import FoldRecord, epochs_of
from modelship_trainer.evaluation.subject import Subject, identity_of, load_data, open_subject
from modelship_trainer.judgement import KFold
from modelship_trainer.protocol import EvaluateTask, FailureReason, FoldResult, FoldsResult, Progress
from modelship_trainer.run import Report, ShouldStop, train_on
from modelship_trainer.training.checkpoint import Checkpoints
from modelship_trainer.training.checkpoint import identity_of as run_identity
from modelship_trainer.training.device import choose_device
from modelship_trainer.training.validation import predict, scores_of


@dataclass(frozen=True)
class _Evaluation:
    """What all folds have in common."""

    subject: Subject
    method: KFold
    folder: EvaluationFolder
    identity: str
    dataset: Dataset
    development: Rows
    """All but the test split."""


def run_folds(task: EvaluateTask, folds: Sequence[int], progress: Report, should_stop: ShouldStop) -> FoldsResult:
    """Train and record those of `folds` that are not recorded yet.

    Raises:
        UserError: with the reason and one sentence for the user.
        Interrupted: `should_stop` said so; the running fold's checkpoint was saved.
    """
    method = task.method.k_fold
    for fold in folds:
        if method is None or not 0 <= fold < method.folds:
            raise UserError(FailureReason.RECIPE_INVALID, f"there is no fold {fold} in this evaluation's method.")
    assert method is not None or not folds  # noqa: S101 - told above
    subject, folder = open_subject(task), EvaluationFolder(task.store)
    identity = identity_of(task, subject)
    left = [fold for fold in folds if folder.reusable_fold(fold, identity) is None]
    if left and method is not None:
        progress(Progress(phase="Loading"))
        dataset = load_data(subject, source=None)
        parts = split(dataset, subject.recipe.data.split, subject.recipe.training.task)
        development = np.sort(np.concatenate([parts.train, parts.validation]))
        common = _Evaluation(subject, method, folder, identity, dataset, development)
        for fold in left:
            if should_stop():
                raise Interrupted
            _run_fold(common, fold, progress, should_stop)
    return FoldsResult(folds=list(folds))


def _run_fold(common: _Evaluation, fold: int, progress: Report, should_stop: ShouldStop) -> None:
    """Train on the fold's own rows, preprocessing included; score the rows left out; record both."""

    def tell(said: Progress) -> None:
        progress(said.model_copy(update={"fold": fold}))

    subject, dataset, folder, recipe = common.subject, common.dataset, common.folder, common.subject.recipe
    rows = cut_fold(common.development, dataset.target, common.method, recipe.data.split, recipe.training.task, fold)
    model = train_on(
        recipe,
        dataset,
        rows.train,
        rows.validation,
        held_out=rows.held_out,
        checkpoints=Checkpoints(folder.checkpoints(fold), f"{common.identity}/{fold} {run_identity(recipe, dataset.digest)}"),
        should_stop=should_stop,
        report=tell,
    )
    tell(Progress(phase="Scoring"))
    fitted, target, device = model.prepared.fitted, model.prepared.target, choose_device()
    held_out = encode(dataset, rows.held_out, fitted, target)
    scores = scores_of(predict(model.trained.module.to(device), held_out.x, device), held_out.y, target)
    metrics = measure(subject.metrics, scores, f"fold {fold}")
    folder.write_fold(
        FoldRecord(
            identity=common.identity,
            result=FoldResult(
                fold=fold, metrics={name.value: repr(value) for name, value in metrics.items()}, data_digest=dataset.digest
            ),
            train_rows=len(rows.train),
            validation_rows=len(rows.validation),
            rows=len(scores.truth),
            classes=class_names(scores),
            confusion=confusion_of(scores),
            history=epochs_of(model.trained.history),
        )
    )
    shutil.rmtree(folder.checkpoints(fold), ignore_errors=True)

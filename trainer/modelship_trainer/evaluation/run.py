"""Run an evaluation: one fold of it, or the score that gathers the folds, judges, and reports.

evaluate(task, fold, progress)   # fold given: FoldResult; None: EvaluateResult
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from modelship_trainer.data.dataset import Dataset, Rows
from modelship_trainer.data.prepare import encode
from modelship_trainer.data.split import split
from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.folder import REPORT, EvaluationFolder
from modelship_trainer.evaluation.folds import Fold, cut_fold
from modelship_trainer.evaluation.metrics import ClassScores, Scores, confusion, measure
from modelship_trainer.evaluation.records import Epoch, FoldRecord, GateOutcome, Results, epochs_of
from modelship_trainer.evaluation.report import Report, render
from modelship_trainer.evaluation.score import score
from modelship_trainer.evaluation.subject import Subject, load_data, open_subject
from modelship_trainer.judgement import MetricResult, judge, summarize
from modelship_trainer.locations import shown
from modelship_trainer.models.source import source_digest
from modelship_trainer.protocol import EvaluateResult, EvaluateTask, FailureReason, FoldResult, Progress
from modelship_trainer.run import train_on
from modelship_trainer.schema import canonical_json, digest_of
from modelship_trainer.training.checkpoint import Checkpoints
from modelship_trainer.training.checkpoint import identity_of as run_identity
from modelship_trainer.training.device import choose_device
from modelship_trainer.training.validation import predict, scores_of

OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


def evaluate(
    task: EvaluateTask, fold: int | None, progress: OnProgress, should_stop: ShouldStop = lambda: False
) -> FoldResult | EvaluateResult:
    """Do what a pod of the evaluation does. Doing it again gives the same numbers, and does not repeat a finished fold.

    Raises:
        UserError: with the reason and one sentence for the user.
        Interrupted: `should_stop` said so and the fold's checkpoint was saved.
    """
    return run_score(task, progress) if fold is None else run_fold(task, fold, progress, should_stop)


# --- a fold -------------------------------------------------------------------------------------------------------------------


def run_fold(task: EvaluateTask, fold: int, progress: OnProgress, should_stop: ShouldStop) -> FoldResult:
    """Retrain the recipe without fold `fold`, score it on that fold, record it in the store."""
    method = task.method.k_fold
    if method is None or not 0 <= fold < method.folds:
        raise UserError(FailureReason.RECIPE_INVALID, f"there is no fold {fold} in this evaluation's method.")
    subject, folder = open_subject(task), EvaluationFolder(task.store)
    identity = identity_of(task, subject)
    if (finished := folder.reusable_fold(fold, identity)) is not None:
        return finished.result
    progress(Progress(phase="Loading"))
    dataset = load_data(subject, source=None)
    spec = subject.recipe
    parts = split(dataset, spec.data.split, spec.training.task)
    development = np.sort(np.concatenate([parts.train, parts.validation]))
    rows = cut_fold(development, dataset.target, method, spec.data.split, spec.training.task, fold)
    scores, history = _retrain(subject, dataset, rows, folder, f"{identity}/{fold}", fold, progress, should_stop)
    metrics = measure(subject.metrics, scores, f"fold {fold}")
    result = FoldResult(fold=fold, metrics={name.value: repr(value) for name, value in metrics.items()}, data_digest=dataset.digest)
    folder.write_fold(
        FoldRecord(
            identity=identity,
            result=result,
            train_rows=len(rows.train),
            validation_rows=len(rows.validation),
            rows=len(scores.truth),
            classes=_classes(scores),
            confusion=_confusion(scores),
            history=history,
        )
    )
    shutil.rmtree(folder.checkpoints(fold), ignore_errors=True)
    return result


def identity_of(task: EvaluateTask, subject: Subject) -> str:
    """Digest of what decides the folds' numbers, so that a record of something else is never taken for one of them."""
    lineage = subject.manifest.lineage
    method = task.method.k_fold.to_json() if task.method.k_fold else {}
    method.pop("parallelism", None)
    metrics = [metric.value for metric in subject.metrics]
    made_of = {"recipe": lineage.recipe_digest, "data": lineage.data_digest, "code": source_digest(subject.recipe.model)}
    return digest_of(canonical_json(made_of | {"method": method, "metrics": metrics}))


def _retrain(
    subject: Subject,
    dataset: Dataset,
    rows: Fold,
    folder: EvaluationFolder,
    identity: str,
    fold: int,
    progress: OnProgress,
    should_stop: ShouldStop,
) -> tuple[Scores, list[Epoch]]:
    """Train on the fold's own rows, preprocessing included; predictions of the rows left out, and the training curve."""
    checkpoints = Checkpoints(folder.checkpoints(fold), f"{identity} {run_identity(subject.recipe, dataset.digest)}")
    model = train_on(
        subject.recipe,
        dataset,
        rows.train,
        rows.validation,
        held_out=rows.held_out,
        checkpoints=checkpoints,
        should_stop=should_stop,
        report=progress,
    )
    progress(Progress(phase="Scoring"))
    fitted, target = model.prepared.fitted, model.prepared.target
    held_out = encode(dataset, rows.held_out, fitted, target)
    device = choose_device()
    outputs = predict(model.trained.module.to(device), held_out.x, device)
    return scores_of(outputs, held_out.y, target), epochs_of(model.trained.history)


# --- the score ----------------------------------------------------------------------------------------------------------------


def run_score(task: EvaluateTask, progress: OnProgress) -> EvaluateResult:
    """Score the artifact on its test split, add what the folds recorded, judge, and write the report."""
    subject, folder = open_subject(task), EvaluationFolder(task.store)
    folds = folder.read_folds(task.method.k_fold.folds, identity_of(task, subject)) if task.method.k_fold else []
    progress(Progress(phase="Loading"))
    dataset = load_data(subject, task.source)
    rows = _test_rows(task, subject, dataset)

    def tell(scored: int, of: int) -> None:
        progress(Progress(phase="Scoring", step=scored, steps=of))

    scores = score(subject, dataset, rows, tell)
    where = "the test split" if task.source is None else shown(task.source)
    measured = measure(subject.metrics, scores, where)
    results = [
        summarize(metric, [float(fold.result.metrics[metric.value]) for fold in folds], measured[metric])
        for metric in subject.metrics
    ]
    numbers = _judge(task, subject, dataset, scores, results)
    progress(Progress(phase="Publishing"))
    html = render(
        Report(
            namespace=task.run.namespace,
            results=numbers,
            recipe=subject.recipe,
            source=dataset.source,
            scores=scores,
            history=subject.history,
            folds=folds,
            baseline=task.baseline or [],
            trainer=subject.manifest.lineage.trainer,
            measured_at=datetime.now(UTC),
        )
    )
    return EvaluateResult(
        artifact_digest=task.artifact.digest,
        recipe_digest=subject.manifest.lineage.recipe_digest,
        data_digest=dataset.digest,
        results=results,
        report=f"{folder.uri}/{REPORT}",
        report_digest=folder.write_results(numbers, html),
        rows=len(scores.truth),
    )


def _test_rows(task: EvaluateTask, subject: Subject, dataset: Dataset) -> Rows:
    """The recipe's own test split, by its seed; all rows of other data."""
    if task.source is not None:
        return np.arange(dataset.rows)
    return split(dataset, subject.recipe.data.split, subject.recipe.training.task).test


def _judge(task: EvaluateTask, subject: Subject, dataset: Dataset, scores: Scores, results: Sequence[MetricResult]) -> Results:
    outcomes = [(gate, judge(gate, results, task.baseline)) for gate in task.gates]
    return Results(
        name=task.run.name,
        verdict="Passed" if all(outcome.passed for _, outcome in outcomes) else "Failed",
        artifact_digest=task.artifact.digest,
        recipe_digest=subject.manifest.lineage.recipe_digest,
        data_digest=dataset.digest,
        method=task.method,
        rows=len(scores.truth),
        results=list(results),
        gates=[GateOutcome(gate=gate, passed=outcome.passed, message=outcome.message) for gate, outcome in outcomes],
        classes=_classes(scores),
        confusion=_confusion(scores),
    )


def _classes(scores: Scores) -> list[str]:
    return list(scores.classes) if isinstance(scores, ClassScores) else []


def _confusion(scores: Scores) -> list[list[int]] | None:
    return confusion(scores) if isinstance(scores, ClassScores) else None

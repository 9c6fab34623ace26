"""The score of an evaluation: measure the artifact as it is served, gather the folds, judge, and report. It needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from modelship_trainer.data.dataset import Dataset, Rows
from modelship_trainer.data.split import split
from modelship_trainer.evaluation.folder import REPORT, EvaluationFolder
from modelship_trainer.evaluation.metrics import Scores, class_names, confusion_of, measure
from modelship_trainer.evaluation.records import GateOutcome, Results
from modelship_trainer.evaluation.report import Report, render
from modelship_trainer.evaluation.score import score
from modelship_trainer.evaluation.subject import Subject, identity_of, load_data, open_subject
from modelship_trainer.judgement import MetricResult, judge, summarize
from modelship_trainer.locations import shown
from modelship_trainer.protocol import EvaluateResult, EvaluateTask, Progress

OnProgress = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


def run_score(task: EvaluateTask, progress: OnProgress) -> EvaluateResult:
    """Score the artifact on its test split, add what the folds recorded, judge, and write the report.

    Raises:
        UserError: with the reason and one sentence for the user.
    """
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
        classes=class_names(scores),
        confusion=confusion_of(scores),
    )

"""The report: one self-contained HTML file with the verdict, what it is bound to, every number, and the plots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from modelship_trainer.evaluation import plots
from modelship_trainer.evaluation.metrics import ClassScores, Scores, ValueScores, confusion, per_class
from modelship_trainer.evaluation.records import Epoch, FoldRecord, Results
from modelship_trainer.judgement import METRICS, KFold, MetricResult
from modelship_trainer.recipe import Recipe

_MAX_CLASS_ROWS = 100


class Figure(NamedTuple):
    """A plot and what it says."""

    title: str
    caption: str
    svg: Markup
    wide: bool = False


class Report(NamedTuple):
    """All that the report shows."""

    namespace: str
    results: Results
    recipe: Recipe
    source: str
    """URI of the data that the artifact was scored on."""
    scores: Scores
    """The artifact's predictions on those rows."""
    history: Sequence[Epoch]
    """Training curve of the artifact itself; empty where it has none."""
    folds: Sequence[FoldRecord]
    baseline: Sequence[MetricResult]
    trainer: str
    """Versions, as in the artifact's lineage."""
    measured_at: datetime


def render(report: Report) -> str:
    """The HTML. Every string of the user's is escaped; nothing is loaded from elsewhere."""
    environment = Environment(
        loader=PackageLoader("modelship_trainer.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "spread": spread}
    classes = per_class(report.scores) if isinstance(report.scores, ClassScores) else []
    return environment.get_template("report.html.j2").render(
        report=report,
        method=describe_method(report.results),
        baseline={result.metric: result.mean for result in report.baseline},
        higher_is_better={metric: facts.higher_is_better for metric, facts in METRICS.items()},
        folds=max(len(result.folds) for result in report.results.results),
        figures=_figures(report),
        classes=classes[:_MAX_CLASS_ROWS],
        more_classes=max(0, len(classes) - _MAX_CLASS_ROWS),
        settings=_settings(report.recipe),
    )


def describe_method(results: Results) -> str:
    """`5-fold cross-validation (seed 0) and 36 test rows`, or `holdout, 36 test rows`."""
    method = results.method.value
    rows = f"{results.rows:,} test rows"
    return (
        f"{method.folds}-fold cross-validation (seed {method.seed}) and {rows}" if isinstance(method, KFold) else f"holdout, {rows}"
    )


def number(value: float | None) -> str:
    """Four decimals for scores, four significant digits for the rest; a dash for what there is not."""
    if value is None:
        return "-"
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.4f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}"


def spread(value: float) -> str:
    """A deviation: two significant digits."""
    return f"{value:.2g}" if abs(value) < 100 else f"{value:,.0f}"


def _figures(report: Report) -> list[Figure]:
    """Half-width plots in pairs; where their number is odd, the training curves take the whole width."""
    measured = report.results.results
    plain = _class_figures(report.scores) if isinstance(report.scores, ClassScores) else _value_figures(report.scores)
    if report.folds:
        caption = "Dots: folds. Line and band: their mean and standard deviation. Diamond: this artifact on the test split."
        wide = len(measured) > 3
        plain.append(Figure("Spread over folds", caption, plots.fold_spread(measured, wide=wide), wide))
    runs = [fold.history for fold in report.folds if fold.history]
    if report.history or runs:
        lines = [text for text, there in (("bold: this artifact", report.history), ("thin: the folds", runs)) if there]
        wide = sum(not figure.wide for figure in plain) % 2 == 0
        svg = plots.training_curves(report.history, runs, wide=wide)
        plain.insert(0, Figure("Training curves", f"Loss by epoch; {', '.join(lines)}.", svg, wide))
    return plain


def _class_figures(scores: ClassScores) -> list[Figure]:
    caption = "Test rows; shaded by the share of each true class."
    if len(scores.classes) > plots.MAX_CLASSES:
        caption += f" The {plots.MAX_CLASSES} classes with the most wrong rows, of {len(scores.classes)}."
    found = [Figure("Confusion matrix", caption, plots.confusion_matrix(confusion(scores), scores.classes))]
    if len(set(scores.truth.tolist())) > 1:
        caption = f"Positive class: {scores.classes[1]}." if len(scores.classes) == 2 else "Each class against the rest, test rows."
        found.append(Figure("ROC curve", caption, plots.roc_curves(scores)))
    caption = "How often test rows are right, by the probability that the model states."
    return [*found, Figure("Reliability", caption, plots.reliability(scores))]


def _value_figures(scores: ValueScores) -> list[Figure]:
    return [
        Figure("Predicted and true", "Test rows; the dashed line is a perfect prediction.", plots.predicted_and_true(scores)),
        Figure("Residuals", "Predicted minus true, test rows.", plots.residuals(scores)),
    ]


def _settings(recipe: Recipe) -> list[tuple[str, str]]:
    training, split = recipe.training, recipe.data.split
    return [
        ("Task", training.task.value),
        ("Model", _call(recipe.model.kind, recipe.model.value.to_json())),
        ("Optimizer", _call(training.optimizer.kind, training.optimizer.value.to_json())),
        ("Epochs, batch", f"{training.epochs}, {training.batch_size}"),
        ("Split", f"validation {split.validation:g}, test {split.test:g}, seed {split.seed}" + (", stratified" * split.stratify)),
        ("Preprocessing", ", ".join(step.kind for step in recipe.data.preprocessing) or "none"),
    ]


def _call(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"

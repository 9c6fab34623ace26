"""Plots of the report, as inline SVG whose colours are CSS variables, so that one file is right in light and in dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from modelship_trainer.evaluation.curves import area_under, roc_curve
from modelship_trainer.evaluation.metrics import ClassScores, ValueScores
from modelship_trainer.evaluation.records import Epoch
from modelship_trainer.judgement import MetricResult

# Stand-in colours that matplotlib writes, and the variables of report.html.j2 that they become.
INK, MUTED, LINE, SURFACE = "#010101", "#010102", "#010103", "#010104"
SERIES = ("#010111", "#010112", "#010113", "#010114", "#010115")
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", SURFACE: "--surface"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, 1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a label may hold a dollar sign
    "font.size": 10,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}
_MAX_POINTS = 2_000
"""Points that a scatter draws, and a curve keeps: more would only make the file large."""
_MAX_LABEL = 18
MAX_CLASSES = 40
"""Classes that the confusion matrix shows."""


def training_curves(own: Sequence[Epoch], folds: Sequence[Sequence[Epoch]], *, wide: bool) -> Markup:
    """Training and validation loss by epoch: the artifact's own run in bold, each fold's thin."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(11.4, 3.6) if wide else _figure()
        for fold in folds:
            _curve(axes, fold, width=1, alpha=0.45)
        _curve(axes, own, width=2.2, alpha=1)
        for color, name in ((SERIES[0], "training loss"), (SERIES[1], "validation loss")):
            axes.plot([], [], color=color, label=name)
        losses = [value for run in (own, *folds) for point in run for value in (point.loss, point.val_loss) if value]
        if losses and min(losses) > 0 and max(losses) > 50 * min(losses):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper right")
        return _svg(figure, "curves", "Training and validation loss by epoch")


def _curve(axes: Axes, run: Sequence[Epoch], *, width: float, alpha: float) -> None:
    marker = "o" if len(run) == 1 else None
    epochs = [point.epoch for point in run]
    axes.plot(epochs, [point.loss for point in run], color=SERIES[0], linewidth=width, alpha=alpha, marker=marker)
    known = [(point.epoch, point.val_loss) for point in run if point.val_loss is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=SERIES[1], linewidth=width, alpha=alpha, marker=marker)


def confusion_matrix(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Heat map; a cell is shaded by its share of the true class's rows, so that rare classes show.

    Of more than `MAX_CLASSES` classes, those with the most wrong rows.
    """
    table = np.asarray(counts, dtype=np.int64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    if len(classes) > MAX_CLASSES:
        worst = np.sort(np.argsort(np.diag(table) - table.sum(axis=1), kind="stable")[:MAX_CLASSES])
        table, shares, classes = table[np.ix_(worst, worst)], shares[np.ix_(worst, worst)], [classes[k] for k in worst]
    size = len(classes)
    with mpl.rc_context(_STYLE | {"axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = _figure()
        axes.add_patch(Rectangle((-0.5, -0.5), size, size, facecolor=LINE, alpha=0.35, linewidth=0))
        filled = [(int(row), int(column)) for row, column in np.argwhere(table)]
        axes.add_collection(
            PatchCollection(
                [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in filled],
                facecolor=SERIES[0],
                alpha=[0.15 + 0.85 * shares[cell] for cell in filled],
                linewidth=0,
            )
        )
        for row, column in filled if size <= 20 else []:
            color = SURFACE if shares[row, column] > 0.5 else INK
            text = f"{table[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=_cell_font(size))
        for edge in np.arange(size + 1) - 0.5:  # a gap between cells
            axes.axhline(edge, color=SURFACE, linewidth=min(1.5, 15 / size))
            axes.axvline(edge, color=SURFACE, linewidth=min(1.5, 15 / size))
        _class_ticks(axes, classes)
        axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="predicted", ylabel="true", aspect="equal")
        return _svg(figure, "confusion", "Confusion matrix: rows are true classes, columns predicted ones")


def _class_ticks(axes: Axes, classes: Sequence[str]) -> None:
    every = -(-len(classes) // 20)
    ticks, names = list(range(0, len(classes), every)), [_short(name) for name in classes[::every]]
    long = max(len(name) for name in names) * len(names) > 40
    axes.set_xticks(ticks, names, rotation=45 if long else 0, ha="right" if long else "center", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0, labelsize=10 if len(names) <= 10 else 7)


def _cell_font(size: int) -> float:
    return 11 if size <= 6 else 9 if size <= 12 else 7


def roc_curves(scores: ClassScores) -> Markup:
    """ROC of the second class (binary), or one-vs-rest of each class that has both kinds of rows."""
    last = len(scores.classes) - 1
    wanted = [1] if last == 1 else range(last + 1)
    drawable = [k for k in wanted if 0 < int((scores.truth == k).sum()) < len(scores.truth)]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        few = len(drawable) <= len(SERIES)
        for place, k in enumerate(drawable):
            false_rate, true_rate = roc_curve(scores.truth == k, scores.probabilities[:, k])
            keep = _thin(len(false_rate))
            name = f"{_short(scores.classes[k])}  AUC {area_under(false_rate, true_rate):.3f}"
            style = {"color": SERIES[place], "label": name} if few else {"color": SERIES[0], "alpha": 0.45, "linewidth": 1}
            axes.plot(false_rate[keep], true_rate[keep], **style)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        if few and drawable:
            axes.legend(loc="lower right")
        return _svg(figure, "roc", "ROC curves")


def reliability(scores: ClassScores) -> Markup:
    """How often the model is right, by how sure it says it is (Guo et al., 2017); a dot's area shows its share of the rows."""
    sure = scores.probabilities.max(axis=1)
    right = scores.predicted == scores.truth
    bins = np.minimum((sure * 10).astype(np.int64), 9)
    filled = [np.flatnonzero(bins == k) for k in range(10) if (bins == k).any()]
    said, seen = [float(sure[rows].mean()) for rows in filled], [float(right[rows].mean()) for rows in filled]
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        axes.plot(said, seen, color=SERIES[0], linewidth=1.5, alpha=0.6)
        axes.scatter(
            said,
            seen,
            s=[30 + 320 * len(rows) / len(sure) for rows in filled],
            color=SERIES[0],
            edgecolors=SURFACE,
            linewidths=1.2,
            zorder=3,
        )
        axes.set(xlabel="stated probability of the predicted label", ylabel="share that is right", ylim=(-0.02, 1.04))
        axes.set_xlim(min(0.45, *said) - 0.03, 1.03)
        return _svg(figure, "reliability", "Share of right predictions by stated probability")


def fold_spread(results: Sequence[MetricResult], *, wide: bool) -> Markup:
    """One panel a metric: each fold, their mean and standard deviation, and the artifact's own test score."""
    measured = [result for result in results if result.folds]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.4, 3.6) if wide else (5.4, 4.2), layout="constrained")
        for axes, result in zip(np.atleast_1d(figure.subplots(1, len(measured))), measured, strict=True):
            offsets = np.linspace(-0.14, 0.14, len(result.folds))
            deviation = result.std or 0
            axes.add_patch(
                Rectangle((-0.3, result.mean - deviation), 0.6, 2 * deviation, facecolor=SERIES[0], alpha=0.14, linewidth=0)
            )
            axes.hlines(result.mean, -0.3, 0.3, color=SERIES[0], linewidth=2)
            axes.scatter(offsets, result.folds, s=34, color=SERIES[0], edgecolors=SURFACE, linewidths=1.2, zorder=3)
            if result.test is not None:
                axes.scatter([0.42], [result.test], s=42, marker="D", color=SERIES[1], edgecolors=SURFACE, linewidths=1.2, zorder=3)
            axes.set(xlim=(-0.5, 0.6), xticks=[])
            axes.set_title(result.metric.value, color=INK, fontsize=10)
            axes.margins(y=0.15)
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
            axes.spines["bottom"].set_visible(False)
        return _svg(figure, "spread", "Each fold's score, their mean and standard deviation, and the test score")


def predicted_and_true(scores: ValueScores) -> Markup:
    """Scatter of predicted over true values with the identity line."""
    keep = _sample(len(scores.truth))
    low = float(min(scores.truth.min(), scores.predicted.min()))
    high = float(max(scores.truth.max(), scores.predicted.max()))
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 4)))
        axes.scatter(scores.truth[keep], scores.predicted[keep], s=18, color=SERIES[0], alpha=0.55, linewidths=0)
        axes.set(xlabel="true value", ylabel="predicted value")
        return _svg(figure, "scatter", "Predicted over true values")


def residuals(scores: ValueScores) -> Markup:
    """Histogram of predicted minus true."""
    errors = scores.predicted - scores.truth
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        axes.hist(errors, bins=min(40, max(8, int(np.sqrt(len(errors))) * 2)), color=SERIES[0], edgecolor=SURFACE, linewidth=1)
        axes.axvline(0, color=INK, linewidth=1, linestyle=(0, (4, 4)))
        axes.grid(visible=False, axis="x")
        axes.set(xlabel="predicted - true", ylabel="rows")
        return _svg(figure, "residuals", "Histogram of residuals")


def _figure(width: float = 5.4, height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an `<svg>` element that takes font and colours from the page. Labels are escaped by matplotlib.

    `name` salts its ids, so that several stand in one page.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser's fonts draw the text, not matplotlib's
        figure.savefig(buffer, format="svg", transparent=True)
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>| font-family: [^;]*;", "", buffer.getvalue(), flags=re.DOTALL)
    referenced = set(re.findall(r"#([\w.-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda match: match.group() if match[1] in referenced else "", text)
    text = re.sub("|".join(_VARIABLES), lambda match: f"var({_VARIABLES[match.group()]})", text)
    view_box, body = re.findall(r'viewBox="([\d. ]+)"', text)[0], text[text.index("<svg") :].split(">", 1)[1]
    head = f'<svg role="img" aria-label="{description}" viewBox="{view_box}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Markup(head + body)  # noqa: S704 - made above, from numbers and from labels that matplotlib escaped


def _short(name: str) -> str:
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 1]}…"


def _thin(count: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, 400)).astype(np.int64))


def _sample(count: int) -> npt.NDArray[np.int64]:
    chosen: npt.NDArray[np.int64] = np.random.default_rng(0).permutation(count)[:_MAX_POINTS]
    return chosen

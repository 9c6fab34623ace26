import functools
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from modelship_trainer.evaluation import plots
from modelship_trainer.evaluation.metrics import class_scores, measure, value_scores, wanted
from modelship_trainer.evaluation.records import Epoch, FoldRecord, GateOutcome, Results
from modelship_trainer.evaluation.report import Report, number, render, spread
from modelship_trainer.judgement import Gate, Metric, judge, summarize
from modelship_trainer.protocol import FoldResult
from modelship_trainer.recipe import Recipe, Task

pytestmark = pytest.mark.unit

DIGESTS = {f"{part}_digest": f"sha256:{hex_digit * 64}" for part, hex_digit in (("artifact", "a"), ("recipe", "b"), ("data", "c"))}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>$x_{&amp;}'
VOID = {"meta", "br"}


def history(epochs=5):
    return [Epoch(epoch=e, loss=1 / e, val_loss=1.2 / e) for e in range(1, epochs + 1)]


def classifier(classes, rows=200):
    random = np.random.default_rng(0)
    truth = np.arange(rows) % len(classes)
    logits = random.normal(size=(rows, len(classes))) + 2 * np.eye(len(classes))[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return class_scores(truth, probabilities, classes)


def regression(rows=200):
    random = np.random.default_rng(0)
    truth = random.normal(100, 20, rows)
    return value_scores(truth, truth + random.normal(0, 5, rows))


def make(scores, task, *, folds=0, gates=(), name="churn-cv", history=history(), baseline=(), trainer="modelship, torch"):  # noqa: B008
    test = measure(wanted([], gates, task), scores, "the test split")
    results = [summarize(m, [v * (1 - i / 100) for i in range(folds)], v) for m, v in test.items()]
    judged = [judge(gate, results) for gate in gates]
    recipe = Recipe.model_validate(
        {"data": {"source": "sklearn://digits"}, "model": {"mlp": {"hidden": [8]}}, "training": {"task": task.value}}
    )
    return Report(
        namespace="default",
        results=Results.model_validate(
            {
                "name": name,
                "verdict": "Passed" if all(outcome.passed for outcome in judged) else "Failed",
                "method": {"kFold": {"folds": folds}} if folds else {"holdout": {}},
                "rows": len(scores.truth),
                "results": results,
                "gates": [GateOutcome(gate=g, passed=o.passed, message=o.message) for g, o in zip(gates, judged, strict=True)],
                **DIGESTS,
            }
        ),
        recipe=recipe,
        source="pvc://datasets/churn.parquet",
        scores=scores,
        history=history,
        folds=[
            FoldRecord(
                identity="x",
                result=FoldResult(fold=fold, metrics={}, data_digest=DIGESTS["data_digest"]),
                train_rows=8,
                validation_rows=1,
                rows=2,
                history=history,
            )
            for fold in range(folds)
        ],
        baseline=baseline,
        trainer=trainer,
        measured_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )


class Page(HTMLParser):
    """What a browser would make of it: elements, attributes, visible text; unbalanced tags are an error."""

    def __init__(self, html):
        super().__init__()
        self.stack, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.text += data

    def values(self, name):
        return [value for key, value in self.attributes if key == name]


CASES = {
    "binary holdout": lambda: make(classifier(["no", "yes"]), Task.CLASSIFICATION),
    "binary k-fold": lambda: make(classifier(["no", "yes"]), Task.CLASSIFICATION, folds=5),
    "ten classes": lambda: make(classifier(list("0123456789")), Task.CLASSIFICATION, folds=20),
    "forty classes": lambda: make(classifier([f"a class with a long name {i}" for i in range(40)]), Task.CLASSIFICATION),
    "regression": lambda: make(regression(), Task.REGRESSION, folds=3),
    "regression holdout": lambda: make(regression(), Task.REGRESSION, history=[]),
    "two rows": lambda: make(value_scores([1, 2], [1, 2]), Task.REGRESSION, history=history(1)),
}


@functools.cache
def rendered(case):
    return render(CASES[case]())


@pytest.mark.parametrize("case", CASES)
def test_one_file_holds_everything(case):
    html = rendered(case)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not page.values("src") + page.values("href")
    assert all(target.startswith("#") for target in page.values("xlink:href"))
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert "default-src 'none'" in next(value for value in page.values("content") if "default-src" in value)
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"#0101[01]\d", html), "a stand-in colour was left"
    references = {target[1:] for target in page.values("xlink:href")} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert references <= set(page.values("id"))
    assert len(html) < 500_000


def test_figures_of_a_classifier_and_of_a_regression():
    titles = re.compile(r"<figcaption><h2>(.*?)</h2>")
    plain = ["Training curves", "Confusion matrix", "ROC curve", "Reliability"]
    assert titles.findall(rendered("binary holdout")) == plain
    assert titles.findall(rendered("binary k-fold")) == [*plain, "Spread over folds"]
    assert titles.findall(rendered("regression")) == [
        "Training curves",
        "Predicted and true",
        "Residuals",
        "Spread over folds",
    ]
    assert titles.findall(rendered("regression holdout")) == ["Predicted and true", "Residuals"]


def test_verdict_numbers_gates_and_digests_are_there():
    gates = [Gate(metric=Metric.ACCURACY, min=0.5), Gate(metric=Metric.F1, min=0.99, statistic="worst")]
    report = make(classifier(["no", "yes"]), Task.CLASSIFICATION, folds=3, gates=gates)
    text = " ".join(Page(render(report)).text.split())
    accuracy = report.results.results[0]
    assert "✕ Failed" in text
    assert f"{report.results.gates[0].message}." in text
    assert re.search(r"f1 \(worst\) 0\.\d+ is below 0\.99\.", text)
    assert f"{accuracy.mean:.4f} ± {accuracy.std:.2g}" in text
    assert all(f"{value:.4f}" in text for value in accuracy.folds)
    assert "3-fold cross-validation (seed 0) and 200 test rows · measured 2026-01-02 03:04 UTC" in text
    assert "Fold 2" in text
    assert "Fold 3" not in text
    assert all(digest in text for digest in DIGESTS.values())
    assert "✓ Passed" in Page(render(make(regression(), Task.REGRESSION))).text


def test_baseline_has_a_column():
    baseline = [summarize(Metric.RMSE, [], 12.34)]
    text = Page(render(make(regression(), Task.REGRESSION, baseline=baseline))).text
    assert "Baseline" in text
    assert "12.34" in text


def test_what_users_name_is_text_and_nothing_else():
    report = make(classifier(["no", HOSTILE]), Task.CLASSIFICATION, folds=2, name=HOSTILE, trainer=HOSTILE)
    page = Page(render(report._replace(source=HOSTILE, namespace=HOSTILE)))
    assert not {"script", "img"} & set(page.tags)
    assert not page.values("onerror")
    assert page.text.count(HOSTILE) >= 6, "title, heading, class, source, namespace and trainer"


@pytest.mark.parametrize("label", ["$x_{$", "<b>&\\frac", "日本", "x" * 300, ""])
def test_any_label_can_be_drawn(label):
    scores = classifier(["other", label])
    for svg in (plots.confusion_matrix([[3, 1], [0, 4]], scores.classes), plots.roc_curves(scores)):
        drawn = "".join(ElementTree.fromstring(str(svg)).itertext())
        assert label[:17] in drawn
        assert len(label) <= 18 or label not in drawn


def test_an_infinite_looking_run_is_drawn_on_a_log_scale():
    run = [Epoch(epoch=e, loss=10.0**-e) for e in range(1, 6)]
    texts = list(ElementTree.fromstring(str(plots.training_curves(run, [], wide=True))).itertext())
    assert {"0.1", "0.01", "0.001", "0.0001"} <= set(texts)
    assert not any("math" in text for text in texts)


def test_large_data_make_no_large_plot():
    many = [f"class {k}" for k in range(500)]
    confused = np.eye(500, dtype=int) * 3
    confused[121, 124] = confused[123, 124] = 7
    svg = plots.confusion_matrix(confused.tolist(), many)
    assert len(svg) < 100_000
    assert "class 121" in svg
    assert "class 400" not in svg
    assert len(plots.predicted_and_true(regression(20_000))) < 400_000
    assert len(plots.roc_curves(classifier(["no", "yes"], 20_000))) < 40_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0.0000"),
        (1, "1.0000"),
        (0.86125, "0.8612"),
        (-0.5, "-0.5000"),
        (58.237, "58.24"),
        (1.5e-5, "1.500e-05"),
        (46.6, "46.60"),
        (1234567, "1,234,567"),
    ],
)
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.01234, "0.012"), (0, "0"), (12.3, "12"), (1234.5, "1,234")])
def test_spread(value, text):
    assert spread(value) == text

import hashlib
import json
import os
import shutil

import numpy as np
import onnx
import pytest
from evaluation_artifacts import RECIPES, build_artifact, seal
from sklearn.datasets import load_wine

from modelship_trainer.data.split import split
from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.evaluation import retrain as retrain_module
from modelship_trainer.evaluation import subject as subject_module
from modelship_trainer.evaluation.folder import EvaluationFolder
from modelship_trainer.evaluation.metrics import class_scores, measure, value_scores
from modelship_trainer.evaluation.records import FoldRecord
from modelship_trainer.evaluation.retrain import run_folds
from modelship_trainer.evaluation.run import run_score
from modelship_trainer.export.session import OnnxModel
from modelship_trainer.judgement import Metric, metrics_of, summarize
from modelship_trainer.lifecycle import write_termination_message
from modelship_trainer.protocol import ENV_TERMINATION_LOG, TERMINATION_LIMIT, EvaluateResult, FailureReason
from modelship_trainer.recipe import Recipe, Task

pytestmark = pytest.mark.unit

K_FOLD = {"kFold": {"folds": 3}}


class Progress(list):
    def __call__(self, progress):
        self.append(progress)

    @property
    def phases(self):
        return list(dict.fromkeys(progress.phase for progress in self))


def run(task, fold=None):
    """What is scored, or what is recorded of one fold."""
    return run_score(task, Progress()) if fold is None else train_fold(task, fold, Progress())


def train_fold(task, fold, progress, should_stop=lambda: False):
    assert run_folds(task, [fold], progress, should_stop).folds == [fold]
    return FoldRecord.model_validate_json(EvaluationFolder(task.store).fold_path(fold).read_bytes()).result


def run_all(task):
    run_folds(task, range(task.method.k_fold.folds), Progress(), lambda: False)
    return run(task)


def failure(task, fold=None):
    with pytest.raises(UserError) as caught:
        run(task, fold)
    return caught.value.reason, str(caught.value)


# --- holdout ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_holdout_scores_the_graph_as_pytorch_does(name, request, tmp_path):
    built = request.getfixturevalue(name)
    progress = Progress()
    result = run_score(built.task(tmp_path), progress)
    metrics = metrics_of(built.recipe.training.task)
    assert [row.metric for row in result.results] == metrics
    expected = measure(metrics, built.test_scores, "here")
    for row in result.results:
        assert row.test == pytest.approx(expected[row.metric], rel=2e-5)
        assert (row.mean, row.std, row.folds) == (row.test, None, [])
    assert result.rows == len(built.test_scores.truth)
    assert result.artifact_digest == built.digest
    assert result.recipe_digest == built.recipe.digest()
    assert result.report == f"file://{tmp_path}/report.html"
    assert progress.phases == ["Loading", "Scoring", "Publishing"]
    assert progress[-2].step == progress[-2].steps == result.rows


def test_report_and_its_digest_are_stored(classifier, tmp_path):
    gates = [{"metric": "accuracy", "min": 0.5}, {"metric": "log_loss", "max": 0.000001}]
    result = run(classifier.task(tmp_path, gates=gates))
    html = (tmp_path / "report.html").read_bytes()
    assert result.report_digest == f"sha256:{hashlib.sha256(html).hexdigest()}"
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["verdict"] == "Failed"
    assert [gate["passed"] for gate in results["gates"]] == [True, False]
    assert np.sum(results["confusion"]) == result.rows
    for text in ("wine-cv", "✕ Failed", "is above 1e-06.", classifier.digest, result.data_digest, "Training curves"):
        assert text in html.decode()


def test_other_data_is_scored_whole(classifier, tmp_path):
    result = run(classifier.task(tmp_path, source=wine_as(tmp_path / "new.csv", lambda frame: None)))
    assert result.rows == 178


def test_training_data_is_not_other_data(classifier, tmp_path):
    """Scored whole, rows that the model learned by heart would pass any gate."""
    assert failure(classifier.task(tmp_path, source="sklearn://wine")) == (
        FailureReason.DATA_INVALID,
        "sklearn://wine: this is the data that the model was trained on; leave spec.data (--data) out to score its test split.",
    )


def test_only_metrics_asked_for_are_measured(classifier, tmp_path):
    result = run(classifier.task(tmp_path, metrics=["f1"], gates=[{"metric": "roc_auc", "min": 0.5}]))
    assert [row.metric for row in result.results] == [Metric.F1, Metric.ROC_AUC]


# --- k-fold -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_k_fold_retrains_scores_and_gathers(name, request, tmp_path):
    built = request.getfixturevalue(name)
    task = built.task(tmp_path, method=K_FOLD)
    progress = Progress()
    folds = [train_fold(task, fold, progress) for fold in range(3)]
    assert progress.phases == ["Loading", "Preprocessing", "Training", "Scoring"]
    assert progress[-2].epochs == built.recipe.training.epochs
    result = run(task)
    holdout = run(built.task(tmp_path / "holdout"))
    for row, alone in zip(result.results, holdout.results, strict=True):
        values = [float(fold.metrics[row.metric.value]) for fold in folds]
        assert row == summarize(row.metric, values, row.test)
        assert row.test == alone.test
        assert len(set(row.folds)) > 1 or row.metric is Metric.ROC_AUC, "folds differ"
    records = [FoldRecord.model_validate_json((tmp_path / f"folds/{i}.json").read_bytes()) for i in range(3)]
    assert sum(record.rows for record in records) + result.rows == {"classifier": 178, "regressor": 442}[name]
    assert all(record.history and record.validation_rows for record in records)
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "folds", "holdout", "report.html", "report.sha256", "results.json"]
    assert os.listdir(tmp_path / "checkpoints") == []
    assert "Spread over folds" in (tmp_path / "report.html").read_text()


def test_a_fold_fits_on_its_own_rows_and_never_on_test_rows(classifier, tmp_path, monkeypatch):
    fitted_on, real = [], retrain_module.train_on

    def watched(recipe, dataset, train, validation, **rest):
        fitted_on.append(
            (set(train.tolist()), set(validation.tolist()), set(split(dataset, recipe.data.split, Task.CLASSIFICATION).test))
        )
        return real(recipe, dataset, train, validation, **rest)

    monkeypatch.setattr(retrain_module, "train_on", watched)
    folds = [run(classifier.task(tmp_path, method=K_FOLD), fold) for fold in range(3)]
    records = [FoldRecord.model_validate_json((tmp_path / f"folds/{fold.fold}.json").read_bytes()) for fold in folds]
    for (train, validation, test), record in zip(fitted_on, records, strict=True):
        assert not train & validation
        assert not (train | validation) & test
        assert len(train) + len(validation) + len(test) + record.rows == 178
        assert (record.train_rows, record.validation_rows) == (len(train), len(validation))
    assert not set.intersection(*(train | validation for train, validation, _ in fitted_on)), "each row is held out once"


def test_folds_are_good_and_the_same_each_time(classifier, tmp_path):
    tasks = [classifier.task(tmp_path / name, method=K_FOLD, metrics=["accuracy"]) for name in "ab"]
    first, second = (run_all(task).results[0] for task in tasks)
    assert first == second
    assert first.mean > 0.85
    other = run_all(classifier.task(tmp_path / "c", method={"kFold": {"folds": 3, "seed": 1}}, metrics=["log_loss"])).results[0]
    assert other.folds != run_all(classifier.task(tmp_path / "d", method=K_FOLD, metrics=["log_loss"])).results[0].folds


def test_a_finished_fold_is_not_trained_again(classifier, tmp_path):
    task = classifier.task(tmp_path, method=K_FOLD)
    first = run(task, 1)
    written = (tmp_path / "folds/1.json").stat().st_mtime_ns
    progress = Progress()
    assert train_fold(task, 1, progress) == first
    assert not progress
    assert (tmp_path / "folds/1.json").stat().st_mtime_ns == written


def test_a_fold_of_other_metrics_is_trained_again(classifier, tmp_path):
    run(classifier.task(tmp_path, method=K_FOLD, metrics=["f1"]), 0)
    assert set(run(classifier.task(tmp_path, method=K_FOLD, metrics=["accuracy"]), 0).metrics) == {"accuracy"}


def test_an_interrupted_fold_goes_on_from_its_checkpoint_to_the_same_numbers(classifier, tmp_path):
    expected = run(classifier.task(tmp_path / "whole", method=K_FOLD), 2)
    task = classifier.task(tmp_path / "cut", method=K_FOLD)
    calls = iter(range(10_000))
    with pytest.raises(Interrupted):
        train_fold(task, 2, Progress(), should_stop=lambda: next(calls) >= 9)
    folder = EvaluationFolder(task.store)
    assert list(folder.checkpoints(2).iterdir())
    assert not folder.fold_path(2).exists()
    progress = Progress()
    assert train_fold(task, 2, progress) == expected
    assert not folder.checkpoints(2).exists()


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_folds_of_one_process_are_those_of_a_process_each(name, request, tmp_path):
    """In any order: nothing of one fold is left for the next."""
    built = request.getfixturevalue(name)
    together, apart = (built.task(tmp_path / where, method=K_FOLD) for where in ("together", "apart"))
    progress = Progress()
    assert run_folds(together, [0, 1, 2], progress, lambda: False).folds == [0, 1, 2]
    assert [said.phase for said in progress].count("Loading") == 1
    assert list(dict.fromkeys(said.fold for said in progress)) == [None, 0, 1, 2]
    for fold in (2, 0, 1):
        run_folds(apart, [fold], Progress(), lambda: False)
    for fold in range(3):
        first, second = (EvaluationFolder(task.store).fold_path(fold).read_bytes() for task in (together, apart))
        assert first == second


def test_a_killed_share_goes_on_where_it_was(classifier, tmp_path):
    """Folds that are recorded stay as they are, the one that was running goes on from its checkpoint."""
    expected = classifier.task(tmp_path / "whole", method=K_FOLD)
    run_folds(expected, [0, 1, 2], Progress(), lambda: False)
    task = classifier.task(tmp_path / "cut", method=K_FOLD)
    folder, progress, asked = EvaluationFolder(task.store), Progress(), iter(range(100))

    def in_the_second_fold() -> bool:
        return progress[-1].fold == 1 and next(asked) == 4

    with pytest.raises(Interrupted):
        run_folds(task, [0, 1, 2], progress, in_the_second_fold)
    assert [folder.fold_path(fold).exists() for fold in range(3)] == [True, False, False]
    assert list(folder.checkpoints(1).iterdir())
    written = folder.fold_path(0).stat().st_mtime_ns
    rest = Progress()
    run_folds(task, [0, 1, 2], rest, lambda: False)
    assert folder.fold_path(0).stat().st_mtime_ns == written
    assert {said.fold for said in rest} == {None, 1, 2}
    for fold in range(3):
        assert folder.fold_path(fold).read_bytes() == EvaluationFolder(expected.store).fold_path(fold).read_bytes()


@pytest.mark.parametrize("name", ["classifier", "regressor"])
def test_a_fold_scores_its_module_as_its_graph_would_be(name, request, tmp_path, monkeypatch):
    """No fold is exported: what PyTorch predicts is what the graph that would be served predicts."""
    built, seen, real = request.getfixturevalue(name), [], retrain_module.train_on
    monkeypatch.setattr(retrain_module, "train_on", lambda recipe, dataset, *rows, **rest: seen.append(
        (real(recipe, dataset, *rows, **rest), dataset, rest["held_out"])) or seen[-1][0])  # fmt: skip
    record = run(built.task(tmp_path, method=K_FOLD), 1)
    ((model, dataset, held_out),) = seen
    graph = OnnxModel(model.onnx_bytes(), model.prepared.fitted)
    predictions, truth = graph.predict(dataset.take(held_out)), dataset.target[held_out]
    classes = model.prepared.target.classes
    truth = model.prepared.target.encode(truth, "") if classes else truth
    scores = class_scores(truth, predictions, classes) if classes else value_scores(truth, predictions)
    for metric, value in measure(metrics_of(built.recipe.training.task), scores, "here").items():
        assert float(record.metrics[metric.value]) == pytest.approx(value, rel=2e-5), metric


def test_the_message_of_twenty_folds_fits_into_a_termination_message(classifier, tmp_path, monkeypatch):
    values = [-1.234567891e-05 * (1 + fold / 7) for fold in range(20)]
    message = EvaluateResult.model_validate(
        run(classifier.task(tmp_path)).model_dump()
        | {"results": [summarize(metric, values, values[1]) for metric in metrics_of(Task.CLASSIFICATION)]}
        | {"report": "pvc://" + "c" * 1018 + "/report.html", "rows": 10**12}
    )
    monkeypatch.setenv(ENV_TERMINATION_LOG, str(tmp_path / "log"))
    write_termination_message(message)
    written = (tmp_path / "log").read_bytes()
    assert len(written) <= TERMINATION_LIMIT
    assert EvaluateResult.model_validate_json(written) == message


def test_a_store_whose_name_would_not_fit_is_refused(classifier, tmp_path):
    reason, message = failure(classifier.task(tmp_path / ("long/" * 210)))
    assert reason is FailureReason.RECIPE_INVALID
    assert "at most 1024" in message


# --- what cannot be measured --------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(classifier, tmp_path):
    folder = tmp_path / "artifact"
    shutil.copytree(classifier.folder, folder)
    return classifier._replace(folder=folder)


@pytest.mark.parametrize("file", ["model.onnx", "recipe.json", "preprocessing.json", "signature.json", "manifest.json"])
def test_a_flipped_byte_is_never_scored(copy, tmp_path, file):
    data = bytearray((copy.folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy.folder / file).write_bytes(data)
    reason, message = failure(copy.task(tmp_path / "out"))
    assert reason is FailureReason.DIGEST_MISMATCH
    assert f"{file} is sha256:" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["recipe.json", "preprocessing.json", "metrics.json", "model.onnx"])
def test_a_file_exchanged_after_it_was_verified_is_never_used(copy, tmp_path, monkeypatch, file):
    """Another pod that may write the claim waits for the moment between check and use: what is read is what is hashed."""
    verified = subject_module.verify

    def verify_then_exchange(*arguments):
        manifest = verified(*arguments)
        data = (copy.folder / file).read_bytes()
        (copy.folder / file).write_bytes(data.replace(b"0", b"1") + b" ")
        return manifest

    monkeypatch.setattr(subject_module, "verify", verify_then_exchange)
    reason, message = failure(copy.task(tmp_path / "out"))
    assert reason is FailureReason.DIGEST_MISMATCH
    assert f"{file} is sha256:" in message
    assert not (tmp_path / "out").exists()


def test_an_artifact_that_is_gone(classifier, tmp_path):
    task = classifier._replace(folder=tmp_path / "gone").task(tmp_path)
    assert failure(task) == (
        FailureReason.DATA_NOT_FOUND,
        f"artifact {task.artifact.digest[:19]}… is no longer at file://{tmp_path}/gone; restore it or train again.",
    )


def test_changed_data_is_told_by_its_digest(copy, tmp_path):
    was = "sha256:" + "0" * 64
    changed = copy._replace(digest=seal(copy.folder, copy.recipe, was))
    for fold, fields in ((None, {}), (0, {"method": K_FOLD})):
        reason, message = failure(changed.task(tmp_path, **fields), fold)
        assert reason is FailureReason.DATA_INVALID
        assert f"sklearn://wine: the data changed since training (was {was}, is sha256:" in message
    assert run(changed.task(tmp_path, source="sklearn://wine")).rows == 178, "data of its own need not be what was trained on"


def test_a_recipe_that_is_not_the_lineages(copy, tmp_path):
    other = Recipe.model_validate(RECIPES["regression"])
    changed = copy._replace(digest=seal(copy.folder, other, "sha256:" + "0" * 64))
    reason, message = failure(changed.task(tmp_path))
    assert reason is FailureReason.RECIPE_INVALID
    assert "was trained by modelship test, torch test: evaluate with that version, or train again." in message


@pytest.mark.parametrize(
    ("fields", "fold", "reason", "says"),
    [
        ({"metrics": ["rmse"]}, None, FailureReason.RECIPE_INVALID, "metrics: rmse does not fit classification; use accuracy"),
        ({"gates": [{"metric": "r2", "min": 0}]}, None, FailureReason.RECIPE_INVALID, "gates: r2 does not fit classification"),
        ({}, 0, FailureReason.RECIPE_INVALID, "there is no fold 0"),
        ({"method": K_FOLD}, 3, FailureReason.RECIPE_INVALID, "there is no fold 3"),
        ({"method": K_FOLD}, None, FailureReason.STORE_UNAVAILABLE, "fold 0 of 3 has no record"),
        ({"method": K_FOLD, "source": "sklearn://wine"}, 0, FailureReason.RECIPE_INVALID, "other data goes with method.holdout"),
        ({"source": "sklearn://iris"}, None, FailureReason.DATA_INVALID, 'column "alcohol" is not in sklearn://iris; columns:'),
        ({"source": "sklearn://digits"}, None, FailureReason.DATA_INVALID, "digits have an array, and the model takes columns."),
    ],
)  # fmt: skip
def test_what_does_not_go_together(classifier, tmp_path, fields, fold, reason, says):
    actual, message = failure(classifier.task(tmp_path, **fields), fold)
    assert actual is reason
    assert says in message


def wine_as(path, change):
    frame = load_wine(as_frame=True).frame
    change(frame)
    frame.to_csv(path, index=False)
    return f"file://{path}"


def test_a_label_that_the_model_does_not_know(classifier, tmp_path):
    source = wine_as(tmp_path / "new.csv", lambda frame: frame.replace({"target": {2: 7}}, inplace=True))
    reason, message = failure(classifier.task(tmp_path, source=source))
    assert reason is FailureReason.DATA_INVALID
    assert message == f'label "7" in {source} is not a class of the model; its classes: 0, 1, 2.'


def test_values_that_the_model_cannot_take(classifier, tmp_path):
    def blank(frame):
        frame.loc[[3, 5], "alcohol"] = None

    reason, message = failure(classifier.task(tmp_path, source=wine_as(tmp_path / "new.csv", blank)))
    assert reason is FailureReason.DATA_INVALID
    assert message.startswith('column "alcohol" has no value in row 4 of ')
    assert message.endswith("new.csv, and so have 2 of 178 rows; nothing fills it: add impute or dropMissing, or fill it in.")


def test_values_that_no_answer_is_finite_for(classifier, tmp_path):
    """They fit in float32, and what the model makes of them does not: scored as what they are, not as the first class."""

    def far(frame):
        frame.loc[5, ["alcohol", "malic_acid"]] = [3e38, -3e38]

    reason, message = failure(classifier.task(tmp_path, source=wine_as(tmp_path / "new.csv", far)))
    assert reason is FailureReason.DATA_INVALID
    assert message.startswith("the model's output is not finite for 1 of 178 rows of ")
    assert "first for row 6; correct values there" in message


def test_data_of_one_label_cannot_have_an_roc_auc(classifier, tmp_path):
    def one_label(frame):
        frame["target"] = 1

    source = wine_as(tmp_path / "new.csv", one_label)
    reason, message = failure(classifier.task(tmp_path, source=source))
    assert reason is FailureReason.DATA_INVALID
    assert message.startswith(f'roc_auc is undefined on {source}: no row has the label "0", "2"; stratify')
    assert run(classifier.task(tmp_path, source=source, metrics=["accuracy"])).rows == 178


def test_labels_that_contradict_the_probabilities_are_not_served(copy, tmp_path):
    model = onnx.load(copy.folder / "model.onnx")
    next(node for node in model.graph.node if node.op_type == "ArgMax").op_type = "ArgMin"
    onnx.save(model, copy.folder / "model.onnx")
    digest = json.loads((copy.folder / "manifest.json").read_text())["lineage"]["dataDigest"]
    changed = copy._replace(digest=seal(copy.folder, copy.recipe, digest))
    reason, message = failure(changed.task(tmp_path))
    assert reason is FailureReason.EXPORT_MISMATCH
    assert "serves labels that are not those of its largest probabilities" in message


def test_without_a_test_split_there_is_nothing_to_score(tmp_path):
    fields = RECIPES["classification"]
    recipe = Recipe.model_validate(fields | {"data": fields["data"] | {"split": {"test": 0}}})
    built = build_artifact_without_test(tmp_path / "artifact", recipe)
    reason, message = failure(built.task(tmp_path / "out"))
    assert reason is FailureReason.DATA_INVALID
    assert message.startswith("there are no rows to score; raise data.split.test")


def build_artifact_without_test(folder, recipe):
    usual = build_artifact(folder, Recipe.model_validate(RECIPES["classification"]))
    digest = json.loads((folder / "manifest.json").read_text())["lineage"]["dataDigest"]
    (folder / "recipe.json").write_text(json.dumps(recipe.to_json()))
    return usual._replace(recipe=recipe, digest=seal(folder, recipe, digest))

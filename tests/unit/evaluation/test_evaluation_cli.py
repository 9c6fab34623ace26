import argparse
import json

import numpy as np
import pandas as pd
import pytest

from modelship_trainer import cli
from modelship_trainer.evaluation.cli import GATE_FAILED, main, parse, parse_gate, task_of
from modelship_trainer.judgement import Gate, Metric
from modelship_trainer.protocol import ENV_FOLD, ENV_TASK, ENV_TERMINATION_LOG, EvaluateResult, ExitCode, Failure, FoldsResult

pytestmark = pytest.mark.unit


def silent(progress):
    pass


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("accuracy>=0.9", Gate(metric=Metric.ACCURACY, min=0.9)),
        (" rmse <= 12.5 ", Gate(metric=Metric.RMSE, max=12.5)),
        ("f1:lowerBound>=1e-2", Gate(metric=Metric.F1, min=0.01, statistic="lowerBound")),
        ("r2:test>=-1", Gate(metric=Metric.R2, min=-1, statistic="test")),
    ],
)
def test_a_gate_in_one_word(text, gate):
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("accuracy", "is no gate; write metric>=number"),
        ("accuracy>0.9", "is no gate"),
        ("accuracy>=", "is no gate"),
        ("auc>=0.9", "metric: Input should be 'accuracy'"),
        ("f1:median>=0.9", "statistic: Input should be 'mean'"),
        ("f1>=high", "min: Input should be a valid number"),
        ("f1>=nan", "min: Input should be a finite number"),
    ],
)
def test_what_is_no_gate(text, says):
    with pytest.raises(argparse.ArgumentTypeError, match=says):
        parse_gate(text)


def test_arguments_become_a_task(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["--artifact", str(classifier.folder), "--output", "my results", "--method", "kfold", "--folds", "3", "--seed", "7"]
    task = task_of(parse([*argv, "--metrics", "f1", "accuracy", "--gate", "f1>=0.5", "--data", "new.csv"]))
    assert task.artifact.digest == classifier.digest
    assert task.store == f"file://{tmp_path}/my results"
    assert task.run.name == "my results"
    assert task.source == f"file://{tmp_path}/new.csv"
    assert (task.method.k_fold.folds, task.method.k_fold.seed) == (3, 7)
    assert (task.metrics, task.gates) == ([Metric.F1, Metric.ACCURACY], [Gate(metric=Metric.F1, min=0.5)])


@pytest.mark.parametrize("extra", [["--metrics", "auc"], ["--gate", "auc>=1"], ["--method", "loo"], ["--folds", "many"]])
def test_a_wrong_argument_is_explained_by_the_usage(extra, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--artifact", "a", "--output", "b", *extra])
    assert caught.value.code == 2
    assert extra[0] in capsys.readouterr().err


def test_k_fold_on_a_laptop(classifier, tmp_path, capsys):
    argv = ["--artifact", str(classifier.folder), "--output", str(tmp_path), "--method", "kfold", "--folds", "3"]
    assert main([*argv, "--gate", "accuracy>=0.8"], silent) == 0
    out = capsys.readouterr().out
    assert "passed: accuracy 0." in out
    assert f"Passed, {classifier.digest} on 36 test rows" in out
    assert f"report: {tmp_path}/report.html" in out
    assert main([*argv, "--gate", "accuracy>=0.8", "--gate", "log_loss:worst<=0.001"], silent) == GATE_FAILED
    assert "FAILED: log_loss (worst) 0." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("artifact", "extra", "says"),
    [
        ("{tmp}", "", "{tmp} has no manifest.json, so it is no artifact; in it are artifacts: sha256-1."),
        ("{artifact}", "--method kfold --folds 21", "RecipeInvalid: method.kFold.folds: must be less than or equal to 20, not 21"),
        ("{artifact}", "--data {tmp}/none.csv", "DataNotFound: file://{tmp}/none.csv does not exist"),
        ("{artifact}", "--data s3://b/new.csv", "RecipeInvalid: --data: write pvc://claim/path, https://... or sklearn://name"),
        ("{artifact}", "--metrics mae", "RecipeInvalid: metrics: mae does not fit classification; use accuracy"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(classifier, tmp_path, capsys, artifact, extra, says):
    (tmp_path / "sha256-1").mkdir()
    (tmp_path / "sha256-1/manifest.json").write_text("{}")
    fields = {"tmp": tmp_path, "artifact": classifier.folder}
    argv = ["--artifact", artifact.format(**fields), "--output", f"{tmp_path}/out", *extra.format(**fields).split()]
    assert cli.evaluate(argv) == ExitCode.INVALID
    err = capsys.readouterr().err
    assert says.format(**fields) in err
    assert "Traceback" not in err


# --- as a pod -----------------------------------------------------------------------------------------------------------------


def pod(task, monkeypatch, tmp_path, fold=None):
    """Run the entry point as a pod does; returns exit status and termination message."""
    log = tmp_path / "termination-log"
    monkeypatch.setenv(ENV_TERMINATION_LOG, str(log))
    monkeypatch.setenv(ENV_TASK, task.model_dump_json(by_alias=True))
    monkeypatch.setattr("sys.argv", ["modelship-evaluate"])
    if fold is None:
        monkeypatch.delenv(ENV_FOLD, raising=False)
    else:
        monkeypatch.setenv(ENV_FOLD, str(fold))
    return cli.evaluate(), log.read_text()


def test_fold_pods_then_the_score_pod(classifier, tmp_path, monkeypatch):
    task = classifier.task(tmp_path / "store", method={"kFold": {"folds": 2}}, gates=[{"metric": "f1", "min": 0.5}])
    for fold in range(2):
        status, message = pod(task, monkeypatch, tmp_path, fold)
        assert (status, FoldsResult.model_validate_json(message).folds) == (ExitCode.OK, [fold])
    status, message = pod(task, monkeypatch, tmp_path)
    result = EvaluateResult.model_validate_json(message)
    assert (status, result.artifact_digest) == (ExitCode.OK, classifier.digest)
    assert all(len(row.folds) == 2 for row in result.results)


def test_pods_share_the_folds(classifier, tmp_path, monkeypatch):
    task = classifier.task(tmp_path / "store", method={"kFold": {"folds": 3, "parallelism": 2}}, fold_pods=2, metrics=["f1"])
    for index, folds in enumerate(([0, 2], [1])):
        status, message = pod(task, monkeypatch, tmp_path, index)
        assert (status, FoldsResult.model_validate_json(message).folds) == (ExitCode.OK, folds)
    status, message = pod(task.model_copy(update={"fold_pods": None}), monkeypatch, tmp_path)
    assert (status, len(EvaluateResult.model_validate_json(message).results[0].folds)) == (ExitCode.OK, 3)


def test_a_pod_that_fails_says_why(classifier, tmp_path, monkeypatch):
    wrong = classifier._replace(digest="sha256:" + "0" * 64)
    status, message = pod(wrong.task(tmp_path / "store"), monkeypatch, tmp_path)
    failure = Failure.model_validate_json(message)
    assert (status, failure.reason) == (ExitCode.DIGEST_MISMATCH, "DigestMismatch")
    assert "manifest.json is sha256:" in failure.message


def test_a_pod_waits_for_a_fold_that_is_missing(classifier, tmp_path, monkeypatch):
    task = classifier.task(tmp_path / "store", method={"kFold": {"folds": 2}})
    pod(task, monkeypatch, tmp_path, 1)
    status, message = pod(task, monkeypatch, tmp_path)
    assert (status, Failure.model_validate_json(message).message.split(" has ")[0]) == (ExitCode.TEMPORARY, "fold 0 of 2")


# --- the whole way ------------------------------------------------------------------------------------------------------------


def test_copies_of_a_row_are_scored_once_and_never_learned(tmp_path):
    """In the test split as in each fold; of other data every row counts, as it is given."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"a": random.normal(size=60), "code": [f"{row:03d}" for row in range(60)], "y": random.integers(0, 2, 60)})
    pd.concat([rows] * 10).to_csv(tmp_path / "copies.csv", index=False)
    steps = [{"dropDuplicates": {}}, {"cast": {"columns": ["code"], "to": "category"}}, {"oneHot": {"columns": ["code"]}}]
    recipe = {
        "data": {"source": f"file://{tmp_path}/copies.csv", "target": "y", "preprocessing": steps},
        "model": {"linear": {}},
        "training": {"task": "classification", "epochs": 2},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert cli.train(["--recipe", str(tmp_path / "recipe.json"), "--output", str(tmp_path / "store")]) == 0
    (artifact,) = (tmp_path / "store/artifacts").iterdir()
    argv = ["--artifact", str(artifact), "--output", str(tmp_path / "out"), "--metrics", "accuracy"]
    assert cli.evaluate([*argv, "--method", "kfold", "--folds", "3"]) == 0
    assert json.loads((tmp_path / "out/results.json").read_text())["rows"] == 12
    assert [json.loads((tmp_path / f"out/folds/{fold}.json").read_text())["rows"] for fold in range(3)] == [16, 16, 16]
    pd.concat([rows] * 3).to_csv(tmp_path / "new.csv", index=False)
    assert cli.evaluate([*argv, "--data", str(tmp_path / "new.csv")]) == 0
    assert json.loads((tmp_path / "out/results.json").read_text())["rows"] == 180


def test_train_and_evaluate_a_table_with_text_and_holes(tmp_path, capsys):
    """Both commands, as a user types them: the exported graph takes text, missing values and string labels."""
    random = np.random.default_rng(0)
    age, plan = random.uniform(18, 80, 400), random.choice(["free", "plus", "pro"], 400)
    churned = np.where(age / 80 + (plan == "free") * 0.5 + random.normal(0, 0.1, 400) > 0.9, "yes", "no")
    frame = pd.DataFrame({"age": age, "plan": plan, "visits": random.poisson(3, 400).astype(float), "churned": churned})
    frame.loc[::17, "age"], frame.loc[::29, "visits"] = None, None
    frame.to_csv(tmp_path / "churn.csv", index=False)
    steps = [
        {"impute": {"columns": ["age"]}},
        {"dropMissing": {"columns": ["visits"]}},
        {"oneHot": {"columns": ["plan"]}},
        {"normalize": {}},
    ]
    recipe = {
        "data": {
            "source": f"file://{tmp_path}/churn.csv", "target": "churned", "split": {"stratify": True}, "preprocessing": steps,
        },
        "model": {"mlp": {"hidden": [16]}},
        "training": {"task": "classification", "epochs": 12, "batchSize": 16, "optimizer": {"adamw": {"learningRate": 0.01}}},
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert cli.train(["--recipe", str(tmp_path / "recipe.json"), "--output", str(tmp_path / "store")]) == 0
    (artifact,) = (tmp_path / "store/artifacts").iterdir()
    out = tmp_path / "out"
    argv = [
        "--artifact",
        str(artifact),
        "--output",
        str(out),
        "--method",
        "kfold",
        "--folds",
        "3",
        "--gate",
        "f1>=0.8",
        "--gate",
        "f1:test>=0.8",
    ]
    assert cli.evaluate(argv) == 0, capsys.readouterr()
    results = json.loads((out / "results.json").read_text())
    usable = frame["visits"].notna().sum()
    rows = [json.loads((out / f"folds/{fold}.json").read_text())["rows"] for fold in range(3)]
    assert sum(rows) + results["rows"] == usable
    assert results["classes"] == ["no", "yes"]
    html = (out / "report.html").read_text()
    assert "Positive class: yes." in html
    frame.iloc[::2].to_csv(tmp_path / "churn.csv", index=False)
    assert cli.evaluate(argv) == ExitCode.INVALID
    assert "churn.csv: the data changed since training (was sha256:" in capsys.readouterr().err

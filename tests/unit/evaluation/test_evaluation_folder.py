import json
import os

import pytest

from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.folder import EvaluationFolder
from modelship_trainer.evaluation.records import Epoch, FoldRecord, Results
from modelship_trainer.judgement import Method, Metric, summarize
from modelship_trainer.protocol import FailureReason, FoldResult

pytestmark = pytest.mark.unit

D = "sha256:" + "d" * 64


def record(fold, identity="this"):
    return FoldRecord(
        identity=identity,
        result=FoldResult(fold=fold, metrics={"f1": "0.1234567890123"}, data_digest=D),
        train_rows=8,
        validation_rows=1,
        rows=3,
        classes=["a", "b"],
        confusion=[[2, 0], [1, 0]],
        history=[Epoch(epoch=1, loss=0.5, val_loss=0.6)],
    )


@pytest.fixture
def folder(tmp_path):
    return EvaluationFolder(f"file://{tmp_path}/evaluations/uid/")


def test_what_is_written_is_read(folder):
    for fold in (1, 0):
        folder.write_fold(record(fold))
    assert folder.read_folds(2, "this") == [record(0), record(1)]
    assert folder.reusable_fold(1, "this") == record(1)
    assert folder.reusable_fold(2, "this") is None


def test_a_missing_fold_is_named(folder):
    folder.write_fold(record(0))
    folder.write_fold(record(2))
    with pytest.raises(UserError) as caught:
        folder.read_folds(3, "this")
    assert caught.value.reason is FailureReason.STORE_UNAVAILABLE
    assert str(caught.value) == f"fold 1 of 3 has no record {folder.uri}/folds/1.json; run that fold again."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a fold's record"),
        (b'{"schemaVersion": 1, "identity": "this"', "is not a fold's record"),
        (b"\xff\xfe", "is not a fold's record"),
        (b'{"schemaVersion": 2}', "is not a fold's record"),
        (record(1, identity="other").model_dump_json(by_alias=True).encode(), "is of another recipe, data, code, method"),
        (record(0).model_dump_json(by_alias=True).encode(), "is of another"),
    ],
)
def test_an_unusable_record_is_named_by_the_score_and_replaced_by_the_fold(folder, content, says):
    folder.write_fold(record(0))
    folder.write_fold(record(1))
    folder.fold_path(1).write_bytes(content)
    with pytest.raises(UserError) as caught:
        folder.read_folds(2, "this")
    assert caught.value.reason is FailureReason.DATA_INVALID
    assert str(caught.value).startswith(f"fold 1: {folder.uri}/folds/1.json ")
    assert says in str(caught.value)
    assert folder.reusable_fold(1, "this") is None
    folder.write_fold(record(1))
    assert folder.read_folds(2, "this") == [record(0), record(1)]


def test_results_report_and_digest_lie_together(folder):
    results = Results(
        name="churn",
        verdict="Passed",
        artifact_digest=D,
        recipe_digest=D,
        data_digest=D,
        method=Method.model_validate({"holdout": {}}),
        rows=3,
        results=[summarize(Metric.F1, [], 0.5)],
        gates=[],
    )
    digest = folder.write_results(results, "<html>ü</html>")
    assert digest.startswith("sha256:")
    assert sorted(os.listdir(folder.path)) == ["report.html", "report.sha256", "results.json"]
    assert (folder.path / "report.sha256").read_text() == f"{digest[7:]}  report.html\n"
    assert os.system(f"cd {folder.path} && sha256sum --quiet --check report.sha256") == 0
    assert Results.model_validate(json.loads((folder.path / "results.json").read_text())) == results


def test_a_store_that_cannot_be_written_is_a_reason_to_try_again(tmp_path):
    (tmp_path / "evaluations").write_text("a file, not a folder")
    folder = EvaluationFolder(f"file://{tmp_path}/evaluations")
    with pytest.raises(UserError, match=r"0\.json cannot be written") as caught:
        folder.write_fold(record(0))
    assert caught.value.reason is FailureReason.STORE_UNAVAILABLE

"""`modelship validate`: refuses what the API server refuses, at the same field, in words that help."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.support.api_cases import CHANGES, DEPLOYMENT, EVALUATION, REFUSED, RULES, TRAINING, Change, Refused, RuleCase
from tests.support.builders import LEFT_OUT, Json, changed
from tests.support.controlplane import ROOT

from modelship_operator.api.validate import check, problems_of
from modelship_operator.cli import main
from modelship_trainer.yaml_text import YamlError

pytestmark = pytest.mark.unit
Write = Callable[..., str]


# --- the table that the API server is held to as well -------------------------------------------------------------------------


@pytest.mark.parametrize("case", RULES, ids=lambda case: case.message[:50])
def test_rule(case: RuleCase) -> None:
    assert problems_of(case.accepted) == []
    assert [(problem.path, problem.message) for problem in problems_of(case.refused)] == [(case.field, case.message)]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_refused(case: Refused) -> None:
    assert [problem.path for problem in problems_of(case.resource)] == [case.field]


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.id)
def test_what_cannot_change_is_valid_by_itself(case: Change) -> None:
    """Only a cluster knows what was there before."""
    assert problems_of(case.before) + problems_of(case.after) == []


# --- words --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        (changed(TRAINING, {"spec.model.mlp.hiden": [8]}), "spec.model.mlp.hiden: unknown field; did you mean hidden?"),
        (
            changed(TRAINING, {"spec.training.batch_size": 8}),
            "spec.training.batch_size: unknown field; did you mean batchSize?",
        ),
        (
            changed(EVALUATION, {"spec.baselineRef": {"zzz": "x", "evaluation": "y"}}),
            "spec.baselineRef.zzz: unknown field; fields here: evaluation",
        ),
        (
            changed(TRAINING, {"spec.model": {"linear": {"zzz": 1}}}),
            "spec.model.linear.zzz: unknown field; nothing can be set here",
        ),
        (changed(TRAINING, {"spec.training.task": "classify"}), 'must be "classification" or "regression", not "classify"'),
        (changed(TRAINING, {"spec.training.epochs": 0}), "spec.training.epochs: must be greater than or equal to 1, not 0"),
        (changed(TRAINING, {"spec.training.epochs": "12"}), 'spec.training.epochs: must be an integer, not "12"'),
        (changed(TRAINING, {"spec.compute.cpu": 0.0001}), "spec.compute.cpu: 0.0001 is less than 1m, a thousandth of a core"),
        (
            changed(TRAINING, {"spec.compute.memory": "2Ki"}),
            "spec.compute.memory: 2Ki is less than 1M, a million bytes: is there a",
        ),
        (changed(TRAINING, {"spec.compute.memory": "2000E"}), "spec.compute.memory: 2000E is more than there can be"),
        (changed(TRAINING, {"spec.compute.memory": "2GB"}), 'spec.compute.memory: "2GB" is not accepted: Memory of each pod'),
        (changed(TRAINING, {"spec.data.target": True}), "spec.data.target: must be a string, not true; YAML reads y, yes,"),
        (changed(EVALUATION, {"spec.metrics": ["f1", "f1"]}), "spec.metrics: f1 is there twice"),
        (changed(EVALUATION, {"kind": "ModelEvalution"}), "kind: unknown kind; did you mean ModelEvaluation?"),
        (
            changed(DEPLOYMENT, {"apiVersion": "modelship.dev/v1"}),
            'apiVersion: must be modelship.dev/v1alpha1, not "modelship.dev/v1"',
        ),
        (changed(DEPLOYMENT, {"metadata": {}}), "metadata.name: required"),
    ],
)
def test_line(resource: Json, line: str) -> None:
    (problem,) = problems_of(resource)
    assert line in str(problem)


def test_every_problem_is_told() -> None:
    resource = changed(TRAINING, {"spec.training.epochs": 0, "spec.data.source": 7, "spec.extra": 1, "metadata.name": "X"})
    assert {problem.path for problem in problems_of(resource)} == {
        "spec.training.epochs", "spec.data.source", "spec.extra", "metadata.name",
    }  # fmt: skip


def test_infinity_is_no_json() -> None:
    (problem,) = problems_of(changed(EVALUATION, {"spec.gates[0].min": float("inf")}))
    assert str(problem) == "spec.gates[0].min: must be a finite number, not inf"


# --- files --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(*documents: Json | str) -> str:
        Path("all.yaml").write_text("---\n".join(each if isinstance(each, str) else yaml.safe_dump(each) for each in documents))
        return "all.yaml"

    return write


def test_documents(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = changed(TRAINING, {"spec.model.mlp.hiden": [8], "metadata.name": "wrong"})
    file = write(TRAINING, wrong, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, "", EVALUATION)
    assert main(["validate", file]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "all.yaml:document 1 (ModelTraining churn): OK",
        "all.yaml:document 2 (ModelTraining wrong): spec.model.mlp.hiden: unknown field; did you mean hidden?",
        "all.yaml:document 3 (Secret s): skipped: not of the group modelship.dev",
        "all.yaml:document 4 (ModelEvaluation churn-cv): OK",
    ]


def test_right_files(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", write(TRAINING)]) == 0
    assert capsys.readouterr().out == "all.yaml:document 1 (ModelTraining churn): OK\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [\n", "all.yaml: line 3: expected the node content"),
        ("a: 1\n\tb: 2\n", "all.yaml: line 2: found character '\\t'"),
        ("a: 1\nb: 2\na: 3\n", 'all.yaml: line 3: key "a" is there twice'),
        ("a: !!python/object:os.system {}\n", "all.yaml: line 1: could not determine a constructor"),
        ("just words\n", "all.yaml:document 1 (no object): a document must be an object"),
        ("a: {[1]: 2}\n", "all.yaml: line 1: found unhashable key"),
    ],
)
def test_no_yaml(write: Write, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    assert main(["validate", write(text)]) == 1
    assert said in capsys.readouterr().out


# What no person writes, but a generator or an attacker may: an answer each, never a traceback.

_HEAD = "apiVersion: modelship.dev/v1alpha1\nkind: ModelTraining\nmetadata: {name: churn}\n"
_LAUGHS = "\n".join([" a0: &a0 [x, x, x]", *(f" a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}]" for n in range(30))])
_CHAIN = "\n".join([" a0: &a0 [x]", *(f" a{n + 1}: &a{n + 1} [*a{n}]" for n in range(300))])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("spec: &a {data: *a}", "document 1 (no object): spec.data: line 4: the anchor contains itself"),
        ("spec: {gates: [1, &a [*a]]}", "document 1 (no object): spec.gates[1][0]: line 4: the anchor contains itself"),
        ("spec: " + "{a: " * 5000 + "}" * 5000, "all.yaml: line 4: nested more than 200 deep"),
        ("spec: " + "[" * 5000, "all.yaml: line 4: nested more than 200 deep"),
        (f"spec:\n{_CHAIN}", "document 1 (no object): spec.a197[0]: nested more than 200 deep"),
        (f"spec:\n{_LAUGHS}", "document 1 (no object): spec.a12: has more than 1,000,000 values, with its aliases written out"),
        ('spec: "\\ud800"', "all.yaml: line 4: half a Unicode character"),
        ("spec: !!set {a, b}", "document 1 (ModelTraining churn): spec.data: required"),
        ("spec: !!omap [a: 1]", "document 1 (ModelTraining churn): spec: must be an object"),
        ("spec: !!timestamp x", 'document 1 (ModelTraining churn): spec: must be an object, not "x"'),
        ("spec: !!timestamp 2024-01-01", 'document 1 (ModelTraining churn): spec: must be an object, not "2024-01-01"'),
        ("spec: !!binary eA==", 'document 1 (ModelTraining churn): spec: must be an object, not "x"'),
    ],
)
def test_odd_documents(write: Write, capsys: pytest.CaptureFixture[str], spec: str, said: str) -> None:
    assert main(["validate", write(f"{_HEAD}{spec}\n")]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("scalar", ["0b_", "0x_", "0o_", "1e_", "._", "+._", "1e999", "9" * 5000, "!!int x", "!!float x"])
def test_odd_numbers_are_text(write: Write, capsys: pytest.CaptureFixture[str], scalar: str) -> None:
    text = yaml.safe_dump(changed(TRAINING, {"spec.training.epochs": "HERE"})).replace("HERE", scalar)
    assert main(["validate", write(text)]) == 1
    shown = scalar.removeprefix("!!int ").removeprefix("!!float ")[:70]
    assert f'document 1 (ModelTraining churn): spec.training.epochs: must be an integer, not "{shown}' in capsys.readouterr().out


def test_a_document_after_an_odd_one_is_checked(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", write(f"{_HEAD}spec: &a [*a]\n", TRAINING)]) == 1
    assert capsys.readouterr().out.splitlines()[1] == "all.yaml:document 2 (ModelTraining churn): OK"


def test_escapes_of_json(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", write(json.dumps(changed(TRAINING, {"spec.data.target": "🚢"})))]) == 0


# --- lists --------------------------------------------------------------------------------------------------------------------


def test_items_of_a_list_are_checked(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = changed(TRAINING, {"spec.training.task": LEFT_OUT, "metadata.name": "wrong"})
    within = {"apiVersion": "modelship.dev/v1alpha1", "kind": "ModelTrainingList", "items": [wrong]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    slip = changed(TRAINING, {"apiVersion": "modelship.dev/v1"})
    assert main(["validate", write({"apiVersion": "v1", "kind": "List", "items": [TRAINING, secret, 7, within, slip]})]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "all.yaml:document 1 (ModelTraining churn): OK",
        "all.yaml:document 1 (Secret s): skipped: not of the group modelship.dev",
        "all.yaml:document 1 (no object): items[2]: an item must be an object with apiVersion, kind, metadata and spec",
        "all.yaml:document 1 (ModelTraining wrong): items[3].items[0].spec.training.task: required",
        'all.yaml:document 1 (ModelTraining churn): items[4].apiVersion: must be modelship.dev/v1alpha1, not "modelship.dev/v1"',
    ]


@pytest.mark.parametrize(
    ("items", "line"),
    [([], "(List): skipped: not of the group modelship.dev"), ({"a": 1}, "(List): items: must be a list")],
)
def test_lists_without_items(write: Write, capsys: pytest.CaptureFixture[str], items: object, line: str) -> None:
    main(["validate", write({"apiVersion": "v1", "kind": "List", "items": items})])
    assert capsys.readouterr().out == f"all.yaml:document 1 {line}\n"


def test_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "missing.yaml"]) == 1
    assert capsys.readouterr().out == "missing.yaml: No such file or directory\n"


def test_documents_before_the_error_are_checked() -> None:
    documents = check(f"{yaml.safe_dump(TRAINING)}---\na: [\n")
    assert next(documents).problems == []
    with pytest.raises(YamlError, match="line"):
        next(documents)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT / "examples"))
)
def test_examples(path: Path) -> None:
    assert [document.problems for document in check(path.read_text()) if document.problems] == []

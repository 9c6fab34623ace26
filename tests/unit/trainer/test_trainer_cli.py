"""The command line and the pod's contract: arguments, tasks, exit codes, termination messages, progress."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from modelship_trainer import cli
from modelship_trainer.artifact.contents import open_artifact
from modelship_trainer.artifact.manifest import DigestMismatch
from modelship_trainer.errors import Interrupted, UserError
from modelship_trainer.lifecycle import failure_of, guarded, telling, write_termination_message
from modelship_trainer.protocol import (
    TERMINATION_LIMIT,
    WARNINGS,
    ExitCode,
    Failure,
    FailureReason,
    Outcome,
    Progress,
    ProgressReport,
    RunRef,
    TrainResult,
    TrainTask,
    few,
)
from modelship_trainer.recipe import Recipe
from modelship_trainer.recipe_file import read_recipe
from modelship_trainer.training.reporting import ProgressLine, Pusher

pytestmark = pytest.mark.unit

RECIPE = {
    "data": {"source": "sklearn://wine", "split": {"stratify": True}, "preprocessing": [{"normalize": {}}]},
    "model": {"linear": {}},
    "training": {"task": "classification", "epochs": 3},
}
RUN = RunRef(kind="ModelTraining", namespace="default", name="wine", uid="1234")


# --- recipe files -----------------------------------------------------------------------------------------------------------------

LAUGHS = "\n".join(["a0: &a0 [x, x, x]", *(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}]" for n in range(30))])

BAD_FILES = {
    "not there": (None, "recipe.yaml cannot be read: No such file or directory."),
    "not yaml": ("a: [", "recipe.yaml is neither YAML nor JSON: line 1: expected the node content"),
    "binary": (b"PK\x03\x04\xff\xfe", "recipe.yaml is neither YAML nor JSON: byte 5 is no UTF-8."),
    "nul": (b"a: \x00", "recipe.yaml is neither YAML nor JSON: unacceptable character #x0000"),
    "a key twice": (
        "training:\n  epochs: 2\n  epochs: 200\n",
        'recipe.yaml is neither YAML nor JSON: line 3: key "epochs" is there twice.',
    ),
    "a key twice in JSON": ('{"a": 1, "a": 2}', 'recipe.yaml is neither YAML nor JSON: line 1: key "a" is there twice.'),
    "a key twice as JSON": ('{1: 1, "1": 2}', 'recipe.yaml is neither YAML nor JSON: line 1: key "1" is there twice.'),
    "bomb": (LAUGHS, "recipe.yaml: a12: has more than 1,000,000 values, with its aliases written out."),
    "itself": ("&a [*a]", "recipe.yaml: [0]: line 1: the anchor contains itself."),
    "several": (f"{json.dumps(RECIPE)}\n---\n{json.dumps(RECIPE)}", "recipe.yaml has 0 ModelTrainings in 2 documents; one is"),
    "infinite": ("training: {epochs: .inf}", "recipe.yaml: training.epochs: must be a finite number, not inf."),
    "a word that is true": (
        json.dumps({**RECIPE, "data": {"source": "sklearn://wine", "target": "T"}}).replace('"T"', "yes"),
        "recipe.yaml: data.target: must be a string, not true; YAML reads y, yes, on, n, no and off as true or false: quote it.",
    ),
    "a number": (
        {**RECIPE, "data": {"source": "sklearn://wine", "target": 7}},
        "recipe.yaml: data.target: must be a string, not 7; quote it.",
    ),
    "a quoted number": (
        {**RECIPE, "training": {"task": "classification", "epochs": "12"}},
        'recipe.yaml: training.epochs: must be an integer, not "12".',
    ),
    "snake case": (
        {**RECIPE, "training": {"task": "classification", "batch_size": 2}},
        "recipe.yaml: training.batch_size: unknown field; did you mean batchSize?.",
    ),
    "empty": ("", "recipe.yaml is not a recipe: it needs the fields data, model and training."),
    "out of range": (
        {**RECIPE, "training": {"task": "classification", "epochs": 0}},
        "recipe.yaml: training.epochs: must be greater than or equal to 1, not 0.",
    ),
    "unknown field": ({**RECIPE, "modle": {}}, "recipe.yaml: modle: unknown field; did you mean model?"),
    "in a list": (
        {**RECIPE, "data": {"source": "sklearn://wine", "preprocessing": [{"normalize": {"method": "z"}}]}},
        'recipe.yaml: data.preprocessing[0].normalize.method: must be "standard", "minMax" or "robust", not "z".',
    ),
    "two at once": (
        {"data": {}, "model": {"linear": {}}, "training": {}},
        "recipe.yaml: data.source: required; training.task: required.",
    ),
    "manifest": (
        {"kind": "ModelTraining", "spec": {**RECIPE, "model": {}}},
        "recipe.yaml: spec.model: set exactly one of linear, mlp, cnn, custom.",
    ),
    "a path": (
        {**RECIPE, "data": {"source": "data/b.csv"}},
        "recipe.yaml: data.source: write pvc://claim/path, https://... or sklearn://name (file:///... on a laptop).",
    ),
    "a name for an object": (
        {**RECIPE, "model": "mlp", "training": {"task": "classification", "optimizer": "adam"}},
        "recipe.yaml: model: write {mlp: {}}; training.optimizer: write {adam: {}}.",
    ),
    "nothing for an object": ({**RECIPE, "model": {"mlp": None}}, "recipe.yaml: model: write {mlp: {}}."),
    "a name that is none": ({**RECIPE, "model": "resnet"}, "recipe.yaml: model: set exactly one of linear, mlp, cnn, custom."),
    "two manifests": (
        "kind: ModelTraining\n---\nkind: ModelTraining\n",
        "recipe.yaml has 2 ModelTrainings in 2 documents; one is needed.",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_recipe_file(tmp_path: Path, content: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert cli.train(["--recipe", str(path), "--output", str(tmp_path / "out")]) == ExitCode.INVALID
    assert f"RecipeInvalid: {tmp_path}/{message}" in capsys.readouterr().err


def test_a_recipe_that_is_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.train(["--recipe", str(tmp_path), "--output", str(tmp_path / "out")]) == ExitCode.INVALID
    assert capsys.readouterr().err == f"RecipeInvalid: {tmp_path} cannot be read: Is a directory.\n"


@pytest.mark.parametrize("below", ["", "/a/b"])
def test_output_that_is_a_file(tmp_path: Path, below: str, capsys: pytest.CaptureFixture[str]) -> None:
    (recipe := tmp_path / "recipe.yaml").write_text(json.dumps(RECIPE))
    assert cli.train(["--recipe", str(recipe), "--output", f"{recipe}{below}"]) == ExitCode.INVALID
    assert cli.evaluate(["--artifact", str(tmp_path), "--output", f"{recipe}{below}"]) == ExitCode.INVALID
    assert capsys.readouterr().err.splitlines() == 2 * [
        f"RecipeInvalid: --output {recipe}{below}: {recipe} is a file; name a folder."
    ]


@pytest.mark.parametrize("name", ["tabular", "image"])
def test_examples_are_recipes(name: str) -> None:
    manifest = Path(__file__).parents[3] / "examples" / name / "training.yaml"
    assert read_recipe(manifest).data.source.startswith("sklearn://")


def test_manifest_among_others(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    manifest = {"kind": "ModelTraining", "metadata": {"name": "x"}, "spec": {**RECIPE, "compute": {"cpu": "1"}}}
    path.write_text(f"kind: PersistentVolumeClaim\n---\n{json.dumps(manifest)}\n")
    assert read_recipe(path) == Recipe.model_validate(RECIPE)


def test_help_and_mistakes_do_not_wait_for_torch() -> None:
    code = (
        "import sys; from modelship_trainer import cli\n"
        "code = cli.train(['--recipe', '/nope', '--output', '/nope'])\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules\n"
        "sys.exit(code)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == ExitCode.INVALID


# --- a whole run ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Environment of a pod: a mounted claim `models`, and a task."""
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("MODELSHIP_PVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MODELSHIP_TERMINATION_LOG", str(tmp_path / "termination"))
    task = TrainTask(run=RUN, recipe=Recipe.model_validate(RECIPE), store="pvc://models")
    monkeypatch.setenv("MODELSHIP_TASK", json.dumps(task.to_json()))
    return tmp_path


def termination(pod: Path) -> Any:
    return Outcome.model_validate({"message": json.loads((pod / "termination").read_bytes())}).message


def test_training_in_a_pod(pod: Path) -> None:
    assert cli.train([]) == ExitCode.OK
    result = termination(pod)
    assert isinstance(result, TrainResult)
    assert result.epochs == 3
    assert result.artifact.uri.startswith("pvc://models/artifacts/sha256-")
    artifact = open_artifact(pod / result.artifact.uri.removeprefix("pvc://"), result.artifact.digest)
    assert artifact.manifest.lineage.recipe_digest == result.recipe_digest == Recipe.model_validate(RECIPE).digest()
    assert artifact.metrics["rows"] == {"train": 124, "validation": 18, "test": 36}
    assert len(artifact.metrics["history"]) == 3
    assert not (pod / "models" / "checkpoints" / RUN.uid).exists()
    rows = torch.zeros(2, 13)
    assert artifact.module()(rows).shape == (2, 3)
    (pod / "termination").unlink()
    assert cli.train([]) == ExitCode.OK  # done again: the same bytes
    assert termination(pod).artifact == result.artifact


def test_a_failure_is_the_termination_message(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = {**RECIPE, "data": {"source": "sklearn://wine", "features": ["alcool"]}}
    task = TrainTask(run=RUN, recipe=Recipe.model_validate(recipe), store="pvc://models")
    monkeypatch.setenv("MODELSHIP_TASK", json.dumps(task.to_json()))
    assert cli.train([]) == ExitCode.INVALID
    failure = termination(pod)
    assert failure.reason is FailureReason.DATA_INVALID
    assert failure.message.startswith('column "alcool" is not in sklearn://wine; columns: alcohol, malic_acid, ')


def test_a_store_that_is_not_mounted(pod: Path) -> None:
    (pod / "models").rmdir()
    assert cli.train([]) == ExitCode.TEMPORARY
    assert termination(pod).message == f"claim models of pvc://models is not mounted at {pod}/models."


# --- failures ---------------------------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Exception, FailureReason, int, str]] = {
    "user": (UserError(FailureReason.DATA_NOT_FOUND, "gone."), FailureReason.DATA_NOT_FOUND, 64, "gone."),
    "bytes differ": (
        DigestMismatch("model.onnx", "sha256:1", "sha256:2"),
        FailureReason.DIGEST_MISMATCH,
        66,
        "model.onnx is sha256:1, recorded was sha256:2.",
    ),
    "GPU memory": (
        torch.OutOfMemoryError("CUDA out of memory"),
        FailureReason.OUT_OF_MEMORY,
        64,
        "the data does not fit into memory; leave out columns",
    ),
    "CPU memory": (
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        FailureReason.OUT_OF_MEMORY,
        64,
        "the data does not fit into memory; leave out columns, set oneHot.maxCategories, lower",
    ),
    "one-hot of too many": (MemoryError(), FailureReason.OUT_OF_MEMORY, 64, "the data does not fit into memory; "),
    "no space": (
        OSError(errno.ENOSPC, "No space left on device", "/mnt/pvc/models/x"),
        FailureReason.STORE_UNAVAILABLE,
        75,
        "pvc://models is full; free space in it or enlarge it, and the run goes on from its last checkpoint.",
    ),
    "not deterministic": (
        RuntimeError("adaptive_max_pool2d_backward_cuda does not have a deterministic implementation, but you set ..."),
        FailureReason.RECIPE_INVALID,
        64,
        "adaptive_max_pool2d_backward_cuda has no deterministic algorithm here; set training.deterministic: false.",
    ),
    "a bug": (KeyError("x"), FailureReason.INTERNAL_ERROR, 1, "KeyError: 'x'"),
}


@pytest.mark.parametrize(("error", "reason", "code", "message"), FAILURES.values(), ids=FAILURES)
def test_failure_of(error: Exception, reason: FailureReason, code: int, message: str) -> None:
    failed = failure_of(error)
    assert (failed.reason, failed.exit_code) == (reason, code)
    assert failed.message.startswith(message)


def test_long_messages_fit_kubelets_limit(pod: Path) -> None:
    def body() -> int:
        raise UserError(FailureReason.DATA_INVALID, "\x00é" * 5000)

    assert guarded(body, in_pod=True) == ExitCode.INVALID
    assert len((pod / "termination").read_bytes()) <= TERMINATION_LIMIT
    assert isinstance(termination(pod), Failure)


def test_warnings_are_few_and_fit_kubelets_limit(pod: Path) -> None:
    sentences = [f"{number} " + "\U0001f6a2" * 400 for number in range(20)]
    assert [len(text) for text in few(sentences)] == [300] * (WARNINGS - 1) + [len("13 more are in the log.")]
    digest = "sha256:" + "9f" * 32
    result = TrainResult(
        artifact={"uri": "pvc://models/" + "x" * 300, "digest": digest}, size_bytes=1, recipe_digest=digest, data_digest=digest,
        epochs=1, steps=1, metrics={}, parameters=1, duration_seconds=1, samples_per_second=1, warnings=few(sentences),
    )  # fmt: skip
    write_termination_message(result)
    assert len((pod / "termination").read_bytes()) <= TERMINATION_LIMIT
    assert termination(pod).warnings == result.warnings[:2]


def test_what_is_left_out_is_a_warning_of_the_run(
    pod: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (pod / "data").mkdir()
    (pod / "data" / "a.csv").write_text("x,y\n" + "1,a\n2,b\n" * 10)
    (pod / "data" / "README.md").write_text("")
    recipe = {**RECIPE, "data": {"source": "pvc://data", "target": "y"}}
    task = TrainTask(run=RUN, recipe=Recipe.model_validate(recipe), store="pvc://models")
    monkeypatch.setenv("MODELSHIP_TASK", json.dumps(task.to_json()))
    assert cli.train([]) == ExitCode.OK
    warning = "left out one file of pvc://data, not of the data's format: README.md."
    assert termination(pod).warnings == [warning]
    assert f"warning: {warning}\n" in capsys.readouterr().out


def test_interrupted() -> None:
    def body() -> int:
        raise Interrupted

    assert guarded(body, in_pod=False) == ExitCode.INTERRUPTED


# --- progress ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ProgressReport]]]:
    """The operator's progress server: what arrived, with the token."""
    arrived: list[tuple[str, ProgressReport]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append((self.headers["Authorization"], ProgressReport.model_validate_json(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "token").write_text("projected\n")
    monkeypatch.setenv("MODELSHIP_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("MODELSHIP_PROGRESS_URL", f"http://127.0.0.1:{server.server_port}/progress")
    yield arrived
    server.shutdown()
    server.server_close()


def test_pushes_are_coalesced_and_the_last_one_arrives(operator: list[tuple[str, ProgressReport]]) -> None:
    with telling(RUN, in_pod=False) as (_, report):
        for epoch in range(1000):
            report(Progress(phase="Training", fold=2, epoch=epoch, epochs=1000, loss="0.5"))
    assert len(operator) <= 3
    token, last = operator[-1]
    assert token == "Bearer projected"
    assert (last.run, last.fold, last.progress.epoch) == (RUN, 2, 999)


def test_an_operator_that_is_gone_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    pusher = Pusher("http://127.0.0.1:9/progress", RUN)
    pusher(Progress(phase="Training"))
    pusher.close()
    assert not pusher._thread.is_alive()


def test_stop_between_phases(capsys: pytest.CaptureFixture[str]) -> None:
    import os
    import signal

    with pytest.raises(Interrupted), telling(RUN, in_pod=False) as (should_stop, report):  # noqa: PT012
        report(Progress(phase="Loading"))
        os.kill(os.getpid(), signal.SIGTERM)
        report(Progress(phase="Training", epoch=1, epochs=2))
        assert should_stop()
        report(Progress(phase="Exporting"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_progress_line() -> None:
    lines: list[str] = []
    now = [0.0]
    line = ProgressLine(write=lines.append, clock=lambda: now[0])
    for second in range(8):
        now[0] = float(second)
        epoch = Progress(
            phase="Training", epoch=second, epochs=30, step=second * 28, steps=840, loss="0.31", val_loss="0.29",
            samples_per_second="12345", eta_seconds=80,
        )  # fmt: skip
        line(epoch)
    line(Progress(phase="Exporting"))
    assert [text.split("  ")[1] for text in lines[:-1]] == ["epoch 0/30", "epoch 3/30", "epoch 6/30", "epoch 7/30"]
    assert lines[1] == "Training  epoch 3/30  step 84/840  loss 0.31  val_loss 0.29  12,345 rows/s  1m 20s left\n"
    assert lines[-1] == "Exporting\n"


def test_prometheus(pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket
    import urllib.request

    from modelship_trainer.training import reporting

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(reporting, "METRICS_PORT", port)
    with telling(RUN, in_pod=True) as (_, report):
        report(Progress(phase="Training", epoch=4, epochs=30, loss="0.31", samples_per_second="12345"))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            text = response.read().decode()
    for line in ("modelship_training_loss 0.31", "modelship_training_epoch 4.0", "modelship_training_samples_per_second 12345.0"):
        assert line in text

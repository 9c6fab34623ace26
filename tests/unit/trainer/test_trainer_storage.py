"""A store or a disk that refuses, wherever bytes are written: StoreUnavailable, tried again, which says where and what helps."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from modelship_trainer.artifact import contents
from modelship_trainer.artifact.files import copy_folder, write_atomically
from modelship_trainer.artifact.manifest import Lineage
from modelship_trainer.artifact.publish import publish
from modelship_trainer.lifecycle import failure_of
from modelship_trainer.protocol import ExitCode, FailureReason
from modelship_trainer.storage import refusal_of

pytestmark = pytest.mark.unit
LINEAGE = Lineage(recipe_digest="sha256:1", data_digest="sha256:2", trainer="test")
FULL = "pvc://models is full; free space in it or enlarge it, and the run goes on from its last checkpoint."


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the claim `models`."""
    monkeypatch.setenv("MODELSHIP_PVC_ROOT", str(tmp_path / "pvc"))
    (tmp_path / "pvc/models").mkdir(parents=True)
    return tmp_path / "pvc/models"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "built").mkdir()
    (tmp_path / "built/model.onnx").write_bytes(b"graph")
    return tmp_path / "built"


def a_checkpoint(store: Path, built: Path) -> None:
    write_atomically(store / "checkpoints/step.ckpt", b"state")


def an_artifact(store: Path, built: Path) -> None:
    publish(built, "pvc://models", LINEAGE)


@pytest.mark.parametrize(
    ("write", "module", "function"),
    [(a_checkpoint, os, "fsync"), (an_artifact, os, "fsync"), (an_artifact, shutil, "copy2"), (an_artifact, Path, "mkdir")],
    ids=["a checkpoint", "an artifact's flush", "an artifact's copy", "an artifact's folder"],
)
def test_a_full_store_is_named_wherever_it_is_found(
    write: Callable[[Path, Path], None],
    module: object,
    function: str,
    store: Path,
    built: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([path] if function == "mkdir" else []))

    monkeypatch.setattr(module, function, full)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - what is said of it is compared below
        write(store, built)
    failed = failure_of(caught.value)
    assert (failed.reason, failed.message, failed.exit_code) == (FailureReason.STORE_UNAVAILABLE, FULL, ExitCode.TEMPORARY)
    assert not [path for path in store.rglob("*") if path.is_file()], "nothing is left of it"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: contents.write_json(path, {"a": 1}),
        lambda path: write_atomically(path.parent / "below/x", b""),
    ],
    ids=["JSON", "a record"],
)
def test_a_full_disk_of_the_node_is_told_from_a_full_store(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda file: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
    (tmp_path / "file").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - what is said of it is compared below
        write(tmp_path / "file")
    assert failure_of(caught.value).message.startswith(f"{tmp_path} (a disk of the node) is full; ")


def test_weights_that_cannot_be_written_are_an_error_of_the_system(tmp_path: Path) -> None:
    """safetensors has an exception of its own."""
    with pytest.raises(FileNotFoundError) as caught:
        contents.write_weights(nn.Linear(2, 2), tmp_path / "none/model.safetensors")
    assert caught.value.filename == str(tmp_path / "none/model.safetensors")


def test_a_claim_that_root_owns_is_told_with_who_we_are(store: Path) -> None:
    refused = refusal_of(PermissionError(errno.EACCES, "Permission denied", str(store / "artifacts")))
    assert refused is not None
    me = f"uid {os.getuid()}, gid {os.getgid()}"
    assert refused.message.startswith(f"{store / 'artifacts'} is closed to {me} (Permission denied); pods ask for it with fsGroup ")
    assert "give pvc://models to that group, writable" in refused.message


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EROFS, "is read-only; make it writable."), (errno.EDQUOT, "is full; "), (errno.ESTALE, "cannot be used just now")],
)
def test_other_refusals(number: int, said: str, store: Path) -> None:
    refused = refusal_of(OSError(number, os.strerror(number), str(store)))
    assert refused is not None
    assert refused.message.startswith(f"pvc://models {said}")


def test_a_copy_names_what_was_written_and_not_what_was_read(store: Path) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/tmp/work/model.onnx", None, str(store / "model.onnx"))
    refused = refusal_of(error)
    assert refused is not None
    assert refused.message == FULL


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "no"), ValueError("no"), OSError("no number")])
def test_other_errors_are_none(error: Exception) -> None:
    assert refusal_of(error) is None


def test_a_folder_is_copied_whole_with_its_links_as_links(built: Path, tmp_path: Path) -> None:
    (built / "below").mkdir()
    (built / "below/a.json").write_text(json.dumps(1))
    (built / "link").symlink_to("model.onnx")
    copy_folder(built, tmp_path / "copy")
    assert (tmp_path / "copy/below/a.json").read_text() == "1"
    assert (tmp_path / "copy/link").is_symlink()

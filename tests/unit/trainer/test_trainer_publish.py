"""Publishing: by content, once, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelship_trainer.artifact.manifest import Lineage, verify
from modelship_trainer.artifact.publish import publish
from modelship_trainer.errors import UserError
from modelship_trainer.protocol import FailureReason

pytestmark = pytest.mark.unit
LINEAGE = Lineage(recipe_digest="sha256:1", data_digest="sha256:2", trainer="test")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    folder.mkdir(mode=0o700)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "recipe.json").write_bytes(b"{}")
    (folder / "recipe.json").chmod(0o600)
    return folder


def test_published_by_content(built: Path, tmp_path: Path) -> None:
    ref = publish(built, f"file://{tmp_path}/store", LINEAGE)
    folder = tmp_path / "store" / "artifacts" / ref.digest.replace(":", "-")
    assert ref.uri == f"file://{folder}"
    verify(folder, ref.digest)
    assert folder.stat().st_mode & 0o777 == 0o755  # other pods read it
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in folder.iterdir())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_second_time_changes_nothing(built: Path, tmp_path: Path) -> None:
    first = publish(built, f"file://{tmp_path}/store", LINEAGE)
    folder = Path(first.uri.removeprefix("file://"))
    before = (folder / "model.onnx").stat()
    assert publish(built, f"file://{tmp_path}/store/", LINEAGE) == first
    assert (folder / "model.onnx").stat() == before


def test_a_broken_artifact_is_replaced(built: Path, tmp_path: Path) -> None:
    ref = publish(built, f"file://{tmp_path}/store", LINEAGE)
    folder = Path(ref.uri.removeprefix("file://"))
    (folder / "model.onnx").write_bytes(b"rotten")
    assert publish(built, f"file://{tmp_path}/store", LINEAGE) == ref
    verify(folder, ref.digest)


def test_other_lineage_other_artifact(built: Path, tmp_path: Path) -> None:
    first = publish(built, f"file://{tmp_path}/store", LINEAGE)
    second = publish(built, f"file://{tmp_path}/store", LINEAGE.model_copy(update={"data_digest": "sha256:3"}))
    assert first.digest != second.digest


def test_nothing_is_left_of_a_failure(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        publish(built, f"file://{tmp_path}/store", LINEAGE)
    assert list((tmp_path / "store" / "artifacts").iterdir()) == []


def test_leftovers_of_killed_processes_are_swept(built: Path, tmp_path: Path) -> None:
    artifacts = tmp_path / "store" / "artifacts"
    for name in (".publishing-old", ".publishing-new"):
        (artifacts / name).mkdir(parents=True)
    os.utime(artifacts / ".publishing-old", (0, 0))
    publish(built, f"file://{tmp_path}/store", LINEAGE)
    assert sorted(path.name for path in artifacts.glob(".*")) == [".publishing-new"]


def test_store_that_is_not_mounted(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSHIP_PVC_ROOT", str(tmp_path))
    with pytest.raises(UserError) as caught:
        publish(built, "pvc://models", LINEAGE)
    assert caught.value.reason is FailureReason.STORE_UNAVAILABLE

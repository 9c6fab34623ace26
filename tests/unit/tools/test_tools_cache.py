"""A cache entry counts only when it is whole and made from the same inputs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tools.localcluster.cache import is_published, key_of, lock, publish, remove_cache, scratch, tree_key, write_atomically

pytestmark = pytest.mark.unit


def published(folder: Path, content: bytes = b"program") -> Path:
    built, target = folder / "built", folder / "target"
    built.write_bytes(content)
    publish(built, target, "key")
    return target


def test_a_published_file_is_trusted_for_its_key_alone(tmp_path: Path) -> None:
    target = published(tmp_path)
    assert is_published(target, "key")
    assert not is_published(target, "other key")


def test_a_file_without_a_receipt_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"half writ")
    assert not is_published(tmp_path / "target", "key")


@pytest.mark.parametrize("content", [b"progra", b"prOgram"], ids=["cut short", "changed byte"])
def test_a_damaged_file_is_not_trusted(tmp_path: Path, content: bytes) -> None:
    target = published(tmp_path)
    target.write_bytes(content)
    os.utime(target, ns=(1, 1))
    assert not is_published(target, "key")


def test_a_touched_but_equal_file_is_trusted(tmp_path: Path) -> None:
    target = published(tmp_path)
    os.utime(target, ns=(1, 1))
    assert is_published(target, "key")


def test_a_damaged_receipt_is_not_trusted(tmp_path: Path) -> None:
    target = published(tmp_path)
    (tmp_path / ".receipts" / "target.json").write_text(json.dumps({"key": "key"})[:5])
    assert not is_published(target, "key")


def test_a_byte_that_moves_between_parts_changes_the_key() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")


def test_a_tree_key_sees_names_bytes_and_modes_but_not_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    before = tree_key(tmp_path, [first, second])
    assert tree_key(tmp_path, [second, first]) == before
    second.chmod(0o755)
    executable = tree_key(tmp_path, [first, second])
    second.rename(tmp_path / "c")
    assert len({before, executable, tree_key(tmp_path, [first, tmp_path / "c"])}) == 3


def test_scratch_starts_empty_after_a_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSHIP_CACHE", str(tmp_path))
    (tmp_path / ".work").mkdir()
    (tmp_path / ".work" / "left behind").write_text("")
    with scratch("work") as folder:
        assert list(folder.iterdir()) == []
    assert not folder.exists()


def test_what_is_not_ours_stays_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSHIP_CACHE", str(tmp_path))
    (tmp_path / "bin").mkdir()
    theirs = [tmp_path / "bin" / "of-the-user", tmp_path / "photos" / "a.jpg"]
    for file in theirs:
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    (tmp_path / "built").write_text("")
    publish(tmp_path / "built", tmp_path / "bin" / "kubectl", "key")
    write_atomically(tmp_path / "registry.json", "{}")
    (tmp_path / "tritonserver-0" / "bin").mkdir(parents=True)
    (tmp_path / ".image-gateway").mkdir()
    with lock("image-gateway"):
        pass
    remove_cache()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(theirs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "photos"]


def test_a_cache_folder_of_ours_alone_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSHIP_CACHE", str(tmp_path / "cache"))
    write_atomically(tmp_path / "cache" / "pip.conf", "")
    with lock("cluster-modelship"):
        pass
    remove_cache()
    assert list(tmp_path.iterdir()) == []
    remove_cache()

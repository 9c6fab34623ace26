"""A file arrives whole under its name, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelship_operator.cli.client import CommandError
from modelship_operator.cli.upload import measure, parse_target, receiver

pytestmark = pytest.mark.unit
DATA = b"age,churned\n41,1\n" * 50_000


def receive(folder: Path, sent: bytes, *, replace: bool = False) -> subprocess.CompletedProcess[bytes]:
    """The pod's own command, on this machine."""
    file = folder / "local.csv"
    file.write_bytes(DATA)
    size, digest = measure(file)
    command = receiver("models", "in/churn.csv", size, digest, replace=replace)
    command[0], command[3] = sys.executable, str(folder / "in" / "churn.csv")
    return subprocess.run(command, input=sent, capture_output=True, check=False)


def test_the_whole_file_gets_its_name(tmp_path: Path) -> None:
    done = receive(tmp_path, DATA)
    assert done.stdout.split() == [b"ready", b"stored"]
    assert [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [DATA]


@pytest.mark.parametrize("sent", [DATA[:-1], b"", b"x" + DATA[1:]], ids=["cut off", "nothing", "changed"])
def test_another_file_leaves_nothing(tmp_path: Path, sent: bytes) -> None:
    done = receive(tmp_path, sent)
    assert done.returncode == 1
    assert b"did not arrive whole" in done.stderr
    assert not list((tmp_path / "in").iterdir())


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "churn.csv").write_text("old")
    assert b"--force replaces it" in receive(tmp_path, DATA).stderr
    assert (tmp_path / "in" / "churn.csv").read_text() == "old"
    assert receive(tmp_path, DATA, replace=True).returncode == 0
    assert (tmp_path / "in" / "churn.csv").read_bytes() == DATA


def test_the_target_is_a_file_of_a_claim() -> None:
    assert parse_target("pvc://models/in/churn.csv") == ("models", "in/churn.csv")


@pytest.mark.parametrize(
    "target", ["pvc://models", "pvc://models/", "pvc://models/a/", "models/a.csv", "pvc://m/../a", "s3://b/a", "pvc://m//a"]
)
def test_any_other_target_is_refused(target: str) -> None:
    with pytest.raises(CommandError, match="must be pvc://claim/path"):
        parse_target(target)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"absent\.csv: No such file"):
        measure(tmp_path / "absent.csv")

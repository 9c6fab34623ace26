"""The `modelship` command: subcommands by name, and what is said when the client's libraries lack."""

from __future__ import annotations

import importlib
import sys

import pytest

from modelship_operator.cli import COMMANDS, main

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert COMMANDS[name][1:] in capsys.readouterr().out.replace("\n", " ")


def test_help_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in printed] == []


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["validat"])
    assert ended.value.code == 2
    assert "invalid choice: 'validat'" in capsys.readouterr().err


def test_missing_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The operator image has no Triton client."""
    monkeypatch.delitem(sys.modules, "modelship_operator.cli.predict", raising=False)
    monkeypatch.setitem(sys.modules, "tritonclient", None)
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    importlib.invalidate_caches()
    assert main(["predict", "churn", "--file", "rows.csv"]) == 1
    assert "pip install 'modelship[client]'" in capsys.readouterr().err

"""The demo looks at what it applied, and its last words can be typed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tools.demo import Kubectl, next_steps, watch

pytestmark = pytest.mark.unit


def item(kind: str, name: str, condition: str) -> dict[str, Any]:
    conditions = [{"type": condition, "status": "True", "reason": "Because"}]
    return {"kind": kind, "metadata": {"name": name}, "status": {"conditions": conditions}}


class Answered(Kubectl):
    """A namespace where the examples are Ready, and a training of the user's has failed."""

    def __call__(self, *args: str, stdin: str | None = None) -> str:
        assert args[0] == "get"
        items = [item("ModelTraining", "tumour", "Ready"), {"kind": "PersistentVolumeClaim", "metadata": {"name": "models"}}]
        if "-f" not in args:
            items.append(item("ModelTraining", "of-the-user", "Stalled"))
        return json.dumps({"items": items})


def test_a_failed_resource_of_the_user_s_does_not_end_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    watch(Answered("kubectl", "kubeconfig", "demo"), deadline=0)
    assert "of-the-user" not in capsys.readouterr().out


def test_the_last_words_work_in_a_fresh_shell(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    for program in ("kubectl", "modelship"):
        (folder / program).write_text(f'#!/bin/sh\necho "{program} $KUBECONFIG"\n')
        (folder / program).chmod(0o755)
    text = next_steps("demo", [str(folder)], str(tmp_path / "kube config"))
    commands = [line for line in text.splitlines() if line.startswith("  ") and "tutorial" not in line]
    shell = subprocess.run(
        ["bash", "-eu"], input="\n".join(commands), capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert shell.stdout.splitlines() == [
        f"{name} {tmp_path}/kube config" for name in ("kubectl", "modelship", "kubectl", "kubectl")
    ]

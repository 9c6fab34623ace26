"""The operator's image has every file that its programs import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools.localcluster.cache import REPO
from tools.localcluster.images import input_files

pytestmark = pytest.mark.unit
PROGRAMS = ("modelship_operator.runtime.main", "modelship_trainer.serving.repository")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_imports_nothing_that_is_not_copied(program: str, tmp_path: Path) -> None:
    for file in input_files(REPO, (REPO / "images" / "operator" / "Dockerfile").read_text()):
        top, _, inside = file.relative_to(REPO).as_posix().partition("/")
        if top in ("operator", "trainer"):
            (tmp_path / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, tmp_path / inside)
    done = subprocess.run(
        [sys.executable, "-c", f"import {program} as program; print(program.__file__)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))

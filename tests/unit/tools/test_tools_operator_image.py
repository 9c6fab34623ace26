"""The operator's image has every file that its programs import, at their start or later."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.localcluster.cache import REPO
from tools.localcluster.images import input_files

pytestmark = pytest.mark.unit
PROGRAMS = ("modelship_operator.runtime.main", "modelship_trainer.serving.repository")


def test_what_the_operator_s_image_runs_imports_only_what_is_copied() -> None:
    copied = {module: file for file in input_files(REPO, _dockerfile()) if (module := _module_of(file))}
    wanted, seen = list(PROGRAMS), set[str]()
    while wanted:
        module = wanted.pop()
        if module not in seen:
            seen.add(module)
            assert module in copied, f"images/operator/Dockerfile does not copy {module}"
            wanted += [name for name in _imports(copied[module]) if _is_module(name)]
    assert "modelship_trainer.artifact.manifest" in seen


def _dockerfile() -> str:
    return (REPO / "images" / "operator" / "Dockerfile").read_text()


def _module_of(file: Path) -> str | None:
    top, *inside = file.relative_to(REPO).with_suffix("").parts
    return ".".join(inside).removesuffix(".__init__") if top in ("operator", "trainer") and file.suffix == ".py" else None


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_module(name: str) -> bool:
    """Whether it is a file of ours, not a name in one."""
    top, *_ = name.split(".")
    folder = {"modelship_operator": "operator", "modelship_trainer": "trainer"}.get(top)
    path = REPO / (folder or "") / name.replace(".", "/")
    return folder is not None and (path.with_suffix(".py").exists() or (path / "__init__.py").exists())

"""The user's own code, as bytes."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from modelship_trainer.artifact.manifest import sha256_of_file
from modelship_trainer.recipe import ModelSpec


def source_digest(spec: ModelSpec) -> str | None:
    """SHA-256 over the file of the entrypoint's module, or the .py files of its package; None for a model of ours.

    Nothing is imported, and what the code itself imports from elsewhere is not looked at.
    """
    if spec.custom is None:
        return None
    files = _files(spec.custom.entrypoint.partition(":")[0].partition(".")[0])
    lines = "".join(f"{sha256_of_file(path)}  {name}\n" for name, path in sorted(files.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _files(module: str) -> dict[str, Path]:
    """By name; none where the module is not to be found, which `build` tells."""
    try:
        found = find_spec(module)
    except (ImportError, ValueError):
        return {}
    if found is None:
        return {}
    if found.submodule_search_locations is not None:
        folders = [Path(folder) for folder in found.submodule_search_locations]
        return {path.relative_to(folder).as_posix(): path for folder in folders for path in folder.rglob("*.py")}
    path = Path(found.origin or "")
    return {path.name: path} if path.is_file() else {}

"""Checkpoints: the whole state of a run, so that a killed process goes on as if nothing had happened.

A checkpoint is one file whose name carries the SHA-256 of its bytes: what is torn or rotten is seen, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import modelship_trainer
from modelship_trainer.artifact.files import write_atomically
from modelship_trainer.models.source import source_digest
from modelship_trainer.recipe import Recipe

FORMAT = 2
"""Of the state; one of another format is not gone on from."""
_NAME = re.compile(r"step-(\d{12})-([0-9a-f]{64})\.ckpt")
KEPT = 2


def identity_of(recipe: Recipe, data_digest: str) -> str:
    """What makes a run: a state is gone on from only by the same recipe, data, code of the user, and versions of torch and us."""
    versions = f"modelship {modelship_trainer.__version__}, torch {torch.__version__}, format {FORMAT}"
    return f"{recipe.digest()} {data_digest} {source_digest(recipe.model)} {versions}"


class Checkpoints:
    """The checkpoints of one run in `folder`. `identity` says what run: a checkpoint of another one is never used."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write `state` (tensors and plain values), then forget all but the last two. Raises OSError."""
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, buffer)
        data = buffer.getvalue()
        name = f"step-{step:012d}-{hashlib.sha256(data).hexdigest()}.ckpt"
        write_atomically(self.folder / name, data)
        for old in list(self._newest_first())[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """State of the newest checkpoint that is whole and of this run; None where there is none.

        Those of another run are removed: with more steps than this one has, they would be kept in place of its own.
        """
        for path in self._newest_first():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != _parse(path.name)[1]:
                print(f"checkpoint {path.name} is damaged; trying the one before", flush=True)
                continue
            saved = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
            if saved["identity"] == self.identity:
                state: dict[str, Any] = saved["state"]
                return state
            print(f"checkpoint {path.name} is of another recipe, data, code or version; it is not used", flush=True)
            path.unlink(missing_ok=True)
        return None

    def _newest_first(self) -> Iterator[Path]:
        names = [path for path in self.folder.glob("*.ckpt") if _NAME.fullmatch(path.name)]
        yield from sorted(names, key=lambda path: (_parse(path.name)[0], path.stat().st_mtime_ns), reverse=True)


def _parse(name: str) -> tuple[int, str]:
    match = _NAME.fullmatch(name)
    assert match is not None  # noqa: S101 - only such names are listed
    return int(match[1]), match[2]

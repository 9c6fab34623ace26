"""The files of an artifact: written after training, read for evaluation. Reading needs no torch until a module is wanted."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelship_trainer.artifact.files import naming
from modelship_trainer.artifact.manifest import ArtifactError, Manifest, read_file, verify
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.export.session import OnnxModel
from modelship_trainer.recipe import Recipe
from modelship_trainer.schema import canonical_json

if TYPE_CHECKING:
    from torch import nn

ONNX = "model.onnx"
WEIGHTS = "model.safetensors"
PREPROCESSING = "preprocessing.json"
SIGNATURE = "signature.json"
SAMPLE = "sample.json"
RECIPE = "recipe.json"
METRICS = "metrics.json"


@dataclass(frozen=True)
class Artifact:
    """A verified artifact."""

    folder: Path
    manifest: Manifest
    recipe: Recipe
    fitted: Fitted
    target: Target
    metrics: dict[str, Any]
    """`metrics.json`: metrics, keptEpoch, history, rows..."""

    def onnx(self) -> OnnxModel:
        """The graph that is served."""
        return OnnxModel(read_file(self.folder, self.manifest, ONNX), self.fitted)

    def module(self) -> nn.Module:
        """The PyTorch module with its weights, in eval mode."""
        from safetensors.torch import load_model

        from modelship_trainer.models.build import build

        module = build(self.recipe.model, self.fitted.input_shape(), self.target.output_size)
        load_model(module, self.folder / WEIGHTS)
        return module.eval()


def open_artifact(folder: Path, digest: str) -> Artifact:
    """Verify every byte, then read.

    Raises:
        DigestMismatch, ArtifactNotFound, ArtifactError: see `artifact.manifest`.
    """
    manifest = verify(folder, digest)
    fitted = Fitted.model_validate_json(read_file(folder, manifest, PREPROCESSING))
    if fitted.target is None:
        raise ArtifactError(f"{PREPROCESSING} has no target")
    recipe = Recipe.model_validate_json(read_file(folder, manifest, RECIPE))
    metrics = json.loads(read_file(folder, manifest, METRICS))
    return Artifact(folder, manifest, recipe, fitted, fitted.target, metrics)


def write_json(path: Path, value: object) -> None:
    """Canonical JSON, so that equal content has equal bytes."""
    with naming(path):
        path.write_bytes(canonical_json(value) + b"\n")


def write_weights(module: nn.Module, path: Path) -> None:
    """Weights and buffers as safetensors; tensors that share memory once. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_model

    try:
        save_model(module, str(path))
    except SafetensorError as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):  # as Rust tells of what the system refused
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise

"""The files of an artifact: write them after training, read them for evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_model, save_model
from torch import nn

from modelship_trainer.artifact.manifest import Manifest, verify
from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.export.session import OnnxModel
from modelship_trainer.models import build
from modelship_trainer.recipe import Recipe
from modelship_trainer.schema import Model, canonical_json

ONNX = "model.onnx"
WEIGHTS = "model.safetensors"
PREPROCESSING = "preprocessing.json"
SIGNATURE = "signature.json"
SAMPLE = "sample.json"
RECIPE = "recipe.json"
METRICS = "metrics.json"


class Encoding(Model):
    """`preprocessing.json`: how raw rows become features, and what outputs mean."""

    schema_version: Literal[1] = 1
    preprocessing: Fitted
    target: Target


@dataclass(frozen=True)
class Artifact:
    """A verified artifact."""

    folder: Path
    manifest: Manifest
    recipe: Recipe
    fitted: Fitted
    target: Target
    metrics: dict[str, Any]
    """`metrics.json`: keptEpoch, history..."""

    def onnx(self) -> OnnxModel:
        """The graph that is served."""
        return OnnxModel(self.folder / ONNX, self.fitted)

    def module(self) -> nn.Module:
        """The PyTorch module with its weights, in eval mode."""
        module = build(self.recipe.model, self.fitted.input_shape(), self.target.output_size)
        load_model(module, self.folder / WEIGHTS)
        return module.eval()


def open_artifact(folder: Path, digest: str) -> Artifact:
    """Verify every byte, then read.

    Raises:
        DigestMismatch, ArtifactNotFound, ArtifactError: see `artifact.manifest`.
    """
    manifest = verify(folder, digest)
    encoding = Encoding.model_validate_json((folder / PREPROCESSING).read_bytes())
    recipe = Recipe.model_validate_json((folder / RECIPE).read_bytes())
    metrics = json.loads((folder / METRICS).read_bytes())
    return Artifact(folder, manifest, recipe, encoding.preprocessing, encoding.target, metrics)


def write_json(path: Path, value: object) -> None:
    """Canonical JSON, so that equal content has equal bytes."""
    path.write_bytes(canonical_json(value) + b"\n")


def write_weights(module: nn.Module, path: Path) -> None:
    """Weights and buffers as safetensors; tensors that share memory once."""
    save_model(module, str(path))

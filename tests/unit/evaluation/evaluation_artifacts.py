"""A small real artifact: linear models of bundled tables, trained by the loop, their graph written out node by node.

The graph is built here, not by `export`, so that scoring is checked against a second hand.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from modelship_trainer.artifact.manifest import Lineage, build_manifest
from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import encode, prepare
from modelship_trainer.data.split import split
from modelship_trainer.protocol import ArtifactRef, EvaluateTask, RunRef
from modelship_trainer.recipe import Recipe
from modelship_trainer.schema import canonical_json
from modelship_trainer.training.loop import fit
from modelship_trainer.training.validation import predict, scores_of

RECIPES = {
    "classification": {
        "data": {"source": "sklearn://wine", "split": {"stratify": True, "seed": 3}, "preprocessing": [{"normalize": {}}]},
        "model": {"linear": {}},
        "training": {"task": "classification", "epochs": 5, "optimizer": {"adam": {"learningRate": 0.05}}},
    },
    "regression": {
        "data": {"source": "sklearn://diabetes", "preprocessing": [{"normalize": {}}]},
        "model": {"linear": {}},
        "training": {
            "task": "regression",
            "epochs": 8,
            "optimizer": {"adam": {"learningRate": 0.05}},
            "earlyStopping": {"patience": 2},
        },
    },
}


class Built(NamedTuple):
    folder: Path
    digest: str
    recipe: Recipe
    test_scores: object
    """Of the PyTorch module on the test split: what the graph must give, too."""

    def task(self, store: Path, **fields) -> EvaluateTask:
        return EvaluateTask.model_validate(
            {
                "run": RunRef(kind="ModelEvaluation", namespace="default", name="wine-cv", uid="uid"),
                "artifact": ArtifactRef(uri=f"file://{self.folder}", digest=self.digest),
                "method": {"holdout": {}},
                "metrics": [],
                "gates": [],
                "store": f"file://{store}",
                **fields,
            }
        )


def build_artifact(folder: Path, recipe: Recipe) -> Built:
    task = recipe.training.task
    dataset = load(recipe.data, task=task)
    parts = split(dataset, recipe.data.split, task)
    prepared = prepare(recipe, dataset, parts.train, parts.validation)
    trained = fit(recipe, prepared, device=torch.device("cpu"))
    inputs = [column.name for column in prepared.fitted.columns]
    outputs = [("probabilities", "FP32"), ("label", "INT64")] if prepared.target.classes else [("prediction", "FP32")]
    signature = {
        "task": task.value,
        "inputs": [{"name": "numbers", "dtype": "FP32", "shape": [-1, len(inputs)]}],
        "columns": [{"name": name, "dtype": "FP32", "missing": False} for name in inputs],
        "outputs": [{"name": name, "dtype": dtype, "shape": [-1]} for name, dtype in outputs],
        "classes": prepared.target.classes,
    }
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(_graph(prepared, trained.module))
    (folder / "recipe.json").write_bytes(canonical_json(recipe.to_json()))
    (folder / "preprocessing.json").write_text(
        prepared.fitted.model_copy(update={"target": prepared.target}).model_dump_json(by_alias=True)
    )
    (folder / "signature.json").write_text(json.dumps(signature))
    (folder / "metrics.json").write_text(json.dumps({"history": trained.history}))
    test = encode(dataset, parts.test, prepared.fitted, prepared.target)
    scores = scores_of(predict(trained.module, test.x, torch.device("cpu")), test.y, prepared.target)
    return Built(folder, seal(folder, recipe, dataset.digest), recipe, scores)


def seal(folder: Path, recipe: Recipe, data_digest: str) -> str:
    """Write the manifest; returns the artifact's digest."""
    (folder / "manifest.json").unlink(missing_ok=True)
    lineage = Lineage(recipe_digest=recipe.digest(), data_digest=data_digest, trainer="modelship test, torch test")
    manifest = build_manifest(folder, lineage)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return manifest.digest()


def _graph(prepared, module) -> bytes:
    linear = next(part for part in module.modules() if isinstance(part, torch.nn.Linear))
    scales = [column.steps[0] for column in prepared.fitted.columns]
    classes, target = prepared.target.classes, prepared.target
    constants = {
        "center": np.array([scale.center for scale in scales], np.float32),
        "scale": np.array([scale.scale for scale in scales], np.float32),
        "w": linear.weight.detach().numpy().T,
        "b": linear.bias.detach().numpy(),
        "unit": np.array(target.scale, np.float32),
        "mean": np.array(target.mean, np.float32),
        "classes": np.array(classes or [0], np.int64),
    }
    nodes = [
        helper.make_node("Sub", ["numbers", "center"], ["centered"]),
        helper.make_node("Div", ["centered", "scale"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "w", "b"], ["out"]),
    ]
    if classes:
        nodes += [
            helper.make_node("Softmax", ["out"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "index"], ["label"]),
        ]
        outputs = [("probabilities", TensorProto.FLOAT, ["n", len(classes)]), ("label", TensorProto.INT64, ["n"])]
    else:
        nodes += [helper.make_node("Mul", ["out", "unit"], ["raw"]), helper.make_node("Add", ["raw", "mean"], ["prediction"])]
        outputs = [("prediction", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", len(scales)])],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()

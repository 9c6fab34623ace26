"""Small artifacts as the trainer publishes them, made with onnx alone, for the serving tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, save

from modelship_trainer.artifact.manifest import MANIFEST, Lineage, build_manifest

CLASSES = ["no", "yes"]
PLANS = ["basic", "pro", "max"]


def sample_request(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """KServe v2 infer request for rows of `age` and `plan`."""
    return {
        "inputs": [
            {"name": "age", "datatype": "FP32", "shape": [len(rows), 1], "data": [row["age"] for row in rows]},
            {"name": "plan", "datatype": "BYTES", "shape": [len(rows), 1], "data": [row["plan"] for row in rows]},
        ]
    }


def expected_probability(age: float, plan: str) -> float:
    """P(yes) of the model below, computed apart from ONNX."""
    logit = 0.1 * ((age - 40.0) / 10.0) + {"basic": -1.0, "pro": 0.5, "max": 2.0}.get(plan, 0.0)
    return float(1 / (1 + np.exp(-2 * logit)))


def churn_graph() -> Any:
    """Raw `age` [N,1] FP32, `plan` [N,1] string -> `probabilities` [N,2], `label` [N] string, through ONNX-ML operators."""
    ml = "ai.onnx.ml"
    nodes = [
        helper.make_node("Scaler", ["age"], ["age_scaled"], domain=ml, offset=[40.0], scale=[0.1]),
        helper.make_node("OneHotEncoder", ["plan"], ["plan_hot_3d"], domain=ml, cats_strings=PLANS, zeros=1),
        helper.make_node("Squeeze", ["plan_hot_3d", "axis_1"], ["plan_hot"]),
        helper.make_node("Concat", ["age_scaled", "plan_hot"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
        helper.make_node("LabelEncoder", ["index"], ["label"], domain=ml, keys_int64s=[0, 1], values_strings=CLASSES),
    ]
    yes = np.array([0.1, -1.0, 0.5, 2.0], dtype=np.float32)
    weight = np.stack([-yes, yes], axis=1)
    graph = helper.make_graph(
        nodes,
        "churn",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("plan", TensorProto.STRING, ["N", 1]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]),
        ],
        [
            helper.make_tensor("axis_1", TensorProto.INT64, [1], [1]),
            helper.make_tensor("weight", TensorProto.FLOAT, weight.shape, weight.ravel().tolist()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ml, 3)], ir_version=9)


def slow_churn_graph(work: int) -> Any:
    """The same answers, after `work` products of two 1024 x 1024 matrices for each run."""
    model = churn_graph()
    size = [1024, 1024]
    square = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("in", "out")]
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["in", "in"], ["product"]),
            helper.make_node("Tanh", ["product"], ["out"]),
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
        ],
        "work",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            square[0],
        ],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), square[1]],
    )
    # The work hangs on the input, so that no optimiser does it once and for all, and ends in a zero that is added to it.
    nodes = [
        helper.make_node("ReduceMax", ["age"], ["top"], keepdims=1),
        helper.make_node("Expand", ["top", "size"], ["square"]),
        helper.make_node("Loop", ["work", "", "square"], ["worked"], body=body),
        helper.make_node("ReduceMax", ["worked"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "zero"], ["nothing"]),
        helper.make_node("Add", ["age", "nothing"], ["age_later"]),
    ]
    model.graph.node[0].input[0] = "age_later"
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    model.graph.initializer.extend(
        [
            helper.make_tensor("size", TensorProto.INT64, [2], size),
            helper.make_tensor("work", TensorProto.INT64, [], [work]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ]
    )
    return model


SIGNATURE = {
    "schemaVersion": 1,
    "task": "classification",
    "inputs": [
        {"name": "age", "dtype": "FP32", "shape": [-1, 1]},
        {"name": "plan", "dtype": "BYTES", "shape": [-1, 1]},
    ],
    "outputs": [
        {"name": "probabilities", "dtype": "FP32", "shape": [-1, 2]},
        {"name": "label", "dtype": "BYTES", "shape": [-1]},
    ],
    "classes": CLASSES,
}


def write_artifact(folder: Path, work: int = 0) -> str:
    """Publish the churn artifact in `folder`, slow by `work`; returns its digest."""
    folder.mkdir(parents=True)
    save(slow_churn_graph(work) if work else churn_graph(), str(folder / "model.onnx"))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "signature.json").write_text(json.dumps(SIGNATURE))
    (folder / "sample.json").write_text(json.dumps(sample_request([{"age": 40.0, "plan": "pro"}])))
    for name in ("preprocessing.json", "recipe.json", "metrics.json"):
        (folder / name).write_text("{}")
    return seal(folder)


def seal(folder: Path) -> str:
    """Write `manifest.json` for what is in `folder`; returns the digest."""
    manifest = build_manifest(folder, Lineage(recipe_digest="sha256:0", data_digest="sha256:0", trainer="tests"))
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest.digest()

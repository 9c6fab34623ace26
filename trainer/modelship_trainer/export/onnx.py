"""One ONNX graph of preprocessing, model and output."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, compose, helper, numpy_helper
from torch import nn

from modelship_trainer.data.preprocessing import Fitted
from modelship_trainer.data.target import Target
from modelship_trainer.errors import UserError
from modelship_trainer.export.graph import FEATURES, IR_VERSION, OPSET, preprocessing_graph
from modelship_trainer.export.module import OUTPUTS, layers_graph
from modelship_trainer.export.signature import integers
from modelship_trainer.protocol import FailureReason

_BRANCHES = {"GuardOnDataDependentSymNode", "UserError", "UncapturedHigherOrderOpError", "DynamicOutputShapeException"}
"""torch's errors about control flow that depends on values."""
_PLACE = re.compile(r'File "[^"\n]*?([^/"\n]+\.py)", line (\d+), in forward')
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def export(module: nn.Module, fitted: Fitted, target: Target) -> ModelProto:
    """Raw features to `probabilities` and `label`, or to `prediction`.

    Raises:
        UserError: ExportMismatch where the module cannot be expressed in ONNX.
    """
    try:
        return _assemble(module, fitted, target)
    except Exception as error:  # the exporter's and the checker's errors have no common base
        raise UserError(FailureReason.EXPORT_MISMATCH, f"the model cannot be exported to ONNX: {_why(error)}") from error


def _why(error: BaseException) -> str:
    """A sentence about an exporter's error: its own begins with which step of three it was."""
    cause = error
    while (before := cause.__cause__ or cause.__context__) is not None:
        cause = before
    if type(cause).__name__ in _BRANCHES and type(cause).__module__.startswith("torch."):
        found = _PLACE.search(str(cause))
        where = f" ({found[1]}, line {found[2]})" if found else ""
        return (
            f"its forward branches, loops or sizes a tensor by values of the data{where}, and a graph is the same for all rows; "
            "choose between results with torch.where, or multiply by a mask."
        )
    told = _ESCAPES.sub("", str(cause)).strip().splitlines()
    return told[0] if told else type(cause).__name__


def _assemble(module: nn.Module, fitted: Fitted, target: Target) -> ModelProto:
    of_module = module_graph(module, fitted.input_shape(), target.output_size)
    if not of_module.graph.output[0].type.tensor_type.shape.dim[0].dim_param:
        raise ValueError(
            "its forward works for one number of rows only; take rows as they come, as in x.reshape(len(x), -1), and do not loop "
            "over them."
        )
    model = compose.merge_models(preprocessing_graph(fitted), of_module, io_map=[(FEATURES, FEATURES)])
    _add_head(model.graph, target)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "modelship", "", ""
    del model.metadata_props[:]
    model.graph.name = "model"
    onnx.checker.check_model(model)
    return model


def module_graph(module: nn.Module, input_shape: tuple[int, ...], output_size: int) -> ModelProto:
    """`features` `[rows, *input_shape]` to `outputs` `[rows, output_size]`."""
    return layers_graph(module, input_shape, output_size) or traced_graph(module, input_shape)


def traced_graph(module: nn.Module, input_shape: tuple[int, ...]) -> ModelProto:
    """The graph of any module, by torch's own exporter, stripped of all that names this machine."""
    example = torch.zeros(2, *input_shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[FEATURES],
            output_names=[OUTPUTS],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            verbose=False,
        )
    assert program is not None  # noqa: S101 - always, with dynamo
    model: ModelProto = program.model_proto
    model = compose.add_prefix(model, "model/", rename_inputs=False, rename_outputs=False)
    for entry in [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        entry.doc_string = ""
        if hasattr(entry, "metadata_props"):
            del entry.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:], model.graph.value_info[:]
    model.ir_version = IR_VERSION
    return model


def _add_head(graph: Any, target: Target) -> None:
    """Logits to `probabilities` `[N, C]` and `label` `[N]`, or values to `prediction` `[N, 1]` in the target's unit."""
    del graph.output[:]
    if target.classes is None:
        graph.initializer.append(numpy_helper.from_array(np.array([target.scale], np.float32), "head/scale"))
        graph.initializer.append(numpy_helper.from_array(np.array([target.mean], np.float32), "head/mean"))
        graph.node.append(helper.make_node("Mul", [OUTPUTS, "head/scale"], ["head/scaled"]))
        graph.node.append(helper.make_node("Add", ["head/scaled", "head/mean"], ["prediction"]))
        graph.output.append(helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["rows", 1]))
        return
    labels = np.array(target.classes, dtype=np.int64 if integers(target) else object)
    graph.initializer.append(numpy_helper.from_array(labels, "head/classes"))
    graph.node.append(helper.make_node("Softmax", [OUTPUTS], ["probabilities"], axis=1))
    graph.node.append(helper.make_node("ArgMax", ["probabilities"], ["head/class"], axis=1, keepdims=0))
    graph.node.append(helper.make_node("Gather", ["head/classes", "head/class"], ["label"]))
    kind = TensorProto.INT64 if integers(target) else TensorProto.STRING
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(target.classes)]))
    graph.output.append(helper.make_tensor_value_info("label", kind, ["rows"]))

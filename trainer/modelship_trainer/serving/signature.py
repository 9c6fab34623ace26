"""`signature.json` of an artifact: the tensors that a served model takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelship_trainer.schema import Model

TENSOR_TYPES = {
    "BOOL": "TYPE_BOOL", "UINT8": "TYPE_UINT8", "INT8": "TYPE_INT8", "INT16": "TYPE_INT16", "INT32": "TYPE_INT32",
    "INT64": "TYPE_INT64", "FP16": "TYPE_FP16", "FP32": "TYPE_FP32", "FP64": "TYPE_FP64", "BYTES": "TYPE_STRING",
}  # fmt: skip
"""Data type in requests (KServe v2) to data type in config.pbtxt."""

TensorType = Literal["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"]


class Tensor(Model):
    """A named tensor. The first axis is the row, -1."""

    name: str = Field(min_length=1, max_length=255)
    dtype: TensorType
    shape: list[Annotated[int, Field(ge=-1)]] = Field(min_length=1, max_length=8)


class Signature(Model):
    """`signature.json`."""

    schema_version: Literal[1] = 1
    task: Literal["classification", "regression"]
    inputs: list[Tensor] = Field(min_length=1, max_length=4096)
    outputs: list[Tensor] = Field(min_length=1, max_length=64)
    classes: list[str | int | float | bool] | None = None
    """Label of each column of `probabilities`."""

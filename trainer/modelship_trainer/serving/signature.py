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


INPUT, NUMBERS, TEXTS = "input", "numbers", "texts"
"""Tensors that a graph takes: rows of an array; or of a table the numeric columns, FP32 `[N, K]`, and text, BYTES `[N, T]`."""


class Tensor(Model):
    """A named tensor. The first axis is the row, -1."""

    name: str = Field(min_length=1, max_length=255)
    dtype: TensorType
    shape: list[Annotated[int, Field(ge=-1)]] = Field(min_length=1, max_length=8)


class ColumnSpec(Model):
    """A column of a table as people send it: a value per row, of which the served model takes those of one type packed together."""

    name: str
    dtype: Literal["FP32", "BYTES"]
    """Of its values: FP32 goes to the tensor `numbers`, BYTES (text) to `texts`, in the order of the columns."""
    missing: bool
    """Whether a row without this value has an answer: something fills it, or it is a category."""
    above: float | None = None
    """The value must be larger than this float32: a logarithm follows."""
    texts: Literal["number", "boolean"] | None = None
    """What the text of a BYTES column is of: a client's text `1.0` or `True` is `1` or `true` to the model, as
    `modelship_trainer.values.normal_text` writes it. None: text is taken just as it is."""


class Signature(Model):
    """`signature.json`. Version 1, of artifacts made before, has a tensor `[-1, 1]` per column, and no `columns`."""

    schema_version: Literal[1, 2] = 2
    task: Literal["classification", "regression"]
    inputs: list[Tensor] = Field(min_length=1, max_length=4096)
    """The graph's tensors."""
    columns: list[ColumnSpec] | None = Field(None, min_length=1)
    """Of a table; None for images and arrays."""
    outputs: list[Tensor] = Field(min_length=1, max_length=64)
    classes: list[str | int | float | bool] | None = None
    """Label of each column of `probabilities`."""

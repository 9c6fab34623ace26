"""Triton backend `onnxruntime` for the CPU image: ONNX Runtime behind Triton's Python-based backend API.

It takes the model repository that Triton's own backend of that name takes (`config.pbtxt`, `1/model.onnx`, and the parameters
`intra_op_thread_count`, `inter_op_thread_count`, `optimization.graph.level`), so that a deployment moves to NVIDIA's image
unchanged. The image installs this file as `backends/onnxruntime/model.py`; it stands alone there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the stub appends this folder behind the system's packages

import numpy as np
import numpy.typing as npt

if int(np.__version__.split(".")[0]) >= 2:
    raise ImportError(f"numpy {np.__version__}: this Triton build hands out zeros to numpy 2; install numpy<2")

import onnxruntime as ort
import triton_python_backend_utils as pb_utils

Array = npt.NDArray[Any]
ort.disable_telemetry_events()

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
"""`optimization.graph.level` of config.pbtxt; 0 is "not set". The numbering is that of Triton's own backend."""


class InvalidInput(ValueError):
    """A request's tensors cannot be given to the model; the message goes to the client."""


class TritonPythonModel:
    """One instance of a model: a session, and the names of its inputs and outputs."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: Any) -> Any:
        """Leave the configuration as it is: Modelship writes it in full."""
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Load `<repository>/<version>/model.onnx` as `config.pbtxt` says."""
        config = json.loads(args["model_config"])
        if args["model_instance_kind"] == "GPU":
            raise pb_utils.TritonModelException("this image serves on CPU; for KIND_GPU use nvcr.io/nvidia/tritonserver")
        path = Path(args["model_repository"]) / args["model_version"] / (config["default_model_filename"] or "model.onnx")
        self._session = ort.InferenceSession(str(path), session_options(config), providers=["CPUExecutionProvider"])
        self._batches = config["max_batch_size"] > 0
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        self._strings = {item["name"] for item in config["input"] if item["data_type"] == "TYPE_STRING"}
        _check_names("input", self._inputs, [item.name for item in self._session.get_inputs()])
        _check_names("output", self._outputs, [item.name for item in self._session.get_outputs()])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer `requests` in order: one run over all of them, or one run each where the joint run fails."""
        feeds = [self._read(request) for request in requests]
        answers = iter(self._run_together([feed for feed in feeds if isinstance(feed, dict)]))
        return [self._respond(next(answers) if isinstance(feed, dict) else feed) for feed in feeds]

    def _read(self, request: Any) -> dict[str, Array] | InvalidInput:
        try:
            return {name: self._tensor(request, name) for name in self._inputs}
        except InvalidInput as error:
            return error

    def _tensor(self, request: Any, name: str) -> Array:
        array: Array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
        if name not in self._strings:
            return array
        try:
            return np.array([item.decode() for item in array.ravel()], dtype=object).reshape(array.shape)
        except UnicodeDecodeError as error:
            raise InvalidInput(f"input '{name}' is not UTF-8: {error}") from error

    def _run_together(self, feeds: list[dict[str, Array]]) -> list[list[Array] | Exception]:
        if not self._batches or len(feeds) < 2:
            return [self._run(feed) for feed in feeds]
        joint = self._run({name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs})
        if isinstance(joint, Exception):  # one bad row must not fail its neighbours
            return [self._run(feed) for feed in feeds]
        cuts = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        return [list(parts) for parts in zip(*(np.split(array, cuts) for array in joint), strict=True)]

    def _run(self, feed: dict[str, Array]) -> list[Array] | Exception:
        """Tensors in the order of the outputs, or what the model objected to."""
        try:
            return list(self._session.run(self._outputs, feed))
        except Exception as error:  # ONNX Runtime raises a dozen unrelated types; all are the client's answer
            return error

    def _respond(self, answer: list[Array] | Exception) -> Any:
        if isinstance(answer, Exception):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer)))
        tensors = [pb_utils.Tensor(name, _to_triton(array)) for name, array in zip(self._outputs, answer, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def _to_triton(array: Array) -> Array:
    """Strings become bytes; the rest stays, contiguous, as the shared memory wants it."""
    if array.dtype.kind in "OU":
        return np.array([str(item).encode() for item in array.ravel()], dtype=object).reshape(array.shape)
    return np.ascontiguousarray(array)


def _check_names(kind: str, configured: list[str], of_model: list[str]) -> None:
    if unknown := sorted(set(configured) - set(of_model)):
        raise pb_utils.TritonModelException(f"{kind} {unknown} of config.pbtxt is not in model.onnx; it has {of_model}")


def session_options(config: dict[str, Any]) -> ort.SessionOptions:
    """ONNX Runtime's options from Triton's model configuration (as JSON)."""
    parameters = {name: item["string_value"] for name, item in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", "1"))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", "1"))
    level = config.get("optimization", {}).get("graph", {}).get("level", 0)
    if level not in _GRAPH_LEVELS:
        raise ValueError(f"optimization.graph.level is {level}; known: {sorted(_GRAPH_LEVELS)}")
    options.graph_optimization_level = _GRAPH_LEVELS[level]
    # A spinning thread burns the quota of a CPU-limited pod while it waits.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options

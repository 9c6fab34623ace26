"""Init step of a serving pod: copy the artifact, verify the copied bytes, write the model repository that Triton reads.

    modelship-model-repository --artifact pvc://models/artifacts/sha256-9f31... --digest sha256:9f31... --model-name churn

leaves, by one rename, `/models/churn/{config.pbtxt,sample.json,signature.json,serving.json,1/model.onnx}`: Triton's files, and the
gateway's. It fails closed: with one wrong byte, or a missing, extra or linked file, nothing is left in the repository and the pod's
Triton never starts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from modelship_trainer.artifact.files import copy_folder
from modelship_trainer.artifact.manifest import (
    ArtifactError,
    ArtifactNotFound,
    DigestMismatch,
    Manifest,
    check_listing,
    read_manifest,
    verify,
)
from modelship_trainer.protocol import (
    ENV_PVC_ROOT,
    ENV_TERMINATION_LOG,
    PVC_ROOT,
    TERMINATION_LIMIT,
    TERMINATION_LOG,
    ExitCode,
    Failure,
    FailureReason,
)
from modelship_trainer.serving.options import Batching, Device, GraphOptimization, Optimization
from modelship_trainer.serving.signature import TENSOR_TYPES, Signature, Tensor
from modelship_trainer.storage import refusal_of

ENV_BATCHING = "MODELSHIP_BATCHING"
"""JSON of a `Batching`; unset: its defaults."""
ENV_OPTIMIZATION = "MODELSHIP_OPTIMIZATION"
"""JSON of an `Optimization`; unset: its defaults."""

MODEL = "model.onnx"
SAMPLE = "sample.json"
SIGNATURE = "signature.json"
SERVING = "serving.json"
"""What the gateway must know besides the signature: `{"maxBatchSize": 64}`."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_GRAPH_LEVELS = {GraphOptimization.BASIC: -1, GraphOptimization.EXTENDED: 1, GraphOptimization.NONE: 2}
"""`optimization.graph.level` of Triton's onnxruntime backend; All is what it does without one."""


class Serving(NamedTuple):
    """How to serve: what config.pbtxt is made of besides the signature."""

    batching: Batching = Batching()
    optimization: Optimization = Optimization()
    device: Device = Device.CPU


def main(argv: Sequence[str] | None = None) -> int:
    """Run the init step; the exit status is an `ExitCode`, and the termination message says why it is not 0."""
    arguments = _parser().parse_args(argv)
    try:
        folder = artifact_folder(arguments.artifact, Path(os.environ.get(ENV_PVC_ROOT, PVC_ROOT)))
        serving = serving_from(os.environ, arguments.device)
        publish(folder, arguments.digest, arguments.model_name, Path(arguments.output), serving)
    except (ArtifactError, ValidationError, ValueError, OSError) as error:
        code, failure = explain(error, arguments.artifact, arguments.digest)
        print(failure.message, file=sys.stderr)
        _write_termination_message(failure)
        return code
    print(f"{arguments.model_name}: {arguments.digest} verified, file by file")
    return ExitCode.OK


def artifact_folder(uri: str, pvc_root: Path) -> Path:
    """Folder that holds the artifact: of `pvc://claim/path`, or of a plain path."""
    scheme, separator, path = uri.partition("://")
    if not separator:
        return Path(uri)
    if scheme != "pvc":
        raise ValueError(f"artifact {uri}: only pvc:// and plain paths can be served from yet")
    if ".." in path.split("/"):
        raise ValueError(f"artifact {uri}: '..' is not allowed in it")
    return pvc_root / path


def serving_from(environment: Mapping[str, str], device: str) -> Serving:
    """Options from the environment, which the operator fills from `spec.batching` and `spec.optimization`."""
    return Serving(
        Batching.model_validate_json(environment.get(ENV_BATCHING, "{}")),
        Optimization.model_validate_json(environment.get(ENV_OPTIMIZATION, "{}")),
        Device(device),
    )


def publish(artifact: Path, digest: str, model_name: str, output: Path, serving: Serving) -> Path:
    """Verify `artifact` against `digest` and make `output/model_name`; returns that folder.

    Raises:
        DigestMismatch: a byte is not the recorded one; `output` holds no such model then.
        ArtifactNotFound, ArtifactError, ValidationError: it is not an artifact.
    """
    if not _NAME.fullmatch(model_name):
        raise ValueError(f"model name {model_name!r} is not a Kubernetes resource name")
    target = output / model_name
    shutil.rmtree(target, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".modelship-", dir=output) as work:
        copied, built = Path(work, "artifact"), Path(work, "model")
        manifest = copy_verified(artifact, digest, copied)
        signature = Signature.model_validate_json((copied / SIGNATURE).read_bytes())
        (built / "1").mkdir(parents=True)
        for name in _graph_files(manifest):
            (copied / name).rename(built / "1" / name)
        for name in (SAMPLE, SIGNATURE):
            (copied / name).rename(built / name)
        (built / SERVING).write_text(json.dumps({"maxBatchSize": serving.batching.max_batch_size}), encoding="utf-8")
        (built / "config.pbtxt").write_text(render_config(model_name, signature, serving), encoding="utf-8")
        built.rename(target)
    return target


def copy_verified(artifact: Path, digest: str, copied: Path) -> Manifest:
    """Copy, then verify the copy: what is checked is what will be served, whatever happens to the source meanwhile.

    Links are copied as links, never followed, and then refused.
    """
    check_listing(artifact, read_manifest(artifact, digest))  # cheap, and no byte more is copied than the artifact has
    try:
        copy_folder(artifact, copied)
    except OSError as error:
        if error.errno is None:  # something that is no file
            raise ArtifactError(f"cannot copy {artifact}: {error}") from error
        raise
    return verify(copied, digest)


def _graph_files(manifest: Manifest) -> list[str]:
    """The ONNX graph and, where it has them, its external weights, which ONNX finds by name beside it."""
    names = [entry.path for entry in manifest.files if entry.path.startswith(MODEL) and "/" not in entry.path]
    if missing := {MODEL, SAMPLE, SIGNATURE} - {entry.path for entry in manifest.files}:
        raise ArtifactError(f"the artifact has no {', '.join(sorted(missing))}")
    return names


# --- config.pbtxt -------------------------------------------------------------------------------------------------------------


def render_config(model_name: str, signature: Signature, serving: Serving) -> str:
    """A complete config.pbtxt, so that Triton completes nothing: loading is faster, and surprises are errors."""
    batches = serving.batching.max_batch_size > 0
    if batches and (fixed := [t.name for t in [*signature.inputs, *signature.outputs] if t.shape[0] != -1]):
        raise ArtifactError(f"tensors {fixed} have no free first axis to batch on; set batching.maxBatchSize: 0")
    lines = [
        f"name: {_quoted(model_name)}",
        'backend: "onnxruntime"',
        f"default_model_filename: {_quoted(MODEL)}",
        f"max_batch_size: {serving.batching.max_batch_size}",
        *_tensors("input", signature.inputs, batches),
        *_tensors("output", signature.outputs, batches),
        # Nothing inside: a queue policy, priorities or a delay stall the batcher (docs/serving.md).
        *(["dynamic_batching { }"] if batches and serving.batching.dynamic else []),
        f"instance_group [ {{ count: {serving.optimization.instances} kind: KIND_{serving.device.name} }} ]",
        *_graph_level(serving.optimization.graph),
        _parameter("intra_op_thread_count", serving.optimization.threads),
        _parameter("inter_op_thread_count", 1),
    ]
    return "\n".join(lines) + "\n"


def _tensors(kind: str, tensors: Iterable[Tensor], batches: bool) -> list[str]:
    rows = [f"  {{ name: {_quoted(t.name)} data_type: {TENSOR_TYPES[t.dtype]} {_dims(t.shape, batches)} }}" for t in tensors]
    return [f"{kind} [", ",\n".join(rows), "]"]


def _dims(shape: Sequence[int], batches: bool) -> str:
    """Triton's dims leave out the row axis and may not be empty: a tensor `[N]` is shown to clients as `[N, 1]`."""
    dims = list(shape[1:] if batches else shape)
    return f"dims: {dims}" if dims else "dims: [1] reshape { shape: [ ] }"


def _graph_level(graph: GraphOptimization) -> list[str]:
    return [f"optimization {{ graph {{ level: {_GRAPH_LEVELS[graph]} }} }}"] if graph in _GRAPH_LEVELS else []


def _parameter(key: str, value: int) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def _quoted(text: str) -> str:
    """A string of protobuf's text format: JSON's escapes of quotes, backslashes and control characters are its own."""
    return json.dumps(text, ensure_ascii=False)


# --- how it ends --------------------------------------------------------------------------------------------------------------


def explain(error: Exception, uri: str, digest: str) -> tuple[ExitCode, Failure]:
    """Exit status and termination message for an error of the init step."""
    if isinstance(error, DigestMismatch):
        message = f"{error.file} is {_short(error.actual)}, evaluated was {_short(error.expected)}; nothing was started."
        return ExitCode.DIGEST_MISMATCH, Failure(reason=FailureReason.DIGEST_MISMATCH, message=message)
    if isinstance(error, ArtifactNotFound):
        message = f"artifact {_short(digest)} is no longer at {uri}; restore it or train again. Trying again."
        return ExitCode.TEMPORARY, Failure(reason=FailureReason.STORE_UNAVAILABLE, message=message)
    if isinstance(error, OSError):
        refused = refusal_of(error)
        message = refused.message if refused else f"{error}; trying again."
        return ExitCode.TEMPORARY, Failure(reason=FailureReason.STORE_UNAVAILABLE, message=message)
    message = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return ExitCode.INVALID, Failure(reason=FailureReason.INTERNAL_ERROR, message=f"{message}; nothing was started.")


def _short(digest: str) -> str:
    """Twelve digits of a digest, enough to tell two apart; other text as it is."""
    return re.sub(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}", r"\1…", digest)


def _write_termination_message(failure: Failure) -> None:
    path = os.environ.get(ENV_TERMINATION_LOG, TERMINATION_LOG)
    shortened = failure.model_copy(update={"message": failure.message[: TERMINATION_LIMIT // 4]})
    try:
        Path(path).write_text(json.dumps(shortened.to_json(), ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        print(f"cannot write {path}: {error}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelship-model-repository", description="Verify an artifact and lay it out for Triton.")
    parser.add_argument("--artifact", required=True, help="pvc://claim/path or a folder")
    parser.add_argument("--digest", required=True, help="sha256:<hex> of its manifest.json")
    parser.add_argument("--model-name", required=True)
    parser.add_argument("--output", default="/models", help="Triton's model repository")
    parser.add_argument("--device", default=Device.CPU.value, choices=[device.value for device in Device])
    return parser


if __name__ == "__main__":
    sys.exit(main())

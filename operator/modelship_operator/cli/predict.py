"""`modelship predict`: ask a served model, with the rows of a file, from wherever kubectl works."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf.unknown_fields import UnknownFieldSet
from kubernetes.client import ApiException, CoreV1Api
from tritonclient.utils import InferenceServerException

from modelship_operator.cli import kubeconfig
from modelship_operator.cli.client import Cluster, CommandError, Object, said, standing
from modelship_operator.cli.forward import forward
from modelship_operator.cli.rows import InputError, Row, read_rows
from modelship_operator.cli.tensors import Array, TensorSpec, batches, check_finite, spec_of, table, to_arrays
from modelship_trainer.csv_rows import Dialect

HTTP, GRPC = 8000, 8001
_UNBATCHED_ROWS = 1_000
"""Rows in a request when the model has a row axis of its own, without a limit that we know."""
_SECONDS = 60.0
_REFUSED_ROW = re.compile(r"row (\d+): (.*)", re.DOTALL)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `modelship predict`."""
    parser.add_argument("name", help="the ModelDeployment")
    parser.add_argument(
        "--file", "-f", type=Path, required=True, help="rows: .csv with a header, .json (a list of objects) or .jsonl"
    )
    parser.add_argument("--separator", default=",", help='between cells of a CSV file; default: ",", and "\\t" is a tab')
    parser.add_argument("--encoding", default="utf-8", help="of a CSV file; default: utf-8")
    kubeconfig.add_arguments(parser)
    parser.add_argument("--grpc", action="store_true", help="ask over gRPC instead of HTTP")


def run(options: argparse.Namespace) -> int:
    """Print a table of answers; the exit status, with the reason on stderr when it is not 0."""
    try:
        rows = read_rows(options.file, Dialect(separator=options.separator.replace("\\t", "\t"), encoding=options.encoding))
        cluster = Cluster.of(options)
        deployment = cluster.resource("modeldeployments", "ModelDeployment", options.name)
        pod = ready_pod(cluster, deployment)
        port = GRPC if options.grpc else HTTP
        with forward(cluster, pod, port) as local:
            outputs = ask(f"127.0.0.1:{local}", options.name, rows, planned_rows(deployment), grpc=options.grpc)
        print(table(outputs))
    except (CommandError, InputError) as error:
        print(f"modelship predict: {error}", file=sys.stderr)
        return 1
    return 0


def planned_rows(deployment: Object) -> int:
    """Most rows of a request by the spec, 0 without a limit: for servers that do not tell theirs."""
    return int(deployment["spec"].get("batching", {}).get("maxBatchSize", 64))


def ready_pod(cluster: Cluster, deployment: Object) -> str:
    """Name of a pod that serves it now.

    Raises:
        CommandError: none does; says why, in the resource's own words.
    """
    name, selector = deployment["metadata"]["name"], deployment.get("status", {}).get("selector")
    if selector:
        try:
            pods = cluster.api(CoreV1Api).list_namespaced_pod(cluster.namespace, label_selector=selector).items
        except ApiException as error:
            raise CommandError(f"pods of {name}: {said(error)}") from error
        for pod in pods:
            conditions = {entry.type: entry.status for entry in pod.status.conditions or []}
            if conditions.get("Ready") == "True" and pod.metadata.deletion_timestamp is None:
                return str(pod.metadata.name)
    raise CommandError(f"ModelDeployment {name} has no ready pod. {standing(deployment)}")


# --- asking -------------------------------------------------------------------------------------------------------------------


def ask(address: str, model: str, rows: Sequence[Row], planned: int, *, grpc: bool = False) -> dict[str, Array]:
    """The model's outputs for `rows`, from the KServe v2 server at `host:port`; each array has a first axis of `len(rows)`.

    A request has as many rows as this server takes, which may still be the one before a change; `planned` where it does not tell.

    Raises:
        InputError: the rows are not what the model takes, or it has no finite answer to one.
        CommandError: the server refused or did not answer.
    """
    try:
        with (_grpc if grpc else _http)(address) as server:
            served = server.metadata(model)
            arrays = to_arrays(rows, served.inputs)
            most = planned if served.rows_at_once is None else served.rows_at_once
            parts, asked = [], 0
            for part in batches(arrays, most or _UNBATCHED_ROWS):
                parts.append(_infer(server, model, part, served, asked))
                asked += len(next(iter(part.values())))
    except (InferenceServerException, OSError) as error:
        raise CommandError(f"the server of {model} answered: {_said_by(error)}") from error
    outputs = {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in served.outputs}
    check_finite(outputs, arrays)
    return outputs


def _infer(server: _Server, model: str, arrays: Mapping[str, Array], served: _Served, before: int) -> dict[str, Array]:
    """One request; a row that the server refuses is told by its number in the file, of which `before` rows were asked."""
    try:
        return server.infer(model, arrays, served)
    except InferenceServerException as error:
        found = _REFUSED_ROW.match(_said_by(error))
        if found is None:
            raise
        raise InputError(f"row {int(found[1]) + before}: {found[2]}") from error


def _said_by(error: InferenceServerException | OSError) -> str:
    return str(error.message()) if isinstance(error, InferenceServerException) else str(error)


class _Served(NamedTuple):
    """What a server tells of a model."""

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    rows_at_once: int | None
    """0: it has no limit; None: it does not tell."""


def served_of_http(metadata: Mapping[str, Any]) -> _Served:
    """What the JSON of HTTP tells."""
    inputs, outputs = ([spec_of(entry) for entry in metadata[name]] for name in ("inputs", "outputs"))
    most = metadata.get("maxBatchSize")
    return _Served(inputs, outputs, None if most is None else int(most))


def served_of_grpc(metadata: Any) -> _Served:
    """What a ModelMetadataResponse tells.

    Its properties are a map in field 6, which tritonclient's message lacks. Each entry has two texts in fields 1 and 2, as have the
    name and the datatype of a tensor.
    """
    entries = [
        type(metadata).TensorMetadata.FromString(field.data) for field in UnknownFieldSet(metadata) if field.field_number == 6
    ]
    most = {entry.name: entry.datatype for entry in entries}.get("maxBatchSize")
    inputs, outputs = (
        [TensorSpec(entry.name, entry.datatype, tuple(entry.shape)[1:]) for entry in entries]
        for entries in (metadata.inputs, metadata.outputs)
    )
    return _Served(inputs, outputs, None if most is None else int(most))


class _Server:
    """A KServe v2 server through tritonclient, which has the same calls for both protocols."""

    def __init__(self, client: Any, module: Any, options: dict[str, Any], served_of: Callable[[Any], _Served]) -> None:
        self._client, self._module, self._options, self._served_of = client, module, options, served_of

    def metadata(self, model: str) -> _Served:
        """What the server tells of the model."""
        return self._served_of(self._client.get_model_metadata(model, **self._options))

    def infer(self, model: str, arrays: Mapping[str, Array], served: _Served) -> dict[str, Array]:
        """One request."""
        tensors = []
        for spec in served.inputs:
            tensor = self._module.InferInput(spec.name, list(arrays[spec.name].shape), spec.datatype)
            tensor.set_data_from_numpy(arrays[spec.name])
            tensors.append(tensor)
        answer = self._client.infer(model, tensors)
        return {spec.name: answer.as_numpy(spec.name) for spec in served.outputs}


@contextmanager
def _http(address: str) -> Iterator[_Server]:
    with tritonclient.http.InferenceServerClient(address, connection_timeout=_SECONDS, network_timeout=_SECONDS) as client:
        yield _Server(client, tritonclient.http, {}, served_of_http)


@contextmanager
def _grpc(address: str) -> Iterator[_Server]:
    with tritonclient.grpc.InferenceServerClient(address) as client:
        yield _Server(client, tritonclient.grpc, {"client_timeout": _SECONDS}, served_of_grpc)

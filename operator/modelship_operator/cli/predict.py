"""`modelship predict`: ask a served model, with the rows of a file, from wherever kubectl works."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from kubernetes.client import ApiException, CoreV1Api
from tritonclient.utils import InferenceServerException

from modelship_operator.cli.client import Cluster, CommandError, Object, said, standing
from modelship_operator.cli.forward import forward
from modelship_operator.cli.tensors import Array, InputError, Row, TensorSpec, batches, read_rows, spec_of, table, to_arrays

HTTP, GRPC = 8000, 8001
_UNBATCHED_ROWS = 1_000
"""Rows in a request when the model has a row axis of its own, without a limit that we know."""
_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `modelship predict`."""
    parser.add_argument("name", help="the ModelDeployment")
    parser.add_argument(
        "--file", "-f", type=Path, required=True, help="rows: .csv with a header, .json (a list of objects) or .jsonl"
    )
    parser.add_argument("--namespace", "-n", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")
    parser.add_argument("--grpc", action="store_true", help="ask over gRPC instead of HTTP")


def run(options: argparse.Namespace) -> int:
    """Print a table of answers; the exit status, with the reason on stderr when it is not 0."""
    try:
        rows = read_rows(options.file)
        cluster = Cluster(options.context, options.namespace)
        deployment = cluster.resource("modeldeployments", "ModelDeployment", options.name)
        pod = ready_pod(cluster, deployment)
        port = GRPC if options.grpc else HTTP
        with forward(cluster.configuration, cluster.namespace, pod, port) as local:
            outputs = ask(f"127.0.0.1:{local}", options.name, rows, rows_per_request(deployment), grpc=options.grpc)
        print(table(outputs))
    except (CommandError, InputError) as error:
        print(f"modelship predict: {error}", file=sys.stderr)
        return 1
    return 0


def rows_per_request(deployment: Object) -> int:
    """Most rows that the server takes at once."""
    return int(deployment["spec"].get("batching", {}).get("maxBatchSize", 64)) or _UNBATCHED_ROWS


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


def ask(address: str, model: str, rows: Sequence[Row], rows_at_once: int, *, grpc: bool = False) -> dict[str, Array]:
    """The model's outputs for `rows`, from the KServe v2 server at `host:port`; each array has a first axis of `len(rows)`.

    Raises:
        InputError: the rows are not what the model takes.
        CommandError: the server refused or did not answer.
    """
    try:
        with (_grpc if grpc else _http)(address) as server:
            inputs, outputs = server.signature(model)
            arrays = to_arrays(rows, inputs)
            parts = [server.infer(model, part, inputs, outputs) for part in batches(arrays, rows_at_once)]
    except (InferenceServerException, OSError) as error:
        said_by = error.message() if isinstance(error, InferenceServerException) else str(error)
        raise CommandError(f"the server of {model} answered: {said_by}") from error
    return {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in outputs}


class _Server:
    """A KServe v2 server through tritonclient, which has the same calls for both protocols."""

    def __init__(self, client: Any, module: Any, metadata: dict[str, Any]) -> None:
        self._client, self._module, self._metadata = client, module, metadata

    def signature(self, model: str) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs of the model."""
        found = self._client.get_model_metadata(model, **self._metadata)
        return [spec_of(entry) for entry in found["inputs"]], [spec_of(entry) for entry in found["outputs"]]

    def infer(
        self, model: str, arrays: Mapping[str, Array], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> dict[str, Array]:
        """One request."""
        tensors = []
        for spec in inputs:
            tensor = self._module.InferInput(spec.name, list(arrays[spec.name].shape), spec.datatype)
            tensor.set_data_from_numpy(arrays[spec.name])
            tensors.append(tensor)
        answer = self._client.infer(model, tensors)
        return {spec.name: answer.as_numpy(spec.name) for spec in outputs}


@contextmanager
def _http(address: str) -> Iterator[_Server]:
    with tritonclient.http.InferenceServerClient(address, connection_timeout=_SECONDS, network_timeout=_SECONDS) as client:
        yield _Server(client, tritonclient.http, {})


@contextmanager
def _grpc(address: str) -> Iterator[_Server]:
    with tritonclient.grpc.InferenceServerClient(address) as client:
        yield _Server(client, tritonclient.grpc, {"as_json": True, "client_timeout": _SECONDS})

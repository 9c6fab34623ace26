"""What `modelship predict` makes of a server's word: how many rows it takes at once, and which row it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from modelship_operator.cli import predict
from modelship_operator.cli.client import CommandError
from modelship_operator.cli.predict import ask, planned_rows, served_of_grpc, served_of_http
from modelship_operator.cli.rows import InputError
from modelship_operator.cli.tensors import TensorSpec

pytestmark = pytest.mark.unit

METADATA = {
    "inputs": [{"name": "age", "datatype": "FP32", "shape": [-1, 1]}],
    "outputs": [{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}],
    "packed": [{"name": "numbers", "datatype": "FP32", "shape": [-1, 1]}],
}


class Server:
    """Takes `most` rows, and answers each with its age; refuses those of age 13."""

    def __init__(self, most: int, told: int | None) -> None:
        self.most, self.told, self.asked = most, told, []

    def metadata(self, model: str) -> Any:
        return served_of_http(METADATA | ({} if self.told is None else {"maxBatchSize": self.told}))

    def infer(self, model: str, arrays: Mapping[str, Any], served: Any) -> dict[str, Any]:
        ages = arrays["age"]
        self.asked.append(len(ages))
        if len(ages) > self.most:
            raise InferenceServerException(f"{len(ages)} rows are more than {self.most}")
        if 13 in ages:
            raise InferenceServerException(f'row {ages.ravel().tolist().index(13) + 1}: column "age" is no good', "422")
        return {"prediction": ages}


def served(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(address: str) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(predict, "_http", connect)


@pytest.mark.parametrize(("told", "asked"), [(4, [4, 4, 2]), (None, [6, 4]), (0, [10])])
def test_a_request_has_as_many_rows_as_the_server_says(told: int | None, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec (6 here) may be newer than the pod, and is for those that do not tell."""
    server = Server(1000, told)
    served(server, monkeypatch)
    assert ask("h:1", "m", [{"age": age} for age in range(10)], 6)["prediction"].ravel().tolist() == list(range(10))
    assert server.asked == asked


def test_a_refused_row_is_numbered_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    served(Server(4, 4), monkeypatch)
    with pytest.raises(InputError, match=r'^row 14: column "age" is no good$'):
        ask("h:1", "m", [{"age": age} for age in range(20)], 64)


def test_other_refusals_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    served(Server(4, 5), monkeypatch)
    with pytest.raises(CommandError, match=r"^the server of m answered: 5 rows are more than 4$"):
        ask("h:1", "m", [{"age": 1}] * 5, 64)


def test_metadata_over_grpc() -> None:
    """The properties of KServe's message are in a field that tritonclient's has not."""
    message = service_pb2.ModelMetadataResponse(name="m")
    message.inputs.add(name="age", datatype="FP32", shape=[-1, 1])
    message.outputs.add(name="prediction", datatype="FP32", shape=[-1, 1])
    plain = served_of_grpc(message)
    assert plain.inputs == [TensorSpec("age", "FP32", (1,))]
    assert plain.rows_at_once is None
    entries = [b"\x0a\x06packed\x12\x02[]", b"\x0a\x0cmaxBatchSize\x12\x0232"]
    properties = b"".join(b"\x32" + bytes([len(entry)]) + entry for entry in entries)
    told = service_pb2.ModelMetadataResponse.FromString(message.SerializeToString() + properties)
    assert served_of_grpc(told) == plain._replace(rows_at_once=32)


@pytest.mark.parametrize(("batching", "rows"), [({}, 64), ({"maxBatchSize": 8}, 8), ({"maxBatchSize": 0}, 0)])
def test_rows_by_the_spec(batching: dict[str, int], rows: int) -> None:
    assert planned_rows({"spec": {"batching": batching}}) == rows


def test_answers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    served(Server(64, 64), monkeypatch)
    with pytest.raises(InputError, match=r"^row 2: the model's prediction is not finite"):
        ask("h:1", "m", [{"age": 1}, {"age": None}], 64)
    assert np.isfinite(ask("h:1", "m", [{"age": 1}], 64)["prediction"]).all()

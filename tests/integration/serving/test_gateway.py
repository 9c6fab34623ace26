"""Requests that are wrong, or hostile: each is answered in JSON with a sentence, and Triton never sees it."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import Pod
from serving_artifacts import expected_probability, sample_request
from tests.fuzz.gateway_fuzz import fuzz
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.integration

PLAN = {"name": "plan", "shape": [1, 1], "datatype": "BYTES", "data": ["pro"]}


def asked(pod: Pod, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return httpx.post(pod.url() + pod.infer_path, content=content, headers=headers)


def age(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "age", "shape": [1, 1], "datatype": "FP32", "data": [1]} | changes, PLAN]}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (age(shape=[9223372036854775807, 1]), "a shape is a list of at most 8 whole numbers"),
        (age(shape=[1_000_000_000, 1]), "1000000000 rows; this model takes at most 64 at once"),
        (age(shape=[65, 1]), "65 rows"),
        (age(shape=[0, 1]), "no rows"),
        (age(shape=[-1, 1]), "a shape is"),
        (age(shape=[1.5, 1]), "a shape is"),
        (age(shape=[2, 1]), "different numbers of rows: 2 and 1"),
        (age(data=[1, 2]), "another number of values"),
        (age(data=[]), "another number of values"),
        (age(data=[[1]] * 2), "another number of values"),
        (age(data=1), "no list"),
        (age(data={}), "no list"),
        (age(name="agee"), 'no input "agee"; it takes "age", "plan"'),
        (age(datatype="FLOAT"), '"FLOAT", which does not exist'),
        ({"inputs": [PLAN]}, 'input "age" is missing'),
        ({"inputs": [PLAN, PLAN]}, 'input "plan" is there twice'),
        ({}, 'no "inputs"'),
        ([], "no object"),
        ("", "no object"),
        ('{"inputs":[{"name":"age","shape":[1,1],"datatype":"FP32","data":' + "[" * 40_000, "nesting deeper than 16"),
        ('{"inputs":' + "[" * 40_000, "no object"),
        ('{"x":' + "[" * 40_000, "nesting deeper than 16"),
        ('{"id":"a","id":"b","inputs":[]}', "a name that was there before"),
        (json.dumps(age()).replace("[1]", "[NaN]"), "no value"),
        (json.dumps(age()).replace("[1]", "[01]"), "leading zeros"),
        (json.dumps(age()) + "x", "more after its end"),
        (b'{"id":"\xff","inputs":[]}', "not UTF-8"),
        ({**age(), "outputs": [{"name": "scores"}]}, 'no output "scores"'),
        ({**age(), "parameters": {"sequence_id": 7}}, '"sequence_id" of the request is not served'),
        (age(parameters={"shared_memory_region": "r"}), '"shared_memory_region" of an input is not served'),
    ],
)
def test_a_request_that_is_wrong_is_a_400_that_says_why(pod: Pod, body: Any, says: str) -> None:
    response = asked(pod, body)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/json"), response.text
    assert says in response.json()["error"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([1, "12abc"], 'row 2: column "age" is "12abc", which is not a number'),
        ([1, "1,5"], 'row 2: column "age" is "1,5"'),
        ([1, 1e39], 'row 2: column "age" is infinite, or beyond the largest float32'),
        ([1, None], "row 2: the model has no answer for it"),
    ],
)
def test_a_row_without_an_answer_is_a_422_that_names_it(pod: Pod, data: list[Any], says: str) -> None:
    both = {**PLAN, "shape": [2, 1], "data": ["pro", "pro"]}
    response = asked(pod, {"inputs": [age(shape=[2, 1], data=data)["inputs"][0], both]})
    assert response.status_code == 422, response.text
    assert response.json()["error"].startswith(says)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET\r\n\r\n", 400),
        ("\x00\x01\r\n\r\n", 400),
        ("GET /" + "a" * 20_000 + " HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ("GET /v2 HTTP/1.1\r\nHost: x\r\nA: " + "a" * 20_000 + "\r\n\r\n", 431),
        ("GET /v2 HTTP/1.1\r\n\r\n", 400),
        ("GET /v2 HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        ("GET /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST /v2/models/churn/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk", 400),
        ("TRACE /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ],
)
def test_a_request_that_is_no_http_is_a_4xx_in_json(pod: Pod, request_line: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", pod.ports["http"]), timeout=10) as connection:
        connection.sendall(request_line.encode())
        connection.shutdown(socket.SHUT_WR)
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert set(json.loads(body)) == {"error"}


def test_what_was_refused_left_triton_alone(pod: Pod) -> None:
    assert pod.triton is not None
    assert pod.triton.poll() is None
    assert asked(pod, sample_request([{"age": 40.0, "plan": "pro"}])).status_code == 200


# --- what may be sent -----------------------------------------------------------------------------------------------------------


def probability(response: httpx.Response) -> float:
    assert response.status_code == 200, response.text
    found: float = response.json()["outputs"][0]["data"][1]
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"data": [[40]]}, {"data": ["40"]}, {"data": ["4e1"]}, {"shape": [1], "data": [40.0]},
        {"datatype": "INT64", "data": [40]}, {"datatype": "FP64", "data": [4e1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_number_may_be_written_in_many_ways(pod: Pod, changes: dict[str, Any]) -> None:
    assert probability(asked(pod, age(**changes))) == pytest.approx(expected_probability(40, "pro"), rel=1e-6)


def test_the_answer_is_asked_for_by_name_and_carries_the_id(pod: Pod) -> None:
    answer = asked(pod, {**age(), "id": 'a"b', "outputs": [{"name": "label"}]}).json()
    assert answer == {
        "id": 'a"b', "model_name": "churn", "model_version": "1",
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["yes"]}],
    }  # fmt: skip


@pytest.mark.parametrize("binary", [False, True])
def test_outputs_over_http_are_binary_where_asked(pod: Pod, binary: bool) -> None:
    with triton_http.InferenceServerClient(pod.address("http")) as client:
        inputs = [triton_http.InferInput("age", [2, 1], "FP64"), triton_http.InferInput("plan", [2, 1], "BYTES")]
        inputs[0].set_data_from_numpy(np.array([[40.0], [71.5]]), binary_data=binary)
        inputs[1].set_data_from_numpy(np.array([["pro"], ["basic"]], dtype=object), binary_data=binary)
        outputs = [triton_http.InferRequestedOutput("probabilities", binary_data=binary)]
        result = client.infer(pod.model, inputs, outputs=outputs, request_id="7")
        assert result.get_response()["id"] == "7"
        assert result.as_numpy("label") is None
    expected = [expected_probability(40, "pro"), expected_probability(71.5, "basic")]
    np.testing.assert_allclose(result.as_numpy("probabilities")[:, 1], expected, rtol=1e-5)


def test_metadata_tells_columns_packed_tensors_and_rows(pod: Pod) -> None:
    found = httpx.get(f"{pod.url()}/v2/models/churn").json()
    assert [entry["name"] for entry in found["inputs"]] == ["age", "plan"]
    assert found["outputs"][1] == {"name": "label", "datatype": "BYTES", "shape": [-1, 1]}
    assert found["maxBatchSize"] == 64
    assert found["packed"] == found["inputs"], "version 1 has a tensor per column"
    with triton_grpc.InferenceServerClient(pod.address()) as client:
        told = client.get_model_metadata(pod.model, as_json=True)
    assert [entry["name"] for entry in told["inputs"]] == ["age", "plan"]


def test_errors_over_grpc_have_their_codes(pod: Pod) -> None:
    with triton_grpc.InferenceServerClient(pod.address()) as client:
        wrong = triton_grpc.InferInput("agee", [1, 1], "FP32")
        wrong.set_data_from_numpy(np.zeros((1, 1), np.float32))
        with pytest.raises(InferenceServerException, match='no input "agee"') as refused:
            client.infer(pod.model, [wrong])
        assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
        with pytest.raises(InferenceServerException, match='no model "absent" here; this pod serves "churn"') as refused:
            client.infer("absent", [wrong])
        assert refused.value.status() == "StatusCode.NOT_FOUND"


def test_a_short_run_of_the_fuzzer(pod: Pod) -> None:
    """Seeded; `tests/fuzz/gateway_fuzz.py` runs it for longer."""
    fuzzer = fuzz(pod, seed=1, requests=20_000, seconds=15)
    assert fuzzer.asked > 1000

"""`modelship predict` against the processes of a serving pod, over both protocols."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Pod
from serving_artifacts import expected_probability

from modelship_operator.cli.client import CommandError
from modelship_operator.cli.predict import ask
from modelship_operator.cli.rows import InputError, read_rows
from modelship_operator.cli.tensors import table

pytestmark = pytest.mark.integration

BOTH = pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])


def asked(pod: Pod, rows: list[Mapping[str, Any]], at_once: int = 64, *, grpc: bool) -> dict[str, Any]:
    return ask(pod.address("grpc" if grpc else "http"), pod.model, rows, at_once, grpc=grpc)


@BOTH
def test_a_csv_file_is_answered(pod: Pod, tmp_path: Path, grpc: bool) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("plan,age,ignored\npro,40,x\nbasic,71.5,y\n", encoding="utf-8")
    outputs = asked(pod, read_rows(path), grpc=grpc)
    expected = [expected_probability(40, "pro"), expected_probability(71.5, "basic")]
    np.testing.assert_allclose(outputs["probabilities"][:, 1], expected, rtol=1e-5)
    lines = table(outputs).splitlines()
    assert lines[0].split() == ["row", "label", "probability"]
    assert lines[1].split()[2] == f"{max(expected[0], 1 - expected[0]):.4f}"


@BOTH
def test_more_rows_than_a_request_may_have(pod: Pod, grpc: bool) -> None:
    rows: list[Mapping[str, Any]] = [{"age": age, "plan": "pro"} for age in range(100)]
    probabilities = asked(pod, rows, 64, grpc=grpc)["probabilities"]
    np.testing.assert_allclose(probabilities[:, 1], [expected_probability(age, "pro") for age in range(100)], rtol=1e-5)


@BOTH
def test_rows_are_batched_by_what_the_pod_takes(pod: Pod, grpc: bool) -> None:
    """Not by the spec, which may be newer than the pod: both protocols tell it."""
    rows: list[Mapping[str, Any]] = [{"age": age, "plan": "pro"} for age in range(100)]
    assert len(asked(pod, rows, 4096, grpc=grpc)["probabilities"]) == 100


@BOTH
def test_a_row_without_an_answer_is_numbered_over_the_file(pod: Pod, grpc: bool) -> None:
    rows: list[Mapping[str, Any]] = [{"age": age if age != 69 else None, "plan": "pro"} for age in range(100)]
    with pytest.raises(InputError, match=r"^row 70: "):
        asked(pod, rows, 64, grpc=grpc)


@BOTH
def test_a_missing_column_is_named(pod: Pod, grpc: bool) -> None:
    with pytest.raises(InputError, match='row 1: column "age" is missing; the model takes age, plan; the row has agee, plan'):
        asked(pod, [{"agee": 1, "plan": "pro"}], grpc=grpc)


@BOTH
def test_what_the_server_says_is_passed_on(pod: Pod, grpc: bool) -> None:
    with pytest.raises(CommandError, match=r"the server of absent answered: .*absent"):
        ask(pod.address("grpc" if grpc else "http"), "absent", [{"age": 1}], 64, grpc=grpc)


@BOTH
def test_nobody_there(grpc: bool) -> None:
    with pytest.raises(CommandError, match="the server of churn answered"):
        ask("127.0.0.1:9", "churn", [{"age": 1}], 64, grpc=grpc)

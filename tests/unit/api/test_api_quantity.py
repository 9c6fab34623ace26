"""Quantities: every way in which Kubernetes takes one, and what it means, as its own client understands it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils import parse_quantity
from pydantic import TypeAdapter, ValidationError
from tests.support.api_cases import QUANTITIES, TRAINING
from tests.support.builders import changed

from modelship_operator.api.common import Compute
from modelship_operator.api.quantity import Bytes, Cpu, amount
from modelship_operator.api.validate import problems_of
from modelship_operator.resources.pod import resources

pytestmark = pytest.mark.unit

_WHOLE = st.integers(0, 10**9).map(str)
NUMBERS = st.one_of(_WHOLE, st.builds("{}.{}".format, _WHOLE, _WHOLE), _WHOLE.map(".{}".format), _WHOLE.map("{}.".format))
SUFFIXES = st.sampled_from(["", *"numkMGTPE", *(f"{each}i" for each in "KMGTPE")])
EXPONENTS = st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 18))
WRITTEN = st.builds("{}{}{}".format, st.sampled_from(["", "+", "-"]), NUMBERS, st.one_of(SUFFIXES, EXPONENTS))
CPU: TypeAdapter[str] = TypeAdapter(Cpu)
BYTES: TypeAdapter[str] = TypeAdapter(Bytes)


def taken(adapter: TypeAdapter[str], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


@given(WRITTEN)
def test_a_quantity_means_what_kubernetes_client_reads(text: str) -> None:
    assert amount(text) == parse_quantity(text)


@given(st.text(alphabet="0123456789.eE+-numkKMGTPEi ٣", max_size=8))
def test_what_is_no_quantity_means_nothing(text: str) -> None:
    """apimachinery's own expression for the shape; Python's digits are more than ASCII's."""
    shape = re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?", text)
    assert (amount(text) is None) == (shape is None)


@given(WRITTEN)
def test_every_positive_quantity_is_taken(text: str) -> None:
    value = parse_quantity(text)
    assert taken(CPU, text) == (Decimal("0.001") <= value <= 10**18)
    assert taken(BYTES, text) == (10**6 <= value <= 10**18)


@given(st.one_of(st.integers(1, 10**6), st.floats(0.001, 1e6)))
def test_a_number_is_the_quantity_of_that_value(number: float) -> None:
    assert amount(CPU.validate_python(number)) == Decimal(repr(number))


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in QUANTITIES.items() for value in values])
def test_the_pod_asks_for_what_was_written(field: str, value: Any) -> None:
    assert problems_of(changed(TRAINING, {f"spec.compute.{field}": value})) == []
    asked = resources(Compute.model_validate({field: value}))["requests"][field]
    assert parse_quantity(asked) == parse_quantity(value)

"""The table of reasons: complete, and the only place where they are made up."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.controlplane import ROOT

from modelship_operator.api.reasons import REASONS, Reason
from modelship_trainer.protocol import FailureReason

pytestmark = pytest.mark.unit
PLACE = {"State": 2, "Finding": 0, "Ruling": 1}
"""Calls of the controllers that state a reason, and which argument it is."""


def stated() -> Iterator[tuple[str, str]]:
    """(file and line, reason) of every reason that a controller states as a literal."""
    for path in sorted((ROOT / "operator/modelship_operator/controllers").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in PLACE:
                continue
            place = PLACE[node.func.id]
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"] or node.args[place : place + 1]
            for argument in given:
                yield from ((f"{path.relative_to(ROOT)}:{node.lineno}", text) for text in literals(argument))


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be: itself, or either side of `a if b else c`."""
    if isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def test_every_reason_has_facts() -> None:
    assert set(REASONS) == {*Reason, *FailureReason}


def test_facts_are_sentences() -> None:
    assert [reason for reason, facts in REASONS.items() if not (facts.meaning.endswith(".") and facts.cure.endswith("."))] == []


def test_controllers_state_only_known_reasons() -> None:
    found = list(stated())
    assert len(found) > 10, "the controllers state reasons elsewhere now: mend this test"
    assert [(where, reason) for where, reason in found if reason not in {str(each) for each in REASONS}] == []


def test_reasons_are_in_the_reference() -> None:
    text = Path(ROOT / "docs/api.md").read_text()
    assert [reason for reason in REASONS if f"| `{reason}` |" not in text] == []

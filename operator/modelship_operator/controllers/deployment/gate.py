"""Whether a digest may be served: what the named evaluations say of it. Pure.

A gate compares digests, never names: an evaluation that passed proves the artifact it measured, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.outcome import short_digest
from modelship_operator.controllers.evaluation.verdict import FAILED, PASSED, failing_gates

Json = dict[str, Any]

WAITING, NO_GATE = "Waiting", "None"


class Ruling(NamedTuple):
    """What the gate says: summary for the status, and the reason and sentence unless it passed."""

    summary: str
    reason: str = ""
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether the digest may be served."""
        return self.summary == PASSED


def rule(digest: str, evaluations: Mapping[str, Json | None]) -> Ruling:
    """The gate over all evaluations, by name; None: it does not exist. What can never pass is said before what may still come."""
    rulings = [_rule_one(digest, name, evaluation) for name, evaluation in evaluations.items()]
    for summary in (FAILED, WAITING):
        if found := [ruling for ruling in rulings if ruling.summary == summary]:
            return found[0]
    return Ruling(PASSED)


def _rule_one(digest: str, name: str, evaluation: Json | None) -> Ruling:
    if evaluation is None:
        return Ruling(WAITING, "WaitingForReference", f'ModelEvaluation "{name}" does not exist yet.')
    status = evaluation.get("status", {})
    verdict = status.get("verdict")
    if verdict is None:
        return _unfinished(digest, name, status)
    if evaluation.get("additions") and not evaluation.get("restore"):
        message = f"the status of {name} was written by somebody else than this operator; create the evaluation again."
        return Ruling(FAILED, Reason.VERDICT_NOT_OURS, message)
    measured = status.get("subject", {}).get("artifactDigest", "")
    if measured != digest:
        what = short_digest(measured) if measured else "no known artifact"
        message = f"{name} measured {what}, not {short_digest(digest)}; name an evaluation of the artifact to be served."
        return Ruling(FAILED, "DigestNotProven", message)
    if verdict != PASSED:
        return Ruling(FAILED, "GateFailed", f"{name}: {failing_gates(status)}.")
    return Ruling(PASSED)


def _unfinished(digest: str, name: str, status: Json) -> Ruling:
    stalled, working = condition(status, "Stalled"), condition(status, "Reconciling")
    if stalled.get("status") == "True":
        return Ruling(FAILED, "EvaluationFailed", f"{name} could not be measured: {stalled.get('message', '')}")
    nothing_yet = f"no passed evaluation for {short_digest(digest)}"
    if working.get("reason") == "Running" and (progress := status.get("progressText")):
        return Ruling(WAITING, "WaitingForVerdict", f"{nothing_yet}; {name} is running ({progress}).")
    waits = f"{name} waits: {working['message']}" if working.get("message") else f"{name} has not started."
    return Ruling(WAITING, "WaitingForVerdict", f"{nothing_yet}; {waits}")


def condition(status: Json, kind: str) -> Json:
    """A condition of the status; empty where it has none of this type."""
    return next((entry for entry in status.get("conditions", []) if entry["type"] == kind), {})

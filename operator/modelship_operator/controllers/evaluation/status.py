"""The status: where the evaluation stands, as machines, printer columns and people read it."""

from __future__ import annotations

from datetime import datetime

from modelship_operator.controllers.common.conditions import Mark, State, conditions, timestamp
from modelship_operator.controllers.evaluation.observed import Observed
from modelship_operator.controllers.evaluation.outcome import Failed, Measured
from modelship_operator.controllers.evaluation.verdict import PASSED, failing_gates, method_text, verdict_of
from modelship_operator.controllers.framework import Json
from modelship_trainer.judgement import MetricResult

_KEPT = ("startTime", "progress", "progressText")
"""What the next status takes over from the stored one unless there is news."""


def in_state(seen: Observed, state: State, now: datetime, progress_text: str | None = None) -> Json:
    """The status of an evaluation that is not over."""
    stored = {key: seen.status[key] for key in _KEPT if key in seen.status}
    return {
        **stored,
        **_head(seen, state, now),
        **({"progress": seen.progress.to_json()} if seen.progress else {}),
        **({"progressText": progress_text} if progress_text else {}),
        **_start_time(seen, state),
    }


def measured(seen: Observed, end: Measured, baseline: list[MetricResult] | None, now: datetime) -> Json:
    """The status of a finished evaluation, Passed or Failed: it is Ready either way, as it did what was asked of it."""
    judged = verdict_of(seen.spec.gates, end.result, baseline)
    if judged["verdict"] == PASSED:
        said = "; ".join(gate["message"] for gate in judged["gates"]) or judged["score"]
        state = State("Finished", Mark.DONE, "GatesPassed", f"Passed: {said}.")
    else:
        state = State("Finished", Mark.DONE, "GatesFailed", f"Failed: {failing_gates(judged)}.")
    return {**_over(seen, state, end.at, now), **judged, "rows": end.result.rows}


def failed(seen: Observed, end: Failed, now: datetime) -> Json:
    """The status of an evaluation that could not measure anything."""
    return _over(seen, State("Failed", Mark.STALLED, *end.why), end.at, now)


def invalid(seen: Observed, state: State, now: datetime) -> Json:
    """The status of a resource whose spec this version does not understand."""
    said = conditions(state, seen.status.get("conditions", []), generation=seen.generation, now=now)
    return {**seen.status, "observedGeneration": seen.generation, "phase": state.phase, "conditions": said}


def _over(seen: Observed, state: State, at: datetime, now: datetime) -> Json:
    started = {"startTime": seen.status["startTime"]} if "startTime" in seen.status else _start_time(seen, state)
    return {**started, **_head(seen, state, now), "completionTime": timestamp(at)}


def _head(seen: Observed, state: State, now: datetime) -> Json:
    return {
        "observedGeneration": seen.generation,
        "phase": state.phase,
        "method": method_text(seen.spec.method),
        "conditions": conditions(state, seen.status.get("conditions", []), generation=seen.generation, now=now),
    }


def _start_time(seen: Observed, state: State) -> Json:
    """Written together with a change that is written anyway: a Job's start alone is no news."""
    first = seen.folds.job or seen.score.job or {}
    started = first.get("status", {}).get("startTime")
    if "startTime" in seen.status or not started or state.phase in ("Pending", "Waiting"):
        return {}
    return {"startTime": started}

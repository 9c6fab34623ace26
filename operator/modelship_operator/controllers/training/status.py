"""The status: where the run stands, as machines, printer columns and people read it."""

from __future__ import annotations

from datetime import datetime

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.conditions import Mark, State, conditions, timestamp
from modelship_operator.controllers.common.outcome import short_digest
from modelship_operator.controllers.framework import Json
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.controllers.training.retry import Failed, Succeeded, attempts
from modelship_trainer.protocol import Progress, TrainResult

_KEPT = ("startTime", "job", "recipeDigest", "attempts", "progress", "progressText", "eta")
"""What the next status takes over from the stored one unless there is news."""


def in_state(seen: Observed, state: State, now: datetime) -> Json:
    """The status of a run that is not over."""
    stored = {key: seen.status[key] for key in _KEPT if key in seen.status}
    said = {
        **stored,
        **_head(seen, state, now),
        "recipeDigest": seen.recipe_digest,
        **({"job": seen.job_key.name} if seen.job else {}),
        **(_progress(seen.progress) if seen.progress else {}),
        **_start_time(seen, state),
        **({"attempts": count} if (count := attempts(seen)) else {}),
    }
    return said if state.phase == "Running" else {key: value for key, value in said.items() if key != "eta"}


def succeeded(seen: Observed, end: Succeeded, now: datetime) -> Json:
    """The status of a run that published its artifact."""
    result = end.result
    message = f"published {result.artifact.digest} in {result.duration_seconds:.0f} s, {result.epochs} epochs{_warned(result)}."
    base = in_state(seen, State("Succeeded", Mark.DONE, Reason.SUCCEEDED, message), now)
    return {
        **base,
        **_progress(_final_progress(seen, end)),
        "artifact": {**result.artifact.to_json(), "sizeBytes": result.size_bytes},
        "digestText": short_digest(result.artifact.digest),
        "recipeDigest": result.recipe_digest,
        "dataDigest": result.data_digest,
        "metrics": result.metrics,
        "parameters": result.parameters,
        **({"warnings": result.warnings} if result.warnings else {}),
        "completionTime": timestamp(end.at),
    }


def _warned(result: TrainResult) -> str:
    count = len(result.warnings)
    return f"; see status.warnings: {count} warning{'s' * (count > 1)}" if count else ""


def failed(seen: Observed, end: Failed, now: datetime) -> Json:
    """The status of a run that is over without a result."""
    return {**in_state(seen, State("Failed", Mark.STALLED, *end.why), now), "completionTime": timestamp(end.at)}


def invalid(seen: Observed, state: State, now: datetime) -> Json:
    """The status of a resource whose spec this version does not understand."""
    return {**seen.status, **_head(seen, state, now)}


def _head(seen: Observed, state: State, now: datetime) -> Json:
    return {
        "observedGeneration": seen.generation,
        "phase": state.phase,
        "conditions": conditions(state, seen.status.get("conditions", []), generation=seen.generation, now=now),
    }


def _start_time(seen: Observed, state: State) -> Json:
    """Written together with a change that is written anyway: a Job's start alone is no news."""
    started = (seen.job or {}).get("status", {}).get("startTime")
    if "startTime" in seen.status or not started or state.phase in ("Pending", "Waiting"):
        return {}
    return {"startTime": started}


def _progress(progress: Progress) -> Json:
    text = f"{progress.epoch or 0}/{progress.epochs}" if progress.epochs else None
    eta = _duration(progress.eta_seconds) if progress.eta_seconds is not None else None
    return {"progress": progress.to_json(), **({"progressText": text} if text else {}), **({"eta": eta} if eta else {})}


def _final_progress(seen: Observed, end: Succeeded) -> Progress:
    """The last push may have been lost; the result is not."""
    result, epochs = end.result, seen.spec.training.epochs
    return Progress(
        phase="Done",
        epoch=result.epochs,
        epochs=epochs,
        step=result.steps,
        loss=result.metrics.get("loss"),
        val_loss=result.metrics.get("val_loss"),
        samples_per_second=f"{result.samples_per_second:.0f}",
    )


def _duration(seconds: int) -> str:
    """`45s`, `4m10s`, `2h5m`, as kubectl writes ages."""
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

"""What became of the run, and what a failure that is tried again looks like.

Whether a failure is tried again is the Job's own business (`resources/job.py`: backoffLimit and podFailurePolicy), so that it goes
on without the operator; here is what its decisions mean to a person.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from modelship_operator.api.reasons import REASONS, Reason, Scope
from modelship_operator.controllers.common.conditions import find
from modelship_operator.controllers.common.jobs import GRACE, condition_of, counted, endings_of, failure_of, is_free
from modelship_operator.controllers.common.outcome import parse_outcome
from modelship_operator.controllers.common.pods import Ending, Finding, Json, time_of, why_waiting
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.resources.job import FAIL_CODES
from modelship_trainer.protocol import ArtifactRef, Failure, TrainResult

_POLICY = "PodFailurePolicy"


class Succeeded(NamedTuple):
    """The run published its artifact."""

    result: TrainResult
    at: datetime


class Failed(NamedTuple):
    """The run is over, without a result."""

    why: Finding
    at: datetime


class Collecting(NamedTuple):
    """The Job ended; how is not seen yet."""

    until: datetime


def outcome(seen: Observed, now: datetime) -> Succeeded | Failed | Collecting | None:
    """How the run ended; None while it goes on."""
    for end in endings_of(seen.all_pods):
        if end.succeeded and isinstance(said := parse_outcome(end.text), TrainResult):
            return Succeeded(said, end.finished_at) if _is_published(said, seen) else Failed(_ELSEWHERE, end.finished_at)
    job = seen.job
    if job is None:
        return None
    if silent := [end for end in seen.endings if end.succeeded]:
        return Failed(_no_result(silent[0]), silent[0].finished_at)
    if final := [end for end in seen.endings if end.exit_code in FAIL_CODES]:
        return Failed(describe(final[-1], seen), final[-1].finished_at)
    if complete := condition_of(job, "Complete"):
        return _once_seen(False, complete, _result_lost(seen), now)
    if failed := condition_of(job, "Failed"):
        return _once_seen(_explained(failed, seen.endings, job), failed, _why_failed(failed, seen, now), now)
    return None


def last_failure(seen: Observed) -> Finding | None:
    """What a run that goes on has overcome, as the reason and the words of the latest end; None where no pod failed."""
    if not seen.endings:
        return None
    end = seen.endings[-1]
    why = describe(end, seen)
    if is_free(end):
        return Finding(Reason.DISRUPTED, f"free restart from the last checkpoint: {why.message}")
    count, limit = len(counted(seen.endings)), seen.spec.retry_limit
    if count > limit and len(seen.endings) == len(seen.pods):
        return Finding(Reason.COLLECTING_RESULT, f"no restart of {limit} is left, and the Job ends: {why.message}")
    return Finding(Reason.RETRYING, f"restart {min(count, limit)} of {limit}: {why.message}")


def attempts(seen: Observed) -> int:
    """Pods that failed or were disrupted so far. Never less than the status says: a pod that is deleted happened nevertheless."""
    if seen.suspended:
        return int(seen.status.get("attempts") or 0)  # a pod that is stopped on purpose is neither
    free = sum(1 for end in seen.endings if is_free(end))
    failed = max(_failed(seen.job), len(counted(seen.endings)))
    return max(seen.status.get("attempts") or 0, free + failed)


def describe(end: Ending, seen: Observed) -> Finding:
    """Why this pod ended, with the fields of a training that help."""
    cure = f"limit of {seen.spec.compute.memory}; raise compute.memory or lower training.batchSize"
    return failure_of(end, f"worker {end.index}", cure)


def _once_seen(explained: bool, condition: Json, why: Finding, now: datetime) -> Failed | Collecting:
    """The end as far as it is known, but not before the pods had time to be seen."""
    at = time_of(condition["lastTransitionTime"])
    return Failed(why, at) if explained or now >= at + GRACE else Collecting(at + GRACE)


def _explained(failed: Json, endings: list[Ending], job: Json) -> bool:
    """Whether all that the Job's words rest on has been seen."""
    if failed["reason"] == _POLICY:
        return False
    if failed["reason"] == Reason.BACKOFF_LIMIT_EXCEEDED:
        return 0 < len(counted(endings)) >= _failed(job)
    return True


def _too_late(seen: Observed, now: datetime) -> str:
    """What the time went by with: often the run was not even started."""
    limit = f"activeDeadlineSeconds ({seen.spec.active_deadline_seconds})"
    waits = next((why for pod in seen.pods if (why := why_waiting(pod, now))), None) or _said_last(seen)
    if waits.reason == Reason.RETRYING:
        return f"{limit} went by after {waits.message}"
    if waits.reason in REASONS and REASONS[Reason(waits.reason)].scope is Scope.WAITING:
        return f"{limit} went by while the run waited: {waits.message}"
    return f"the run took longer than {limit}; raise it or lower training.epochs."


def _said_last(seen: Observed) -> Finding:
    said = find(seen.status.get("conditions", []), "Ready") or {}
    return Finding(said.get("reason", ""), said.get("message", ""))


def _why_failed(failed: Json, seen: Observed, now: datetime) -> Finding:
    if failed["reason"] == Reason.DEADLINE_EXCEEDED:
        return Finding(Reason.DEADLINE_EXCEEDED, _too_late(seen, now))
    ends = [] if failed["reason"] == _POLICY else counted(seen.endings)  # what made the policy end it was not seen
    if not ends:
        reason = Reason.BACKOFF_LIMIT_EXCEEDED if failed["reason"] == Reason.BACKOFF_LIMIT_EXCEEDED else Reason.WORKER_FAILED
        return Finding(reason, f"{failed['message'].rstrip('.')}; its pods were deleted before they said why.")
    why = describe(ends[-1], seen)
    if why.reason != Reason.WORKER_FAILED or failed["reason"] != Reason.BACKOFF_LIMIT_EXCEEDED:
        return why
    times = "once" if len(ends) == 1 else f"{len(ends)} times"
    return Finding(
        Reason.BACKOFF_LIMIT_EXCEEDED, f"{why.message.rstrip('.')}; failed {times} with retryLimit {seen.spec.retry_limit}."
    )


def _is_published(said: TrainResult, seen: Observed) -> bool:
    """Whether the artifact lies where this training publishes: an image of the user's own may say anything."""
    return said.artifact == ArtifactRef.in_store(seen.spec.output.store, said.artifact.digest)


_ELSEWHERE = Finding(
    Reason.RESULT_LOST,
    "worker 0 told of an artifact that is not in output.store; compute.image must be made FROM the trainer image, and leave its "
    "command as it is.",
)


def _no_result(end: Ending) -> Finding:
    """Why a pod that ended with exit status 0 has no result: as it says itself, where it does."""
    if isinstance(said := parse_outcome(end.text), Failure):
        return Finding(said.reason, said.message)
    return Finding(
        Reason.RESULT_LOST,
        f"worker {end.index} ended well but wrote no result; compute.image must be made FROM the trainer image.",
    )


def _result_lost(seen: Observed) -> Finding:
    return Finding(
        Reason.RESULT_LOST,
        "the run completed, but its pod was deleted before its result was read; create the training under a new name to run it "
        f"again (what it published is in {seen.spec.output.store}/artifacts).",
    )


def _failed(job: Json | None) -> int:
    return int((job or {}).get("status", {}).get("failed") or 0)

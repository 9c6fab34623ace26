"""How an evaluation ended, if it did: what was measured, or why nothing could be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from pydantic import ValidationError

from modelship_operator.api.evaluation import ModelEvaluationStatus
from modelship_operator.controllers.common.jobs import GRACE, condition_of, counted, failure_of, finished_indexes
from modelship_operator.controllers.common.outcome import parse_outcome, short_digest
from modelship_operator.controllers.common.pods import Ending, Finding, index_of, time_of
from modelship_operator.controllers.evaluation.observed import Observed, Run
from modelship_operator.controllers.evaluation.verdict import verdict_of
from modelship_operator.controllers.framework import Json
from modelship_operator.resources.evaluation import subject_of_job
from modelship_operator.resources.job import FAIL_CODES
from modelship_trainer.protocol import EvaluateResult


class Measured(NamedTuple):
    """The scoring pod said what it measured."""

    result: EvaluateResult
    at: datetime


class Failed(NamedTuple):
    """A Job is over without what it was for."""

    why: Finding
    at: datetime


class Collecting(NamedTuple):
    """A Job ended; how is not seen yet."""

    until: datetime


class Lost(NamedTuple):
    """The artifact was scored, but the pod was deleted before its result was read: it is scored again."""

    job: Json


def outcome(seen: Observed, now: datetime) -> Measured | Failed | Collecting | Lost | None:
    """How it ended; None while it goes on. Folds that are done are no end."""
    for end in seen.score.endings:
        if end.succeeded:
            said = parse_outcome(end.text)
            if not isinstance(said, EvaluateResult):
                return Failed(_NO_RESULT, end.finished_at)
            why = _disbelief(said, seen)
            return Failed(why, end.finished_at) if why else Measured(said, end.finished_at)
    for run, worker in ((seen.score, "the scoring pod"), (seen.folds, _FOLDS)):
        if run.job is not None and (failed := condition_of(run.job, "Failed")):
            return _failed(seen, run, worker, failed, now)
    if seen.score.job is not None and (complete := condition_of(seen.score.job, "Complete")):
        until = time_of(complete["lastTransitionTime"]) + GRACE
        return Collecting(until) if now < until else Lost(seen.score.job)
    return None


def is_complete(folds: Run) -> bool:
    """Whether every fold is done, by the Job's account and by what its pods have ended with."""
    if folds.job is None or condition_of(folds.job, "Complete"):
        return folds.job is not None
    return len(_finished(folds)) >= _pods_of_folds(folds.job)


def folds_done(run: Run, folds: int, trained: Mapping[str, int]) -> int:
    """How many of `folds` are done: whole shares, and of a running pod those before the one that it said it trains.

    A Job of an earlier version has a pod for each fold: shares of one.
    """
    if run.job is None:
        return 0
    pods, finished = _pods_of_folds(run.job), _finished(run)
    whole = sum(len(range(index, folds, pods)) for index in finished)
    running = {index_of(pod): trained[name] for pod in run.pods if (name := pod["metadata"]["name"]) in trained}
    return whole + sum(max(0, fold - index) // pods for index, fold in running.items() if index not in finished)


def _finished(run: Run) -> set[int]:
    return finished_indexes(run.job or {}) | {end.index for end in run.endings if end.succeeded}


def _pods_of_folds(job: Json) -> int:
    pods: int = job["spec"].get("completions", 1)
    return pods


_FOLDS = "the folds' pod"
_IMAGE = "compute.image must be made FROM the trainer image"
_NO_RESULT = Finding("ResultLost", f"the scoring pod ended well but wrote no result; {_IMAGE}.")


def _disbelief(said: EvaluateResult, seen: Observed) -> Finding | None:
    """Why a result cannot be taken: the image may be the user's own, and a verdict opens a gate for the digest that it names."""
    asked = subject_of_job(seen.score.job)
    if asked is None or said.artifact_digest != asked.artifact.digest:
        wanted = short_digest(asked.artifact.digest) if asked else "unknown"
        message = f"the scoring pod measured {short_digest(said.artifact_digest)}, asked for was {wanted}; {_IMAGE}."
        return Finding("DigestMismatch", message)
    try:
        ModelEvaluationStatus.model_validate(verdict_of(seen.spec.gates, said, asked.baseline) | {"rows": said.rows})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Finding("ResultLost", f"the scoring pod's result cannot be used ({where}: {first['msg']}); {_IMAGE}.")
    return None


def _failed(seen: Observed, run: Run, worker: str, failed: Json, now: datetime) -> Failed | Collecting:
    """Why a Job failed, but not before its pods had time to be seen. What a user has to fix comes before what was retried."""
    at = time_of(failed["lastTransitionTime"])
    final = [end for end in run.endings if end.exit_code in FAIL_CODES]
    ends = final or counted(run.endings)
    if ends:
        return Failed(describe(ends[-1], worker, seen), at)
    if now < at + GRACE:
        return Collecting(at + GRACE)
    return Failed(Finding("WorkerFailed", f"{failed['message'].rstrip('.')}; its pods were deleted before they said why."), at)


def describe(end: Ending, worker: str, seen: Observed) -> Finding:
    """Why this pod ended, with the fields of an evaluation that help."""
    named = f"{worker} {end.index + 1}" if worker == _FOLDS and seen.folds.job and _pods_of_folds(seen.folds.job) > 1 else worker
    memory = seen.started_with.compute.memory if seen.started_with else "memory"
    return failure_of(end, named, f"limit of {memory}; raise compute.memory")

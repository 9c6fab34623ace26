"""What should exist for a ModelEvaluation, and what its status says. Pure.

    training published ─▶ Job x-folds (kFold only) ─▶ Job x-score ─▶ verdict

Nothing is remembered but `status.completionTime`: a finished evaluation never runs again. Until then, where it stands is read
off its Jobs, each of which keeps the task that it was started with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from modelship_operator.api.evaluation import ModelEvaluationSpec
from modelship_operator.controllers.common.conditions import Mark, State, conditions, find, timestamp
from modelship_operator.controllers.common.jobs import GRACE, condition_of, counted, endings_of, failure_of, pods_of, why_job_waits
from modelship_operator.controllers.common.outcome import parse_outcome
from modelship_operator.controllers.common.pods import Ending, Finding, time_of
from modelship_operator.controllers.evaluation.subject import pinned, subject_of, work_of
from modelship_operator.controllers.evaluation.verdict import PASSED, failing_gates, method_text, verdict_of
from modelship_operator.controllers.framework import Event, Failure, FoldProgress, ObjectKey, Plan
from modelship_operator.resources.common import Owner
from modelship_operator.resources.evaluation import folds_job, folds_name, score_job, score_name
from modelship_operator.resources.pod import Work
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.judgement import MetricResult
from modelship_trainer.protocol import EvaluateResult

Json = dict[str, Any]

KIND = "ModelEvaluation"
REFUSED_RETRY = 60.0
"""Seconds until a request that the API server refused is tried again: a quota may have been raised, a right given."""


@dataclass(frozen=True, slots=True)
class Observed:
    """All that the plan looks at."""

    evaluation: Json
    spec: ModelEvaluationSpec
    training: Json | None
    baseline: Json | None
    folds: Json | None
    score: Json | None
    pods: tuple[Json, ...]
    progress: Mapping[str, FoldProgress]
    failure: Failure | None

    @property
    def owner(self) -> Owner:
        """The evaluation, as its children name it."""
        metadata = self.evaluation["metadata"]
        return Owner(KIND, metadata["namespace"], metadata["name"], metadata["uid"])

    @property
    def status(self) -> Json:
        """What is stored."""
        stored: Json = self.evaluation.get("status", {})
        return stored


class Step(NamedTuple):
    """Where the evaluation stands, and what is to be done."""

    state: State
    jobs: tuple[Json, ...] = ()
    fields: Json = {}  # noqa: RUF012 - never changed
    requeue_after: float | None = None
    delete: tuple[ObjectKey, ...] = ()


def plan_evaluation(settings: PodSettings, seen: Observed, now: datetime) -> Plan:
    """The next step of an evaluation."""
    if seen.status.get("completionTime"):
        return _keep_the_verdict(seen, now)
    step = _refused(seen.failure) if seen.failure else _next_step(settings, seen, now)
    status = _status(seen, step, now)
    return Plan(step.jobs, step.delete, status, _events(seen, status), step.requeue_after)


def _next_step(settings: PodSettings, seen: Observed, now: datetime) -> Step:
    """Finished Jobs first, then the one that runs, then the one to start."""
    if ended := _ended(seen, now):
        return ended
    work = _work(seen)
    if isinstance(work, State):
        running = seen.score or seen.folds
        return _running(seen, running, (), now) if running else Step(work)
    retry, suspend, k_fold = seen.spec.retry_limit, seen.spec.suspend, seen.spec.method.k_fold
    folds_done = k_fold is None or (seen.folds is not None and condition_of(seen.folds, "Complete") is not None)
    if k_fold and not folds_done:
        job, planned = seen.folds, folds_job(settings, work, k_fold, retry_limit=retry, suspend=suspend)
    else:
        job, planned = seen.score, score_job(settings, work, retry_limit=retry, suspend=suspend)
    if job is None and suspend:
        return Step(_suspended())
    return _running(seen, job, (planned,), now)


def _work(seen: Observed) -> Work | State:
    """What the pods are told; the first Job's task holds for the second, whatever became of the training in between."""
    subject = subject_of(seen.spec, seen.training)
    if isinstance(subject, State):
        return subject
    started = pinned(seen.folds) or pinned(seen.score)
    if started:
        return work_of(seen.owner, seen.spec, subject._replace(artifact=started.artifact), started.baseline)
    baseline = _baseline(seen)
    return baseline if isinstance(baseline, State) else work_of(seen.owner, seen.spec, subject, baseline)


def _baseline(seen: Observed) -> list[MetricResult] | State | None:
    if seen.spec.baseline_ref is None:
        return None
    name = seen.spec.baseline_ref.evaluation
    if seen.baseline is None:
        return State("Waiting", Mark.RECONCILING, "WaitingForReference", f'ModelEvaluation "{name}" does not exist yet.')
    status = seen.baseline.get("status", {})
    if results := status.get("results"):
        return [MetricResult.model_validate(result) for result in results]
    stalled = find(status.get("conditions", []), "Stalled")
    if stalled and stalled["status"] == "True":
        return State("Waiting", Mark.STALLED, "BaselineFailed", f"{name} could not be measured: {stalled['message']}")
    return State("Waiting", Mark.RECONCILING, "WaitingForBaseline", f"{name} has no results to compare with yet.")


# --- Jobs that ended ----------------------------------------------------------------------------------------------------------


def _ended(seen: Observed, now: datetime) -> Step | None:
    """The end of the evaluation, if a Job has brought it; None while work remains."""
    for job in (seen.score, seen.folds):
        if job is not None and condition_of(job, "Failed"):
            return _failed(seen, job, now)
    if seen.score is not None and condition_of(seen.score, "Complete"):
        return _measured(seen, seen.score, now)
    return None


def _measured(seen: Observed, job: Json, now: datetime) -> Step:
    ends = [end for end in endings_of(pods_of(job, seen.pods)) if end.succeeded]
    result = next((said for end in ends if isinstance(said := parse_outcome(end.text), EvaluateResult)), None)
    if result is None:
        return _lost(seen, job, ends, now)
    task = pinned(job)
    fields = verdict_of(seen.spec.gates, result, task.baseline if task else None)
    passed = fields["verdict"] == PASSED
    gates = "; ".join(gate["message"] for gate in fields["gates"]) or fields["score"]
    state = State(
        phase="Finished",
        mark=Mark.DONE,
        reason="GatesPassed" if passed else "GatesFailed",
        message=f"Passed: {gates}." if passed else f"Failed: {failing_gates(fields)}.",
    )
    return Step(state, fields={**fields, "rows": result.rows, "completionTime": _end_of(job, ends[-1])})


def _lost(seen: Observed, job: Json, ends: list[Ending], now: datetime) -> Step:
    """The Job succeeded, but what it said is not there."""
    if ends:
        message = "the scoring pod ended without a result; compute.image must be made FROM this release's trainer image."
        return Step(State("Failed", Mark.STALLED, "InternalError", message), fields={"completionTime": _end_of(job, ends[-1])})
    complete = condition_of(job, "Complete") or {}
    left = time_of(complete["lastTransitionTime"]) + GRACE - now
    if left > timedelta(0):
        return Step(State("Running", Mark.RECONCILING, "Running", "reading the result."), requeue_after=left.total_seconds())
    state = State("Running", Mark.RECONCILING, "Running", "the scoring pod was deleted before its result was read; scoring again.")
    return Step(state, delete=(ObjectKey("Job", seen.owner.namespace, score_name(seen.owner.name)),))


def _failed(seen: Observed, job: Json, now: datetime) -> Step:
    """Why it failed: what a pod said of itself before what Kubernetes says of the Job."""
    ends = counted(endings_of(pods_of(job, seen.pods)))
    condition = condition_of(job, "Failed") or {}
    left = time_of(condition["lastTransitionTime"]) + GRACE - now
    if not ends and left > timedelta(0):
        return Step(State("Running", Mark.RECONCILING, "Running", "reading why it failed."), requeue_after=left.total_seconds())
    finding = _finding(seen, job, ends[-1]) if ends else Finding("WorkerFailed", f"{_job_words(condition)}.")
    end = _end_of(job, ends[-1] if ends else None)
    return Step(State("Failed", Mark.STALLED, finding.reason, finding.message), fields={"completionTime": end})


def _finding(seen: Observed, job: Json, ended: Ending) -> Finding:
    is_fold = seen.folds is not None and job["metadata"]["uid"] == seen.folds["metadata"]["uid"]
    worker = f"fold {ended.index + 1}" if is_fold else "the scoring pod"
    return failure_of(ended, worker, f"limit of {seen.spec.compute.memory}; raise compute.memory")


def _job_words(condition: Json) -> str:
    return str(condition.get("message") or condition.get("reason") or "the Job failed").rstrip(".")


def _end_of(job: Json, ended: Ending | None) -> str:
    """When the work ended: by the Job's own clock, so that planning again says the same."""
    failed = condition_of(job, "Failed") or condition_of(job, "Complete") or {}
    said: str = failed.get("lastTransitionTime", "")
    return said or (timestamp(ended.finished_at) if ended else "")


# --- a Job that runs ----------------------------------------------------------------------------------------------------------


def _running(seen: Observed, job: Json | None, planned: tuple[Json, ...], now: datetime) -> Step:
    """The Job that runs or is about to; the planned one is applied where it differs from what was applied before."""
    folds = seen.spec.method.k_fold
    is_score = job is seen.score if job is not None else planned[0]["metadata"]["name"] == score_name(seen.owner.name)
    text = "scoring" if is_score else _fold_text(job, folds.folds if folds else 1)
    fields: Json = {"progressText": text, **_progress(seen, job), **_started(seen, job)}
    if seen.spec.suspend:
        return Step(_suspended(), planned, fields)
    if job is None:
        return Step(State("Running", Mark.RECONCILING, "Running", f"{text}."), planned, fields)
    why = why_job_waits(job, pods_of(job, seen.pods), now)
    state = State("Waiting", Mark.RECONCILING, *why) if why else State("Running", Mark.RECONCILING, "Running", f"{text}.")
    return Step(state, planned, fields, requeue_after=_look_again(seen, job, now))


def _fold_text(job: Json | None, folds: int) -> str:
    """`fold 3 of 5`: the one that is being trained once two are done."""
    done = (job or {}).get("status", {}).get("succeeded", 0)
    return f"fold {min(done + 1, folds)} of {folds}"


def _progress(seen: Observed, job: Json | None) -> Json:
    """What the job's pods pushed: of the fold that is furthest behind, as it decides when all are done."""
    names = {pod["metadata"]["name"] for pod in pods_of(job, seen.pods)}
    pushed = sorted((entry for name, entry in seen.progress.items() if name in names), key=lambda entry: entry.fold or 0)
    if pushed:
        return {"progress": pushed[-1].progress.to_json()}
    return {"progress": seen.status["progress"]} if "progress" in seen.status else {}


def _started(seen: Observed, job: Json | None) -> Json:
    first = seen.status.get("startTime") or (job or {}).get("status", {}).get("startTime")
    return {"startTime": first} if first else {}


def _look_again(seen: Observed, job: Json, now: datetime) -> float | None:
    """A Job that nobody makes pods for changes nothing that is watched: look once its grace is over."""
    started = job.get("status", {}).get("startTime")
    if pods_of(job, seen.pods) or not started:
        return None
    left = (time_of(started) + GRACE - now).total_seconds()
    return left if left > 0 else None


def _suspended() -> State:
    return State("Suspended", Mark.HELD, "Suspended", "spec.suspend is true; set it to false to go on.")


def _refused(failure: Failure) -> Step:
    target = failure.target
    message = f"the API server refused to {failure.verb} {target.kind} {target.name}: {failure.message}"
    return Step(State("Waiting", Mark.STALLED, "ApplyRefused", message), requeue_after=REFUSED_RETRY)


# --- status -------------------------------------------------------------------------------------------------------------------


def _status(seen: Observed, step: Step, now: datetime) -> Json:
    metadata, stored = seen.evaluation["metadata"], seen.status
    finished = "completionTime" in step.fields
    started: Json = {"startTime": stored["startTime"]} if "startTime" in stored else {}
    kept: Json = {} if finished else {key: stored[key] for key in ("progress", "progressText") if key in stored}
    return {
        "observedGeneration": metadata["generation"],
        "phase": step.state.phase,
        "method": method_text(seen.spec.method),
        **started,
        **kept,
        **step.fields,
        "conditions": conditions(step.state, stored.get("conditions", []), generation=metadata["generation"], now=now),
    }


def _events(seen: Observed, status: Json) -> tuple[Event, ...]:
    """The verdict, or why there is none; each once, as the status that is written with it is the last."""
    if "completionTime" not in status:
        return ()
    ready = status["conditions"][0]
    passed = status.get("verdict") == PASSED
    return (Event("Normal" if passed else "Warning", ready["reason"], ready["message"][:1024], "Evaluate"),)


def _keep_the_verdict(seen: Observed, now: datetime) -> Plan:
    """Finished: only the TTL of the Jobs, and the generation when suspend or the TTL was changed."""
    metadata, stored = seen.evaluation["metadata"], seen.status
    status = None
    if stored.get("observedGeneration") != metadata["generation"]:
        moved = [{**condition, "observedGeneration": metadata["generation"]} for condition in stored.get("conditions", [])]
        status = {**stored, "observedGeneration": metadata["generation"], "conditions": moved}
    ttl = seen.spec.ttl_seconds_after_finished
    jobs = [job for job in (seen.folds, seen.score) if job is not None]
    if ttl is None or not jobs:
        return Plan(status=status)
    left = (time_of(stored["completionTime"]) + timedelta(seconds=ttl) - now).total_seconds()
    if left > 0:
        return Plan(status=status, requeue_after=left)
    names = (folds_name(metadata["name"]), score_name(metadata["name"]))
    present = {job["metadata"]["name"] for job in jobs}
    return Plan(delete=tuple(ObjectKey("Job", metadata["namespace"], name) for name in names if name in present), status=status)

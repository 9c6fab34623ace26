"""From what is seen of an evaluation to what should exist and what should be said: the whole decision, without I/O.

    training published ─▶ Job x-folds (kFold only) ─▶ Job x-score ─▶ verdict

Each Job notes what it was started with, so that the second measures what the first did, whatever became of the training meanwhile.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from modelship_operator.controllers.common.conditions import Mark, State, stored_reason
from modelship_operator.controllers.common.finished import after_the_end, first_look
from modelship_operator.controllers.common.jobs import lacks_pod, next_look, why_job_waits
from modelship_operator.controllers.common.pods import Finding, ending, is_running
from modelship_operator.controllers.common.refused import RETRY_NAME_SECONDS, RETRY_REFUSED_SECONDS, refused, spec_invalid
from modelship_operator.controllers.common.sidecars import Ends, end_job, end_pods
from modelship_operator.controllers.evaluation import status
from modelship_operator.controllers.evaluation.observed import Observed, Run
from modelship_operator.controllers.evaluation.outcome import Collecting, Failed, Lost, Measured, folds_done, is_complete, outcome
from modelship_operator.controllers.evaluation.subject import subject_of
from modelship_operator.controllers.evaluation.verdict import PASSED
from modelship_operator.controllers.framework import Event, Json, Plan
from modelship_operator.resources.evaluation import folds_job, score_job, subject_of_job
from modelship_operator.resources.pod import CONTAINER

HELD = State("Suspended", Mark.HELD, "Suspended", "suspend is true; set it to false to go on. Folds that are done stay done.")


def plan(seen: Observed, now: datetime) -> Plan:
    """What should be. In this order: what is over stays over; what ended is written down; only then is anything started."""
    if seen.finished:
        return after_the_end(seen.evaluation, seen.jobs, seen.all_pods, now)
    try:
        _ = seen.spec
    except ValidationError as error:
        return Plan(status=status.invalid(seen, spec_invalid(error, "Failed"), now))
    end = outcome(seen, now)
    if isinstance(end, Measured | Failed):
        return _write_down(seen, end, now)
    if seen.refusal:
        state = refused(seen.refusal, Mark.RECONCILING, "Waiting", "this evaluation")
        return Plan(status=status.in_state(seen, state, now), requeue_after=RETRY_REFUSED_SECONDS)
    if isinstance(end, Collecting):
        state = _running("CollectingResult", "the Job ended; its pods' results are being read.")
        return Plan(status=status.in_state(seen, state, now), requeue_after=(end.until - now).total_seconds())
    if isinstance(end, Lost):
        state = _running("ResultLost", "the scoring pod was deleted before its result was read; the artifact is scored again.")
        return Plan(delete=(seen.score.key,), status=status.in_state(seen, state, now))
    return _go_on(seen, now)


def _write_down(seen: Observed, end: Measured | Failed, now: datetime) -> Plan:
    if isinstance(end, Failed):
        said = status.failed(seen, end, now)
    else:
        subject = subject_of_job(seen.score.job)
        said = status.measured(seen, end, subject.baseline if subject else None, now)
    ready = said["conditions"][0]
    passed = said.get("verdict") == PASSED
    event = Event("Normal" if passed else "Warning", ready["reason"], ready["message"][:1024], "Evaluate")
    look = first_look(seen.evaluation, seen.jobs, seen.all_pods, end.at, now)
    return Plan(status=said, events=(event,), requeue_after=look)


def _go_on(seen: Observed, now: datetime) -> Plan:
    """The Job whose turn it is: the folds', and once they are done the score's."""
    k_fold = seen.spec.method.k_fold
    folding = k_fold is not None and not is_complete(seen.folds)
    if k_fold is not None and folding and seen.score.job is not None:
        folding = False  # the folds' Job was deleted after it had done its work
    run = seen.folds if folding else seen.score
    if seen.spec.suspend and run.job is None:
        return _hold(seen, run, now)
    # Once started, it measures what it was started with, even if the training is gone or another one has its name.
    subject = seen.started_with or subject_of(seen.owner.name, seen.spec, seen.training, seen.baseline)
    if isinstance(subject, State):
        return Plan(status=status.in_state(seen, subject, now))
    if seen.spec.suspend and subject.compute.queue is not None:
        return _hold(seen, run, now)
    job = (folds_job if folding else score_job)(seen.settings, seen.owner, seen.spec, subject)
    if run.job is None:
        return _start(seen, run, job, folding, now)
    planned = _watch(seen, run, job, folding, now)
    folds_end = Ends() if folding else end_job(seen.folds.job, seen.all_pods)
    delete = (*end_pods(run.job, run.pods, now), *folds_end.delete)
    return replace(planned, apply=(*planned.apply, *folds_end.apply), delete=delete)


def _hold(seen: Observed, run: Run, now: datetime) -> Plan:
    """Start nothing. A queue owns its Jobs' `suspend`: there the Job goes, with the quota that it holds, and comes back."""
    goes = run.job is not None and not run.job["metadata"].get("deletionTimestamp")
    return Plan(delete=(run.key,) if goes else (), status=status.in_state(seen, HELD, now))


def _start(seen: Observed, run: Run, job: Json, folding: bool, now: datetime) -> Plan:
    """Create the Job, unless something of an earlier one is in the way: two pods would write the same files."""
    if run.named is not None:
        message = f'Job "{run.key.name}" is there and not of this evaluation; waiting until it is deleted.'
        said = status.in_state(seen, State("Waiting", Mark.RECONCILING, "NameTaken", message), now)
        return Plan(status=said, requeue_after=RETRY_NAME_SECONDS)
    if leaving := [pod["metadata"]["name"] for pod in seen.all_pods if ending(pod, CONTAINER) is None]:
        message = f"waiting until pod {leaving[0]} of the deleted Job has ended."
        return Plan(status=status.in_state(seen, State("Waiting", Mark.RECONCILING, "PodEnding", message), now))
    return Plan(apply=(job,), status=status.in_state(seen, _starting(run), now, _progress_text(seen, run, folding)))


def _watch(seen: Observed, run: Run, job: Json, folding: bool, now: datetime) -> Plan:
    """The Job is there; planned again, as `suspend` may have changed (nothing is sent where it has not)."""
    assert run.job is not None  # noqa: S101 - the caller saw it
    if run.job["metadata"].get("deletionTimestamp"):
        message = f'Job "{run.key.name}" is being deleted; the evaluation goes on in a new one.'
        return Plan(status=status.in_state(seen, State("Waiting", Mark.RECONCILING, "JobDeleted", message), now))
    if seen.spec.suspend:
        return Plan(apply=(job,), status=status.in_state(seen, HELD, now))
    text = _progress_text(seen, run, folding)
    look, inquire = next_look(run.job, run.pods, now), run.key if lacks_pod(run.job, run.pods, now) else None
    if why := why_job_waits(run.job, run.pods, seen.refused_pods.get(run.job["metadata"]["uid"]), now):
        said = status.in_state(seen, State("Waiting", Mark.RECONCILING, *why), now, text)
        return Plan(apply=(job,), status=said, events=_news(seen, why), inquire=inquire, requeue_after=look)
    runs = any(is_running(pod, CONTAINER) for pod in run.pods) or not run.pods
    state = _running("Running", f"{text}.") if runs and run.pods else _starting(run)
    return Plan(apply=(job,), status=status.in_state(seen, state, now, text), inquire=inquire, requeue_after=look)


def _progress_text(seen: Observed, run: Run, folding: bool) -> str:
    """`fold 3 of 5`: the one that is being trained once two are done."""
    if not folding or seen.spec.method.k_fold is None:
        return "scoring"
    folds = seen.spec.method.k_fold.folds
    told = (seen.status.get("progress") or {}).get("fold")  # before this operator started
    before = {run.pods[-1]["metadata"]["name"]: told} if run.pods and told is not None else {}
    done = folds_done(run, folds, seen.trained or before)
    return f"fold {min(done + 1, folds)} of {folds}"


def _starting(run: Run) -> State:
    return State("Pending", Mark.RECONCILING, "Starting", f'the pods of Job "{run.key.name}" are starting.')


def _running(reason: str, message: str) -> State:
    return State("Running", Mark.RECONCILING, reason, message)


def _news(seen: Observed, why: Finding) -> tuple[Event, ...]:
    """An event when a run first finds no node; a wait that everybody has for a moment is none."""
    if why.reason != "Unschedulable" or stored_reason(seen.status) == why.reason:
        return ()
    return (Event("Warning", why.reason, why.message, "Schedule"),)

"""From what is seen of a training to what should exist and what should be said: the whole decision, without I/O."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.conditions import Mark, State, stored_reason
from modelship_operator.controllers.common.finished import after_the_end, first_look
from modelship_operator.controllers.common.jobs import condition_of, lacks_pod, next_look, why_job_waits
from modelship_operator.controllers.common.pods import Finding, ending, is_running
from modelship_operator.controllers.common.refused import RETRY_NAME_SECONDS, RETRY_REFUSED_SECONDS, refused, spec_invalid
from modelship_operator.controllers.common.sidecars import end_pods
from modelship_operator.controllers.framework import Event, Json, Plan
from modelship_operator.controllers.training import status
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.controllers.training.retry import Collecting, Failed, Succeeded, attempts, last_failure, outcome
from modelship_operator.controllers.training.suspend import HELD, must_toggle
from modelship_operator.resources.job import RECIPE_ANNOTATION, indexed_job
from modelship_operator.resources.pod import CONTAINER, TASK_LIMIT, Work, task_bytes
from modelship_trainer.protocol import RunRef, TrainTask


def plan(seen: Observed, now: datetime) -> Plan:
    """What should be. In this order: what is over stays over; what ended is written down; only then is anything started."""
    if seen.finished:
        return after_the_end(seen.training, seen.jobs, seen.all_pods, now)
    try:
        return _plan_unfinished(seen, now)
    except ValidationError as error:
        return Plan(status=status.invalid(seen, spec_invalid(error, "Failed"), now))


def _plan_unfinished(seen: Observed, now: datetime) -> Plan:
    """Raises pydantic.ValidationError where it needs the spec, and the stored one is not what this version knows."""
    end = outcome(seen, now)
    if isinstance(end, Succeeded):
        note = f"published {end.result.artifact.digest} at {end.result.artifact.uri}."
        event = Event("Normal", Reason.SUCCEEDED, note, "Train")
        look = first_look(seen.training, seen.jobs, seen.all_pods, end.at, now)
        return Plan(status=status.succeeded(seen, end, now), events=(event,), requeue_after=look)
    if isinstance(end, Failed):
        event = Event("Warning", end.why.reason, end.why.message[:1024], "Train")
        look = first_look(seen.training, seen.jobs, seen.all_pods, end.at, now)
        return Plan(status=status.failed(seen, end, now), events=(event,), requeue_after=look)
    if seen.refusal:
        return _refused(seen, now)
    if isinstance(end, Collecting):
        state = State("Running", Mark.RECONCILING, Reason.COLLECTING_RESULT, "the Job ended; its pod's result is being read.")
        return Plan(status=status.in_state(seen, state, now), requeue_after=(end.until - now).total_seconds())
    if seen.suspended:
        return _hold(seen, now)
    if seen.job is None:
        return _start(seen, now)
    return replace(_watch(seen, seen.job, now), delete=end_pods(seen.job, seen.pods, now))


def _hold(seen: Observed, now: datetime) -> Plan:
    said = status.in_state(seen, HELD, now)
    if seen.job is None or seen.job["metadata"].get("deletionTimestamp"):
        return Plan(status=said)
    if seen.queue is not None:
        return Plan(delete=(seen.job_key,), status=said)
    return Plan(apply=(train_job(seen),) if must_toggle(seen, seen.job) else (), status=said)


def _start(seen: Observed, now: datetime) -> Plan:
    """Create the Job, unless something of an earlier one is in the way: two pods would write the same checkpoints."""
    if seen.name_taken:
        message = f'Job "{seen.job_key.name}" is there and not of this training; waiting until it is deleted.'
        said = status.in_state(seen, State("Waiting", Mark.RECONCILING, Reason.NAME_TAKEN, message), now)
        return Plan(status=said, requeue_after=RETRY_NAME_SECONDS)
    if leaving := [pod["metadata"]["name"] for pod in seen.all_pods if ending(pod, CONTAINER) is None]:
        message = f"waiting until pod {leaving[0]} of the deleted Job has written its checkpoint and ended."
        said = status.in_state(seen, State("Waiting", Mark.RECONCILING, Reason.POD_ENDING, message), now)
        return Plan(status=said)
    created = train_job(seen)
    if (size := task_bytes(created)) > TASK_LIMIT:
        message = f"the recipe is {size} bytes of JSON, and {TASK_LIMIT} fit into a pod's environment; name fewer columns."
        return Plan(status=status.in_state(seen, State("Failed", Mark.STALLED, Reason.SPEC_INVALID, message), now))
    return Plan(apply=(created,))  # what is said of it is planned from what the store has then: the Job, or its refusal


def _watch(seen: Observed, job: Json, now: datetime) -> Plan:
    if job["metadata"].get("deletionTimestamp"):
        message = f'Job "{seen.job_key.name}" is being deleted; the run goes on from its checkpoint in a new one.'
        return Plan(status=status.in_state(seen, State("Waiting", Mark.RECONCILING, Reason.JOB_DELETED, message), now))
    if must_toggle(seen, job):
        return Plan(apply=(train_job(seen),), status=status.in_state(seen, _starting(seen), now))
    if condition_of(job, "FailureTarget") and seen.status.get("observedGeneration") == seen.generation:
        return Plan()  # its pods are being deleted: what was said last holds until the Job has failed, and says why it did
    look, inquire = next_look(job, seen.pods, now), seen.job_key if lacks_pod(job, seen.pods, now) else None
    if why := why_job_waits(job, seen.pods, seen.refused_pod, now):
        said = status.in_state(seen, State("Waiting", Mark.RECONCILING, *why), now)
        return Plan(status=said, events=(*_restarts(seen), *_news(seen, why)), inquire=inquire, requeue_after=look)
    said = status.in_state(seen, _going_on(seen), now)
    return Plan(status=said, events=_restarts(seen), inquire=inquire, requeue_after=look)


def _going_on(seen: Observed) -> State:
    running = [pod["metadata"] for pod in seen.pods if is_running(pod, CONTAINER)]
    if not running:
        return _starting(seen)
    if all("deletionTimestamp" in metadata for metadata in running):
        message = f"waiting until pod {running[0]['name']} has written its checkpoint and ended."
        return State("Pending", Mark.RECONCILING, Reason.POD_ENDING, message)
    before = last_failure(seen)
    message = f"worker 0 runs after {before.message}" if before else f"worker 0 runs{_which_attempt(seen)}."
    return State("Running", Mark.RECONCILING, Reason.RUNNING, message)


def _starting(seen: Observed) -> State:
    before = last_failure(seen)
    if before:
        return State("Pending", Mark.RECONCILING, *before)
    message = f'the pod of Job "{seen.job_key.name}" is starting{_which_attempt(seen)}.'
    return State("Pending", Mark.RECONCILING, Reason.STARTING, message)


def _which_attempt(seen: Observed) -> str:
    """A pod that was deleted cannot be asked any more why; that there was one is known."""
    count = attempts(seen)
    return f", attempt {count + 1}, from the last checkpoint" if count else ""


def _refused(seen: Observed, now: datetime) -> Plan:
    """The API server refused a request: say so, and try again later. The next plan, without the refusal, is the trial."""
    refusal = seen.refusal
    assert refusal is not None  # noqa: S101 - the caller saw it
    mark = Mark.RECONCILING if refusal.code == 409 else Mark.STALLED
    state = refused(refusal, mark, "Waiting", "this training")
    return Plan(status=status.in_state(seen, state, now), requeue_after=RETRY_REFUSED_SECONDS)


def _news(seen: Observed, why: Finding) -> tuple[Event, ...]:
    """An event when a run first finds no node; a wait that everybody has for a moment is none."""
    if why.reason != Reason.UNSCHEDULABLE or stored_reason(seen.status) == why.reason:
        return ()
    return (Event("Warning", why.reason, why.message, "Schedule"),)


def _restarts(seen: Observed) -> tuple[Event, ...]:
    """An event for a run that starts over: that it does so again and again is what somebody should see."""
    why = last_failure(seen)
    if why is None or why.reason == Reason.COLLECTING_RESULT or attempts(seen) <= (seen.status.get("attempts") or 0):
        return ()
    return (Event("Normal" if why.reason == Reason.DISRUPTED else "Warning", why.reason, why.message[:1024], "Retry"),)


def train_job(seen: Observed) -> Json:
    """The Job of this training, whole."""
    owner, spec = seen.owner, seen.spec
    recipe = spec.alone()
    run = RunRef(kind="ModelTraining", namespace=owner.namespace, name=owner.name, uid=owner.uid)
    work = Work(
        owner,
        TrainTask(run=run, recipe=recipe, store=spec.output.store),
        spec.compute,
        sources=(spec.data.source,),
        credentials_secret=spec.data.credentials_secret,
    )
    return indexed_job(
        seen.settings,
        work,
        name=seen.job_key.name,
        annotations={RECIPE_ANNOTATION: recipe.digest()},
        retry_limit=spec.retry_limit,
        deadline_seconds=spec.active_deadline_seconds,
        suspend=spec.suspend,
    )

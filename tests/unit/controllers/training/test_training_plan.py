"""The whole decision for a training, row by row: what is seen, and what should exist and be said."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from training_world import (
    BACKOFF,
    DATA_DIGEST,
    DIGEST,
    KEY,
    NOW,
    POLICY,
    PROGRESS,
    RECIPE,
    RECIPE_DIGEST,
    RESULT,
    act,
    at,
    disrupted,
    ended,
    job,
    over,
    pending,
    pod,
    says,
    seen,
    waiting,
)

from modelship_operator.api.reasons import REASONS, Scope
from modelship_operator.api.training import ModelTrainingStatus
from modelship_operator.controllers.framework import Event, Failure, Plan
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.controllers.training.plan import plan, train_job
from modelship_operator.resources.job import RECIPE_ANNOTATION
from modelship_trainer.protocol import Failure as Said
from modelship_trainer.protocol import FailureReason
from modelship_trainer.recipe import Recipe

pytestmark = pytest.mark.unit

STARTING = ("Pending", "Reconciling", "Starting", 'the pod of Job "churn-train" is starting.')
RUNS = ("Running", "Reconciling", "Running", "worker 0 runs.")
HELD = ("Suspended", None, "Suspended", "suspend is true; set it to false to go on from the last checkpoint.")
JOB: dict[str, Any] = {"job": "churn-train"}
STARTED: dict[str, Any] = {**JOB, "startTime": at(-600)}
FINISHED_TEXT = f"published {DIGEST} in 61 s, 30 epochs."
RESULT_FACTS: dict[str, Any] = {
    "artifact": {"uri": RESULT.artifact.uri, "digest": DIGEST, "sizeBytes": 4096},
    "digestText": "sha256:9f9f…",
    "dataDigest": DATA_DIGEST,
    "metrics": RESULT.metrics,
    "parameters": 4321,
    "progress": {
        "phase": "Done",
        "epoch": 30,
        "epochs": 30,
        "step": 3000,
        "loss": "0.2114",
        "valLoss": "0.25",
        "samplesPerSecond": "1234",
    },
    "progressText": "30/30",
    "completionTime": at(-60),
}
SUCCESS = ended(0, RESULT.model_dump_json(by_alias=True), "Completed")
SUCCEEDED_EVENT = (Event("Normal", "Succeeded", f"published {DIGEST} at {RESULT.artifact.uri}.", "Train"),)
DONE = says("Succeeded", "Ready", "Succeeded", FINISHED_TEXT, **STARTED, **RESULT_FACTS)
LOST = says("Failed", "Stalled", "DataInvalid", "no.", **STARTED, completionTime=at(-60))
PULL = 'failed to resolve reference "own:1": registry.example/own:1: not found'
CRASH = "worker 0 ended with exit status 1: ValueError: no"
OOM = "worker 0 was killed at its limit of 2Gi; raise compute.memory or lower training.batchSize."


def failure(reason: FailureReason, message: str) -> str:
    return Said(reason=reason, message=message).model_dump_json(by_alias=True)


def _told(**changes: Any) -> str:
    """The result of a run, with fields that an image of the user's own might send."""
    return json.dumps({**RESULT.to_json(), **changes})


def failed(reason: str, message: str, *, attempts: int | None = 1, requeue: float | None = None) -> Plan:
    status = says("Failed", "Stalled", reason, message, **STARTED, attempts=attempts, completionTime=at(-60))
    return Plan(status=status, events=(Event("Warning", reason, message, "Train"),), requeue_after=requeue)


def leaving(stopped: dict[str, Any]) -> dict[str, Any]:
    return {**stopped, "metadata": {**stopped["metadata"], "deletionTimestamp": at(-1)}}


def restarted(message: str) -> Event:
    return Event("Warning", "Retrying", message, "Retry")


def moved(why: str) -> Event:
    return Event("Normal", "Disrupted", f"free restart from the last checkpoint: {why}", "Retry")


def waits(reason: str, message: str, **options: Any) -> Plan:
    return Plan(status=says("Waiting", "Reconciling", reason, message, **JOB), **options)


WIDE: dict[str, Any] = {
    "source": "sklearn://wine",
    "target": "target",
    "preprocessing": [{"ordinal": {"columns": [f"{i:0200}" for i in range(500)]}}] * 2,
}
WIDE_DIGEST = Recipe.model_validate({**RECIPE, "data": WIDE}).digest()


class Row(NamedTuple):
    observed: Observed
    expected: Plan
    creates: bool = False
    """The plan applies the Job that the builder makes for this training (its golden files are in tests/unit/resources)."""


WRONG_COLUMN = 'column "incme" is not in pvc://datasets/churn.parquet; columns: age, income, plan, region, churned.'
NAN = "loss is nan at step 412 (epoch 3); lower optimizer.sgd.learningRate or clip gradients."
UNSCHEDULABLE = "0/3 nodes fit: 3 Insufficient nvidia.com/gpu; waiting since 14:55."
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are available."
REFUSED = Failure(KEY, "apply", 403, "exceeded quota: jobs")
EXISTS = Failure(KEY, "apply", 409, "conflict")

ROWS: dict[str, Row] = {
    # --- start
    "a new training gets its Job, and what is said of it is planned when the Job is there": Row(seen(), Plan(), creates=True),
    "a Job that nobody has looked at yet is starting": Row(
        seen(has=job(startTime=None), status=says(*STARTING, **JOB)), Plan(status=says(*STARTING, **JOB))
    ),
    "a Job that has just started is given time to make its pod": Row(
        seen(has=job(startTime=at(-5))), Plan(status=says(*STARTING, **JOB), requeue_after=30)
    ),
    "a pod that is being created is starting": Row(
        seen(waiting("ContainerCreating", ""), has=job()), Plan(status=says(*STARTING, **JOB))
    ),
    "a running pod runs, since the Job started": Row(seen(pod(), has=job()), Plan(status=says(*RUNS, **STARTED))),
    "what a pod pushed is shown": Row(
        seen(pod(), has=job(), progress=PROGRESS),
        Plan(status=says(*RUNS, **STARTED, progress=PROGRESS.to_json(), progressText="12/30", eta="2m10s")),
    ),
    "after a restart of the operator, progress stays until the pod pushes again": Row(
        seen(pod(), has=job(), status=says(*RUNS, **STARTED, progress=PROGRESS.to_json(), progressText="12/30", eta="2m10s")),
        Plan(status=says(*RUNS, **STARTED, progress=PROGRESS.to_json(), progressText="12/30", eta="2m10s")),
    ),
    "a condition that stays True keeps its time": Row(
        seen(pod(), has=job(), status=says(*STARTING, **JOB, since=-500)), Plan(status=says(*RUNS, **STARTED, since=-500))
    ),
    # --- waits
    "no GPU free: the scheduler's sentence, and an event": Row(
        seen(pending(NO_GPU), has=job()),
        waits("Unschedulable", UNSCHEDULABLE, events=(Event("Warning", "Unschedulable", UNSCHEDULABLE, "Schedule"),)),
    ),
    "no GPU free, still: no second event": Row(
        seen(pending(NO_GPU), has=job(), status=says("Waiting", "Reconciling", "Unschedulable", UNSCHEDULABLE, **JOB)),
        waits("Unschedulable", UNSCHEDULABLE),
    ),
    "a claim that is not there": Row(
        seen(pending('0/1 nodes are available: persistentvolumeclaim "models" not found. not found'), has=job()),
        waits("WaitingForClaim", 'PersistentVolumeClaim "models" does not exist yet.'),
    ),
    "a Secret that is not there": Row(
        seen(waiting("CreateContainerConfigError", 'secret "data-login" not found'), has=job()),
        waits("WaitingForSecret", 'Secret "data-login" does not exist yet.'),
    ),
    "an image that cannot be pulled": Row(
        seen(waiting("ImagePullBackOff", f"Back-off pulling image: ErrImagePull: {PULL}", "own:1"), has=job()),
        waits("ImagePullFailed", 'image "own:1" cannot be pulled: not found.'),
    ),
    "a container that cannot be made": Row(
        seen(waiting("CreateContainerConfigError", "image will run as root"), has=job()),
        waits("ContainerNotStarted", "container trainer cannot be started: image will run as root."),
    ),
    "Kueue holds the Job": Row(
        seen(has=job(suspend=True, startTime=None, labels={"kueue.x-k8s.io/queue-name": "gpus"}), compute={"queue": "gpus"}),
        waits("Queued", 'waiting in queue "gpus" since 14:50.'),
    ),
    "nobody makes the pod": Row(
        seen(has=job()),
        replace(
            waits("PodNotCreated", "no pod can be created since 14:50: kubectl describe job churn-train has the reason."),
            inquire=KEY,
            requeue_after=30,
        ),
    ),
    # --- the end, well
    "the pod's result is the training's": Row(seen(SUCCESS, has=job()), Plan(status=DONE, events=SUCCEEDED_EVENT)),
    "a result is written down first, and its Job goes when the TTL is over": Row(
        seen(SUCCESS, has=job(), ttlSecondsAfterFinished=100), Plan(status=DONE, events=SUCCEEDED_EVENT, requeue_after=40)
    ),
    "even when that is now": Row(
        seen(SUCCESS, has=job(), ttlSecondsAfterFinished=0), Plan(status=DONE, events=SUCCEEDED_EVENT, requeue_after=0)
    ),
    "what the run warns of is in the status": Row(
        seen(ended(0, _told(warnings=["left out one file."]), "Completed"), has=job()),
        Plan(
            status=says(
                "Succeeded",
                "Ready",
                "Succeeded",
                f"{FINISHED_TEXT.removesuffix('.')}; see status.warnings: 1 warning.",
                **STARTED,
                **RESULT_FACTS,
                warnings=["left out one file."],
            ),
            events=SUCCEEDED_EVENT,
        ),
    ),
    "a failure's Job has the same TTL": Row(
        seen(ended(64, failure(FailureReason.DATA_INVALID, "no.")), has=job(POLICY, failed=1), ttlSecondsAfterFinished=70),
        failed("DataInvalid", "no.", requeue=10),
    ),
    "the result counts before its Job knows, with the pods that failed before it": Row(
        seen(ended(1, "ValueError: no", name="p", seconds=-90), SUCCESS, has=job(failed=1)),
        Plan(status=DONE | {"attempts": 1}, events=SUCCEEDED_EVENT),
    ),
    "the end drops what was only about the way": Row(
        seen(SUCCESS, has=job(over("Complete")), status=says(*RUNS, **STARTED, eta="2m10s", progressText="29/30")),
        Plan(status=DONE, events=SUCCEEDED_EVENT),
    ),
    "a result counts even when the run was suspended or its Job deleted meanwhile": Row(
        seen(SUCCESS, suspend=True, status=says(*RUNS, **STARTED)), Plan(status=DONE, events=SUCCEEDED_EVENT)
    ),
    "a Job that completed a moment ago waits for its pod to be seen": Row(
        seen(pod(), has=job(over("Complete", seconds=-2))),
        Plan(
            status=says("Running", "Reconciling", "CollectingResult", "the Job ended; its pod's result is being read.", **STARTED),
            requeue_after=28,
        ),
    ),
    "a Job that completed without anybody seeing the result is not run again": Row(
        seen(has=job(over("Complete"))),
        failed(
            "ResultLost",
            "the run completed, but its pod was deleted before its result was read; create the training under a new name to run "
            "it again (what it published is in pvc://models/artifacts).",
            attempts=None,
        ),
    ),
    "a pod that ends well without a word has no result": Row(
        seen(ended(0, "bye"), has=job(over("Complete"))),
        failed(
            "ResultLost",
            "worker 0 ended well but wrote no result; compute.image must be made FROM the trainer image.",
            attempts=None,
        ),
    ),
    "an artifact that is not where this training publishes is not believed": Row(
        seen(ended(0, _told(artifact={"uri": f"pvc://other/artifacts/sha256-{'9f' * 32}", "digest": DIGEST})), has=job()),
        failed(
            "ResultLost",
            "worker 0 told of an artifact that is not in output.store; compute.image must be made FROM the trainer image, and "
            "leave its command as it is.",
            attempts=None,
        ),
    ),
    "a result that no status can hold is none": Row(
        seen(ended(0, _told(dataDigest="yes", sizeBytes=2**80)), has=job()),
        failed(
            "ResultLost",
            "worker 0 ended well but wrote no result; compute.image must be made FROM the trainer image.",
            attempts=None,
        ),
    ),
    "a pod that ends well and tells of a failure has failed": Row(
        seen(ended(0, failure(FailureReason.USER_CODE_FAILED, "build() raised.")), has=job(over("Complete"))),
        failed("UserCodeFailed", "build() raised.", attempts=None),
    ),
    # --- the end, badly
    "a wrong column: the trainer's own sentence": Row(
        seen(ended(64, failure(FailureReason.DATA_INVALID, WRONG_COLUMN)), has=job(POLICY, failed=1)),
        failed("DataInvalid", WRONG_COLUMN),
    ),
    "a loss that became NaN": Row(
        seen(ended(64, failure(FailureReason.NON_FINITE_LOSS, NAN)), has=job(POLICY, failed=1)), failed("NonFiniteLoss", NAN)
    ),
    "the failure that ended it is told, not the one before": Row(
        seen(
            ended(75, failure(FailureReason.STORE_UNAVAILABLE, "slow."), name="a", seconds=-90),
            ended(64, failure(FailureReason.DATA_NOT_FOUND, "gone."), name="b"),
            has=job(POLICY, failed=2),
        ),
        failed("DataNotFound", "gone.", attempts=2),
    ),
    "an exit code of ours without our words": Row(
        seen(ended(64, "usage: x"), has=job(POLICY, failed=1)),
        failed("WorkerFailed", "worker 0 ended with exit status 64: usage: x."),
    ),
    "out of memory names limit and fields": Row(
        seen(ended(137, reason="OOMKilled"), has=job(BACKOFF, failed=1), retryLimit=0), failed("OutOfMemory", OOM)
    ),
    "a crash, every time: its last line and how often": Row(
        seen(
            *(ended(1, "Traceback:\nValueError: no.\n", name=name, seconds=-90 + i) for i, name in enumerate("abc")),
            ended(1, "Traceback:\nValueError: no.\n", name="d"),
            has=job(BACKOFF, failed=4),
        ),
        failed("BackoffLimitExceeded", f"{CRASH}; failed 4 times with retryLimit 3.", attempts=4),
    ),
    "a crash without a retry": Row(
        seen(ended(1, "ValueError: no."), has=job(BACKOFF, failed=1), retryLimit=0),
        failed("BackoffLimitExceeded", f"{CRASH}; failed once with retryLimit 0."),
    ),
    "a store that never answered, retried in vain": Row(
        seen(
            *(ended(75, failure(FailureReason.STORE_UNAVAILABLE, "pvc://models is full."), name=name) for name in "ab"),
            has=job(BACKOFF, failed=2),
            retryLimit=1,
        ),
        failed("StoreUnavailable", "pvc://models is full.", attempts=2),
    ),
    "a run that took too long": Row(
        seen(
            has=job(over("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")), activeDeadlineSeconds=540
        ),
        failed(
            "DeadlineExceeded",
            "the run took longer than activeDeadlineSeconds (540); raise it or lower training.epochs.",
            attempts=None,
        ),
    ),
    "a Job that failed a moment ago waits for its pod's last words": Row(
        seen(
            ended(1, "ValueError: no."),
            has=job(over("Failed", "BackoffLimitExceeded", "limit", seconds=-3), failed=2),
            retryLimit=1,
        ),
        Plan(
            status=says(
                "Running",
                "Reconciling",
                "CollectingResult",
                "the Job ended; its pod's result is being read.",
                **STARTED,
                attempts=2,
            ),
            requeue_after=27,
        ),
    ),
    "a Job that failed long ago, and its pods are gone": Row(
        seen(has=job(BACKOFF, failed=4)),
        failed(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit; its pods were deleted before they said why.",
            attempts=4,
        ),
    ),
    # --- failures that are tried again
    "a crash is tried again": Row(
        seen(ended(1, "ValueError: no."), has=job(failed=1)),
        Plan(
            status=says("Pending", "Reconciling", "Retrying", f"restart 1 of 3: {CRASH}.", **JOB, attempts=1),
            events=(restarted(f"restart 1 of 3: {CRASH}."),),
            inquire=KEY,
            requeue_after=30,
        ),
    ),
    "the next pod runs, and why it is the next is kept": Row(
        seen(ended(1, "ValueError: no."), pod("churn-train-0-b"), has=job(failed=1)),
        Plan(
            status=says(
                "Running", "Reconciling", "Running", f"worker 0 runs after restart 1 of 3: {CRASH}.", **STARTED, attempts=1
            ),
            events=(restarted(f"restart 1 of 3: {CRASH}."),),
        ),
    ),
    "a store that did not answer is tried again": Row(
        seen(ended(75, failure(FailureReason.STORE_UNAVAILABLE, "pvc://models is full.")), has=job(failed=1)),
        Plan(
            status=says("Pending", "Reconciling", "Retrying", "restart 1 of 3: pvc://models is full.", **JOB, attempts=1),
            events=(restarted("restart 1 of 3: pvc://models is full."),),
            inquire=KEY,
            requeue_after=30,
        ),
    ),
    "out of memory is tried again, and told at once": Row(
        seen(ended(137, reason="OOMKilled"), has=job(failed=1)),
        Plan(
            status=says("Pending", "Reconciling", "Retrying", f"restart 1 of 3: {OOM}", **JOB, attempts=1),
            events=(restarted(f"restart 1 of 3: {OOM}"),),
            inquire=KEY,
            requeue_after=30,
        ),
    ),
    "a preempted pod is replaced free of charge": Row(
        seen(disrupted("PreemptionByScheduler"), has=job()),
        Plan(
            status=says(
                "Pending",
                "Reconciling",
                "Disrupted",
                "free restart from the last checkpoint: worker 0 was preempted by a pod of higher priority.",
                **JOB,
                attempts=1,
            ),
            events=(moved("worker 0 was preempted by a pod of higher priority."),),
            inquire=KEY,
            requeue_after=30,
        ),
    ),
    "a deleted pod that wrote its checkpoint is replaced free of charge": Row(
        seen(ended(143), pod("churn-train-0-b"), has=job()),
        Plan(
            status=says(
                "Running",
                "Reconciling",
                "Running",
                "worker 0 runs after free restart from the last checkpoint: worker 0 was stopped after a checkpoint.",
                **STARTED,
                attempts=1,
            ),
            events=(moved("worker 0 was stopped after a checkpoint."),),
        ),
    ),
    "a disrupted pod that is gone happened nevertheless": Row(
        seen(pod("churn-train-0-b"), has=job(), status=says(*RUNS, **STARTED, attempts=1)),
        Plan(
            status=says(
                "Running",
                "Reconciling",
                "Running",
                "worker 0 runs, attempt 2, from the last checkpoint.",
                **STARTED,
                attempts=1,
            )
        ),
    ),
    "and so did one whose successor is starting": Row(
        seen(waiting("ContainerCreating", ""), has=job(), status=says(*RUNS, **STARTED, attempts=1)),
        Plan(
            status=says(
                "Pending",
                "Reconciling",
                "Starting",
                'the pod of Job "churn-train" is starting, attempt 2, from the last checkpoint.',
                **STARTED,
                attempts=1,
            )
        ),
    ),
    "a pod that is told to stop does not run any more": Row(
        seen(leaving(pod()), has=job()),
        Plan(
            status=says(
                "Pending",
                "Reconciling",
                "PodEnding",
                "waiting until pod churn-train-0-a has written its checkpoint and ended.",
                **JOB,
            )
        ),
    ),
    # --- suspend
    "a pod that is stopped by suspending has not failed": Row(
        seen(ended(143), has=job(suspend=True), suspend=True, status=says(*HELD, **STARTED)), Plan(status=says(*HELD, **STARTED))
    ),
    "suspended from the start: nothing is made": Row(seen(suspend=True), Plan(status=says(*HELD))),
    "suspended: the Job is told": Row(
        seen(pod(), has=job(), suspend=True, generation=2),
        Plan(status=says(*HELD, generation=2, **STARTED)),
        creates=True,
    ),
    "suspended, and the Job knows": Row(
        seen(has=job(suspend=True, startTime=None), suspend=True, status=says(*HELD, **STARTED)),
        Plan(status=says(*HELD, **STARTED)),
    ),
    "resumed: the Job is told": Row(
        seen(has=job(suspend=True, startTime=None), status=says(*HELD, **STARTED), generation=3),
        Plan(status=says(*STARTING, generation=3, **STARTED)),
        creates=True,
    ),
    "suspended in a queue: the Job goes, and the quota with it": Row(
        seen(pod(), has=job(labels={"kueue.x-k8s.io/queue-name": "gpus"}), suspend=True, compute={"queue": "gpus"}),
        Plan(delete=(KEY,), status=says(*HELD, **STARTED)),
    ),
    "Kueue let the Job run: it is not touched": Row(
        seen(pod(), has=job(labels={"kueue.x-k8s.io/queue-name": "gpus"}), compute={"queue": "gpus"}),
        Plan(status=says(*RUNS, **STARTED)),
    ),
    # --- Jobs that come and go
    "a Job deleted by hand is made again while the run is not over": Row(seen(status=says(*RUNS, **STARTED)), Plan(), creates=True),
    "and a new one is starting": Row(
        seen(has=job(startTime=None), status=says(*RUNS, **STARTED)), Plan(status=says(*STARTING, **STARTED))
    ),
    "not while its last pod writes a checkpoint": Row(
        seen(pod(), status=says(*RUNS, **STARTED)),
        Plan(
            status=says(
                "Waiting",
                "Reconciling",
                "PodEnding",
                "waiting until pod churn-train-0-a of the deleted Job has written its checkpoint and ended.",
                **STARTED,
            )
        ),
    ),
    "nor while the Job itself is still going": Row(
        seen(pod(), has=job(gone=True)),
        waits("JobDeleted", 'Job "churn-train" is being deleted; the run goes on from its checkpoint in a new one.'),
    ),
    "the Job of a deleted training of the same name is waited for": Row(
        seen(has=job(owner="other")),
        Plan(
            status=says(
                "Waiting",
                "Reconciling",
                "NameTaken",
                'Job "churn-train" is there and not of this training; waiting until it is deleted.',
            ),
            requeue_after=5,
        ),
    ),
    "somebody else's Job is never taken over": Row(
        seen(refusal=EXISTS),
        Plan(
            status=says(
                "Waiting",
                "Reconciling",
                "NameTaken",
                'Job "churn-train" exists and is not of this training; delete it or use another name.',
            ),
            requeue_after=60,
        ),
    ),
    "a refused request is told, and tried again later": Row(
        seen(refusal=REFUSED),
        Plan(
            status=says(
                "Waiting", "Stalled", "RequestRefused", 'apply of Job "churn-train" was refused (403): exceeded quota: jobs'
            ),
            requeue_after=60,
        ),
    ),
    # --- after the end
    "a finished run without a TTL is left alone": Row(seen(status=DONE, has=job(over("Complete"))), Plan()),
    "a finished run whose Job is gone is not run again": Row(seen(status=DONE), Plan()),
    "a failed run whose Job is gone is not run again": Row(seen(status=LOST), Plan()),
    "a finished run is over whatever its Job says": Row(seen(status=LOST, has=job(over("Complete"))), Plan()),
    "the TTL is waited for": Row(seen(status=DONE, has=job(over("Complete")), ttlSecondsAfterFinished=100), Plan(requeue_after=40)),
    "the TTL deletes the Job, not the resource": Row(
        seen(status=DONE, has=job(over("Complete")), ttlSecondsAfterFinished=60), Plan(delete=(KEY,))
    ),
    "after the TTL nothing is left to do": Row(seen(status=DONE, ttlSecondsAfterFinished=60), Plan()),
    "a TTL leaves the Job of somebody else": Row(seen(status=DONE, has=job(owner="other"), ttlSecondsAfterFinished=0), Plan()),
    "an edit of a finished run is observed": Row(
        seen(status=DONE, generation=2, suspend=True, ttlSecondsAfterFinished=60),
        Plan(status=says("Succeeded", "Ready", "Succeeded", FINISHED_TEXT, generation=2, **STARTED, **RESULT_FACTS)),
    ),
    "an edit that brings a TTL of the past": Row(
        seen(status=DONE, has=job(over("Complete")), generation=2, ttlSecondsAfterFinished=0),
        Plan(delete=(KEY,), status=says("Succeeded", "Ready", "Succeeded", FINISHED_TEXT, generation=2, **STARTED, **RESULT_FACTS)),
    ),
    # --- what should not be
    "a recipe that no environment could carry": Row(
        seen(data=WIDE),
        Plan(
            status={
                **says(
                    "Failed",
                    "Stalled",
                    "SpecInvalid",
                    "the recipe is 203714 bytes of JSON, and 131000 fit into a pod's environment; name fewer columns.",
                ),
                "recipeDigest": WIDE_DIGEST,
            }
        ),
    ),
    "a run whose spec this version does not know goes on": Row(
        seen(pod(), has=job(annotations={RECIPE_ANNOTATION: RECIPE_DIGEST}), retryLimit=-1), Plan(status=says(*RUNS, **STARTED))
    ),
    "a spec that this version does not know": Row(
        seen(retryLimit=-1),
        Plan(
            status={
                key: value
                for key, value in says(
                    "Failed", "Stalled", "SpecInvalid", "spec.retryLimit: Input should be greater than or equal to 0."
                ).items()
                if key != "recipeDigest"
            }
        ),
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_plan(row: Row) -> None:
    expected = row.expected
    if row.creates:
        expected = Plan((train_job(row.observed),), expected.delete, expected.status, expected.events, expected.requeue_after)
    assert plan(row.observed, NOW) == expected


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_what_was_done_is_not_done_again(row: Row) -> None:
    """Idempotence: what the first plan left behind needs nothing more, now or in a second, unless it made way for something."""
    first = plan(row.observed, NOW)
    after = act(row.observed, first)
    if row.creates:
        after = act(after, plan(after, NOW))  # as the runtime does: it plans again once it has written
    for moment in (NOW, NOW + timedelta(seconds=1)):
        again = plan(after, moment)
        if first.delete and not after.finished and not after.spec.suspend:
            assert again.apply == (train_job(after),)  # the replacement of what was deleted
            continue
        if row.observed.refusal is not None:
            assert again.apply == (train_job(after),)  # the trial that follows a refusal
            continue
        assert again.apply == ()
        if again.delete:
            assert first.requeue_after == 0  # our own writes wake nobody: a plan that leaves something to do says when
        assert again.events == ()
        assert again.status in (None, after.status)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_status_is_of_the_api_and_of_kstatus(row: Row) -> None:
    status = plan(row.observed, NOW).status
    if status is None:
        return
    reasons = {str(reason): facts.scope for reason, facts in REASONS.items()}
    for condition in status["conditions"]:
        assert condition["reason"] in reasons
        assert condition["type"] != "Stalled" or reasons[condition["reason"]] is Scope.FAILED
        assert condition["type"] != "Reconciling" or reasons[condition["reason"]] in (Scope.GOING, Scope.WAITING)
    ModelTrainingStatus.model_validate(status)
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    abnormal = [kind for kind in ("Reconciling", "Stalled") if conditions.get(kind, {}).get("status") == "True"]
    assert "Ready" in conditions
    assert len(abnormal) <= 1
    assert not (abnormal and conditions["Ready"]["status"] == "True")
    assert {condition["observedGeneration"] for condition in status["conditions"]} == {status["observedGeneration"]}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_planning_changes_nothing_that_it_is_given(row: Row) -> None:
    before = copy.deepcopy((row.observed.training, row.observed.named, row.observed.all_pods))
    plan(row.observed, NOW)
    assert (row.observed.training, row.observed.named, row.observed.all_pods) == before

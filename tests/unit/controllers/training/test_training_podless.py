"""A Job without a pod: what forbids one is said in its own words, and what a run waited for when its time was over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from training_world import KEY, NOW, at, ended, job, over, pending, pod, says, seen, waiting

from modelship_operator.controllers.framework import Json, RefusedPod
from modelship_operator.controllers.training.observed import Observed
from modelship_operator.controllers.training.plan import plan

pytestmark = pytest.mark.unit

QUOTA = 'pods "churn-train-0-x7k2p" is forbidden: exceeded quota: small, requested: memory=2Gi, used: memory=0, limited: memory=1Gi'
REFUSED = RefusedPod(f"Error creating: {QUOTA}", NOW - timedelta(seconds=20))
LATE = over("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")


def ready(observed: Observed) -> Json:
    status = plan(observed, NOW).status
    assert status is not None
    found: Json = status["conditions"][0]
    return found


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            f"Error creating: {QUOTA}",
            "a pod is forbidden: exceeded quota: small, requested: memory=2Gi, used: memory=0, limited: memory=1Gi",
        ),
        (
            'Error creating: pods "churn-train-0-q" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi',
            "a pod is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            'Error creating: pods "churn-train-0-q" is forbidden: no PriorityClass with name high was found',
            "a pod is forbidden: no PriorityClass with name high was found",
        ),
        (
            'Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: label team is required.',
            'admission webhook "validate.kyverno.svc-fail" denied the request: label team is required',
        ),
        (
            'Error creating: Pod "churn-train-0-q" is invalid: spec.tolerations[0].operator: Invalid value',
            "a pod is invalid: spec.tolerations[0].operator: Invalid value",
        ),
    ],
)
def test_why_no_pod_can_be_created_is_said_in_the_words_of_who_forbids_it(message: str, said: str) -> None:
    observed = replace(seen(has=job()), refused_pod=RefusedPod(message, NOW))
    condition = ready(observed)
    assert (condition["reason"], condition["message"]) == ("PodNotCreated", f"no pod can be created since 14:50: {said}.")


def test_also_where_an_older_failed_pod_is_still_there() -> None:
    observed = replace(seen(ended(1, "ValueError: no."), has=job(failed=1)), refused_pod=REFUSED)
    assert ready(observed)["message"].startswith("no pod can be created since 14:59: a pod is forbidden: exceeded quota: small")
    planned = plan(observed, NOW)
    assert (planned.inquire, planned.requeue_after) == (KEY, 30)


def test_what_was_refused_before_the_last_pod_ended_says_nothing_of_the_next() -> None:
    older = RefusedPod(REFUSED.message, NOW - timedelta(seconds=90))
    observed = replace(seen(ended(1, "ValueError: no."), has=job(failed=1)), refused_pod=older)
    assert ready(observed)["reason"] == "Retrying"


@pytest.mark.parametrize(
    "observed",
    [
        seen(pod(), has=job()),
        seen(pending("0/1 nodes are available: 1 Insufficient cpu."), has=job()),
        seen(has=job(startTime=at(-10))),
        seen(has=job(startTime=None)),
        seen(ended(1, seconds=-10), has=job(failed=1)),
    ],
    ids=["it runs", "it waits", "a moment ago", "not started", "the last failed a moment ago"],
)
def test_nothing_is_asked_of_a_job_that_has_a_pod_or_just_had_one(observed: Observed) -> None:
    assert plan(replace(observed, refused_pod=REFUSED), NOW).inquire is None


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        (
            seen(pending("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), has=job(LATE), activeDeadlineSeconds=60),
            "activeDeadlineSeconds (60) went by while the run waited: 0/3 nodes fit: 3 Insufficient nvidia.com/gpu; "
            "waiting since 14:55.",
        ),
        (
            seen(waiting("ErrImagePull", "failed: own:1: not found", "own:1"), has=job(LATE), activeDeadlineSeconds=60),
            'activeDeadlineSeconds (60) went by while the run waited: image "own:1" cannot be pulled: not found.',
        ),
        (
            seen(
                has=job(LATE),
                activeDeadlineSeconds=60,
                status=says("Waiting", "Reconciling", "Unschedulable", "0/3 nodes fit: no; waiting since 14:55."),
            ),
            "activeDeadlineSeconds (60) went by while the run waited: 0/3 nodes fit: no; waiting since 14:55.",
        ),
        (
            seen(
                has=job(LATE),
                activeDeadlineSeconds=60,
                status=says("Pending", "Reconciling", "Retrying", "restart 1 of 3: worker 0 ended with exit status 1.", attempts=1),
            ),
            "activeDeadlineSeconds (60) went by after restart 1 of 3: worker 0 ended with exit status 1.",
        ),
        (
            seen(has=job(LATE), activeDeadlineSeconds=60, status=says("Running", "Reconciling", "Running", "worker 0 runs.")),
            "the run took longer than activeDeadlineSeconds (60); raise it or lower training.epochs.",
        ),
    ],
    ids=["no node", "no image", "no node, and the pod is gone", "failed", "trained"],
)
def test_a_run_whose_time_is_over_names_what_it_waited_for(observed: Observed, message: str) -> None:
    condition = ready(observed)
    assert (condition["reason"], condition["message"]) == ("DeadlineExceeded", message)


def test_while_the_job_s_pods_are_deleted_for_its_failure_the_last_words_stay() -> None:
    before = says("Waiting", "Reconciling", "Unschedulable", "0/3 nodes fit: no; waiting since 14:55.")
    target = over("FailureTarget", "DeadlineExceeded")
    assert plan(seen(has=job(target), activeDeadlineSeconds=60, status=before), NOW).status is None


def test_a_restart_beyond_the_limit_is_never_told() -> None:
    twice = [ended(1, "ValueError: no.", name="p", seconds=-90), ended(1, "ValueError: no.")]
    condition = ready(seen(*twice, has=job(failed=2), retryLimit=1))
    assert (condition["reason"], condition["message"]) == (
        "CollectingResult",
        "no restart of 1 is left, and the Job ends: worker 0 ended with exit status 1: ValueError: no.",
    )
    assert "restart 1 of 1" in ready(seen(*twice, pod("q"), has=job(failed=2), retryLimit=1))["message"]

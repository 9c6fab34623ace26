"""Every way in which a pod waits or ends, as Kubernetes 1.36 words it, and the sentence that a user reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelship_operator.controllers.common.jobs import next_look
from modelship_operator.controllers.common.outcome import last_line, parse_outcome, shorten
from modelship_operator.controllers.common.pods import Finding, describe_ending, ending, time_of, why_waiting
from modelship_trainer.protocol import Failure, FailureReason

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 25, 15, 30, tzinfo=UTC)
SINCE = "2026-11-25T14:02:17Z"


def pod(phase: str = "Pending", *, volumes: list[str] | None = None, **status: Any) -> Any:
    return {
        "metadata": {"name": "p", "creationTimestamp": SINCE, "annotations": {"batch.kubernetes.io/job-completion-index": "3"}},
        "spec": {
            "containers": [{"name": "trainer"}],
            "volumes": [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in volumes or []],
        },
        "status": {"phase": phase, **status},
    }


def unscheduled(message: str, since: str = SINCE, **options: Any) -> Any:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": since,
    }
    return pod(conditions=[condition], **options)


SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": SINCE}


def waiting(reason: str, message: str) -> Any:
    container = {"name": "trainer", "image": "nowhere.example/x:1", "state": {"waiting": {"reason": reason, "message": message}}}
    return pod(conditions=[SCHEDULED], containerStatuses=[container])


def ended(exit_code: int, message: str | None = None, reason: str = "Error", **options: Any) -> Any:
    end = {"exitCode": exit_code, "reason": reason, "finishedAt": SINCE} | ({"message": message} if message else {})
    return pod(
        "Succeeded" if exit_code == 0 else "Failed",
        containerStatuses=[{"name": "trainer", "state": {"terminated": end}}],
        **options,
    )


PULL = (
    'failed to pull and unpack image "nowhere.example/x:1": failed to resolve reference "nowhere.example/x:1": failed to do '
    'request: Head "https://nowhere.example/v2/x/manifests/1": dial tcp: lookup nowhere.example on 10.255.255.53:53: no such host'
)
NO_HOST = Finding("ImagePullFailed", 'image "nowhere.example/x:1" cannot be pulled: no such host.')
WAITING = {
    "no GPU free": (
        unscheduled(
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. no new claims to deallocate, preemption: 0/3 nodes are "
            "available: 3 Preemption is not helpful for scheduling."
        ),
        Finding("Unschedulable", "0/3 nodes fit: 3 Insufficient nvidia.com/gpu; waiting since 14:02."),
    ),
    "no GPU free, scheduler before 1.33": (
        unscheduled(
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims "
            "found for incoming pod."
        ),
        Finding("Unschedulable", "0/3 nodes fit: 3 Insufficient nvidia.com/gpu; waiting since 14:02."),
    ),
    "several causes and a taint with dots": (
        unscheduled(
            "0/3 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 Insufficient cpu. "
            "no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node."
        ),
        Finding(
            "Unschedulable",
            "0/3 nodes fit: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, 2 Insufficient cpu; "
            "waiting since 14:02.",
        ),
    ),
    "no scheduler sentence that we know": (
        unscheduled("no nodes available to schedule pods"),
        Finding("Unschedulable", "no nodes available to schedule pods; waiting since 14:02."),
    ),
    "waiting since another day": (
        unscheduled("0/1 nodes are available: 1 Insufficient cpu.", since="2026-11-23T09:00:00Z"),
        Finding("Unschedulable", "0/1 nodes fit: 1 Insufficient cpu; waiting since 2026-11-23 09:00."),
    ),
    "a scheduling gate": (
        unscheduled("Scheduling is blocked due to non-empty scheduling gates"),
        Finding("Unschedulable", "Scheduling is blocked due to non-empty scheduling gates; waiting since 14:02."),
    ),
    "a claim that is not there": (
        unscheduled('0/1 nodes are available: persistentvolumeclaim "later" not found. not found'),
        Finding("WaitingForClaim", 'PersistentVolumeClaim "later" does not exist yet.'),
    ),
    "a claim that goes": (
        unscheduled('0/1 nodes are available: persistentvolumeclaim "models" is being deleted. not found'),
        Finding("WaitingForClaim", 'PersistentVolumeClaim "models" is being deleted.'),
    ),
    "a claim without a volume": (
        unscheduled(
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found", volumes=["models", "data"]
        ),
        Finding("WaitingForClaim", 'PersistentVolumeClaim "models" or "data" is not bound to a volume yet.'),
    ),
    "a Secret that is not there": (
        waiting("CreateContainerConfigError", 'secret "data-login" not found'),
        Finding("WaitingForSecret", 'Secret "data-login" does not exist yet.'),
    ),
    "an image of root": (
        waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
        Finding(
            "ContainerNotStarted", "container trainer cannot be started: container has runAsNonRoot and image will run as root."
        ),
    ),
    "an image that is not there": (waiting("ErrImagePull", PULL), NO_HOST),
    "the same image, backing off": (
        waiting("ImagePullBackOff", f'Back-off pulling image "nowhere.example/x:1": ErrImagePull: {PULL}'),
        NO_HOST,
    ),
    "an image with a wrong name": (
        waiting(
            "InvalidImageName", 'couldn\'t parse image name "U": invalid reference format: repository name (Not) must be lowercase'
        ),
        Finding("ImagePullFailed", 'image "nowhere.example/x:1" cannot be pulled: repository name (Not) must be lowercase.'),
    ),
    "an image that may not be pulled": (
        waiting("ErrImageNeverPull", 'Container image "nowhere.example/x:1" is not present with pull policy of Never'),
        Finding(
            "ImagePullFailed", 'image "nowhere.example/x:1" cannot be pulled: it is not on the node and the pull policy is Never.'
        ),
    ),
    "a registry that says nothing": (
        waiting("ErrImagePull", ""),
        Finding("ImagePullFailed", 'image "nowhere.example/x:1" cannot be pulled: the registry gave no reason.'),
    ),
    "being created for too long": (
        waiting("ContainerCreating", ""),
        Finding(
            "ContainerNotStarted",
            "pod p has had a node since 14:02 and has not started: its image is still being pulled, or a volume cannot be "
            "attached; kubectl describe pod p says which.",
        ),
    ),
    "an init container runs": (
        pod(conditions=[SCHEDULED], initContainerStatuses=[{"name": "fetch", "state": {"running": {"startedAt": SINCE}}}]),
        None,
    ),
    "just made": (pod(), None),
    "running": (pod("Running"), None),
    "ended": (ended(1), None),
}


@pytest.mark.parametrize(("observed", "expected"), WAITING.values(), ids=WAITING.keys())
def test_why_a_pod_waits(observed: Any, expected: Finding | None) -> None:
    assert why_waiting(observed, NOW) == expected


def disrupted(by: str, **status: Any) -> Any:
    return pod("Failed", conditions=[{"type": "DisruptionTarget", "status": "True", "reason": by}], **status)


ENDINGS = {
    "success": (ended(0, "{}", "Completed"), "ended with exit status 0: {}"),
    "a crash with a log": (
        ended(1, "Traceback (most recent call last):\n  ...\nValueError: no.\n\n"),
        "ended with exit status 1: ValueError: no",
    ),
    "a crash without a word": (ended(1), "ended with exit status 1"),
    "a signal": (ended(137), "was killed by signal 9"),
    "a command that is not there": (
        ended(128, 'exec: "nothere": executable file not found in $PATH', "StartError"),
        'ended with exit status 128: exec: "nothere": executable file not found in $PATH',
    ),
    "kubelet's word alone": (
        pod("Failed", reason="UnexpectedAdmissionError", message="Pod was rejected: no room.", containerStatuses=[]),
        "ended without an exit status: Pod was rejected: no room",
    ),
    "preemption": (disrupted("PreemptionByScheduler"), "was preempted by a pod of higher priority"),
    "a drain": (disrupted("EvictionByEvictionAPI"), "was evicted, as when a node is drained"),
    "a node that is gone": (disrupted("DeletionByPodGC"), "was lost with its node"),
    "memory pressure": (
        disrupted("TerminationByKubelet", reason="Evicted", message="The node was low on resource: memory. "),
        "was stopped by its node: The node was low on resource: memory",
    ),
    "a disruption of a kind that is new": (disrupted("Whatever"), "was disrupted"),
}


@pytest.mark.parametrize(("observed", "words"), ENDINGS.values(), ids=ENDINGS.keys())
def test_how_a_pod_ended(observed: Any, words: str) -> None:
    found = ending(observed, "trainer")
    assert found is not None
    assert describe_ending(found) == words


def test_an_ending_has_all_that_a_policy_asks_for() -> None:
    found = ending(ended(137, reason="OOMKilled"), "trainer")
    assert found is not None
    assert (found.index, found.exit_code, found.out_of_memory, found.disruption) == (3, 137, True, None)
    assert found.finished_at == datetime(2026, 11, 25, 14, 2, 17, tzinfo=UTC)
    assert not found.succeeded


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_a_pod_that_goes_on_has_no_ending(phase: str) -> None:
    assert ending(pod(phase), "trainer") is None


def test_a_failed_init_container_is_the_ending_where_the_main_one_never_started() -> None:
    first = {"name": "fetch", "state": {"terminated": {"exitCode": 66, "message": "changed", "finishedAt": SINCE}}}
    later = {"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}
    found = ending(pod("Failed", initContainerStatuses=[first], containerStatuses=[later]), "trainer")
    assert found is not None
    assert (found.exit_code, found.text) == (66, "changed")


def test_a_pod_that_is_just_being_created_is_looked_at_again_when_it_would_be_late() -> None:
    creating, scheduled = waiting("ContainerCreating", ""), time_of(SINCE)
    assert why_waiting(creating, scheduled + timedelta(seconds=119)) is None
    assert next_look({}, [creating], scheduled + timedelta(seconds=20)) == 100
    assert next_look({}, [creating], scheduled + timedelta(seconds=121)) is None, "said already"
    assert next_look({}, [pod("Running", conditions=[SCHEDULED])], scheduled) is None


SURROGATE = '{"schemaVersion": 1, "result": "Failed", "reason": "DataInvalid", "message": "half a pair: \\ud800"}'
ENDLESS = '{"schemaVersion": 1, "result": "Evaluated", "rows": 1000000000000000000000000000000}'


@pytest.mark.parametrize(
    "text",
    [None, "", "Killed", "{}", "[]", '{"result": "Else"}', '{"result": "Failed", "reason": "Nope"', SURROGATE, ENDLESS],
)
def test_what_is_no_outcome_is_none(text: str | None) -> None:
    assert parse_outcome(text) is None


def test_an_outcome_is_read_by_the_contract() -> None:
    failure = Failure(reason=FailureReason.DATA_INVALID, message="no rows.")
    assert parse_outcome(failure.model_dump_json(by_alias=True)) == failure


def test_a_foreign_line_is_quoted_short() -> None:
    assert last_line("a\n" + "b" * 400 + "\n \n") == "b" * 299 + "…"
    assert last_line(None) == ""
    assert shorten("x" * 300) == "x" * 300

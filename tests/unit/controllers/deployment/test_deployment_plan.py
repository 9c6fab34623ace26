"""What a ModelDeployment becomes: nothing before its digest is proven, exactly its bytes after, in words all along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deployment_world import (
    DIGEST,
    NOW,
    OTHER,
    URI,
    applied,
    at,
    condition,
    crashed,
    evaluated,
    init_failed,
    marks,
    pod,
    proven,
    ready_of,
    resource,
    rolled,
    running,
    seen,
    trained,
)

from modelship_operator.api.deployment import ModelDeploymentStatus
from modelship_operator.controllers.deployment.observed import Observed, references
from modelship_operator.controllers.deployment.plan import plan
from modelship_operator.controllers.framework import Failure, Json, ObjectKey, Plan

pytestmark = pytest.mark.unit

SURROUNDINGS = "NetworkPolicy Service PodDisruptionBudget"
ALL = f"{SURROUNDINGS} Deployment"
FRESH = applied(proven())
RUNNING = rolled(FRESH, 2)
MISMATCH = (
    '{"schemaVersion":1,"result":"Failed","reason":"DigestMismatch",'
    '"message":"model.onnx is sha256:77aa…, evaluated was sha256:c0de…; nothing was started."}'
)
UNAVAILABLE = '{"schemaVersion":1,"result":"Failed","reason":"StoreUnavailable","message":"no manifest; trying again."}'
NOT_SERVABLE = (
    '{"schemaVersion":1,"result":"Failed","reason":"InternalError",'
    '"message":"the artifact has no sample.json; nothing was started."}'
)
TAKEN = {"metadata": {"name": "churn", "namespace": "default", "labels": {"app": "x"}}, "spec": {"replicas": 1}}
LATE = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}
FORBIDDEN = {
    "conditions": [
        {
            "type": "ReplicaFailure",
            "status": "True",
            "message": 'pods "churn-7d9f-x2x9q" is forbidden: exceeded quota: gpus, requested: 1, used: 4, limited: 4',
        }
    ]
}
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": at(-300)}


def refused(code: int, message: str = "exceeded quota") -> Failure:
    return Failure(ObjectKey("Service", "default", "churn"), "apply", code, message)


def kinds_of(planned: Plan) -> str:
    return " ".join(child["kind"] for child in planned.apply)


@pytest.mark.parametrize(
    ("observed", "mark", "reason", "message", "kinds"),
    [
        pytest.param(
            seen(), "Reconciling", "WaitingForReference", 'ModelTraining "churn" does not exist yet.', "", id="no training"
        ),
        pytest.param(
            seen(training={"status": {"progressText": "12/30"}}),
            "Reconciling",
            "WaitingForTraining",
            "churn is not trained yet (12/30).",
            "",
            id="training runs",
        ),
        pytest.param(
            seen(training={"metadata": {}}),
            "Reconciling",
            "WaitingForTraining",
            "churn is not trained yet.",
            "",
            id="training is fresh",
        ),
        pytest.param(
            seen(training={"status": {"conditions": [condition("Stalled", "loss is nan.")]}}),
            "Stalled",
            "TrainingFailed",
            "churn: loss is nan.",
            "",
            id="training failed",
        ),
        pytest.param(
            seen(training=trained()),
            "Reconciling",
            "WaitingForReference",
            'ModelEvaluation "churn-cv" does not exist yet.',
            "",
            id="no evaluation",
        ),
        pytest.param(
            seen(training=trained(), evaluations={"churn-cv": running("fold 3 of 5")}),
            "Reconciling",
            "WaitingForVerdict",
            "no passed evaluation for sha256:9f31…; churn-cv is running (fold 3 of 5).",
            "",
            id="evaluation runs",
        ),
        pytest.param(
            seen(training=trained(), evaluations={"churn-cv": evaluated("Failed", DIGEST, "roc_auc 0.74 is below 0.80")}),
            "Stalled",
            "GateFailed",
            "churn-cv: roc_auc 0.74 is below 0.80.",
            "",
            id="gate failed",
        ),
        pytest.param(
            seen(training=trained(), evaluations={"churn-cv": evaluated("Passed", OTHER)}),
            "Stalled",
            "DigestNotProven",
            "churn-cv measured sha256:77aa…, not sha256:9f31…; name an evaluation of the artifact to be served.",
            "",
            id="another digest was proven",
        ),
        pytest.param(
            proven(),
            "Reconciling",
            "RollingOut",
            "0 of 2 replicas serve sha256:9f31….",
            ALL,
            id="proven",
        ),
        pytest.param(
            seen(training=trained(), gate=None),
            "Reconciling",
            "RollingOut",
            "0 of 2 replicas serve sha256:9f31….",
            ALL,
            id="no gate",
        ),
        pytest.param(
            seen(modelRef={"artifact": {"uri": URI, "digest": DIGEST}}, gate=None),
            "Reconciling",
            "RollingOut",
            "0 of 2 replicas serve sha256:9f31….",
            ALL,
            id="an artifact by digest",
        ),
        pytest.param(
            seen(modelRef={"artifact": {"uri": URI, "digest": OTHER}}, evaluations={"churn-cv": evaluated()}),
            "Stalled",
            "DigestNotProven",
            "churn-cv measured sha256:9f31…, not sha256:77aa…; name an evaluation of the artifact to be served.",
            "",
            id="an artifact that was not the one measured",
        ),
        pytest.param(proven(has=FRESH), "Reconciling", "RollingOut", "0 of 2 replicas serve sha256:9f31….", ALL, id="just applied"),
        pytest.param(
            proven(has={**FRESH, "spec": {**FRESH["spec"], "paused": True}}),
            "Reconciling",
            "RolloutPaused",
            "its Deployment is paused; kubectl rollout resume deployment churn goes on.",
            ALL,
            id="paused by a person",
        ),
        pytest.param(
            proven(pod(ready=True), has=rolled(FRESH, 2, ready=1)),
            "Reconciling",
            "RollingOut",
            "1 of 2 replicas serve sha256:9f31….",
            ALL,
            id="one of two is ready",
        ),
        pytest.param(
            proven(pod(ready=True), pod("churn-b", ready=True), has=RUNNING),
            "Ready",
            "Serving",
            "2 of 2 replicas serve sha256:9f31….",
            ALL,
            id="rolled out",
        ),
        pytest.param(
            proven(
                pod(ready=True), pod("churn-b", ready=True), pod("churn-o", OTHER, ready=True), has=rolled(FRESH, 2, 3, ready=3)
            ),
            "Reconciling",
            "RollingOut",
            "2 of 2 replicas serve sha256:9f31….",
            ALL,
            id="an old pod is left",
        ),
        pytest.param(
            proven(has=rolled(applied(proven(replicas=0)), 0), replicas=0),
            "Ready",
            "ScaledToZero",
            "replicas is 0: nothing serves.",
            ALL,
            id="scaled to zero",
        ),
        pytest.param(
            proven(has=RUNNING, replicas=3),
            "Reconciling",
            "RollingOut",
            "0 of 3 replicas serve sha256:9f31….",
            ALL,
            id="scaled out",
        ),
        pytest.param(
            proven(init_failed(66, MISMATCH), has=FRESH),
            "Stalled",
            "DigestMismatch",
            "model.onnx is sha256:77aa…, evaluated was sha256:c0de…; nothing was started.",
            ALL,
            id="bytes changed",
        ),
        pytest.param(
            proven(init_failed(66, MISMATCH, waits=True), has=FRESH),
            "Stalled",
            "DigestMismatch",
            "model.onnx is sha256:77aa…, evaluated was sha256:c0de…; nothing was started.",
            ALL,
            id="bytes changed, kubelet waits",
        ),
        pytest.param(
            proven(init_failed(66, MISMATCH, running=True), has=FRESH),
            "Stalled",
            "DigestMismatch",
            "model.onnx is sha256:77aa…, evaluated was sha256:c0de…; nothing was started.",
            ALL,
            id="bytes changed, kubelet tries again",
        ),
        pytest.param(
            proven(init_failed(75, UNAVAILABLE), has=FRESH),
            "Reconciling",
            "StoreUnavailable",
            "no manifest; trying again.",
            ALL,
            id="the store is not there",
        ),
        pytest.param(
            proven(init_failed(75, UNAVAILABLE), has=rolled(FRESH, 0, **LATE)),
            "Stalled",
            "StoreUnavailable",
            "no manifest; trying again.",
            ALL,
            id="the store is not there for too long",
        ),
        pytest.param(
            proven(init_failed(64, NOT_SERVABLE), has=FRESH),
            "Stalled",
            "InternalError",
            "the artifact has no sample.json; nothing was started.",
            ALL,
            id="cannot be served",
        ),
        pytest.param(
            proven(init_failed(1, "Traceback\nImportError: no pydantic"), has=FRESH),
            "Reconciling",
            "ContainerCrashed",
            "model-repository ended with exit status 1: ImportError: no pydantic; it is started again.",
            ALL,
            id="the init step crashes",
        ),
        pytest.param(
            proven(crashed("triton", 137, reason="OOMKilled"), has=FRESH),
            "Reconciling",
            "OutOfMemory",
            "triton was killed at its limit of 2Gi; raise compute.memory.",
            ALL,
            id="out of memory",
        ),
        pytest.param(
            proven(crashed("triton", 1, "failed to load 'churn'\n"), has=rolled(FRESH, 0, **LATE)),
            "Stalled",
            "ContainerCrashed",
            "triton ended with exit status 1: failed to load 'churn'; it is started again.",
            ALL,
            id="crashes for too long",
        ),
        pytest.param(
            proven(crashed("gateway", 64), has=FRESH),
            "Reconciling",
            "ContainerCrashed",
            "gateway ended with exit status 64; it is started again.",
            ALL,
            id="the gateway crashes",
        ),
        pytest.param(
            proven(has=rolled(FRESH, 0, **LATE)),
            "Stalled",
            "ProgressDeadlineExceeded",
            "no new pod became ready within 600 s.",
            ALL,
            id="too long, nobody knows why",
        ),
        pytest.param(
            proven(has=rolled(FRESH, 0, **FORBIDDEN)),
            "Reconciling",
            "PodNotCreated",
            "no pod can be created: a pod is forbidden: exceeded quota: gpus, requested: 1, used: 4, limited: 4.",
            ALL,
            id="no pod may be made",
        ),
        pytest.param(
            proven(
                pod(conditions=[{**UNSCHEDULED, "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."}]), has=FRESH
            ),
            "Reconciling",
            "Unschedulable",
            "0/3 nodes fit: 3 Insufficient nvidia.com/gpu; waiting since 14:55.",
            ALL,
            id="no room",
        ),
        pytest.param(
            proven(init_failed(75, UNAVAILABLE), init_failed(66, MISMATCH, name="churn-b"), has=FRESH),
            "Stalled",
            "DigestMismatch",
            "model.onnx is sha256:77aa…, evaluated was sha256:c0de…; nothing was started.",
            ALL,
            id="what is final is said first",
        ),
        pytest.param(
            proven(has=TAKEN),
            "Reconciling",
            "NameTaken",
            'Deployment "churn" is there and not of this ModelDeployment; waiting until it is deleted.',
            "",
            id="the name is taken",
        ),
        pytest.param(
            proven(refusal=refused(403)),
            "Stalled",
            "RequestRefused",
            'apply of Service "churn" was refused (403): exceeded quota',
            "",
            id="refused",
        ),
        pytest.param(
            proven(refusal=refused(409)),
            "Stalled",
            "NameTaken",
            'Service "churn" exists and is not of this ModelDeployment; delete it or use another name.',
            "",
            id="the Service's name is taken",
        ),
        pytest.param(
            seen(modelRef={"somewhere": "x"}),
            "Stalled",
            "SpecInvalid",
            "spec.modelRef.somewhere: Extra inputs are not permitted.",
            "",
            id="a spec of another version",
        ),
    ],
)
def test_the_next_step(observed: Observed, mark: str, reason: str, message: str, kinds: str) -> None:
    planned = plan(observed, NOW)
    said = ready_of(planned)
    assert (said["reason"], said["message"]) == (reason, message)
    assert marks(planned) == ({"Ready": "True"} if mark == "Ready" else {"Ready": "False", mark: "True"})
    assert kinds_of(planned) == kinds
    ModelDeploymentStatus.model_validate(planned.status)


def test_an_artifact_that_is_not_proven_leaves_what_is_served() -> None:
    """The old pods go on; only their number follows the spec, and their template is not touched."""
    before: Json = {"servedDigest": OTHER, "conditions": []}
    old = rolled(applied(seen(training=trained(OTHER), gate=None)), 2)
    serving = pod(digest=OTHER, ready=True)
    same = plan(seen(serving, status=before, training=trained(), has=old), NOW)
    assert kinds_of(same) == SURROUNDINGS
    assert same.status is not None
    assert (same.status["servedDigest"], same.status["targetDigest"], same.status["gate"]) == (OTHER, DIGEST, "Waiting")
    more = plan(seen(serving, status=before, training=trained(), has=old, replicas=5), NOW)
    assert kinds_of(more) == ALL
    assert more.apply[-1]["spec"] == {**old["spec"], "replicas": 5}
    refused_then = plan(seen(serving, status=before, training=trained(), has=old, replicas=5, refusal=refused(403)), NOW)
    assert refused_then.apply == (), "what was refused is not tried at once"
    assert ready_of(refused_then)["message"].endswith('Besides, apply of Service "churn" was refused (403): exceeded quota')


def test_a_gate_that_fails_later_does_not_take_the_model_away() -> None:
    later = {"churn-cv": evaluated(), "strict": evaluated("Failed", DIGEST, "f1 0.5 is below 0.9")}
    planned = plan(proven(pod(ready=True), has=RUNNING, evaluations=later, gate={"evaluations": ["churn-cv", "strict"]}), NOW)
    assert (kinds_of(planned), planned.delete) == (SURROUNDINGS, ())
    assert ready_of(planned)["reason"] == "GateFailed"


def test_what_serves_is_what_every_ready_pod_serves() -> None:
    new, old = pod("churn-a", ready=True), pod("churn-b", OTHER, ready=True)
    leaving = pod("churn-b", OTHER, ready=True, gone=True)

    def served(*pods: Json) -> Any:
        status = plan(proven(*pods, has=rolled(FRESH, 2), status={"servedDigest": OTHER}), NOW).status
        return (status or {}).get("servedDigest")

    assert served(old) == OTHER
    assert served(old, new) == OTHER
    assert served(leaving, new) == DIGEST
    assert served(pod()) is None


def test_the_status_is_complete() -> None:
    planned = plan(proven(pod(ready=True), pod("churn-b", ready=True), has=RUNNING, generation=3), NOW)
    assert planned.status is not None
    rest = {key: value for key, value in planned.status.items() if key != "conditions"}
    assert rest == {
        "observedGeneration": 3,
        "phase": "Serving",
        "ready": "2/2",
        "replicas": 2,
        "readyReplicas": 2,
        "selector": "modelship.dev/kind=ModelDeployment,modelship.dev/name=churn",
        "servedDigest": DIGEST,
        "digestText": "sha256:9f31…",
        "targetDigest": DIGEST,
        "gate": "Passed",
        "endpoint": {"url": "http://churn.default.svc:8000", "grpc": "churn.default.svc:8001", "model": "churn"},
    }


@pytest.mark.parametrize("observed", [seen(), proven(), proven(has=FRESH), proven(pod(ready=True), has=RUNNING)])
def test_planning_again_says_the_same(observed: Observed) -> None:
    """Applied and planned again: the same children, the same status, no event; and so for ever."""
    first = plan(observed, NOW)
    after = replace(observed, resource={**observed.resource, "status": first.status})
    second = plan(after, NOW)
    third = plan(replace(after, resource={**after.resource, "status": second.status}), NOW)
    assert first.apply == second.apply == third.apply
    assert third.status == second.status
    assert third.events == ()


@pytest.mark.parametrize(
    ("observed", "events"),
    [
        (seen(), []),
        (proven(), []),
        (proven(pod(ready=True), has=RUNNING), [("Normal", "Serving")]),
        (
            proven(pod(ready=True), has=RUNNING, status={"conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}]}),
            [],
        ),
        (seen(training=trained(), evaluations={"churn-cv": evaluated("Failed", DIGEST, "x")}), [("Warning", "GateFailed")]),
        (
            seen(
                training=trained(),
                evaluations={"churn-cv": evaluated("Failed", DIGEST, "x")},
                status={"conditions": [{"type": "Ready", "status": "False", "reason": "GateFailed"}]},
            ),
            [],
        ),
        (proven(init_failed(66, MISMATCH), has=FRESH), [("Warning", "DigestMismatch")]),
        (
            proven(
                crashed("triton", 137, reason="OOMKilled"),
                has=rolled(FRESH, 2, ready=0),
                status={"conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}]},
            ),
            [("Warning", "OutOfMemory")],
        ),
        (
            proven(has=FRESH, status={"conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}]}),
            [],
        ),
    ],
)
def test_events_tell_of_turns_only(observed: Observed, events: list[tuple[str, str]]) -> None:
    for entry in observed.status.get("conditions", []):
        entry.setdefault("lastTransitionTime", at(-9))
    assert [(event.type, event.reason) for event in plan(observed, NOW).events] == events


def test_another_artifact_is_another_rollout() -> None:
    first, second = applied(proven()), applied(proven(training=trained(OTHER), evaluations={"churn-cv": evaluated(digest=OTHER)}))
    annotations = [made["spec"]["template"]["metadata"]["annotations"]["modelship.dev/artifact-digest"] for made in (first, second)]
    assert annotations == [DIGEST, OTHER]


def test_what_it_names_requeues_it() -> None:
    assert references(resource()) == [
        ObjectKey("ModelTraining", "default", "churn"),
        ObjectKey("ModelEvaluation", "default", "churn-cv"),
        ObjectKey("Deployment", "default", "churn"),
    ]

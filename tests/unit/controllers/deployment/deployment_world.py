"""A ModelDeployment and its surroundings as the store holds them: builders for tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from modelship_operator.controllers.deployment.observed import Observed
from modelship_operator.controllers.deployment.plan import plan
from modelship_operator.controllers.framework import Failure, Json, Plan
from modelship_operator.resources.settings import PodSettings

NOW = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)
UID, DEPLOYMENT_UID = "11111111-aaaa", "22222222-bbbb"
DIGEST, OTHER = "sha256:9f31" + "0" * 60, "sha256:77aa" + "0" * 60
URI = f"pvc://models/artifacts/{DIGEST.replace(':', '-')}"
SETTINGS = PodSettings("trainer:1", "triton:1", "gateway:1", "operator:1")
SPEC: Json = {"modelRef": {"training": "churn"}, "gate": {"evaluations": ["churn-cv"]}, "replicas": 2}


def at(seconds: float) -> str:
    """The time `seconds` after NOW (before it, when negative), as Kubernetes writes it."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def resource(status: Json | None = None, *, generation: int = 1, **spec: Any) -> Json:
    metadata = {"namespace": "default", "name": "churn", "uid": UID, "generation": generation, "creationTimestamp": at(-60)}
    merged = {key: value for key, value in {**SPEC, **spec}.items() if value is not None}
    return {"kind": "ModelDeployment", "metadata": metadata, "spec": merged, "status": status or {}}


def trained(digest: str = DIGEST) -> Json:
    return {"status": {"artifact": {"uri": URI, "digest": digest, "sizeBytes": 1}}}


def evaluated(verdict: str = "Passed", digest: str = DIGEST, *failing: str) -> Json:
    gates = [{"passed": False, "message": message} for message in failing]
    return {"status": {"verdict": verdict, "subject": {"artifactDigest": digest}, "gates": gates}}


def running(progress: str) -> Json:
    return {"status": {"progressText": progress, "conditions": [condition("Reconciling", f"{progress}.", "Running")]}}


def condition(kind: str, message: str, reason: str = "R") -> Json:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


def seen(
    *pods: Json,
    status: Json | None = None,
    training: Json | None = None,
    evaluations: dict[str, Json | None] | None = None,
    has: Json | None = None,
    refusal: Failure | None = None,
    generation: int = 1,
    **spec: Any,
) -> Observed:
    found = {"churn-cv": None} if evaluations is None else evaluations
    return Observed(resource(status, generation=generation, **spec), SETTINGS, training, found, has, pods, refusal)


def proven(*pods: Json, **parts: Any) -> Observed:
    """Trained, evaluated, passed."""
    return seen(*pods, **{"training": trained(), "evaluations": {"churn-cv": evaluated()}, **parts})


def applied(before: Observed) -> Json:
    """The Deployment that the plan for `before` makes, as the API server has it before its controller has acted."""
    made = plan(before, NOW).apply[-1]
    return stored(made)


def stored(made: Json, *, generation: int = 1, **status: Any) -> Json:
    metadata = {**made["metadata"], "uid": DEPLOYMENT_UID, "generation": generation, "creationTimestamp": at(-30)}
    return {**made, "metadata": metadata, "status": status}


def rolled(deployment: Json, updated: int, replicas: int | None = None, ready: int | None = None, **status: Any) -> Json:
    """Its controller has made `updated` pods of the newest template, `replicas` in all, `ready` of them ready."""
    counts = {"updatedReplicas": updated, "replicas": replicas if replicas is not None else updated}
    counts |= {
        "readyReplicas": ready if ready is not None else updated,
        "availableReplicas": ready if ready is not None else updated,
    }
    return {**deployment, "status": {"observedGeneration": deployment["metadata"]["generation"], **counts, **status}}


def pod(name: str = "churn-a", digest: str = DIGEST, *, ready: bool = False, gone: bool = False, **status: Any) -> Json:
    metadata: Json = {
        "namespace": "default",
        "name": name,
        "annotations": {"modelship.dev/artifact-digest": digest},
        "labels": {"modelship.dev/uid": UID},
    }
    if gone:
        metadata["deletionTimestamp"] = at(-1)
    spec = {
        "initContainers": [
            {"name": "model-repository", "resources": {"limits": {"memory": "512Mi"}}},
            {"name": "triton", "resources": {"limits": {"memory": "2Gi"}}},
        ],
        "containers": [{"name": "gateway", "resources": {"limits": {"memory": "256Mi"}}}],
    }
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", [])]
    phase = status.pop("phase", "Running" if ready else "Pending")
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": phase, "conditions": conditions, **status}}


def init_failed(exit_code: int, message: str, *, waits: bool = False, running: bool = False, name: str = "churn-a") -> Json:
    """A pod whose init step refused: just now, waiting to be tried again, or being tried again."""
    end = {"terminated": {"exitCode": exit_code, "message": message, "reason": "Error", "finishedAt": at(-5)}}
    state: Json = end
    last: Json = {}
    if waits:
        state, last = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}, end
    if running:
        state, last = {"running": {"startedAt": at(-1)}}, end
    return pod(name, initContainerStatuses=[{"name": "model-repository", "state": state, "lastState": last, "ready": False}])


def crashed(container: str, exit_code: int, message: str = "", reason: str = "Error") -> Json:
    end = {"terminated": {"exitCode": exit_code, "message": message, "reason": reason, "finishedAt": at(-5)}}
    status = {"name": container, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": end, "ready": False}
    kind = "containerStatuses" if container == "gateway" else "initContainerStatuses"
    return pod(phase="Running" if container == "gateway" else "Pending", **{kind: [status]})


def ready_of(plan_: Plan) -> Json:
    assert plan_.status is not None
    ready: Json = plan_.status["conditions"][0]
    return ready


def marks(plan_: Plan) -> dict[str, str]:
    assert plan_.status is not None
    return {entry["type"]: entry["status"] for entry in plan_.status["conditions"]}

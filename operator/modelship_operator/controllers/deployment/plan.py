"""From what is seen of a ModelDeployment to what should exist and what should be said: the whole decision, without I/O.

    artifact known ─▶ gate passed for its digest ─▶ children ─▶ rolled out

Whatever stands in the way leaves what is served as it is, all but the number of replicas.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from modelship_operator.api.reasons import Reason
from modelship_operator.controllers.common.conditions import Mark, State
from modelship_operator.controllers.common.jobs import until_late
from modelship_operator.controllers.common.outcome import short_digest
from modelship_operator.controllers.common.refused import RETRY_NAME_SECONDS, RETRY_REFUSED_SECONDS, refused, spec_invalid
from modelship_operator.controllers.deployment import status
from modelship_operator.controllers.deployment.gate import NO_GATE, WAITING, rule
from modelship_operator.controllers.deployment.observed import Observed
from modelship_operator.controllers.deployment.rollout import Rollout, digest_of, observe_rollout
from modelship_operator.controllers.evaluation.subject import artifact_of
from modelship_operator.controllers.evaluation.verdict import FAILED
from modelship_operator.controllers.framework import Json, Plan
from modelship_operator.resources.served_model import children, scaled, surroundings
from modelship_operator.resources.serving import Serving
from modelship_trainer.protocol import ArtifactRef


def plan(seen: Observed, now: datetime) -> Plan:
    """What should be."""
    rollout = observe_rollout(seen.deployment, seen.pods, seen.status.get("servedDigest"), now)
    try:
        spec = seen.spec
    except ValidationError as error:
        return _say(seen, status.Facts(spec_invalid(error, "Stalled"), rollout), now)
    artifact = _artifact(seen)
    if isinstance(artifact, State):
        return _hold(seen, status.Facts(artifact, rollout, WAITING if spec.gate else NO_GATE), now)
    ruling = rule(artifact.digest, seen.evaluations) if spec.gate else None
    if ruling and not ruling.passed:
        state = State("Gated", Mark.STALLED if ruling.summary == FAILED else Mark.RECONCILING, ruling.reason, ruling.message)
        return _hold(seen, status.Facts(state, rollout, ruling.summary, artifact.digest), now)
    state, apply, requeue = _serve(seen, artifact, rollout, now)
    return _say(seen, status.Facts(state, rollout, ruling.summary if ruling else NO_GATE, artifact.digest), now, apply, requeue)


def _artifact(seen: Observed) -> ArtifactRef | State:
    """What is to be served, or the state of waiting for it."""
    reference = seen.spec.model_ref
    if reference.artifact:
        return ArtifactRef(uri=reference.artifact.uri, digest=reference.artifact.digest)
    return artifact_of(reference.training or "", seen.training)


def _hold(seen: Observed, facts: status.Facts, now: datetime) -> Plan:
    """Not proven, or not there: nothing is started. What serves goes on, reached and scaled as the spec wants it."""
    found, wanted = seen.deployment, seen.spec.replicas
    if seen.refusal:
        also = refused(seen.refusal, Mark.STALLED, "Stalled", "this ModelDeployment").message
        state = facts.state._replace(message=f"{facts.state.message} Besides, {also}")
        return _say(seen, facts._replace(state=state), now, requeue_after=RETRY_REFUSED_SECONDS)
    if found is None:
        return _say(seen, facts, now)
    scale = found["spec"].get("replicas", 1) != wanted
    return _say(seen, facts, now, (*surroundings(seen.owner, seen.spec), *([scaled(found, wanted)] if scale else [])))


def _serve(seen: Observed, artifact: ArtifactRef, rollout: Rollout, now: datetime) -> tuple[State, tuple[Json, ...], float | None]:
    """What is proven: the state, what should exist, and when to look again."""
    if seen.name_taken:
        message = f'Deployment "{seen.owner.name}" is there and not of this ModelDeployment; waiting until it is deleted.'
        return _going("NameTaken", message), (), RETRY_NAME_SECONDS
    if seen.refusal:
        return refused(seen.refusal, Mark.STALLED, "Stalled", "this ModelDeployment"), (), RETRY_REFUSED_SECONDS
    planned = children(seen.settings, Serving(seen.owner, seen.spec, artifact))
    return _rolled(seen, rollout, artifact.digest), planned, until_late(seen.pods, now)


def _rolled(seen: Observed, rollout: Rollout, target: str) -> State:
    wanted, digest = seen.spec.replicas, short_digest(target)
    done = rollout.done and _asks_for(seen.deployment, wanted, target)
    if done and wanted == 0:
        return State("Serving", Mark.DONE, "ScaledToZero", "replicas is 0: nothing serves.")
    if done:
        return State("Serving", Mark.DONE, "Serving", f"{wanted} of {wanted} replicas serve {digest}.")
    if (seen.deployment or {}).get("spec", {}).get("paused"):
        return _going(
            Reason.ROLLOUT_PAUSED, f"its Deployment is paused; kubectl rollout resume deployment {seen.owner.name} goes on."
        )
    if rollout.trouble:
        finding, final = rollout.trouble
        return State("Stalled" if final else "RollingOut", Mark.STALLED if final else Mark.RECONCILING, *finding)
    return _going("RollingOut", f"{rollout.updated} of {wanted} replicas serve {digest}.")


def _asks_for(deployment: Json | None, replicas: int, digest: str) -> bool:
    """Whether the Deployment, as it is now, is the one that is planned: what is done for another is not done."""
    return deployment is not None and deployment["spec"].get("replicas", 1) == replicas and digest_of(deployment) == digest


def _going(reason: str, message: str) -> State:
    return State("RollingOut", Mark.RECONCILING, reason, message)


def _say(
    seen: Observed, facts: status.Facts, now: datetime, apply: tuple[Json, ...] = (), requeue_after: float | None = None
) -> Plan:
    said = status.status(seen, facts, now)
    return Plan(apply=apply, status=said, events=status.events(seen, facts), requeue_after=requeue_after)

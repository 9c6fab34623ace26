"""The status: what is served, what should be, and why they differ."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from modelship_operator.controllers.common.conditions import Mark, State, conditions, find
from modelship_operator.controllers.common.outcome import short_digest
from modelship_operator.controllers.deployment.observed import Observed
from modelship_operator.controllers.deployment.rollout import Rollout
from modelship_operator.controllers.framework import Event, Json
from modelship_operator.resources.common import selector
from modelship_operator.resources.serving import GRPC_PORT, HTTP_PORT


class Facts(NamedTuple):
    """What the status is made of besides the resource."""

    state: State
    rollout: Rollout
    gate: str | None = None
    target: str = ""
    """Digest that the spec asks for; empty while it is not known."""


def status(seen: Observed, facts: Facts, now: datetime) -> Json:
    """The whole status."""
    rollout, replicas = facts.rollout, seen.resource["spec"].get("replicas", 1)
    served = rollout.served_digest
    optional = {
        "servedDigest": served,
        "digestText": served and short_digest(served),
        "targetDigest": facts.target,
        "gate": facts.gate,
    }
    return {
        "observedGeneration": seen.generation,
        "phase": facts.state.phase,
        "ready": f"{rollout.ready}/{replicas}",
        "replicas": rollout.replicas,
        "readyReplicas": rollout.ready,
        "selector": ",".join(f"{key}={value}" for key, value in selector(seen.owner).items()),
        **{key: value for key, value in optional.items() if value},
        "endpoint": endpoint(seen),
        "conditions": conditions(facts.state, seen.status.get("conditions", []), generation=seen.generation, now=now),
    }


def endpoint(seen: Observed) -> Json:
    """How to reach the model from inside the cluster."""
    host = f"{seen.owner.name}.{seen.owner.namespace}.svc"
    return {"url": f"http://{host}:{HTTP_PORT}", "grpc": f"{host}:{GRPC_PORT}", "model": seen.owner.name}


def events(seen: Observed, facts: Facts) -> tuple[Event, ...]:
    """One for each change for the better or the worse that a person should notice; none while nothing turns."""
    state, before = facts.state, find(seen.status.get("conditions", []), "Ready")
    if before and before["reason"] == state.reason:
        return ()
    in_trouble = facts.rollout.trouble is not None and facts.rollout.trouble.finding.reason == state.reason
    if state.mark is Mark.STALLED or in_trouble:
        return (Event("Warning", state.reason, state.message[:1024], "Serve"),)
    if state.mark is Mark.DONE and (before is None or before["status"] != "True"):
        return (Event("Normal", state.reason, state.message, "Serve"),)
    return ()

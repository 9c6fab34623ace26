"""All children of a ModelDeployment, in the order in which they are applied."""

from __future__ import annotations

from modelship_operator.api.deployment import ModelDeploymentSpec
from modelship_operator.resources.common import Json, Owner
from modelship_operator.resources.networkpolicy import network_policy
from modelship_operator.resources.service import disruption_budget, service
from modelship_operator.resources.serving import Serving, deployment
from modelship_operator.resources.settings import PodSettings


def children(settings: PodSettings, serving: Serving) -> tuple[Json, ...]:
    """What surrounds the pods, so that it is there before them; then the Deployment."""
    return (*surroundings(serving.owner, serving.spec), deployment(settings, serving))


def surroundings(owner: Owner, spec: ModelDeploymentSpec) -> tuple[Json, ...]:
    """Network policy, Service and disruption budget: the same whatever artifact is served."""
    return network_policy(owner, spec.access), service(owner), disruption_budget(owner)


def scaled(observed: Json, replicas: int) -> Json:
    """The Deployment as it is, all but its replicas: for an artifact that keeps serving while another is not proven."""
    metadata = observed["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in metadata}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": kept,
        "spec": {**observed["spec"], "replicas": replicas},
    }

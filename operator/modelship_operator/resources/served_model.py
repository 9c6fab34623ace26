"""All children of a ModelDeployment, in the order in which they are applied."""

from __future__ import annotations

from modelship_operator.resources.common import Json
from modelship_operator.resources.networkpolicy import network_policy
from modelship_operator.resources.service import disruption_budget, service
from modelship_operator.resources.serving import Serving, deployment
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.schema import canonical_json, digest_of

CHILDREN_ANNOTATION = "modelship.dev/children-digest"
"""On the Deployment: what all children were made of. It is applied last, so the others are there when it says so; they are not
watched."""


def children(settings: PodSettings, serving: Serving) -> tuple[Json, ...]:
    """Network policy, Service and disruption budget, so that they are there before the pods; then the Deployment."""
    pods = deployment(settings, serving)
    others = (network_policy(serving), service(serving), disruption_budget(serving))
    made_of = digest_of(canonical_json([*others, pods]))
    return (*others, {**pods, "metadata": {**pods["metadata"], "annotations": {CHILDREN_ANNOTATION: made_of}}})


def is_current(observed: Json | None, planned: tuple[Json, ...]) -> bool:
    """Whether these very children have been applied."""
    return observed is not None and _made_of(observed) == _made_of(planned[-1])


def scaled(observed: Json, replicas: int) -> Json:
    """The Deployment as it is, all but its replicas: for an artifact that keeps serving while another is not proven."""
    metadata = observed["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "ownerReferences") if key in metadata}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**kept, "annotations": {CHILDREN_ANNOTATION: "held"}},
        "spec": {**observed["spec"], "replicas": replicas},
    }


def _made_of(pods: Json) -> str | None:
    digest: str | None = pods["metadata"].get("annotations", {}).get(CHILDREN_ANNOTATION)
    return digest

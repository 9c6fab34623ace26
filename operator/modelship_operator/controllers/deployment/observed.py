"""What a deployment's plan is made from: the resource, what it names, its Deployment, the pods, what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from modelship_operator.api.deployment import ModelDeploymentSpec
from modelship_operator.controllers.framework import Failure, Json, ObjectKey, StoreView
from modelship_operator.resources.common import UID_LABEL, Owner
from modelship_operator.resources.settings import PodSettings

KIND = "ModelDeployment"


@dataclass(frozen=True)
class Observed:
    """All that `plan` knows besides the time."""

    resource: Json
    settings: PodSettings
    training: Json | None = None
    evaluations: Mapping[str, Json | None] = field(default_factory=dict)
    """Those of the gate, by name; None where there is none yet."""
    named: Json | None = None
    """The Deployment of our name, whoever made it."""
    pods: tuple[Json, ...] = ()
    refusal: Failure | None = None

    @cached_property
    def owner(self) -> Owner:
        """The ModelDeployment as its children name it."""
        metadata = self.resource["metadata"]
        return Owner(KIND, metadata["namespace"], metadata["name"], metadata["uid"])

    @cached_property
    def spec(self) -> ModelDeploymentSpec:
        """The spec, read strictly. Raises pydantic.ValidationError where the stored one is not what this version knows."""
        return ModelDeploymentSpec.model_validate(self.resource["spec"])

    @property
    def status(self) -> Json:
        """The stored status."""
        status: Json = self.resource.get("status") or {}
        return status

    @property
    def generation(self) -> int:
        """Of the resource's metadata."""
        return int(self.resource["metadata"].get("generation", 1))

    @property
    def name_taken(self) -> bool:
        """Whether the Deployment of our name belongs to somebody else: mostly to a deleted ModelDeployment of the same name."""
        return self.named is not None and self.named["metadata"].get("labels", {}).get(UID_LABEL) != self.owner.uid

    @property
    def deployment(self) -> Json | None:
        """Our Deployment."""
        return None if self.name_taken else self.named


def references(resource: Json) -> list[ObjectKey]:
    """The training, the evaluations of the gate, and the Deployment of our name, which may be somebody else's."""
    namespace, spec = resource["metadata"]["namespace"], resource.get("spec", {})
    training = spec.get("modelRef", {}).get("training")
    return [
        *([ObjectKey("ModelTraining", namespace, training)] if training else []),
        *(ObjectKey("ModelEvaluation", namespace, name) for name in spec.get("gate", {}).get("evaluations", [])),
        ObjectKey("Deployment", namespace, resource["metadata"]["name"]),
    ]


def observe(store: StoreView, resource: Json, settings: PodSettings) -> Observed:
    """Read the store, once for each thing."""
    found = {key: store.get(key) for key in references(resource)}
    uid = resource["metadata"]["uid"]
    return Observed(
        resource=resource,
        settings=settings,
        training=next((item for key, item in found.items() if key.kind == "ModelTraining"), None),
        evaluations={key.name: item for key, item in found.items() if key.kind == "ModelEvaluation"},
        named=next(item for key, item in found.items() if key.kind == "Deployment"),
        pods=tuple(store.children(uid, "Pod")),
        refusal=store.failure(uid),
    )

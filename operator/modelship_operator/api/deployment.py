"""ModelDeployment: serves exactly the bytes that were proven."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from modelship_operator.api.common import (
    Digest,
    Image,
    ModelReference,
    Namespace,
    Placement,
    ResourceName,
    Status,
    Text,
    raise_broken,
)
from modelship_operator.api.labels import LABEL_KEYS, LabelValue
from modelship_trainer.schema import Distinct, Model, Rule
from modelship_trainer.serving.options import Batching, Optimization


class DeploymentGate(Model):
    """Evaluations that must have passed for the very digest that is to be served."""

    evaluations: Annotated[list[ResourceName], Field(min_length=1, max_length=16), Distinct()] = Field(
        description="Names of ModelEvaluations in this namespace; they need not exist yet."
    )


class Runtime(Model):
    """The inference server."""

    image: Image | None = Field(None, description="Triton image; the operator's when left out.")


class RollingUpdate(Model):
    """How pods are replaced."""

    rules = (Rule("self.maxSurge + self.maxUnavailable > 0", "maxSurge and maxUnavailable must not both be 0"),)

    max_surge: int = Field(1, ge=0, le=100, description="Pods above replicas while updating.")
    max_unavailable: int = Field(0, ge=0, le=100, description="Pods below replicas while updating.")

    @model_validator(mode="after")
    def _can_move(self) -> Self:
        raise_broken(self.rules, (self.max_surge + self.max_unavailable == 0,))
        return self


class Strategy(Model):
    """How a new artifact replaces the old one."""

    rolling_update: RollingUpdate = Field(default_factory=RollingUpdate, description="Pod by pod, without a lost request.")


class Peer(Model):
    """Who may connect: pods by label, in namespaces by name; at least one of the two."""

    rules = (Rule("has(self.namespaces) || has(self.podLabels)", "a peer needs namespaces or podLabels"),)

    namespaces: Annotated[list[Namespace], Field(min_length=1, max_length=64), Distinct()] | None = Field(
        None, description="Names of namespaces; this one when left out."
    )
    pod_labels: Annotated[dict[str, LabelValue], Field(min_length=1, max_length=16), LABEL_KEYS] | None = Field(
        None, description="Labels that the pods must have; all pods when left out."
    )

    @model_validator(mode="after")
    def _says_who(self) -> Self:
        raise_broken(self.rules, (self.namespaces is None and self.pod_labels is None,))
        return self


class Access(Model):
    """Who may ask, and how much at once."""

    from_: Annotated[list[Peer], Field(max_length=32)] | None = Field(
        None, alias="from", description="Peers that may connect; everybody in the cluster when left out, nobody when empty."
    )
    max_body_mebibytes: int = Field(
        8,
        ge=1,
        le=2048,
        description="Largest request, in MiB; larger ones are answered 413. Raise compute.memory, too: JSON takes 17 times that.",
    )
    timeout_seconds: int = Field(60, ge=1, le=600, description="Longest that an inference may take.")


class ModelDeploymentSpec(Model):
    """What to serve, what must be proven of it, and how. Can change at any time; what is not proven is not served."""

    model_ref: ModelReference = Field(description="The model: a training's result, or an artifact.")
    gate: DeploymentGate | None = Field(
        None, description="Evaluations that must have passed; without a gate any artifact that verifies is served."
    )
    replicas: int = Field(1, ge=0, le=1000, description="Pods.")
    runtime: Runtime = Field(default_factory=Runtime, description="The inference server.")
    compute: Placement = Field(
        default_factory=Placement, description="Accelerators, CPU and memory of each pod, and where it may run."
    )
    batching: Batching = Field(default_factory=Batching, description="How requests are joined.")
    optimization: Optimization = Field(default_factory=Optimization, description="How the graph is run.")
    strategy: Strategy = Field(default_factory=Strategy, description="How a new artifact replaces the old one.")
    access: Access = Field(default_factory=Access, description="Who may ask, and how much at once.")
    progress_deadline_seconds: int = Field(
        600, ge=10, le=86_400, description="A rollout that makes no progress for this long is Stalled."
    )


class Endpoint(Model):
    """How to reach the model from inside the cluster (KServe v2 protocol)."""

    url: Text = Field(description="HTTP.")
    grpc: Text = Field(description="gRPC, host:port.")
    model: Annotated[str, StringConstraints(max_length=63)] = Field(description="Name of the model in requests.")


class ModelDeploymentStatus(Status):
    """What is served."""

    ready: Annotated[str, StringConstraints(max_length=16)] | None = Field(
        None, description="For kubectl get: ready of wanted pods."
    )
    replicas: int | None = Field(None, ge=0, description="Pods that there are.")
    ready_replicas: int | None = Field(None, ge=0, description="Pods that answer.")
    selector: Annotated[str, StringConstraints(max_length=253)] | None = Field(
        None, description="Label selector of the pods, for the scale subresource."
    )
    served_digest: Digest | None = Field(None, description="Digest of the artifact that every ready pod serves.")
    target_digest: Digest | None = Field(None, description="Digest of the artifact that spec asks for.")
    gate: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None, description="Passed, Failed, Waiting, or None without a gate."
    )
    endpoint: Endpoint | None = Field(None, description="How to reach the model.")

"""A pod's `spec.affinity`, as Kubernetes has it, field by field.

In the CRD it is any object: written out, it would be a third of each kind's schema. So `modelship validate` says what is wrong
in it, and after `kubectl apply` the resource's condition does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, WithJsonSchema

from modelship_operator.api.labels import LABEL_KEYS, LabelKey, LabelValue
from modelship_trainer.schema import Model

_Terms = Field(max_length=32)
_Weight = Annotated[int, Field(ge=1, le=100)]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]


class NodeOperator(StrEnum):
    """How a label of a node is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class LabelOperator(StrEnum):
    """How a label of a pod or a namespace is compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeRequirement(Model):
    """A label or a field of a node."""

    key: LabelKey
    operator: NodeOperator
    values: Annotated[list[LabelValue], Field(max_length=256)] | None = None


class NodeTerm(Model):
    """All of these."""

    match_expressions: Annotated[list[NodeRequirement], _Terms] | None = None
    match_fields: Annotated[list[NodeRequirement], _Terms] | None = None


class NodeSelector(Model):
    """Any of these."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=32)]


class PreferredNodes(Model):
    """Nodes that are better."""

    weight: _Weight
    preference: NodeTerm


class NodeAffinity(Model):
    """Which nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredNodes], _Terms] | None = None


class LabelRequirement(Model):
    """A label."""

    key: LabelKey
    operator: LabelOperator
    values: Annotated[list[LabelValue], Field(max_length=256)] | None = None


class LabelSelector(Model):
    """All of these."""

    match_labels: Annotated[dict[str, LabelValue], _Terms, LABEL_KEYS] | None = None
    match_expressions: Annotated[list[LabelRequirement], _Terms] | None = None


class PodTerm(Model):
    """Pods, and what is near to them."""

    topology_key: LabelKey
    label_selector: LabelSelector | None = None
    namespaces: Annotated[list[_Name], _Terms] | None = None
    namespace_selector: LabelSelector | None = None
    match_label_keys: Annotated[list[LabelKey], _Terms] | None = None
    mismatch_label_keys: Annotated[list[LabelKey], _Terms] | None = None


class PreferredPods(Model):
    """Pods that are better near, or far."""

    weight: _Weight
    pod_affinity_term: PodTerm


class PodAffinity(Model):
    """Near which pods, or far from which."""

    required_during_scheduling_ignored_during_execution: Annotated[list[PodTerm], _Terms] | None = None
    preferred_during_scheduling_ignored_during_execution: Annotated[list[PreferredPods], _Terms] | None = None


class Affinity(Model):
    """Near what, and far from what, the pods run."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


AnyAffinity = Annotated[
    Affinity, WithJsonSchema({"type": "object", "maxProperties": 3, "x-kubernetes-preserve-unknown-fields": True})
]

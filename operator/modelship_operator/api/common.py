"""Types that the three kinds share: where pods run, where results go, conditions."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from modelship_operator.api.labels import LABEL_KEYS, QUALIFIED, LabelKey, LabelValue
from modelship_operator.api.pod import ObjectName, Pod
from modelship_operator.api.quantity import Bytes, Cpu
from modelship_trainer.recipe import NO_WAY_UP
from modelship_trainer.schema import DNS_SUBDOMAIN, Model, OneOf, Rule
from modelship_trainer.schema import raise_broken as raise_broken

GROUP = "modelship.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SERVICE_NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A ModelDeployment's name is also its Service's (RFC 1035)."""
NAME_LENGTH = 52
"""Children's names and label values are made of it, so it is shorter than Kubernetes allows."""
ResourceName = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]
"""Name of one of our resources."""
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
PvcUri = Annotated[str, StringConstraints(pattern=rf"^pvc://{DNS_SUBDOMAIN}(/.*)?$", max_length=2048), NO_WAY_UP]
"""A folder of a claim in the resource's namespace."""
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Image = Annotated[str, StringConstraints(pattern=r"^[^\s]+$", max_length=512)]
Time = Annotated[str, StringConstraints(max_length=32), Field(json_schema_extra={"format": "date-time"})]
Text = Annotated[str, StringConstraints(max_length=2048)]


class AcceleratorType(StrEnum):
    """Kinds of accelerators with a well-known resource name."""

    GPU = "gpu"
    TPU = "tpu"


RESOURCE_NAMES = {AcceleratorType.GPU: "nvidia.com/gpu", AcceleratorType.TPU: "google.com/tpu"}


class Accelerator(Model):
    """Devices that a pod gets for itself."""

    type: AcceleratorType = Field(
        AcceleratorType.GPU, description="gpu (nvidia.com/gpu) or tpu (google.com/tpu), unless resource says otherwise."
    )
    count: int = Field(1, ge=1, le=64, description="Devices for each pod.")
    resource: Annotated[str, StringConstraints(pattern=rf"^{DNS_SUBDOMAIN}/{QUALIFIED}$", max_length=253)] | None = Field(
        None, description="Extended resource to ask for, such as amd.com/gpu, or nvidia.com/mig-1g.10gb."
    )

    @property
    def resource_name(self) -> str:
        """The extended resource that the scheduler counts."""
        return self.resource or RESOURCE_NAMES[self.type]


class TolerationOperator(StrEnum):
    """How a toleration matches."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A taint that the pods may ignore (as in a pod's spec.tolerations)."""

    rules = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')", "a toleration without key needs operator Exists"
        ),
        Rule("!has(self.value) || !has(self.operator) || self.operator == 'Equal'", "value needs operator Equal"),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds needs effect NoExecute",
        ),
    )

    key: LabelKey | None = Field(None, description="Key of the taint; all when left out, with operator Exists.")
    operator: TolerationOperator = Field(TolerationOperator.EQUAL, description="Exists or Equal.")
    value: LabelValue | None = Field(None, description="Value of the taint, with operator Equal.")
    effect: TaintEffect | None = Field(None, description="NoSchedule, PreferNoSchedule or NoExecute; all when left out.")
    toleration_seconds: int | None = Field(
        None, ge=0, le=31_536_000, description="With effect NoExecute: seconds that the pod stays."
    )

    @model_validator(mode="after")
    def _as_kubernetes_has_it(self) -> Self:
        exists = self.operator is TolerationOperator.EXISTS
        broken = (
            self.key is None and not exists,
            self.value is not None and exists,
            self.toleration_seconds is not None and self.effect is not TaintEffect.NO_EXECUTE,
        )
        raise_broken(self.rules, broken)
        return self


class Placement(Model):
    """Accelerators, CPU and memory of each pod, and the nodes that it may run on."""

    accelerator: Accelerator | None = Field(None, description="Devices for each pod; none when left out: the CPU.")
    cpu: Cpu = Field(
        "250m", description="Cores promised to each pod: 2, 0.5 or 500m. Not a limit: it also uses what is idle on its node."
    )
    memory: Bytes = Field("2Gi", description="Memory of each pod, requested and limited: 512Mi, 2Gi, 1e9.")
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32), LABEL_KEYS] | None = Field(
        None, description="Labels that a node must have."
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = Field(
        None, description="Taints that the pods may ignore."
    )
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the pods.")
    pod: Pod | None = Field(None, description="What this cluster asks of pods besides.")


class Compute(Placement):
    """Where training and evaluation pods run."""

    queue: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)] | None = Field(
        None, description="Kueue LocalQueue that admits the Job; becomes its label kueue.x-k8s.io/queue-name."
    )
    image: Image | None = Field(
        None,
        description="Image with your own code (model.custom), made FROM the trainer image, which is used when left out.",
    )


class Output(Model):
    """Where artifacts, checkpoints and reports are kept."""

    store: PvcUri = Field("pvc://models", description="pvc://claim or pvc://claim/path; the claim must exist in this namespace.")


class ArtifactReference(Model):
    """An artifact by place and content."""

    uri: PvcUri = Field(description="Folder of the artifact: pvc://claim/path, as status.artifact.uri of its training has it.")
    digest: Digest = Field(description="SHA-256 of its manifest.json, which names every file's.")


class ModelReference(OneOf):
    """Which model: a training's result, or an artifact by its digest."""

    training: ResourceName | None = Field(None, description="Name of a ModelTraining in this namespace; it need not exist yet.")
    artifact: ArtifactReference | None = Field(None, description="An artifact by URI and digest.")


class ConditionStatus(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """A metav1.Condition after kstatus: Ready is always there; at most one of Reconciling and Stalled is True."""

    type: Annotated[str, StringConstraints(max_length=63)] = Field(description="Ready, Reconciling or Stalled.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=63)] = Field(
        description="One word for the cause."
    )
    message: Text = Field(description="One sentence: what happened and what to change.")
    observed_generation: int = Field(0, ge=0, description="metadata.generation that this was said of.")
    last_transition_time: Time = Field(description="When status last changed.")


Conditions = Annotated[
    list[Condition],
    Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class Status(Model):
    """What all three kinds' status has."""

    observed_generation: int = Field(-1, ge=-1, description="metadata.generation that this status is about; -1: none yet.")
    phase: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None, description="One word for people; derived from the conditions, never read by a controller."
    )
    conditions: Conditions = Field(default_factory=list, description="Ready, Reconciling and Stalled.")
    digest_text: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        None, description="For kubectl get: the first digits of the artifact's digest."
    )

"""What a cluster's policies want of pods and the other fields cannot say: `spec.compute.pod` of all three kinds.

Nothing in it can break the restricted Pod Security Standard: there is no field for host namespaces, host paths, privileges or
capabilities, and no annotation that turns off a profile.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from modelship_operator.api.affinity import AnyAffinity
from modelship_operator.api.labels import LABEL_KEYS, LabelKey, LabelValue
from modelship_operator.api.quantity import Bytes
from modelship_trainer.schema import DNS_SUBDOMAIN, Distinct, Model, Obeys, Rule, cel_list, raise_broken

ObjectName = Annotated[str, StringConstraints(pattern=rf"^{DNS_SUBDOMAIN}$", max_length=253)]
_DataKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s@]+$", max_length=512)]
_Id = Annotated[int, Field(ge=1, le=2**31 - 1)]

_KEY_PREFIXES = (
    "modelship.dev/", "app.kubernetes.io/managed-by", "batch.kubernetes.io/", "kueue.x-k8s.io/", "controller-uid", "job-name",
    "pod-template-hash", "container.apparmor.security.beta.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
)  # fmt: skip
_VARIABLE_PREFIXES = ("MODELSHIP_", "GATEWAY_", "OMP_NUM_THREADS", "ORT_DISABLE_TELEMETRY", "JOB_COMPLETION_INDEX")
_FOLDERS = ("/models", "/mnt/pvc", "/tmp", "/dev", "/proc", "/sys", "/run/secrets", "/var/run/secrets", "/etc/modelship")  # noqa: S108


def _is_ours(text: str) -> bool:
    return text.startswith(_KEY_PREFIXES)


def _hides_ours(path: str) -> bool:
    return "/.." in path or any(path == folder or path.startswith(f"{folder}/") for folder in _FOLDERS)


FREE_KEYS = Obeys(
    Rule(
        f"self.all(key, !{cel_list(_KEY_PREFIXES)}.exists(ours, key.startsWith(ours)))",
        "keys that begin with modelship.dev/, app.kubernetes.io/managed-by, or the name of a controller or of a security profile "
        "are not yours to set",
    ),
    lambda labels: not any(map(_is_ours, labels)),
)
FREE_NAME = Obeys(
    Rule(
        f"!{cel_list(_VARIABLE_PREFIXES)}.exists(ours, self.startsWith(ours))",
        f"variables that begin with {', '.join(_VARIABLE_PREFIXES)} are set by Modelship",
    ),
    lambda name: not name.startswith(_VARIABLE_PREFIXES),
)
FREE_PATH = Obeys(
    Rule(
        f"!self.contains('/..') && !{cel_list(_FOLDERS)}.exists(ours, self == ours || self.startsWith(ours + '/'))",
        f"{', '.join(_FOLDERS)} and what is below them are in use, and '..' is not taken",
    ),
    lambda path: not _hides_ours(path),
)


class KeyReference(Model):
    """A key of a Secret or ConfigMap of this namespace."""

    name: ObjectName = Field(description="Name of the Secret or ConfigMap.")
    key: _DataKey = Field(description="Its key.")


class Variable(Model):
    """An environment variable."""

    rules = (
        Rule(
            "[has(self.value), has(self.secret), has(self.configMap)].filter(x, x).size() == 1",
            "set exactly one of value, secret, configMap",
        ),
    )

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128), FREE_NAME] = Field(
        description="Its name."
    )
    value: Annotated[str, StringConstraints(max_length=2048)] | None = Field(None, description="Its value.")
    secret: KeyReference | None = Field(None, description="Key of a Secret that has its value; never read by the operator.")
    config_map: KeyReference | None = Field(None, description="Key of a ConfigMap that has its value.")

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        given = [self.value, self.secret, self.config_map]
        raise_broken(self.rules, (sum(each is not None for each in given) != 1,))
        return self


class CaBundle(Model):
    """Certificates to trust, those of public authorities among them: they replace the image's."""

    config_map: ObjectName = Field(description="ConfigMap of this namespace with the certificates, PEM.")
    key: _DataKey = Field("ca.crt", description="Its key.")


class Proxy(Model):
    """How the pods reach what is outside of the cluster; .svc, .cluster.local and loopback are reached directly."""

    http: _Url | None = Field(None, description="For http://.")
    https: _Url | None = Field(None, description="For https://; mostly itself an http:// URL.")
    no_proxy: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[^\s,]+$", max_length=253)]], Field(max_length=64), Distinct()
    ] = Field(
        default_factory=list, description="Hosts and domains that are reached directly, such as data.example or .corp.example."
    )


class EmptyDirectory(Model):
    """Empty at the start, and gone with the pod."""

    size_limit: Bytes | None = Field(None, description="The pod is evicted when there is more in it.")
    in_memory: bool = Field(False, description="true: in memory, counted in the pod's limit.")


class Volume(Model):
    """A volume, and where it is seen."""

    rules = (
        Rule(
            "[has(self.claim), has(self.configMap), has(self.secret), has(self.emptyDir)].filter(x, x).size() == 1",
            "set exactly one of claim, configMap, secret, emptyDir",
        ),
    )

    mount_path: Annotated[str, StringConstraints(pattern=r"^(/[^/:]+)+$", max_length=512), FREE_PATH] = Field(
        description="Folder in which it is seen."
    )
    sub_path: Annotated[str, StringConstraints(pattern=r"^[^/].*$", max_length=512)] | None = Field(
        None, description="Folder or file of the volume that is seen there; all of it when left out."
    )
    read_only: bool = Field(False, description="true: cannot be written to.")
    claim: ObjectName | None = Field(None, description="PersistentVolumeClaim of this namespace.")
    config_map: ObjectName | None = Field(None, description="ConfigMap of this namespace.")
    secret: ObjectName | None = Field(None, description="Secret of this namespace; never read by the operator.")
    empty_dir: EmptyDirectory | None = Field(None, description="An empty folder.")

    @model_validator(mode="after")
    def _one_volume(self) -> Self:
        given = [self.claim, self.config_map, self.secret, self.empty_dir]
        raise_broken(self.rules, (sum(each is not None for each in given) != 1,))
        return self


class Unsatisfiable(StrEnum):
    """What becomes of a pod that cannot be spread."""

    DO_NOT_SCHEDULE = "DoNotSchedule"
    SCHEDULE_ANYWAY = "ScheduleAnyway"


class TopologySpread(Model):
    """How the pods of one resource are spread over zones, nodes and the like."""

    topology_key: LabelKey = Field(description="Label of nodes: topology.kubernetes.io/zone, kubernetes.io/hostname.")
    max_skew: int = Field(1, ge=1, le=1000, description="Most pods more in one place than in another.")
    when_unsatisfiable: Unsatisfiable = Field(
        Unsatisfiable.SCHEDULE_ANYWAY, description="ScheduleAnyway: prefer; DoNotSchedule: insist."
    )


class RunAs(Model):
    """User and groups; 65532 for each that is left out."""

    rules = (
        Rule(
            "!self.platform || !(has(self.user) || has(self.group) || has(self.fsGroup))",
            "platform chooses user, group and fsGroup: leave them out",
        ),
    )

    platform: bool = Field(
        False,
        description="true: the pod names no user and no groups, so that the platform chooses (OpenShift's range of the namespace).",
    )
    user: _Id | None = Field(None, description="User id.")
    group: _Id | None = Field(None, description="Group id.")
    fs_group: _Id | None = Field(None, description="Group that owns the volumes.")

    @model_validator(mode="after")
    def _one_chooses(self) -> Self:
        raise_broken(self.rules, (self.platform and any((self.user, self.group, self.fs_group)),))
        return self


class Pod(Model):
    """What this cluster asks of pods: labels, accounts, environment, volumes, where they may run, and as whom."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=32), LABEL_KEYS, FREE_KEYS] | None = Field(
        None, description="Labels of the pods, such as sidecar.istio.io/inject or a cost centre."
    )
    annotations: (
        Annotated[dict[str, Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=32), LABEL_KEYS, FREE_KEYS] | None
    ) = Field(None, description="Annotations of the pods.")
    service_account_name: ObjectName | None = Field(
        None, description="ServiceAccount of the pods, for policies and pull secrets; they get no token of the Kubernetes API."
    )
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8), Distinct()] | None = Field(
        None, description="Secrets of this namespace with logins of registries."
    )
    env: Annotated[list[Variable], Field(max_length=32), Distinct("name")] | None = Field(
        None, description="Environment variables of the trainer, or of Triton."
    )
    ca_bundle: CaBundle | None = Field(
        None, description="Certificates to trust, announced by SSL_CERT_FILE and REQUESTS_CA_BUNDLE."
    )
    proxy: Proxy | None = Field(None, description="Proxies, announced by HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in both cases.")
    volumes: Annotated[list[Volume], Field(max_length=16), Distinct("mountPath")] | None = Field(
        None, description="More volumes, seen by the trainer, or by Triton."
    )
    shared_memory: Bytes | None = Field(None, description="Size of /dev/shm, counted in memory.")
    ephemeral_storage: Bytes | None = Field(
        None, description="Disk of the node that the pod may use, requested and limited: logs, /tmp, empty folders."
    )
    affinity: AnyAffinity | None = Field(None, description="As a pod's spec.affinity.")
    topology_spread: Annotated[list[TopologySpread], Field(max_length=8), Distinct("topologyKey")] | None = Field(
        None, description="How the pods of this resource are spread."
    )
    scheduler_name: ObjectName | None = Field(None, description="Scheduler of the pods.")
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass of the pods.")
    run_as: RunAs | None = Field(None, description="User and groups.")

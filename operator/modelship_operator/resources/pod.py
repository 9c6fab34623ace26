"""The pod template of everything that trains or measures: the trainer image, told by one environment variable what to do."""

from __future__ import annotations

from dataclasses import dataclass

from modelship_operator.api.common import Compute, Placement
from modelship_operator.resources.common import Json, Owner, container_security, labels, selector
from modelship_operator.resources.pod_options import (
    pod_environment,
    pod_metadata,
    pod_mounts,
    pod_security,
    pod_spec,
    pod_volumes,
    shared_memory,
)
from modelship_operator.resources.settings import PodSettings
from modelship_trainer import protocol
from modelship_trainer.protocol import EvaluateTask, TrainTask

CONTAINER = "trainer"
GRACE_SECONDS = 60
"""From SIGTERM to SIGKILL: time to write a checkpoint."""
TOKEN_SECONDS = 3600
TASK_LIMIT = 131_000
"""Bytes of the task that the environment can carry: Linux limits one variable to 128 KiB, name included (execve(2))."""
_PVC = "pvc://"


@dataclass(frozen=True, slots=True)
class Work:
    """What a pod is to do, and what it needs for that."""

    owner: Owner
    task: TrainTask | EvaluateTask
    compute: Compute
    sources: tuple[str, ...] = ()
    """URIs that it reads. A claim among them is mounted read-only, unless it is also the store's."""
    credentials_secret: str | None = None
    """Secret whose keys become environment variables with the contract's prefix. Never read by the operator."""


def pod_template(settings: PodSettings, work: Work) -> Json:
    """The whole pod template. Pure: the same arguments give the same bytes."""
    compute = work.compute
    spec: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(compute.pod.run_as if compute.pod else None),
        "containers": [_container(settings, work)],
        "volumes": [
            *_claim_volumes(work),
            _token_volume(),
            {"name": "tmp", "emptyDir": {}},
            *([{"name": "shm", **shared_memory(compute.pod, None)}] if _shares_memory(compute) else []),
            *pod_volumes(compute.pod),
        ],
    }
    return {"metadata": pod_metadata(compute.pod, labels(work.owner)), "spec": spec | placement(settings, compute, work.owner)}


def claim_of(uri: str) -> str | None:
    """The claim that a `pvc://claim/path` names; None for other schemes."""
    return uri.removeprefix(_PVC).split("/", 1)[0] if uri.startswith(_PVC) else None


def task_bytes(job: Json) -> int:
    """Size of the task in a Job's environment."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return next(len(entry["value"].encode()) for entry in container["env"] if entry["name"] == protocol.ENV_TASK)


def _container(settings: PodSettings, work: Work) -> Json:
    secret = {"prefix": protocol.ENV_CREDENTIALS_PREFIX, "secretRef": {"name": work.credentials_secret}}
    return {
        "name": CONTAINER,
        "image": work.compute.image or settings.trainer_image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["modelship-train" if isinstance(work.task, TrainTask) else "modelship-evaluate"],
        "env": _environment(settings, work),
        **({"envFrom": [secret]} if work.credentials_secret else {}),
        "ports": [{"name": "metrics", "containerPort": protocol.METRICS_PORT}],
        "resources": resources(work.compute),
        "securityContext": container_security(),
        "terminationMessagePath": protocol.TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(work),
    }


def _environment(settings: PodSettings, work: Work) -> list[Json]:
    values = {
        protocol.ENV_TASK: work.task.to_json_text(),
        protocol.ENV_PVC_ROOT: protocol.PVC_ROOT,
        protocol.ENV_TOKEN_FILE: protocol.TOKEN_FILE,
        **({protocol.ENV_PROGRESS_URL: settings.progress_url} if settings.progress_url else {}),
    }
    threads = {"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1"}}}
    pod_name = {"name": protocol.ENV_POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    asked = pod_environment(work.compute.pod, settings.progress_url)
    return [*({"name": name, "value": value} for name, value in values.items()), pod_name, threads, *asked]


def resources(compute: Placement) -> Json:
    """Memory and accelerators are the same in requests and limits, so that what is promised is what there is.

    CPU is promised, not limited: idle cores help whoever runs, and a quota would only slow training and add latency to serving.
    """
    accelerator = compute.accelerator
    devices = {accelerator.resource_name: str(accelerator.count)} if accelerator else {}
    disk = compute.pod.ephemeral_storage if compute.pod else None
    whole = {"memory": compute.memory, **({"ephemeral-storage": disk} if disk else {})} | devices
    return {"requests": {"cpu": compute.cpu} | whole, "limits": whole}


def _mounts(work: Work) -> list[Json]:
    claims = [
        {"name": name, "mountPath": f"{protocol.PVC_ROOT}/{claim}", **({} if writable else {"readOnly": True})}
        for name, claim, writable in _claims(work)
    ]
    token = {"name": "token", "mountPath": protocol.TOKEN_FILE.rsplit("/", 1)[0], "readOnly": True}
    shared = [{"name": "shm", "mountPath": "/dev/shm"}] if _shares_memory(work.compute) else []  # noqa: S108 - a mount in the pod
    return [*claims, token, {"name": "tmp", "mountPath": "/tmp"}, *shared, *pod_mounts(work.compute.pod)]  # noqa: S108 - a mount in the pod


def _claim_volumes(work: Work) -> list[Json]:
    return [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim, _ in _claims(work)]


def _claims(work: Work) -> list[tuple[str, str, bool]]:
    """(volume name, claim, writable) of each claim, the store's first, none twice."""
    store = claim_of(work.task.store)
    read = dict.fromkeys(claim for uri in work.sources if (claim := claim_of(uri)) and claim != store)
    return [*([("store", store, True)] if store else []), *((f"data-{i}", claim, False) for i, claim in enumerate(read))]


def _token_volume() -> Json:
    """A token that only the operator's progress endpoint accepts; the pod has no other."""
    token = {"audience": protocol.AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": protocol.TOKEN_FILE.rsplit("/", 1)[1]}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def _shares_memory(compute: Placement) -> bool:
    """Whether it has more than the runtime's 64 MiB: asked for, or for loaders and collectives that feed an accelerator."""
    return compute.accelerator is not None or (compute.pod is not None and compute.pod.shared_memory is not None)


def placement(settings: PodSettings, compute: Placement, owner: Owner) -> Json:
    """The part of a pod spec that says where it may run, and with which account; what is not asked for is left out."""
    placement: Json = {
        "nodeSelector": dict(compute.node_selector or {}),
        "tolerations": [toleration.to_json() for toleration in compute.tolerations or []],
        "priorityClassName": compute.priority_class_name,
        **pod_spec(compute.pod, selector(owner), settings.pull_secrets),
    }
    return {key: value for key, value in placement.items() if value}

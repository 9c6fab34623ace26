"""`spec.compute.pod` in a pod's own terms. Pure; each function gives nothing for a resource that asks for nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from modelship_operator.api.pod import EmptyDirectory, Pod, Proxy, RunAs, Variable, Volume
from modelship_operator.resources.common import UID, Json

CA_FOLDER = "/etc/modelship/ca"
_CA_FILE = "ca.crt"
_INSIDE = ("localhost", "127.0.0.1", "::1", ".svc", ".cluster.local")
"""Never asked for at a proxy: the cluster's own names."""
_NONE = Pod()


def pod_metadata(pod: Pod | None, labels: dict[str, str], annotations: dict[str, str] | None = None) -> Json:
    """Labels and annotations of the template: ours, and besides them those that were asked for."""
    pod = pod or _NONE
    noted = {**(pod.annotations or {}), **(annotations or {})}
    return {"labels": {**(pod.labels or {}), **labels}, **({"annotations": noted} if noted else {})}


def pod_spec(pod: Pod | None, own: dict[str, str], pull_secrets: tuple[str, ...]) -> Json:
    """Fields of the pod's spec. `own`: labels that tell this resource's pods from all others."""
    pod = pod or _NONE
    secrets = dict.fromkeys([*pull_secrets, *(pod.image_pull_secrets or [])])
    spread = [entry.to_json() | {"labelSelector": {"matchLabels": own}} for entry in pod.topology_spread or []]
    fields: Json = {
        "imagePullSecrets": [{"name": name} for name in secrets],
        "serviceAccountName": pod.service_account_name,
        "affinity": pod.affinity.to_json() if pod.affinity else None,
        "topologySpreadConstraints": spread,
        "schedulerName": pod.scheduler_name,
        "runtimeClassName": pod.runtime_class_name,
    }
    return {key: value for key, value in fields.items() if value}


def pod_security(run_as: RunAs | None) -> Json:
    """Pod-level security context: passes the restricted Pod Security Standard."""
    run_as = run_as or RunAs()
    ids = {"runAsUser": run_as.user or UID, "runAsGroup": run_as.group or UID, "fsGroup": run_as.fs_group or UID}
    return {
        "runAsNonRoot": True,
        **({} if run_as.platform else ids),
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_environment(pod: Pod | None, direct: str | None = None) -> list[Json]:
    """Variables of the container that works. `direct`: a URL that no proxy is asked for.

    What is named in `env` goes before what `proxy` and `caBundle` would set.
    """
    pod = pod or _NONE
    bundle = f"{CA_FOLDER}/{_CA_FILE}"
    trusted = {"SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle} if pod.ca_bundle else {}
    announced = {**trusted, **(_proxies(pod.proxy, direct) if pod.proxy else {})}
    named = {variable.name: _variable(variable) for variable in pod.env or []}
    entries = {name: {"name": name, "value": value} for name, value in announced.items()}
    return list((entries | named).values())


def _proxies(proxy: Proxy, direct: str | None) -> dict[str, str]:
    host = urlsplit(direct).hostname if direct else None
    around = ",".join(dict.fromkeys([*_INSIDE, *([host] if host else []), *proxy.no_proxy]))
    values = {"HTTP_PROXY": proxy.http, "HTTPS_PROXY": proxy.https, "NO_PROXY": around}
    return {spelled: value for name, value in values.items() if value for spelled in (name, name.lower())}


def _variable(variable: Variable) -> Json:
    if variable.value is not None:
        return {"name": variable.name, "value": variable.value}
    if variable.secret:
        return {"name": variable.name, "valueFrom": {"secretKeyRef": variable.secret.to_json()}}
    assert variable.config_map is not None  # noqa: S101 - one of the three is set
    return {"name": variable.name, "valueFrom": {"configMapKeyRef": variable.config_map.to_json()}}


def pod_volumes(pod: Pod | None) -> list[Json]:
    """Volumes of the pod."""
    pod = pod or _NONE
    volumes = [{"name": f"extra-{number}", **_source(volume)} for number, volume in enumerate(pod.volumes or [])]
    if pod.ca_bundle is None:
        return volumes
    items = [{"key": pod.ca_bundle.key, "path": _CA_FILE}]
    return [*volumes, {"name": "ca-bundle", "configMap": {"name": pod.ca_bundle.config_map, "items": items}}]


def pod_mounts(pod: Pod | None) -> list[Json]:
    """Where the container that works sees them."""
    pod = pod or _NONE
    mounts = [
        {
            "name": f"extra-{number}",
            "mountPath": volume.mount_path,
            **({"subPath": volume.sub_path} if volume.sub_path else {}),
            **({"readOnly": True} if volume.read_only else {}),
        }
        for number, volume in enumerate(pod.volumes or [])
    ]
    return [*mounts, *([{"name": "ca-bundle", "mountPath": CA_FOLDER, "readOnly": True}] if pod.ca_bundle else [])]


def _source(volume: Volume) -> Json:
    if volume.claim:
        return {"persistentVolumeClaim": {"claimName": volume.claim}}
    if volume.config_map:
        return {"configMap": {"name": volume.config_map}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret}}
    return {"emptyDir": _empty(volume.empty_dir or EmptyDirectory())}


def _empty(folder: EmptyDirectory) -> Json:
    memory = {"medium": "Memory"} if folder.in_memory else {}
    return {**memory, **({"sizeLimit": folder.size_limit} if folder.size_limit else {})}


def shared_memory(pod: Pod | None, default: str | None) -> Json:
    """Volume source of /dev/shm: of the size that was asked for, else of `default`, else bounded by the memory limit alone."""
    size = (pod or _NONE).shared_memory or default
    return {"emptyDir": {"medium": "Memory", **({"sizeLimit": size} if size else {})}}

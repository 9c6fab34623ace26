"""The Deployment that serves an artifact: a step that proves the bytes, Triton on loopback, a gateway that is its only door.

`docs/serving.md` says why each part is as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelship_operator.api.deployment import ModelDeploymentSpec
from modelship_operator.resources.common import (
    Json,
    Owner,
    container_security,
    labels,
    metadata,
    selector,
)
from modelship_operator.resources.pod import claim_of, placement, resources
from modelship_operator.resources.pod_options import (
    pod_environment,
    pod_metadata,
    pod_mounts,
    pod_security,
    pod_volumes,
    shared_memory,
)
from modelship_operator.resources.settings import PodSettings
from modelship_trainer.protocol import ENV_PVC_ROOT, PVC_ROOT, ArtifactRef
from modelship_trainer.schema import canonical_json
from modelship_trainer.serving.options import Device

REPOSITORY, TRITON, GATEWAY = "model-repository", "triton", "gateway"
"""Names of the containers."""
DIGEST_ANNOTATION = "modelship.dev/artifact-digest"
"""On the pod template, so that another artifact is another rollout, and each pod says what it serves."""
HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
_TRITON_HTTP, _TRITON_METRICS = 18000, 18002
_MODELS = "/models"
_DRAIN_SECONDS, _TRITON_EXIT_SECONDS, _SLACK_SECONDS = 5, 20, 5
_PROBE_SECONDS = 10
"""What a probe waits at least: `access.timeoutSeconds` of 1 must not make a moment's queue a reason to restart."""

# What the gateway holds at once, so that no request, however slow or large, gets the pod evicted or out of memory.
# Memory: a request costs 160 KiB of body (1.25 buffers of 128 KiB) and 288 KiB of answer, a connection beside them at most 40 KiB:
# 256 x 448 KiB + 4096 x 40 KiB + 16 MiB of nginx = 288 MiB; while Lua reads them, bodies under 100 kB take 100 MiB more, and
# larger ones, which take turns (`turns`), up to `_TIMES_BODY` times their size.
# Disk: an upload is a request whose body may exceed its buffer. As many may run as fill 2 GiB, and two always, over HTTP and over
# gRPC each.
_REQUESTS = 256
_GATEWAY_MEBIBYTES, _TIMES_BODY = 448, 6
_TURNS, _TURN_MEBIBYTES = 4, 256
_SPOOL_MEBIBYTES, _SPOOL_SLACK_MEBIBYTES = 2048, 64


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and how."""

    owner: Owner
    spec: ModelDeploymentSpec
    artifact: ArtifactRef

    @property
    def model(self) -> str:
        """The model's name in URLs: that of the ModelDeployment."""
        return self.owner.name


def deployment(settings: PodSettings, serving: Serving) -> Json:
    """The whole Deployment."""
    spec = serving.spec
    rolling = spec.strategy.rolling_update
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(serving.owner, serving.owner.name),
        "spec": {
            "replicas": spec.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": spec.progress_deadline_seconds,
            "selector": {"matchLabels": selector(serving.owner)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": rolling.max_surge, "maxUnavailable": rolling.max_unavailable},
            },
            "template": pod_template(settings, serving),
        },
    }


def pod_template(settings: PodSettings, serving: Serving) -> Json:
    """The pod, of which every container passes the restricted Pod Security Standard."""
    timeout, asked = serving.spec.access.timeout_seconds, serving.spec.compute.pod
    return {
        "metadata": pod_metadata(asked, labels(serving.owner), {DIGEST_ANNOTATION: serving.artifact.digest}),
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _DRAIN_SECONDS + timeout + _TRITON_EXIT_SECONDS + _SLACK_SECONDS,
            "securityContext": pod_security(asked.run_as if asked else None),
            "initContainers": [_repository(settings, serving), _triton(settings, serving)],
            "containers": [_gateway(settings, serving)],
            "volumes": _volumes(serving),
            **placement(settings, serving.spec.compute, serving.owner),
        },
    }


def uploads(serving: Serving) -> int:
    """Requests with large bodies that the gateway takes at once: those that its spool has room for."""
    return min(_REQUESTS, max(2, _SPOOL_MEBIBYTES // serving.spec.access.max_body_mebibytes))


def turns(serving: Serving) -> int:
    """Large bodies that the gateway has in memory at once: as many as make 256 MiB, one at least, four at most."""
    return max(1, min(_TURNS, _TURN_MEBIBYTES // serving.spec.access.max_body_mebibytes))


def device(serving: Serving) -> Device:
    """Where the model runs."""
    return Device.GPU if serving.spec.compute.accelerator else Device.CPU


# --- containers ---------------------------------------------------------------------------------------------------------------


def _repository(settings: PodSettings, serving: Serving) -> Json:
    """The init step: fetches, verifies every byte, writes config.pbtxt. It fails closed: nothing after it starts."""
    claim = claim_of(serving.artifact.uri)
    store = [{"name": "store", "mountPath": f"{PVC_ROOT}/{claim}", "readOnly": True}] if claim else []
    return {
        "name": REPOSITORY,
        "image": settings.operator_image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["python3", "-m", "modelship_trainer.serving.repository"],
        "args": [
            f"--artifact={serving.artifact.uri}",
            f"--digest={serving.artifact.digest}",
            f"--model-name={serving.model}",
            f"--output={_MODELS}",
            f"--device={device(serving).value}",
        ],
        "env": [
            {"name": ENV_PVC_ROOT, "value": PVC_ROOT},
            {"name": "MODELSHIP_BATCHING", "value": canonical_json(serving.spec.batching.to_json()).decode()},
            {"name": "MODELSHIP_OPTIMIZATION", "value": canonical_json(serving.spec.optimization.to_json()).decode()},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
        "volumeMounts": [*store, {"name": "models", "mountPath": _MODELS}],
    }


def _triton(settings: PodSettings, serving: Serving) -> Json:
    """A sidecar (restartPolicy Always): up before the gateway, down after it has drained."""
    return {
        "name": TRITON,
        "restartPolicy": "Always",
        "image": serving.spec.runtime.image or settings.triton_image,
        "imagePullPolicy": settings.pull_policy,
        "command": ["tritonserver"],
        "args": _triton_arguments(serving),
        "env": [
            {"name": "ORT_DISABLE_TELEMETRY", "value": "1"},
            {"name": "OMP_NUM_THREADS", "value": str(serving.spec.optimization.threads)},
            *pod_environment(serving.spec.compute.pod),
        ],
        "resources": resources(serving.spec.compute),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
        "startupProbe": _inference_probe(serving, period=1, failures=300),
        "readinessProbe": _inference_probe(serving, period=5, failures=2),
        "livenessProbe": _inference_probe(serving, period=5, failures=3),
        "volumeMounts": [
            {"name": "models", "mountPath": _MODELS, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount in the pod
            {"name": "triton-tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount in the pod
            *pod_mounts(serving.spec.compute.pod),
        ],
    }


def _triton_arguments(serving: Serving) -> list[str]:
    return [
        f"--model-repository={_MODELS}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={_TRITON_EXIT_SECONDS}",
        "--http-address=127.0.0.1",
        f"--http-port={_TRITON_HTTP}",
        "--allow-grpc=false",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={_TRITON_METRICS}",
        f"--allow-gpu-metrics={'true' if device(serving) is Device.GPU else 'false'}",
        "--log-format=ISO8601",
    ]


def _inference_probe(serving: Serving, *, period: int, failures: int) -> Json:
    """One real inference: a crashed backend process leaves the model READY while it answers 500.

    It waits in the queue with the clients' requests, so it waits as long as they are promised to: busy is not broken.
    By exec, as kubelet does not reach the pod's loopback; curl is in both Triton images; no shell.
    """
    patience = max(_PROBE_SECONDS, serving.spec.access.timeout_seconds)
    url = f"http://127.0.0.1:{_TRITON_HTTP}/v2/models/{serving.model}/infer"
    command = [
        *("curl", "--silent", "--show-error", "--fail", "--max-time", str(patience), "--output", "/dev/null"),
        *("--header", "Content-Type: application/json", "--data-binary", f"@{_MODELS}/{serving.model}/sample.json", url),
    ]
    # kubelet's own limit comes after curl's: starting a process takes seconds where the node is busy.
    limit = patience + _SLACK_SECONDS
    return {"exec": {"command": command}, "periodSeconds": period, "timeoutSeconds": limit, "failureThreshold": failures}


def _gateway(settings: PodSettings, serving: Serving) -> Json:
    """nginx: inference, metadata and health are answered, nothing else; its image's stop signal finishes accepted requests."""
    access = serving.spec.access
    memory = _GATEWAY_MEBIBYTES + turns(serving) * _TIMES_BODY * access.max_body_mebibytes
    ready = {"path": f"/v2/models/{serving.model}/ready", "port": "http"}
    return {
        "name": GATEWAY,
        "image": settings.gateway_image,
        "imagePullPolicy": settings.pull_policy,
        "env": [
            {"name": "GATEWAY_MODEL", "value": serving.model},
            {"name": "GATEWAY_MAX_BODY", "value": f"{access.max_body_mebibytes}m"},
            {"name": "GATEWAY_TIMEOUT", "value": f"{access.timeout_seconds}s"},
            {"name": "GATEWAY_REQUESTS", "value": str(_REQUESTS)},
            {"name": "GATEWAY_UPLOADS", "value": str(uploads(serving))},
            {"name": "GATEWAY_TURNS", "value": str(turns(serving))},
            {"name": "GATEWAY_DRAIN_SECONDS", "value": str(_DRAIN_SECONDS)},
        ],
        "ports": [
            {"name": "http", "containerPort": HTTP_PORT},
            {"name": "grpc", "containerPort": GRPC_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
        ],
        "lifecycle": {"preStop": {"exec": {"command": ["gateway", "drain"]}}},
        "readinessProbe": {"httpGet": ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "metrics"}, "periodSeconds": 10, "timeoutSeconds": 2},
        "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"memory": f"{memory}Mi"}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "models", "mountPath": _MODELS, "readOnly": True},
            {"name": "gateway-tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount in the pod
        ],
    }


def _volumes(serving: Serving) -> list[Json]:
    claim = claim_of(serving.artifact.uri)
    # Read-only is the mount. Of the claim it would ask some drivers for a read-only attachment, which conflicts with a training
    # on the same node that writes to the same disk.
    store = [{"name": "store", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    spool = min(_REQUESTS, 2 * uploads(serving)) * serving.spec.access.max_body_mebibytes + _SPOOL_SLACK_MEBIBYTES
    return [
        *store,
        {"name": "models", "emptyDir": {}},
        # 1 MiB an instance, more for large tensors; it counts as memory.
        {"name": "shm", **shared_memory(serving.spec.compute.pod, "256Mi")},
        {"name": "triton-tmp", "emptyDir": {"sizeLimit": "256Mi"}},
        {"name": "gateway-tmp", "emptyDir": {"sizeLimit": f"{spool}Mi"}},
        *pod_volumes(serving.spec.compute.pod),
    ]

"""A pod that mounts one claim and does one thing: how the command line reaches what lies on a claim, which only pods can mount.

It passes the restricted Pod Security Standard, has no token, and is deleted whatever happens. No exec, no rights of its own: who
may create a pod in the namespace may use it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

from kubernetes import watch
from kubernetes.client import ApiException, AppsV1Api

from modelship_operator.cli.client import Cluster, CommandError, Object, said

ROOT = "/mnt/pvc"
SECONDS = 120
_Watch: Any = watch.Watch


def claim_pod(name: str, image: str, claim: str, command: list[str], *, read_only: bool, deadline: int = SECONDS) -> Object:
    """The pod: `command` with `claim` mounted at `ROOT/claim`. `deadline` in seconds."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name[:47].rstrip('-.')}-{secrets.token_hex(3)}",
            "labels": {"app.kubernetes.io/managed-by": "modelship-cli"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "claim",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "store", "mountPath": f"{ROOT}/{claim}", "readOnly": read_only}],
                }
            ],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}],
        },
    }


@contextmanager
def running(core: Any, namespace: str, pod: Object) -> Iterator[None]:
    """The pod, from its creation to its deletion.

    Raises:
        CommandError: it was refused; in the API server's words.
    """
    try:
        core.create_namespaced_pod(namespace, pod)
    except ApiException as error:
        raise CommandError(f"a pod that mounts the claim was refused: {said(error)}") from error
    try:
        yield
    finally:
        core.delete_namespaced_pod(pod["metadata"]["name"], namespace, grace_period_seconds=0)


def wait_for(core: Any, namespace: str, name: str, phases: Set[str]) -> tuple[str, str]:
    """Last phase seen, once it is one of `phases` or time is up; and the scheduler's or kubelet's word on what it waits for."""
    phase, why = "Pending", ""
    pods: Any = _Watch()
    for event in pods.stream(core.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}", timeout_seconds=SECONDS):
        status = event["object"].status
        phase, why = status.phase, _word(status) or why
        if phase in phases:
            pods.stop()
    return phase, why


def _word(status: Any) -> str:
    waiting = [entry.state.waiting for entry in status.container_statuses or [] if entry.state and entry.state.waiting]
    unmet = [entry.message for entry in status.conditions or [] if entry.type == "PodScheduled" and entry.status == "False"]
    return next((text for text in [*unmet, *(entry.message for entry in waiting), status.message] if text), "")


def operator_image(cluster: Cluster) -> str | None:
    """The operator's image, which has Python and is in the cluster; None where this person may not see it.

    Raises:
        CommandError: the API server's other refusals.
    """
    try:
        selector = "app.kubernetes.io/name=modelship,app.kubernetes.io/component=operator"
        for found in cluster.api(AppsV1Api).list_deployment_for_all_namespaces(label_selector=selector).items:
            return str(found.spec.template.spec.containers[0].image)
    except ApiException as error:
        if error.status != 403:
            raise CommandError(f"the operator's Deployment: {said(error)}") from error
    return None

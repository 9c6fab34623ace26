"""A pod that mounts one claim and does one thing: how the command line reaches what lies on a claim, which only pods can mount.

It passes the restricted Pod Security Standard, has no token, asks for next to nothing, so that it fits on a full node, and is
deleted whatever happens. No exec, no rights of its own: the built-in role `edit` in the namespace is enough.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import watch
from kubernetes.client import ApiException, BatchV1Api, CoreV1Api
from pydantic import ValidationError

from modelship_operator.api.pod import Pod
from modelship_operator.cli.client import Cluster, CommandError, Object, said
from modelship_operator.resources.common import container_security
from modelship_operator.resources.pod_options import pod_metadata, pod_security, pod_spec
from modelship_trainer.yaml_text import YamlError, documents

ROOT = "/mnt/pvc"
SECONDS = 120
PUBLISHED = "modelship-client"
"""ConfigMap of the chart, which everybody in the cluster may read; its key `image` is the operator's image."""
INSTALLED_IN = "modelship-system"
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"})
"""What a container waits for in vain."""
_Watch: Any = watch.Watch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the commands that start such a pod have in common."""
    parser.add_argument("--image", help="image with Python for the pod that mounts the claim; default: the operator's")
    parser.add_argument(
        "--operator-namespace",
        default=INSTALLED_IN,
        help="where the operator was installed; default: %(default)s, or this namespace",
    )
    parser.add_argument("--pod", type=Path, help="file with what the cluster asks of pods, as spec.compute.pod")


def claim_pod(
    name: str, image: str, claim: str, command: list[str], *, read_only: bool, asked: Pod | None = None, deadline: int = SECONDS
) -> Object:
    """The pod: `command` with `claim` mounted at `ROOT/claim`. `deadline` in seconds."""
    labels = {"app.kubernetes.io/managed-by": "modelship-cli"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name[:47].rstrip('-.')}-{secrets.token_hex(3)}", **pod_metadata(asked, labels)},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": deadline,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(asked.run_as if asked else None),
            **pod_spec(asked, labels, ()),
            "containers": [
                {
                    "name": "claim",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}},
                    "securityContext": container_security(),
                    "volumeMounts": [{"name": "store", "mountPath": f"{ROOT}/{claim}", "readOnly": read_only}],
                }
            ],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": claim, "readOnly": read_only}}],
        },
    }


def asked_of_pods(file: Path | None) -> Pod | None:
    """What `--pod` names.

    Raises:
        CommandError: it cannot be read, or is no `compute.pod`.
    """
    if file is None:
        return None
    try:
        return Pod.model_validate(next(documents(file.read_text(encoding="utf-8")), {}))
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except (YamlError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CommandError(f"{file}: {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from error


def check_claim(cluster: Cluster, claim: str) -> None:
    """Find out at once what a pod would wait for in vain.

    Raises:
        CommandError: the claim does not exist, is lost, or nothing can bind it.
    """
    core = cluster.api(CoreV1Api)
    try:
        phase = core.read_namespaced_persistent_volume_claim(claim, cluster.namespace).status.phase
    except ApiException as error:
        if error.status == 404:
            raise CommandError(f'claim "{claim}" does not exist in namespace {cluster.namespace}; create it first') from error
        if error.status == 403:
            return  # the pod will show
        raise CommandError(f"claim {claim}: {said(error)}") from error
    if phase == "Lost":
        raise CommandError(f'claim "{claim}" has lost its volume; make it anew')
    if phase == "Pending" and (why := _why_unbound(core, cluster.namespace, claim)):
        raise CommandError(f'claim "{claim}" cannot be bound: {why}')


def _why_unbound(core: Any, namespace: str, claim: str) -> str | None:
    selector = f"involvedObject.kind=PersistentVolumeClaim,involvedObject.name={claim}"
    with contextlib.suppress(ApiException):
        events = core.list_namespaced_event(namespace, field_selector=selector).items
        reasons = [event.message for event in events if event.reason in ("FailedBinding", "ProvisioningFailed")]
        return reasons[-1] if reasons else None
    return None


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
        with contextlib.suppress(ApiException):  # gone already
            core.delete_namespaced_pod(pod["metadata"]["name"], namespace, grace_period_seconds=0)


def wait_for(core: Any, namespace: str, name: str, phases: Set[str]) -> tuple[str, str]:
    """Last phase seen, once it is one of `phases`, hopeless, or time is up; and the word of scheduler or kubelet on it.

    What it waits for is told on standard error while it does, each once.
    """
    phase, why, started = "Pending", "", time.monotonic()
    pods: Any = _Watch()
    for event in pods.stream(core.list_namespaced_pod, namespace, field_selector=f"metadata.name={name}", timeout_seconds=SECONDS):
        status = event["object"].status
        phase, word = status.phase, _word(status)
        if word and word != why and phase == "Pending":
            print(f"waiting for pod {name}: {word}", file=sys.stderr)
        why = word or why
        if phase in phases or event["type"] == "DELETED" or _is_hopeless(status) or time.monotonic() - started > SECONDS:
            pods.stop()
    return phase, why


def last_words(core: Any, namespace: str, name: str) -> str:
    """The last line of the pod's log; empty where it cannot be read, as of a pod that never had a node."""
    with contextlib.suppress(ApiException):
        lines = (core.read_namespaced_pod_log(name, namespace) or "").strip().splitlines()
        return str(lines[-1]) if lines else ""
    return ""


def _waiting(status: Any) -> list[Any]:
    return [entry.state.waiting for entry in status.container_statuses or [] if entry.state and entry.state.waiting]


def _is_hopeless(status: Any) -> bool:
    return any(waiting.reason in _HOPELESS for waiting in _waiting(status))


def _word(status: Any) -> str:
    unmet = [entry.message for entry in status.conditions or [] if entry.type == "PodScheduled" and entry.status == "False"]
    return next((text for text in [*unmet, *(entry.message for entry in _waiting(status)), status.message] if text), "")


def image_for(cluster: Cluster, options: argparse.Namespace) -> str:
    """An image with Python that the cluster already has: the given one, what the operator publishes, or that of a Job of ours here.

    Raises:
        CommandError: none can be seen.
    """
    if options.image:
        return str(options.image)
    for namespace in dict.fromkeys([options.operator_namespace, cluster.namespace]):
        with contextlib.suppress(ApiException):
            published = cluster.api(CoreV1Api).read_namespaced_config_map(PUBLISHED, namespace).data or {}
            if image := published.get("image"):
                return str(image)
    with contextlib.suppress(ApiException):
        ours = "app.kubernetes.io/managed-by=modelship"
        for job in cluster.api(BatchV1Api).list_namespaced_job(cluster.namespace, label_selector=ours, limit=1).items:
            return str(job.spec.template.spec.containers[0].image)
    raise CommandError(
        f'no image for the pod is known: you may read no ConfigMap "{PUBLISHED}" in namespace {options.operator_namespace}; name '
        "the operator's namespace with --operator-namespace, or an image with Python with --image"
    )

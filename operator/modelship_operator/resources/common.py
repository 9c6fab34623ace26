"""What every child of a resource carries: names, labels, owner reference; the hardening of every pod of ours."""

from __future__ import annotations

from typing import Any, NamedTuple

from modelship_operator.api.common import API_VERSION

Json = dict[str, Any]

MANAGED_BY = "app.kubernetes.io/managed-by"
KIND_LABEL = "modelship.dev/kind"
NAME_LABEL = "modelship.dev/name"
UID_LABEL = "modelship.dev/uid"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
UID = 65532
"""User and group of our images."""


class Owner(NamedTuple):
    """The resource that children belong to."""

    kind: str
    namespace: str
    name: str
    uid: str


def labels(owner: Owner) -> dict[str, str]:
    """Labels of every child, and of its pods."""
    return {MANAGED_BY: "modelship", KIND_LABEL: owner.kind, NAME_LABEL: owner.name, UID_LABEL: owner.uid}


def selector(owner: Owner) -> dict[str, str]:
    """Labels that its pods, and no others, carry."""
    return {KIND_LABEL: owner.kind, NAME_LABEL: owner.name}


def metadata(
    owner: Owner, name: str, extra_labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> Json:
    """Metadata of a child: garbage collection deletes it with its owner."""
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**labels(owner), **(extra_labels or {})},
        **({"annotations": annotations} if annotations else {}),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def annotation(obj: Json | None, name: str) -> str | None:
    """Its value; None where the object has none, or is none."""
    noted: str | None = (obj or {}).get("metadata", {}).get("annotations", {}).get(name)
    return noted


def owned_by(child: Json, uid: str) -> bool:
    """Whether the child belongs to the resource with this uid, and not to one of the same name before it, or to somebody else."""
    return any(
        reference.get("controller") and reference["uid"] == uid for reference in child["metadata"].get("ownerReferences", [])
    )


def container_security() -> Json:
    """Container-level security context: passes the restricted Pod Security Standard, and nothing is written to the image."""
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}

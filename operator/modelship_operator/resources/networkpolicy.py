"""Who reaches a serving pod, and whom it reaches: its clients, and nobody."""

from __future__ import annotations

from modelship_operator.api.deployment import Access, Peer
from modelship_operator.resources.common import Json, Owner, metadata, selector
from modelship_operator.resources.serving import GRPC_PORT, HTTP_PORT, METRICS_PORT

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label that the API server itself puts on every namespace."""


def network_policy(owner: Owner, access: Access) -> Json:
    """Ingress: the gateway's ports from `access.from`, metrics from the cluster's pods. Egress: none, the store is a volume."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "podSelector": {"matchLabels": selector(owner)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [*_clients(access.from_), _prometheus()],
        },
    }


def _clients(peers: list[Peer] | None) -> list[Json]:
    """No list: everybody. An empty one: nobody, so no rule at all (a rule with an empty `from` would let everybody in)."""
    ports = [{"port": HTTP_PORT, "protocol": "TCP"}, {"port": GRPC_PORT, "protocol": "TCP"}]
    if peers is None:
        return [{"ports": ports}]
    return [{"from": [_peer(peer) for peer in peers], "ports": ports}] if peers else []


def _peer(peer: Peer) -> Json:
    """Pods of this namespace, unless namespaces are named."""
    namespaces = {"matchExpressions": [{"key": _NAMESPACE_NAME, "operator": "In", "values": peer.namespaces}]}
    return {
        "podSelector": {"matchLabels": peer.pod_labels} if peer.pod_labels else {},
        **({"namespaceSelector": namespaces} if peer.namespaces else {}),
    }


def _prometheus() -> Json:
    """Numbers of requests and their latencies, no data: open to pods of the cluster, as Prometheus runs where it likes."""
    return {"from": [{"namespaceSelector": {}}], "ports": [{"port": METRICS_PORT, "protocol": "TCP"}]}

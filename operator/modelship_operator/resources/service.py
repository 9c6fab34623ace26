"""How a served model is reached, and how many of its pods may leave at once: Service, disruption budget."""

from __future__ import annotations

from modelship_operator.resources.common import Json, Owner, metadata, selector
from modelship_operator.resources.serving import GRPC_PORT, HTTP_PORT


def service(owner: Owner) -> Json:
    """HTTP and gRPC. Metrics are for Prometheus alone, which scrapes pods."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "selector": selector(owner),
            "ports": [
                {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
                {"name": "grpc", "port": GRPC_PORT, "targetPort": "grpc", "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
            ],
        },
    }


def disruption_budget(owner: Owner) -> Json:
    """At most one pod at a time leaves for a drain. With one replica it does not stand in a drain's way."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(owner, owner.name),
        "spec": {
            "maxUnavailable": 1,
            # A pod that is not ready serves nobody: it may go.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(owner)},
        },
    }

"""Raw resources for tests, as a user's YAML has them, and changes to them by field path."""

from __future__ import annotations

import copy
import re
from typing import Any

Json = dict[str, Any]

API_VERSION = "modelship.dev/v1alpha1"
DIGEST = "sha256:" + "0123456789abcdef" * 4
LEFT_OUT = object()
"""As a value for `changed`: take the field away."""


def make_training(name: str = "churn", namespace: str = "default", **spec: Any) -> Json:
    """A small valid ModelTraining; keywords replace whole fields of its spec (JSON names)."""
    base = {
        "data": {"source": "pvc://datasets/churn.csv", "target": "churned"},
        "model": {"mlp": {"hidden": [8]}},
        "training": {"task": "classification", "epochs": 2},
    }
    return _resource("ModelTraining", name, namespace, base | spec)


def make_evaluation(name: str = "churn-cv", namespace: str = "default", **spec: Any) -> Json:
    """A small valid ModelEvaluation of the training `churn`."""
    base = {
        "modelRef": {"training": "churn"},
        "method": {"kFold": {"folds": 3}},
        "metrics": ["accuracy", "roc_auc"],
        "gates": [{"metric": "roc_auc", "min": 0.8}],
    }
    return _resource("ModelEvaluation", name, namespace, base | spec)


def make_deployment(name: str = "churn", namespace: str = "default", **spec: Any) -> Json:
    """A small valid ModelDeployment of the training `churn`, gated by `churn-cv`."""
    base = {"modelRef": {"training": "churn"}, "gate": {"evaluations": ["churn-cv"]}}
    return _resource("ModelDeployment", name, namespace, base | spec)


def _resource(kind: str, name: str, namespace: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def changed(resource: Json, changes: Json) -> Json:
    """A copy with each value put at its path: `changed(r, {"spec.gates[0].min": 1, "spec.data": LEFT_OUT})`.

    Objects on the way are made where they lack.
    """
    made = copy.deepcopy(resource)
    for path, value in changes.items():
        *way, last = [int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]
        holder: Any = made
        for part in way:
            holder = holder[part] if isinstance(part, int) else holder.setdefault(part, {})
        if value is LEFT_OUT:
            del holder[last]
        else:
            holder[last] = value
    return made

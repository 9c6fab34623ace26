"""What others have put into an object, told by field managers, as the API server 1.36 writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelship_operator.kube.ownership import additions
from modelship_operator.kube.pruning import prune

pytestmark = pytest.mark.unit

CONTAINER = 'k:{"name":"triton"}'
OURS = {
    "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {CONTAINER: {".": {}, "f:name": {}, "f:image": {}}}}}}
}


def deployment(*others: Any, manager: str = "kubectl-patch", subresource: str | None = None) -> Any:
    entries = [{"manager": "modelship", "operation": "Apply", "fieldsV1": OURS}]
    more = {"subresource": subresource} if subresource else {}
    entries += [{"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": fields}, **more} for fields in others]
    containers = [{"name": name, "image": "i", "env": [{"name": "A/B", "value": "x"}]} for name in ("a", "triton", "z")]
    metadata = {"namespace": "n", "name": "d", "uid": "u", "resourceVersion": "1", "managedFields": entries}
    spec = {
        "replicas": 1,
        "paused": True,
        "template": {"metadata": {"annotations": {"x": "y"}}, "spec": {"containers": containers}},
    }
    spec["template"]["spec"] |= {"hostNetwork": True, "finalizers": ["q", "r"], "odd/name": 1}  # type: ignore[index,operator]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def in_pod(**fields: Any) -> Any:
    return {"f:template": {"f:spec": {key.replace("_", ":", 1): value for key, value in fields.items()}}}


def item(**keys: str) -> str:
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


@pytest.mark.parametrize(
    ("others", "pointers"),
    [
        ([], []),
        ([{"f:replicas": {}}], []),
        ([in_pod(f_hostNetwork={})], ["/spec/template/spec/hostNetwork"]),
        ([in_pod(**{"f_odd/name": {}})], ["/spec/template/spec/odd~1name"]),
        ([in_pod(f_gone={})], []),
        (
            [in_pod(f_containers={item(name="a"): {".": {}, "f:name": {}}, item(name="z"): {"f:image": {}}})],
            ["/spec/template/spec/containers/2", "/spec/template/spec/containers/0"],
        ),
        ([in_pod(f_containers={CONTAINER: {"f:env": {}, "f:image": {}}})], ["/spec/template/spec/containers/1/env"]),
        ([in_pod(f_finalizers={'v:"r"': {}})], ["/spec/template/spec/finalizers"]),
        ([in_pod(f_hostNetwork={}), in_pod(f_hostNetwork={})], ["/spec/template/spec/hostNetwork"]),
    ],
    ids=["nothing", "a value of ours", "a field", "an odd name", "gone since", "items", "in an item", "a set", "by two"],
)
def test_additions_are_found_in_an_order_in_which_they_can_be_removed(others: list[Any], pointers: list[str]) -> None:
    assert additions(deployment(*others), "spec", ("modelship",)) == pointers


def test_what_we_wrote_ourselves_or_a_controller_wrote_through_a_subresource_is_none() -> None:
    fields = in_pod(f_hostNetwork={})
    assert additions(deployment(fields, manager="modelship"), "spec", ("modelship",)) == []
    assert additions(deployment(fields, subresource="scale"), "spec", ("modelship",)) == []


def test_the_store_keeps_what_has_to_go_and_tolerates_pauses_and_annotations() -> None:
    tolerated = {"f:paused": {}, "f:template": {"f:metadata": {"f:annotations": {"f:x": {}}}}}
    ours = deployment(tolerated)
    ours["metadata"]["managedFields"][0]["fieldsV1"] = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {}}}}}
    assert "additions" not in prune(ours)
    assert prune(deployment(in_pod(f_hostNetwork={})))["additions"] == ["/spec/template/spec/hostNetwork"]
    assert "managedFields" not in prune(deployment())["metadata"]

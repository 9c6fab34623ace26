"""What the store keeps, in whatever order it is told, and whom it touches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from modelship_operator.controllers.framework import FoldProgress, ObjectKey
from modelship_operator.runtime.coalescing import Coalescer
from modelship_operator.runtime.store import Store
from modelship_trainer.protocol import Progress

pytestmark = pytest.mark.unit


def obj(kind: str, name: str, version: int = 1, uid: str | None = None, owner: str | None = None, **more: Any) -> dict[str, Any]:
    labels = {"modelship.dev/kind": "ModelTraining", "modelship.dev/name": owner, "modelship.dev/uid": f"{owner}-uid"}
    metadata = {"namespace": "n", "name": name, "uid": uid or f"{name}-uid", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata | ({"labels": labels} if owner else {}), **more}


def key(kind: str, name: str) -> ObjectKey:
    return ObjectKey(kind, "n", name)


@pytest.fixture
def touched() -> list[ObjectKey]:
    return []


@pytest.fixture
def store(touched: list[ObjectKey]) -> Store:
    def names(evaluation: dict[str, Any]) -> list[ObjectKey]:
        return [key("ModelTraining", evaluation["spec"]["of"])]

    return Store({"ModelTraining": lambda obj: (), "ModelEvaluation": names}, touched.append)


def test_an_older_version_never_replaces_a_newer_one_and_an_echo_touches_nobody(store: Store, touched: list[ObjectKey]) -> None:
    store.put(obj("ModelTraining", "a", 10, spec={"x": 1}))
    store.put(obj("ModelTraining", "a", 9, spec={"x": 0}))
    store.put(obj("ModelTraining", "a", 10, spec={"x": 0}))
    assert store.get(key("ModelTraining", "a"))["spec"] == {"x": 1}
    assert touched == [key("ModelTraining", "a")]


def test_a_late_answer_does_not_bring_back_what_was_deleted(store: Store) -> None:
    store.put(obj("Job", "j", 1, owner="a"))
    store.delete(obj("Job", "j", 5, owner="a"))
    store.put(obj("Job", "j", 3, owner="a"))
    assert store.get(key("Job", "j")) is None
    assert store.children("a-uid", "Job") == []


def test_a_late_deletion_does_not_take_the_next_of_its_name(store: Store) -> None:
    store.put(obj("Job", "j", 1, uid="old", owner="a"))
    store.put(obj("Job", "j", 5, uid="new", owner="a"))
    store.delete(obj("Job", "j", 4, uid="old", owner="a"))
    assert store.get(key("Job", "j"))["metadata"]["uid"] == "new"
    assert len(store.children("a-uid", "Job")) == 1


def test_a_child_touches_its_owner_and_a_resource_who_names_it(store: Store, touched: list[ObjectKey]) -> None:
    store.put(obj("ModelEvaluation", "e", spec={"of": "a"}))
    touched.clear()
    store.put(obj("Pod", "p", owner="a"))
    assert touched == [key("ModelTraining", "a")]
    touched.clear()
    store.put(obj("ModelTraining", "a"))
    assert set(touched) == {key("ModelTraining", "a"), key("ModelEvaluation", "e")}
    touched.clear()
    store.delete(obj("ModelTraining", "a", 2))
    assert key("ModelEvaluation", "e") in touched


def test_a_reference_that_moved_is_followed(store: Store, touched: list[ObjectKey]) -> None:
    store.put(obj("ModelEvaluation", "e", 1, spec={"of": "a"}))
    store.put(obj("ModelEvaluation", "e", 2, spec={"of": "b"}))
    touched.clear()
    store.put(obj("ModelTraining", "a"))
    assert touched == [key("ModelTraining", "a")]
    store.put(obj("ModelTraining", "b"))
    assert key("ModelEvaluation", "e") in touched


def test_who_wrote_it_need_not_be_told(store: Store, touched: list[ObjectKey]) -> None:
    store.put(obj("Job", "j", owner="a"), writer=key("ModelTraining", "a"))
    assert touched == []


def test_a_list_takes_what_is_gone_but_not_what_is_younger_or_elsewhere(store: Store) -> None:
    store.put(obj("ModelTraining", "gone", 1))
    store.put(obj("ModelTraining", "kept", 2))
    store.put(obj("ModelTraining", "young", 11))
    elsewhere = obj("ModelTraining", "elsewhere", 1)
    elsewhere["metadata"]["namespace"] = "other"
    store.put(elsewhere)
    store.replace("ModelTraining", "n", [obj("ModelTraining", "kept", 2)], "10")
    assert {found["metadata"]["name"] for found in store.all("ModelTraining")} == {"kept", "young", "elsewhere"}


def test_a_child_that_is_relabelled_changes_sides(store: Store) -> None:
    store.put(obj("Pod", "p", 1, owner="a"))
    store.put(obj("Pod", "p", 2, owner="b"))
    assert (store.children("a-uid", "Pod"), len(store.children("b-uid", "Pod"))) == ([], 1)
    store.delete(obj("Pod", "p", 3, owner="b"))
    assert (store.children("a-uid", "Pod"), store.children("b-uid", "Pod")) == ([], [])


def containers(value: Any) -> set[int]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return set() if parts is None else {id(value)}.union(*(containers(part) for part in parts))


def test_what_is_kept_is_the_store_s_own_and_equal_parts_are_kept_once(store: Store) -> None:
    """Kopf's wiring takes an event apart when it was told; and half of all writes are of a status alone."""
    first, second = (
        obj("ModelTraining", "a", version, spec={"x": [{"y": 1}]}, status={"phase": f"{version}"}) for version in (1, 2)
    )
    store.put(first)
    before = store.get(key("ModelTraining", "a"))
    store.put(second)
    kept = store.get(key("ModelTraining", "a"))
    assert kept == second
    assert not (containers(before) | containers(kept)) & (containers(first) | containers(second))
    assert kept["spec"] is before["spec"]
    assert before["status"] == {"phase": "1"}


def test_what_is_not_needed_is_not_kept(store: Store) -> None:
    job = obj("Job", "j", owner="a", spec={"template": {"spec": {}}, "suspend": True}, status={"active": 1})
    job["metadata"] |= {"managedFields": [{}], "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "k": "v"}}
    store.put(job)
    kept = store.get(key("Job", "j"))
    assert kept["spec"] == {"suspend": True}
    assert kept["status"] == {"active": 1}
    assert kept["metadata"]["annotations"] == {"k": "v"}
    assert "managedFields" not in kept["metadata"]
    limits = {"limits": {"memory": "1Gi"}}
    container = {"name": "c", "image": "i", "resources": limits, "env": [{"name": "E"}]}
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "d"}}, {"name": "t", "emptyDir": {}}]
    store.put(obj("Pod", "p", owner="a", spec={"containers": [container], "volumes": volumes, "nodeName": "x"}))
    pod = store.get(key("Pod", "p"))["spec"]
    assert pod == {"containers": [{"name": "c", "image": "i", "resources": limits}], "volumes": volumes[:1], "nodeName": "x"}


def pushed(epoch: int) -> FoldProgress:
    return FoldProgress("p", None, Progress(phase="Training", epoch=epoch))


@pytest.mark.looptime
async def test_progress_is_shown_at_once_then_once_per_interval(store: Store, touched: list[ObjectKey]) -> None:
    store.put(obj("ModelTraining", "a"))
    store.put(obj("Pod", "p", owner="a"))
    touched.clear()
    coalescer = Coalescer(store, 15, touched.append)
    shown = []
    for epoch in range(58):
        coalescer.push(key("ModelTraining", "a"), "a-uid", pushed(epoch))
        shown.append(store.progress("a-uid")["p"].progress.epoch)
        await asyncio.sleep(1)
    assert len(touched) == 4
    assert [epoch for i, epoch in enumerate(shown) if i == 0 or epoch != shown[i - 1]] == [0, 14, 29, 44]
    await asyncio.sleep(15)
    assert store.progress("a-uid")["p"].progress.epoch == 57
    store.delete(obj("Pod", "p", 9, owner="a"))
    assert not store.progress("a-uid")

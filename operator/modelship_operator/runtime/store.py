"""What the operator knows of the cluster: every object that it cares for, pruned, and who is touched when one changes.

One copy in one place. Filled by lists, kept up to date by watches, and told at once of what we wrote ourselves, so that a plan
made before the watch has caught up does not write the same again. An older version of an object never replaces a newer one
(resource versions of one kind are comparable, KEP-5504), so it does not matter in which order these three tell of it.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from modelship_operator.controllers.framework import Failure, FoldProgress, ObjectKey, RefusedPod
from modelship_operator.kube.pruning import prune
from modelship_operator.resources.common import KIND_LABEL, NAME_LABEL, UID_LABEL

Json = dict[str, Any]

_REMEMBERED_DELETIONS = 10_000
_NO_PROGRESS: Mapping[str, FoldProgress] = {}


class Store:
    """Implements `controllers.framework.StoreView`. Belongs to the event loop's thread."""

    def __init__(
        self, references: Mapping[str, Callable[[Json], Iterable[ObjectKey]]], changed: Callable[[ObjectKey], None]
    ) -> None:
        """Start empty.

        Args:
            references: of each of our kinds, what an object names.
            changed: told the key of each of our objects that must be looked at again.
        """
        self._references = references
        self._changed = changed
        self._objects: dict[str, dict[tuple[str, str], Json]] = defaultdict(dict)
        self._children: dict[tuple[str, str], dict[tuple[str, str], Json]] = {}
        self._named: dict[ObjectKey, tuple[ObjectKey, ...]] = {}
        self._referrers: dict[ObjectKey, set[ObjectKey]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        """Uids that are no more: a late answer or event must not bring one back."""
        self._progress: dict[str, dict[str, FoldProgress]] = {}
        self._failures: dict[str, Failure] = {}
        self._refused_pods: dict[str, RefusedPod] = {}

    # --- StoreView -------------------------------------------------------------------------------------------------------------

    def get(self, key: ObjectKey) -> Json | None:
        """The object, or None."""
        return self._objects[key.kind].get((key.namespace, key.name))

    def children(self, uid: str, kind: str) -> list[Json]:
        """Children by the label with their owner's uid, oldest first."""
        return sorted(
            self._children.get((uid, kind), {}).values(), key=lambda child: child["metadata"].get("creationTimestamp", "")
        )

    def progress(self, uid: str) -> Mapping[str, FoldProgress]:
        """What its pods last pushed, by pod name."""
        return self._progress.get(uid, _NO_PROGRESS)

    def refused_pod(self, job: str) -> RefusedPod | None:
        """Why the Job with this uid has no pod, if that was looked up."""
        return self._refused_pods.get(job)

    def failure(self, uid: str) -> Failure | None:
        """What was refused when its last plan was acted on."""
        return self._failures.get(uid)

    # --- the other way around --------------------------------------------------------------------------------------------------

    def all(self, kind: str) -> Iterator[Json]:
        """All objects of a kind."""
        return iter(self._objects[kind].values())

    def count(self, kind: str) -> int:
        """How many there are."""
        return len(self._objects[kind])

    def set_failure(self, uid: str, failure: Failure | None) -> None:
        """Remember what was refused, or that nothing was."""
        if failure is None:
            self._failures.pop(uid, None)
        else:
            self._failures[uid] = failure

    def set_refused_pod(self, job: str, refused: RefusedPod) -> None:
        """Remember why the Job with this uid has no pod, for as long as the Job is there."""
        self._refused_pods[job] = refused

    def set_progress(self, uid: str, progress: Mapping[str, FoldProgress]) -> None:
        """Show what was pushed to the controllers."""
        self._progress[uid] = {**self._progress.get(uid, {}), **progress}

    def put(self, obj: Json, *, writer: ObjectKey | None = None) -> None:
        """An object as it is now, or was when this was sent. `writer`: whose reconcile wrote it, and so need not be told.

        Only what is news is pruned and kept: half of all watch events are echoes of what we wrote.
        """
        metadata = obj["metadata"]
        place = (metadata["namespace"], metadata["name"])
        known = self._objects[obj["kind"]].get(place)
        if metadata["uid"] in self._deleted or (known is not None and not _newer(obj, known)):
            return
        obj = prune(obj, known)
        metadata = obj["metadata"]
        owner = _owner(obj)
        if known is not None and (known["metadata"]["uid"] != metadata["uid"] or _owner(known) != owner):
            self._remove(known)
        self._objects[obj["kind"]][place] = obj
        if owner:
            self._children.setdefault((owner, obj["kind"]), {})[place] = obj
        self._refer(obj)
        self._touch(obj, writer)

    def delete(self, obj: Json) -> None:
        """That very object (by uid) is no more."""
        metadata = obj["metadata"]
        self._deleted[metadata["uid"]] = None
        while len(self._deleted) > _REMEMBERED_DELETIONS:
            self._deleted.popitem(last=False)
        known = self._objects[obj["kind"]].get((metadata["namespace"], metadata["name"]))
        if known is not None and known["metadata"]["uid"] == metadata["uid"]:
            self._remove(known)
            self._touch(known)

    def replace(self, kind: str, namespace: str | None, objects: Iterable[Json], version: str) -> None:
        """All that there was at `version`: what we know from before, and is not among them, is no more."""
        listed = set()
        for obj in objects:
            listed.add(obj["metadata"]["uid"])
            self.put(obj)
        for known in list(self._objects[kind].values()):
            metadata = known["metadata"]
            mine = namespace is None or metadata["namespace"] == namespace
            if mine and metadata["uid"] not in listed and int(metadata["resourceVersion"]) <= int(version):
                self.delete(known)

    # --- indices ---------------------------------------------------------------------------------------------------------------

    def _remove(self, known: Json) -> None:
        metadata = known["metadata"]
        place = (metadata["namespace"], metadata["name"])
        del self._objects[known["kind"]][place]
        owner = (metadata.get("labels", {}).get(UID_LABEL, ""), known["kind"])
        siblings = self._children.get(owner, {})
        siblings.pop(place, None)
        if not siblings:
            self._children.pop(owner, None)
        if known["kind"] == "Pod":
            self._progress.get(owner[0], {}).pop(metadata["name"], None)
        key = ObjectKey(known["kind"], *place)
        for named in self._named.pop(key, ()):
            self._unrefer(named, key)
        self._progress.pop(metadata["uid"], None)
        self._failures.pop(metadata["uid"], None)
        self._refused_pods.pop(metadata["uid"], None)

    def _refer(self, obj: Json) -> None:
        references = self._references.get(obj["kind"])
        if references is None:
            return
        key = ObjectKey(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])
        named = tuple(references(obj))
        before = self._named.get(key, ())
        if named == before:
            return
        for old in before:
            self._unrefer(old, key)
        for new in named:
            self._referrers.setdefault(new, set()).add(key)
        if named:
            self._named[key] = named
        else:
            self._named.pop(key, None)

    def _unrefer(self, named: ObjectKey, key: ObjectKey) -> None:
        referrers = self._referrers.get(named, set())
        referrers.discard(key)
        if not referrers:
            self._referrers.pop(named, None)

    def _touch(self, obj: Json, writer: ObjectKey | None = None) -> None:
        """Tell of every object of ours that must be looked at again: itself, its owner, who names it."""
        metadata = obj["metadata"]
        key = ObjectKey(obj["kind"], metadata["namespace"], metadata["name"])
        touched = set(self._referrers.get(key, ()))
        if key.kind in self._references:
            touched.add(key)
        labels = metadata.get("labels", {})
        if labels.get(KIND_LABEL) in self._references:
            touched.add(ObjectKey(labels[KIND_LABEL], metadata["namespace"], labels.get(NAME_LABEL, "")))
        for other in touched:
            if other != writer:
                self._changed(other)


def _owner(obj: Json) -> str | None:
    uid: str | None = obj["metadata"].get("labels", {}).get(UID_LABEL)
    return uid


def _newer(obj: Json, known: Json) -> bool:
    return int(obj["metadata"]["resourceVersion"]) > int(known["metadata"]["resourceVersion"])

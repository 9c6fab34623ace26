"""One reconcile: observe the store, plan, act. `controllers.framework` states the rules that this keeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

import orjson

from modelship_operator.api.common import API_VERSION
from modelship_operator.controllers.framework import Controller, Failure, ObjectKey, Plan
from modelship_operator.kube.client import JSON, METADATA_ONLY, Client
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.events import Recorder
from modelship_operator.kube.pruning import spec_additions, status_additions
from modelship_operator.kube.resources import Resource
from modelship_operator.resources.common import annotation, owned_by
from modelship_operator.resources.covers import covers
from modelship_operator.runtime.inquiry import Inquiry
from modelship_operator.runtime.metrics import Metrics
from modelship_operator.runtime.queue import RetryLater
from modelship_operator.runtime.rivals import Corrections, Yielded, Yielding
from modelship_operator.runtime.store import Store

Json = dict[str, Any]
log = logging.getLogger(__name__)

SPEC_HASH = "modelship.dev/spec-hash"
"""Annotation of children: of what they were applied from."""
OPERATOR = "modelship.dev/operator"
"""Annotation of children: the operator (NAMESPACE/NAME of its Lease) that applied them."""
YIELD_SECONDS = 60.0
WATCHED = {
    kind: Resource(api, kind)
    for api, kind in (
        ("batch/v1", "Job"),
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("policy/v1", "PodDisruptionBudget"),
    )
}
"""Children that the store holds."""
_MUTABLE_OF_JOB = ("suspend", "parallelism", "activeDeadlineSeconds", "backoffLimit")
"""The pod template of a Job never changes: a Job that an older operator built stays as it is, but for these."""
_TERMINATING_SECONDS = 30.0
_ROUNDS = 3
"""Plans in a row that may write children, before the status is written: a retry after a refusal, what it makes, what follows."""
_REMEMBERED = 100_000


class Reconciler:
    """Reconciles objects of every kind that has a controller."""

    def __init__(
        self,
        client: Client,
        store: Store,
        controllers: Mapping[str, Controller[Any]],
        recorder: Recorder,
        metrics: Metrics,
        instance: str,
        pressing: Callable[[], bool] = lambda: False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._store = store
        self._controllers = controllers
        self._recorder = recorder
        self._metrics = metrics
        self._inquiry = Inquiry(client, store)
        self._instance = instance
        self._corrections = Corrections(time.monotonic)
        self._yielding = Yielding(time.monotonic)
        self._pressing = pressing
        self._clock = clock
        self._settled: dict[str, str] = {}
        """Of each child's uid the version that our last apply left: it is as good as it gets, whatever a policy made of it."""

    async def __call__(self, key: ObjectKey) -> float | None:
        """Look at one object; returns the seconds after which to look again.

        Raises:
            RetryLater: something was refused, or the API server could not be reached.
        """
        obj = self._store.get(key)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            if obj is not None:
                self._yielding.end(obj["metadata"]["uid"])
            return None
        started = time.perf_counter()
        result = "error"
        try:
            delay = await self._reconcile(obj)
            result = "success"
        except RetryLater:
            result = "retry"
            raise
        except Exception:
            log.exception("reconcile failed: a bug of the operator", extra=_fields(key))
            raise
        else:
            return delay
        finally:
            self._metrics.reconciled(key.kind, result, time.perf_counter() - started)

    async def _reconcile(self, obj: Json) -> float | None:
        uid = obj["metadata"]["uid"]
        plan = self._plan(obj)
        try:
            for _ in range(_ROUNDS):
                if not await self._act_on_children(obj, plan) and not self._store.failure(uid):
                    break
                self._store.set_failure(uid, None)
                if self._pressing():
                    return 0.0  # others are not started yet: that goes before telling that this one is
                plan = self._plan(obj)  # the status is to tell of what is there now, in one write
        except _Refused as refused:
            return await self._refused(obj, refused)
        except Yielded as yielded:
            return self._yield_to(obj, yielded.other)
        except _Waits as waits:
            delay = await self._act_on_status(obj, plan)
            return waits.seconds if delay is None else min(delay, waits.seconds)
        if plan.inquire is not None and await self._inquiry.ask(plan.inquire):
            plan = self._plan(obj)
        return await self._act_on_status(obj, plan)

    def _yield_to(self, obj: Json, other: str) -> float:
        """Another operator of ours acts on this resource: say so once, write nothing of it, and look whether it is still there."""
        if self._yielding.begin(obj, other):
            message = (
                f"operator {other} acts on this resource, too; {self._instance} leaves it alone. Give each its own namespaces."
            )
            log.error(message, extra={**_fields(_key(obj)), "operator": other})
            self._recorder.record(obj, type="Warning", reason="OtherOperator", action="Yield", note=message)
        self._metrics.yielded.set(len(self._yielding))
        return YIELD_SECONDS

    def _plan(self, obj: Json) -> Plan:
        controller = self._controllers[obj["kind"]]
        plan: Plan = controller.plan(controller.observe(self._store, obj), self._clock())
        return plan

    async def _refused(self, obj: Json, refused: _Refused) -> float | None:
        """Let the resource say what was refused, and try again later."""
        failure, error = refused.failure, refused.error
        if error.terminating:
            return _TERMINATING_SECONDS
        where = {**_fields(_key(obj)), "verb": failure.verb, "target": _name(failure.target), "code": error.code}
        log.log(logging.INFO if error.transient else logging.ERROR, error.message, extra=where)
        if not error.transient and not error.gone:
            self._store.set_failure(obj["metadata"]["uid"], failure)
            delay = await self._act_on_status(obj, self._plan(obj))
            if delay is not None:
                return delay
        raise RetryLater(error.message, error.retry_after) from error

    # --- children --------------------------------------------------------------------------------------------------------------

    async def _act_on_children(self, obj: Json, plan: Plan) -> bool:
        """Whether there is anything new to plan from: what was applied is known at once, what was deleted when the watch tells."""
        wrote = False
        for key in plan.delete:
            with _refusals("delete", key):
                await self._delete(obj, key)
        for desired in plan.apply:
            metadata = desired["metadata"]
            key = ObjectKey(desired["kind"], metadata["namespace"], metadata["name"])
            with _refusals("apply", key):
                wrote |= await self._apply(obj, key, desired)
        return wrote

    async def _apply(self, obj: Json, key: ObjectKey, desired: Json) -> bool:
        resource = WATCHED[key.kind]
        known = self._store.get(key)
        if known is None and key.kind == "Job":
            await self._create(obj, resource, desired)
            return True
        if known is None:
            await self._refuse_strangers(key, obj)
            await self._apply_signed(obj, resource, desired, {})
            return True
        if not owned_by(known, obj["metadata"]["uid"]):
            raise ApiError(409, f"{key.kind} {key.name!r} exists and belongs to something else; it must be deleted first")
        if key.kind == "Job":
            return await self._adjust_job(obj, resource, known, desired)
        uid = known["metadata"]["uid"]
        if annotation(known, SPEC_HASH) == _digest(desired):
            if self._settled.get(uid) == _version(known["metadata"]) or _says(known, desired):
                return False
            self._correct(obj, key, known)
        elif uid in self._settled and (other := annotation(known, OPERATOR)) not in (None, self._instance):
            if not self._yielding.is_abandoned(obj):
                raise Yielded(other or "")
            self._yielding.end(obj["metadata"]["uid"])
            self._metrics.yielded.set(len(self._yielding))
        await self._apply_signed(obj, resource, desired, known)
        return True

    def _correct(self, obj: Json, key: ObjectKey, known: Json) -> None:
        """Somebody else changed a child, which is put right: at once, but not again and again at full speed.

        Raises:
            _Waits: it was changed again just after.
        """
        uid = known["metadata"]["uid"]
        if wait := self._corrections.wait(uid):
            raise _Waits(wait)
        self._corrections.made(uid)
        where = {**_fields(_key(obj)), "target": _name(key), "added": known.get("additions", [])}
        log.warning("a child was changed by somebody else; applying it again", extra=where)

    async def _create(self, obj: Json, resource: Resource, desired: Json) -> None:
        """Half the work of an apply for the API server, and a Job is never applied again: its template cannot change."""
        answer = await self._client.create(resource, desired["metadata"]["namespace"], desired, accept=METADATA_ONLY)
        self._store.put({**desired, "metadata": answer["metadata"], "status": {}}, writer=_key(obj))

    async def _refuse_strangers(self, key: ObjectKey, obj: Json) -> None:
        """A Service without a selector has nothing that an apply without force would conflict with: it would become ours, and be
        deleted with us. Every other kind of child has a field that it must have, and that its maker owns.
        """
        if key.kind != "Service":
            return
        try:
            found = await self._client.get(WATCHED[key.kind], key.namespace, key.name)
        except ApiError as error:
            if error.code == 404:
                return
            raise
        if not owned_by(found, obj["metadata"]["uid"]):
            raise ApiError(409, f"Service {key.name!r} exists and belongs to something else; it must be deleted first")

    async def _apply_signed(self, obj: Json, resource: Resource, desired: Json, known: Json) -> None:
        noted = {SPEC_HASH: _digest(desired), OPERATOR: self._instance}
        annotations = {**desired["metadata"].get("annotations", {}), **noted}
        signed = {**desired, "metadata": {**desired["metadata"], "annotations": annotations}}
        answer = await self._client.apply(resource, signed, force=bool(known))
        if added := spec_additions(answer):  # an apply leaves alone what others have added
            answer = await self._remove(resource, answer, added)
        if len(self._settled) > _REMEMBERED:
            self._settled.clear()  # costs a comparison each
        self._settled[answer["metadata"]["uid"]] = _version(answer["metadata"])
        self._store.put(answer, writer=_key(obj))

    async def _remove(self, resource: Resource, found: Json, added: list[str], subresource: str | None = None) -> Json:
        try:
            return await self._client.remove(resource, found, added, subresource)
        except ApiError as error:
            if error.code != 422:
                raise
            raise RetryLater(error.message) from error  # it was changed meanwhile

    async def _adjust_job(self, obj: Json, resource: Resource, known: Json, desired: Json) -> bool:
        wanted = {field: desired["spec"][field] for field in _MUTABLE_OF_JOB if field in desired["spec"]}
        changes = {field: value for field, value in wanted.items() if known["spec"].get(field) != value}
        if not changes:
            return False
        metadata = known["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "spec": changes}
        self._store.put(await self._client.merge(resource, metadata["namespace"], metadata["name"], patch), writer=_key(obj))
        return True

    async def _delete(self, obj: Json, key: ObjectKey) -> None:
        known = self._store.get(key)
        if known is None or "deletionTimestamp" in known["metadata"] or not self._is_ours(known, obj["metadata"]["uid"]):
            return
        try:
            await self._client.delete(WATCHED[key.kind], key.namespace, key.name, known["metadata"]["uid"])
        except ApiError as error:
            if not error.gone:
                raise

    def _is_ours(self, known: Json, uid: str) -> bool:
        """A child belongs to its resource; a pod to a Job that does."""
        if known["kind"] != "Pod":
            return owned_by(known, uid)
        jobs = (job for job in self._store.children(uid, "Job") if owned_by(job, uid))
        return any(owned_by(known, job["metadata"]["uid"]) for job in jobs)

    # --- status ----------------------------------------------------------------------------------------------------------------

    async def _act_on_status(self, obj: Json, plan: Plan) -> float | None:
        # What the store has now: what was read before the children were applied may be old.
        latest = self._store.get(_key(obj))
        if latest is None or latest["metadata"]["uid"] != obj["metadata"]["uid"]:
            return None
        added, restore = latest.get("additions", []), latest.get("restore", False)
        status = latest["status"] if restore and plan.status is None else plan.status
        if status is None or (not added and status == latest.get("status")):
            return plan.requeue_after
        if added and not restore and "completionTime" in latest.get("status", {}):
            return plan.requeue_after  # what somebody else wrote of a finished run is never made ours, nor is the run run again
        resource = Resource(API_VERSION, obj["kind"])
        try:
            if added:
                answer = await self._take_back_status(resource, latest, added, status)
            else:
                answer = await self._client.apply_status(resource, obj, status)
        except ApiError as error:
            if error.gone:
                return None
            where = {**_fields(_key(obj)), "verb": "apply status", "code": error.code}
            log.log(logging.INFO if error.transient else logging.ERROR, error.message, extra=where)
            raise RetryLater(error.message, error.retry_after) from error
        # Of our own write only the metadata is sent back. Where somebody has changed the spec meanwhile, it is not the one that we
        # know: put together with the version of now, it would keep theirs out of the store.
        if answer["metadata"]["generation"] == latest["metadata"]["generation"]:
            told = {key: value for key, value in latest.items() if key not in ("additions", "restore")}
            self._store.put({**told, "metadata": answer["metadata"], "status": status}, writer=_key(obj))
        for event in plan.events:
            self._recorder.record(latest, type=event.type, reason=event.reason, action=event.action, note=event.note)
        return plan.requeue_after

    async def _take_back_status(self, resource: Resource, latest: Json, added: list[str], status: Json) -> Json:
        """Somebody else has written a status, which only we do: it is ours again, and what they added to it goes.

        Raises:
            RetryLater: it was written again just after.
        """
        uid = latest["metadata"]["uid"]
        if wait := self._corrections.wait(uid):
            raise RetryLater("its status was changed again", wait)
        self._corrections.made(uid)
        log.warning("a status was changed by somebody else; restoring it", extra={**_fields(_key(latest)), "added": added})
        note = f"somebody else wrote {', '.join(added)}; the status is restored."[:1024]
        self._recorder.record(latest, type="Warning", reason="StatusRestored", action="Restore", note=note)
        answer = await self._client.apply_status(resource, latest, status, accept=JSON)
        left = status_additions(answer)
        return await self._remove(resource, answer, left, "status") if left else answer


class _Waits(Exception):
    """A child is not corrected before so many seconds have passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Refused(Exception):
    def __init__(self, failure: Failure, error: ApiError) -> None:
        super().__init__(error.message)
        self.failure = failure
        self.error = error


@contextmanager
def _refusals(verb: Literal["apply", "delete"], key: ObjectKey) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        raise _Refused(Failure(key, verb, error.code, error.message), error) from error


def _says(known: Json, desired: Json) -> bool:
    if known.get("additions"):
        return False
    return covers(known["spec"], desired["spec"]) and covers(known["metadata"]["labels"], desired["metadata"]["labels"])


def _version(metadata: Json) -> str:
    """What changes when somebody changes the spec: the generation, where a kind has one."""
    return str(metadata.get("generation") or metadata["resourceVersion"])


def _digest(desired: Json) -> str:
    return sha256(orjson.dumps(desired, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _key(obj: Json) -> ObjectKey:
    return ObjectKey(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])


def _name(key: ObjectKey) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"


def _fields(key: ObjectKey) -> Json:
    return {"kind": key.kind, "namespace": key.namespace, "resource": key.name}

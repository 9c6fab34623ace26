"""What a controller is: `observe` reads the store, `plan` (pure) says what should be, and the runtime acts on the plan.

The rules that the runtime (`runtime.reconciler`) keeps, so that a controller need not:

- One worker per resource at a time. A resource is reconciled when it, one of its children (label `modelship.dev/uid`), or
  something that it `references` changes; after `Plan.requeue_after`; when progress was pushed for it; after an error, with
  back-off. A resource that is being deleted (`metadata.deletionTimestamp`) is not reconciled: owner references do the rest.
- `Plan.apply` is applied in order, before the status. Where one is refused for good (403, 409, 422...), nothing after it is
  applied, `StoreView.failure` says why, and the resource is observed and planned once more so that its status can tell.
- Objects in the store are shared and pruned (`kube.pruning`): never change them.
- Nothing is written that is already so: a plan for a resource in its final state costs no request, whenever it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from modelship_trainer.protocol import Progress

Json = dict[str, Any]


class ObjectKey(NamedTuple):
    """One object of the API server. Kinds are unique among what we handle, so the group is left out."""

    kind: str
    namespace: str
    name: str


class Event(NamedTuple):
    """An event about the resource (events.k8s.io/v1); equal ones become a series.

    Only for what a person should notice (started over, failed, verdict); none when a resource is first seen.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    note: str
    """At most 1024 characters, of which the same text makes the same series."""
    action: str
    """What was done or tried, CamelCase: `Train`, `Retry`, `Roll out`..."""


class Failure(NamedTuple):
    """A request of this resource's last plan that the API server refused for good (until somebody changes something)."""

    target: ObjectKey
    verb: Literal["apply", "delete"]
    code: int
    """HTTP status: 403 not allowed, 409 the object exists and is not ours, 422 invalid, 404 no such namespace or API."""
    message: str
    """The API server's words, as one line."""


class RefusedPod(NamedTuple):
    """Why the Job controller could not create a pod (event FailedCreate of the Job): nothing in the Job's status tells."""

    message: str
    """The Job controller's words."""
    at: datetime
    """When it last tried, timezone-aware."""


class FoldProgress(NamedTuple):
    """What a pod last pushed."""

    pod: str
    fold: int | None
    progress: Progress


@dataclass(frozen=True, slots=True)
class Plan:
    """What should exist, and what should be said of it."""

    apply: tuple[Json, ...] = ()
    """Whole child objects (`resources.*`), server-side applied by the field manager `modelship`.

    Whatever is in the plan is to be so: a child is written only where it is not there, was applied from something else (annotation
    `modelship.dev/spec-hash`, which the runtime writes), or was changed by somebody. Of a Job only what may change is.
    An object that is absent from the store is applied without force, a Job created: one of that name that somebody else made is a
    `Failure` (409), never taken over.
    """
    delete: tuple[ObjectKey, ...] = ()
    """Children to delete, in the background, by uid, and only if the store has them."""
    status: Json | None = None
    """The whole next status, written if and only if it differs from the stored one. None: leave it as it is."""
    events: tuple[Event, ...] = ()
    """Sent only if this plan's status was written: plan them for a transition, and they are sent once."""
    inquire: ObjectKey | None = None
    """A Job that should have a pod and has none: look up why (`StoreView.refused_pod`), and plan again if there is news."""
    requeue_after: float | None = None
    """Seconds until the next look without any change; None: only changes count."""


class StoreView(Protocol):
    """What the operator knows of the cluster, read without a request. Holds our kinds, and children of theirs."""

    def get(self, key: ObjectKey) -> Json | None:
        """The object, or None where it does not exist (for kinds that are held)."""
        ...

    def children(self, uid: str, kind: str) -> list[Json]:
        """Children of this kind ("Job", "Pod", "Deployment"...) that carry `modelship.dev/uid: <uid>`, oldest first."""
        ...

    def progress(self, uid: str) -> Mapping[str, FoldProgress]:
        """What the resource's pods last pushed, by pod name; changes at most every 15 s.

        Empty after a restart of the operator: keep what the status says until a pod pushes again.
        """
        ...

    def refused_pod(self, job: str) -> RefusedPod | None:
        """What is known of why the Job with this uid has no pod, after `Plan.inquire`."""
        ...

    def failure(self, uid: str) -> Failure | None:
        """What the API server refused when the resource's last plan was acted on; None once a plan went through."""
        ...


Observed = TypeVar("Observed")


@dataclass(frozen=True, slots=True)
class Controller(Generic[Observed]):
    """One kind's controller: stateless functions, as everything is in the store."""

    kind: str
    plural: str
    observe: Callable[[StoreView, Json], Observed]
    """Gather what `plan` needs. Reads the store only; no clock, no I/O."""
    plan: Callable[[Observed, datetime], Plan]
    """Pure: what should exist, and the next status. The time is timezone-aware, UTC."""
    references: Callable[[Json], Iterable[ObjectKey]] = lambda obj: ()
    """Objects that this one names, whether they exist or not: their changes requeue it."""

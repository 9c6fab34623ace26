"""Leader election by a Lease: its holder alone acts.

As in client-go's `leaderelection`: another's lease counts as expired when it did not change for its whole duration on our own
clock (clocks of other machines are never compared), and whoever holds it gives up well before others may take it. Two differences:
a holder of our own name is ourselves before a crash, since a pod's name is its own, so a restarted container goes on at once; and
who waits asks every second, so a released lease is taken over at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelship_operator.kube.client import Client
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.resources import Resource

Json = dict[str, Any]
log = logging.getLogger(__name__)

LEASE = Resource("coordination.k8s.io/v1", "Lease")
ADDRESS_ANNOTATION = "modelship.dev/progress-url"
"""On the Lease: where the holder takes progress."""


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Which lease, and how long it lasts. Seconds."""

    namespace: str
    name: str
    identity: str
    address: str | None = None
    duration: float = 15.0
    """Nobody takes over a lease that was renewed less long ago than this."""
    deadline: float = 10.0
    """Who could not renew for this long stops acting."""
    renew_every: float = 3.0
    ask_every: float = 1.0


class Election:
    """Takes part in the election for as long as `run` runs."""

    def __init__(self, client: Client, settings: LeaseSettings) -> None:
        self._client = client
        self._settings = settings
        self._lease: Json | None = None
        self._seen: tuple[Any, float] | None = None
        """The holder's last sign of life (as an opaque value), and when we first saw it, on the loop's clock."""
        self.leading = False

    @property
    def leader_address(self) -> str | None:
        """Where the present holder, if it is another one, takes progress."""
        annotations = (self._lease or {}).get("metadata", {}).get("annotations") or {}
        address: str | None = annotations.get(ADDRESS_ANNOTATION)
        return address if self._holder() not in ("", self._settings.identity) else None

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, run `lead` while holding it, and cancel `lead` when it is lost; again and again.

        When this is cancelled, or `lead` ends by itself, the lease is released.
        """
        while True:
            await self._wait_for_lease()
            log.info("leading", extra={"identity": self._settings.identity})
            self.leading = True
            work = asyncio.ensure_future(lead())
            renewing = asyncio.ensure_future(self._renew())
            try:
                await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.leading = False
                lost = renewing.done() and not work.done()
                for task in (work, renewing):
                    task.cancel()
                _, renewal = await asyncio.gather(work, renewing, return_exceptions=True)
                if not lost:
                    await self._release()
            if not lost:
                await work
                return
            log.warning("lost the lease; stopped acting", extra={"identity": self._settings.identity, "error": str(renewal or "")})

    # --- getting and keeping it ------------------------------------------------------------------------------------------------

    async def _wait_for_lease(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.deadline):
                    if await self._try_to_take():
                        return
            except (ApiError, TimeoutError) as error:
                if not (isinstance(error, ApiError) and error.code == 409):
                    log.warning("cannot take the lease", extra={"error": str(error)})
            await asyncio.sleep(self._settings.ask_every * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load

    async def _try_to_take(self) -> bool:
        settings = self._settings
        try:
            self._lease = await self._client.get(LEASE, settings.namespace, settings.name)
        except ApiError as error:
            if error.code != 404:
                raise
            lease = self._held({"metadata": {"namespace": settings.namespace, "name": settings.name}}, taken=True)
            self._lease = await self._client.create(LEASE, settings.namespace, lease)
            return True
        if not self._free():
            return False
        self._lease = await self._client.replace(LEASE, self._held(self._lease, taken=self._holder() != settings.identity))
        return True

    def _free(self) -> bool:
        """Whether the lease is nobody's, was our own pod's before it crashed, or did not change for as long as it lasts."""
        if self._holder() in ("", self._settings.identity):
            return True
        spec = (self._lease or {})["spec"]
        sign, now = (spec.get("holderIdentity"), spec.get("renewTime")), asyncio.get_running_loop().time()
        if self._seen is None or self._seen[0] != sign:
            self._seen = (sign, now)
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or self._settings.duration)

    async def _renew(self) -> None:
        """Returns when the lease is lost."""
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while loop.time() - renewed < self._settings.deadline:
            await asyncio.sleep(self._settings.renew_every)
            started = loop.time()
            try:
                async with asyncio.timeout(max(0.1, renewed + self._settings.deadline - started)):
                    self._lease = await self._client.replace(LEASE, self._held(self._lease or {}, taken=False))
                renewed = started
            except TimeoutError:
                return
            except ApiError as error:
                if not error.transient and not await self._still_ours():
                    return
                log.warning("cannot renew the lease", extra={"error": error.message})

    async def _still_ours(self) -> bool:
        """After a refused renewal: somebody may only have annotated the lease, which changes its version."""
        try:
            self._lease = await self._client.get(LEASE, self._settings.namespace, self._settings.name)
        except ApiError as error:
            return error.transient
        return self._holder() == self._settings.identity

    async def _release(self) -> None:
        """Let another take it at once."""
        if self._lease is None or self._holder() != self._settings.identity:
            return
        released = self._held(self._lease, taken=False)
        released["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(2):
                self._lease = await self._client.replace(LEASE, released)
            log.info("released the lease", extra={"identity": self._settings.identity})
        except (ApiError, TimeoutError) as error:
            log.warning("could not release the lease; it expires", extra={"error": str(error)})

    # --- its contents ----------------------------------------------------------------------------------------------------------

    def _holder(self) -> str:
        return ((self._lease or {}).get("spec") or {}).get("holderIdentity") or ""

    def _held(self, lease: Json, *, taken: bool) -> Json:
        """The lease as held by us, renewed now; `taken`: from now on."""
        spec = dict(lease.get("spec") or {})
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec |= {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": int(self._settings.duration),
            "renewTime": now,
        }
        if taken:
            spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        metadata = dict(lease["metadata"])
        if self._settings.address:
            metadata["annotations"] = {**(metadata.get("annotations") or {}), ADDRESS_ANNOTATION: self._settings.address}
        metadata.pop("managedFields", None)
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}

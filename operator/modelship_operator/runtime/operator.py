"""The operator: everything put together, started in order, stopped in the opposite one."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from aiohttp import web

from modelship_operator.api.common import API_VERSION
from modelship_operator.controllers.framework import Controller, ObjectKey
from modelship_operator.kube.client import Client, Login
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.events import Recorder
from modelship_operator.kube.informer import Informer, fill
from modelship_operator.kube.lease import Election
from modelship_operator.kube.resources import Resource
from modelship_operator.resources.common import MANAGED_BY
from modelship_operator.runtime import wiring
from modelship_operator.runtime.coalescing import Coalescer
from modelship_operator.runtime.health import Health, serve
from modelship_operator.runtime.metrics import Metrics
from modelship_operator.runtime.progress import ProgressServer
from modelship_operator.runtime.queue import WorkQueue
from modelship_operator.runtime.reconciler import WATCHED, Reconciler
from modelship_operator.runtime.settings import Settings
from modelship_operator.runtime.store import Store
from modelship_operator.runtime.tokens import TokenReviewer

log = logging.getLogger(__name__)

OURS = {"labelSelector": f"{MANAGED_BY}=modelship"}
"""Of children, evaluated by the API server: other people's pods never reach this process."""
LOGIN_SECONDS = 60.0
FIRST_SWEEP_SECONDS = 20.0
"""The first sweep finds what was deleted between our list and the start of Kopf's watch."""


class Operator:
    """One replica: `run` it once, `stop` it from anywhere."""

    def __init__(self, settings: Settings, login: Login, controllers: Sequence[Controller[Any]]) -> None:
        self._settings = settings
        self._server = login.server
        self.metrics = Metrics()
        self._client = Client(login, self.metrics.requested)
        self._controllers = {controller.kind: controller for controller in controllers}
        self._queue: WorkQueue[ObjectKey] = WorkQueue()
        self._queue.on_start = self.metrics.queue_seconds.observe
        references = {kind: controller.references for kind, controller in self._controllers.items()}
        self.store = Store(references, self._look_at)
        self._informers = [
            Informer(self._client, resource, namespace, OURS, self.store)
            for resource in WATCHED.values()
            for namespace in settings.watched_namespaces
        ]
        self._recorder = Recorder(self._client, settings.pod_name, time.monotonic, self.metrics.events_dropped.inc)
        self._reconciler = Reconciler(
            self._client,
            self.store,
            self._controllers,
            self._recorder,
            self.metrics,
            f"{settings.pod_namespace}/{settings.lease_name}",
            lambda: self._queue.pressing,
        )
        self.election = Election(self._client, settings.lease)
        self.health = Health(self.metrics, self._informers)
        self.metrics.queue_depth(lambda: len(self._queue), lambda: self._queue.running)
        self.metrics.describe_store(self.store, list(self._controllers))
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish what is under way, release the lease, end `run`."""
        self._stopping.set()

    async def run(self) -> bool:
        """Run until `stop` (True) or until a restart is the cure (False)."""
        self._catch_signals()
        servers = [await serve(application, listen) for application, listen in self._applications()]
        background = self._start(self._recorder.run(), self.health.beat(), self._keep_login())
        asked = self._start(self._stopping.wait())
        try:
            filling = self._start(self._fill())
            await asyncio.wait({*filling, *asked}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await _cancel(filling)
                return True
            await filling[0]
            self.health.ready = True
            log.info("store filled", extra={kind: self.store.count(kind) for kind in (*self._controllers, *WATCHED)})
            background += self._start(self._watch(), self._sweep(), *(informer.run() for informer in self._informers))
            election = self._start(self.election.run(self._lead))
            done, _ = await asyncio.wait({*background, *election, *asked}, return_when=asyncio.FIRST_COMPLETED)
            for task in done.difference(asked):
                log.error("restart needed", extra={"error": str(task.exception()) if not task.cancelled() else "cancelled"})
            await self._drain(*election)
            return not done.difference(asked)
        finally:
            await _cancel([*background, *asked])
            for server in servers:
                await server.cleanup()
            await self._client.close()

    # --- the parts -------------------------------------------------------------------------------------------------------------

    def _applications(self) -> list[tuple[web.Application, str]]:
        coalescer = Coalescer(self.store, self._settings.progress_seconds, self._look_at)
        progress = ProgressServer(self.store, TokenReviewer(self._client), coalescer, self.election, self.metrics)
        return [
            (self.health.application(), self._settings.metrics_listen),
            (progress.application(), self._settings.progress_listen),
        ]

    async def _fill(self) -> None:
        """List every kind, once; try again for as long as the API server, or our right to ask it, is not there yet."""
        delay = 0.5
        while True:
            try:
                await self._list_all()
                return
            except ApiError as error:
                log.warning("cannot list yet", extra={"code": error.code, "error": error.message})
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
                delay = min(delay * 2, 15.0)

    async def _list_all(self) -> None:
        for namespace in self._settings.watched_namespaces:
            for kind in self._controllers:
                await fill(self._client, Resource(API_VERSION, kind), namespace, {}, self.store)
        for informer in self._informers:
            await informer.list()

    def _look_at(self, key: ObjectKey) -> None:
        """Nobody works here for a replica that waits: it looks at everything when it leads."""
        if self.election.leading:
            self._queue.add(key)

    async def _lead(self) -> None:
        """Act, for as long as the lease is ours."""
        self.metrics.leading.set(1)
        try:
            for kind in self._controllers:
                for obj in self.store.all(kind):
                    self._queue.add(ObjectKey(kind, obj["metadata"]["namespace"], obj["metadata"]["name"]))
            await self._queue.run(self._settings.workers, self._reconciler)
        finally:
            self.metrics.leading.set(0)
            self._queue.clear()

    async def _watch(self) -> None:
        plurals = [controller.plural for controller in self._controllers.values()]
        await wiring.watch(
            self._client, self._server, API_VERSION, plurals, self._settings.namespaces, self.store, self._catch_signals
        )

    async def _sweep(self) -> None:
        """List everything now and then: what a broken watch lost is found, and what is gone is seen to be gone."""
        delay = FIRST_SWEEP_SECONDS
        while True:
            await asyncio.sleep(delay * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load
            delay = self._settings.resync_seconds
            try:
                await self._list_all()
                self.metrics.swept.labels("success").inc()
            except ApiError as error:
                self.metrics.swept.labels("error").inc()
                log.warning("sweep failed", extra={"code": error.code, "error": error.message})

    async def _keep_login(self) -> None:
        while True:
            await asyncio.sleep(LOGIN_SECONDS)
            try:
                self._client.refresh_login()
            except (OSError, wiring.NoLogin) as error:
                log.warning("cannot read the token again", extra={"error": str(error)})

    # --- the end ---------------------------------------------------------------------------------------------------------------

    async def _drain(self, election: asyncio.Task[Any]) -> None:
        """Let reconciles and events that are under way end, within the time for that; then release the lease."""
        self._queue.close()
        if self.election.leading:
            await asyncio.wait({election}, timeout=self._settings.shutdown_seconds)
        await _cancel([election])
        try:
            async with asyncio.timeout(2):
                await self._recorder.flush()
        except TimeoutError:
            log.warning("events were lost at shutdown")

    def _catch_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)

    @staticmethod
    def _start(*coroutines: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(coroutine) for coroutine in coroutines]


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

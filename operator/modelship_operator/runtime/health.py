"""`/healthz`, `/readyz` and `/metrics`, and the serving of aiohttp applications.

Healthy is a process that a restart would not help: its event loop answers, and each watch is alive or being tried again. An API
server that is down makes nothing unhealthy. Ready is one whose store is filled, whether it leads or not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from aiohttp import web

from modelship_operator.kube.informer import Informer
from modelship_operator.runtime.metrics import Metrics
from modelship_operator.runtime.settings import listen_address

STUCK_SECONDS = 300.0
BEAT_SECONDS = 1.0
GRACE_SECONDS = 2.0


class Health:
    """What the probes ask."""

    def __init__(self, metrics: Metrics, informers: Sequence[Informer]) -> None:
        self._metrics = metrics
        self._informers = informers
        self.ready = False
        """Set once the store is filled."""
        self.extra: Callable[[], str | None] = lambda: None
        """Another reason to be unhealthy."""

    async def beat(self) -> None:
        """Measure by how much the event loop runs late, for ever."""
        while True:
            due = time.monotonic() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._metrics.loop_lag.set(max(0.0, time.monotonic() - due))

    def unhealthy(self) -> str | None:
        """Why this process should be restarted, or None."""
        now = time.monotonic()
        stuck = [informer.resource.plural for informer in self._informers if now - informer.alive_at > STUCK_SECONDS]
        return f"no sign of life from the watch of {', '.join(stuck)}" if self.ready and stuck else self.extra()

    def application(self) -> web.Application:
        """The three paths."""

        async def healthz(_: web.Request) -> web.Response:
            why = self.unhealthy()
            return web.Response(text=why or "ok", status=500 if why else 200)

        async def readyz(_: web.Request) -> web.Response:
            return web.Response(text="ok" if self.ready else "the store is not filled yet", status=200 if self.ready else 503)

        async def metrics(_: web.Request) -> web.Response:
            body = self._metrics.text()
            return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

        application = web.Application()
        application.router.add_get("/healthz", healthz)
        application.router.add_get("/readyz", readyz)
        application.router.add_get("/metrics", metrics)
        return application


async def serve(application: web.Application, listen: str) -> web.AppRunner:
    """Serve at `HOST:PORT`; clean the runner up to stop.

    Raises:
        OSError: the port is taken.
    """
    host, port = listen_address(listen)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=75, shutdown_timeout=GRACE_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner

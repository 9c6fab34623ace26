"""An API server with one claim and a kubelet behind it: pods are processes of this machine that one can attach and forward to."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web
from kubernetes.client import Configuration

from modelship_operator.cli.client import Cluster
from modelship_operator.cli.kubeconfig import Login

Json = dict[str, Any]
_TEMPLATE = "/api/v1/namespaces/default"


class FakeCluster:
    """What was asked of it, and the folder that stands for the claim."""

    def __init__(self, claim: Path) -> None:
        self.claim = claim
        self.asked: list[tuple[str, str, list[str]]] = []
        """Method, path and impersonated groups of each request."""
        self.created: list[Json] = []
        self.deleted: list[str] = []
        self.log = ""
        self._process: asyncio.subprocess.Process | None = None

    def routes(self) -> list[web.RouteDef]:
        pods = f"{_TEMPLATE}/pods"
        return [
            web.get(f"{_TEMPLATE}/persistentvolumeclaims/models", self._claim),
            web.post(pods, self._create),
            web.get(pods, self._watch),
            web.get(f"{pods}/{{name}}/attach", self._attach),
            web.get(f"{pods}/{{name}}/log", self._log),
            web.get(f"{pods}/{{name}}/portforward", self._forward),
            web.delete(f"{pods}/{{name}}", self._delete),
        ]

    @web.middleware
    async def note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append((request.method, request.path, request.headers.getall("Impersonate-Group", [])))
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _claim(self, request: web.Request) -> web.Response:
        return web.json_response({"metadata": {"name": "models"}, "status": {"phase": "Bound"}})

    async def _create(self, request: web.Request) -> web.Response:
        pod = await request.json()
        self.created.append(pod)
        command = pod["spec"]["containers"][0]["command"]
        arguments = [part.replace("/mnt/pvc/models", str(self.claim)) for part in command[1:]]
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe, stderr=pipe)
        return web.json_response(pod, status=201)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """A list, and in a watch the pod's phase: running, and at its end how it ended."""
        assert self._process is not None
        if "watch" not in request.query:
            return web.json_response({"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [self._pod("Running")]})
        response = web.StreamResponse()
        await response.prepare(request)
        await self._event(response, "Running")
        await self._event(response, "Failed" if await self._process.wait() else "Succeeded")
        return response

    async def _event(self, response: web.StreamResponse, phase: str) -> None:
        await response.write(json.dumps({"type": "MODIFIED", "object": self._pod(phase)}).encode() + b"\n")

    def _pod(self, phase: str) -> Json:
        return {"kind": "Pod", "metadata": {"name": self.created[0]["metadata"]["name"]}, "status": {"phase": phase}}

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        assert self._process is not None
        assert self._process.stdin is not None
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        output = asyncio.create_task(self._tell(socket))
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data[:1] == b"\0":
                self._process.stdin.write(message.data[1:])
                await self._process.stdin.drain()
        output.cancel()
        return socket

    async def _tell(self, socket: web.WebSocketResponse) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        while line := await self._process.stdout.readline():
            await socket.send_bytes(b"\1" + line)
        self.log = (await self._process.stderr.read()).decode()
        await socket.close()

    async def _log(self, request: web.Request) -> web.Response:
        return web.Response(text=self.log)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """A port that gives back what it gets."""
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        port = int(request.query["ports"]).to_bytes(2, "little")
        for channel in (b"\0", b"\1"):
            await socket.send_bytes(channel + port)
        async for message in socket:
            if message.type == WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    async def _delete(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info["name"])
        return web.json_response({"kind": "Pod", "metadata": {"name": request.match_info["name"]}})


@contextmanager
def fake_cluster(claim: Path, *impersonation: tuple[str, str]) -> Iterator[tuple[FakeCluster, Cluster]]:
    """One on loopback, and the command line's connection to it."""
    fake, started, loop = FakeCluster(claim), threading.Event(), asyncio.new_event_loop()
    ports: list[int] = []

    async def serve() -> None:
        application = web.Application(middlewares=[fake.note], client_max_size=1 << 30)
        application.add_routes(fake.routes())
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ports.append(runner.addresses[0][1])
        started.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    started.wait(10)
    configuration = Configuration()
    configuration.host, configuration.proxy = f"http://127.0.0.1:{ports[0]}", None
    try:
        yield fake, Cluster(Login(configuration, "default", impersonation))
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()

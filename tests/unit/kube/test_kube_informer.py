"""List and watch over real HTTP, against a server that misbehaves in each way an API server can."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from modelship_operator.kube import informer as module
from modelship_operator.kube.client import Client, Login
from modelship_operator.kube.errors import ApiError, error_from
from modelship_operator.kube.informer import Informer, lines
from modelship_operator.kube.resources import Resource

pytestmark = pytest.mark.unit

JOB = Resource("batch/v1", "Job")
Json = dict[str, Any]
Watch = Callable[[web.StreamResponse], Awaitable[None]]


def obj(name: str, version: int) -> Json:
    metadata = {"name": name, "namespace": "n", "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}


def line(kind: str, about: Json) -> bytes:
    return json.dumps({"type": kind, "object": about}).encode() + b"\n"


class Notes:
    """A sink that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.news = asyncio.Event()

    def replace(self, kind: str, namespace: str | None, objects: Any, version: str) -> None:
        self._note(("list", sorted(each["metadata"]["name"] for each in objects), version))

    def put(self, about: Json) -> None:
        self._note(("put", about["metadata"]["name"]))

    def delete(self, about: Json) -> None:
        self._note(("delete", about["metadata"]["name"]))

    def _note(self, what: Any) -> None:
        self.told.append(what)
        self.news.set()

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(10):
            while len(self.told) < count:
                self.news.clear()
                await self.news.wait()
        return self.told


class Server:
    """Answers lists from `pages`, and each watch with the next of `watches`; the last of them for ever."""

    def __init__(self, pages: list[Json], watches: list[Watch]) -> None:
        self.pages, self.watches = pages, watches
        self.queries: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.queries.append(dict(request.query))
        if "watch" not in request.query:
            return web.json_response(self.pages.pop(0) if len(self.pages) > 1 else self.pages[0])
        watch = self.watches.pop(0) if self.watches else hang
        response = web.StreamResponse()
        await response.prepare(request)
        await watch(response)
        return response

    @property
    def watched_from(self) -> list[str]:
        return [query["resourceVersion"] for query in self.queries if "watch" in query]


async def hang(_: web.StreamResponse) -> None:
    await asyncio.sleep(3600)


def page(*objects: Json, version: int, more: str | None = None) -> Json:
    bare = [{key: each[key] for key in ("metadata",)} for each in objects]
    return {"items": bare, "metadata": {"resourceVersion": str(version), **({"continue": more} if more else {})}}


@asynccontextmanager
async def informing(server: Server, sink: Notes, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Informer]:
    monkeypatch.setattr(module, "_BACKOFF", (0.001, 0.01))
    application = web.Application()
    application.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = Client(Login(f"http://127.0.0.1:{port}", None, dict))
    informer = Informer(client, JOB, "n", {"labelSelector": "a=b"}, sink)
    task = asyncio.create_task(informer.run())
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
        await runner.cleanup()


async def test_pages_are_put_together_and_the_watch_goes_on_from_their_version(monkeypatch: pytest.MonkeyPatch) -> None:
    async def watch(response: web.StreamResponse) -> None:
        await response.write(line("ADDED", obj("c", 12)) + line("MODIFIED", obj("a", 13)) + line("DELETED", obj("b", 14)))
        await asyncio.sleep(3600)

    server, sink = Server([page(obj("a", 1), version=10, more="token"), page(obj("b", 2), version=10)], [watch]), Notes()
    async with informing(server, sink, monkeypatch):
        assert await sink.until(4) == [("list", ["a", "b"], "10"), ("put", "c"), ("put", "a"), ("delete", "b")]
    assert server.queries[1]["continue"] == "token"
    assert server.watched_from == ["10"]
    assert all(query["labelSelector"] == "a=b" for query in server.queries)


async def test_a_broken_watch_goes_on_from_the_last_bookmark_without_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    async def first(response: web.StreamResponse) -> None:
        await response.write(line("ADDED", obj("a", 11)) + line("BOOKMARK", {"metadata": {"resourceVersion": "50"}}))

    async def second(response: web.StreamResponse) -> None:
        await response.write(line("ADDED", obj("b", 51)))
        await asyncio.sleep(3600)

    server, sink = Server([page(version=10)], [first, second]), Notes()
    async with informing(server, sink, monkeypatch):
        assert await sink.until(3) == [("list", [], "10"), ("put", "a"), ("put", "b")]
    assert server.watched_from == ["10", "50"]


async def test_an_expired_version_in_the_stream_means_a_new_list(monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(response: web.StreamResponse) -> None:
        await response.write(line("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"}))

    server, sink = Server([page(obj("a", 1), version=10), page(version=20)], [gone]), Notes()
    async with informing(server, sink, monkeypatch):
        assert await sink.until(2) == [("list", ["a"], "10"), ("list", [], "20")]


@pytest.mark.parametrize("code", [429, 500])
async def test_any_other_error_in_the_stream_is_waited_out(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    async def broken(response: web.StreamResponse) -> None:
        await response.write(line("ADDED", obj("a", 11)))
        await response.write(line("ERROR", {"kind": "Status", "code": code, "message": "later"}))

    async def well(response: web.StreamResponse) -> None:
        await response.write(line("ADDED", obj("b", 12)))
        await asyncio.sleep(3600)

    server, sink = Server([page(version=10)], [broken, well]), Notes()
    async with informing(server, sink, monkeypatch):
        assert await sink.until(3) == [("list", [], "10"), ("put", "a"), ("put", "b")]
    assert server.watched_from == ["10", "11"]


async def test_an_event_longer_than_any_buffer_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    async def long(response: web.StreamResponse) -> None:
        whole = line("ADDED", obj("a", 11) | {"data": "x" * 1_000_000})
        for start in range(0, len(whole), 70_001):
            await response.write(whole[start : start + 70_001])
        await asyncio.sleep(3600)

    server, sink = Server([page(version=10)], [long]), Notes()
    async with informing(server, sink, monkeypatch):
        assert await sink.until(2) == [("list", [], "10"), ("put", "a")]


@pytest.mark.looptime
async def test_a_silent_stream_is_held_for_dead() -> None:
    class Silent:
        async def readany(self) -> bytes:
            await asyncio.sleep(1e6)
            return b"never"

    started = asyncio.get_running_loop().time()
    assert [each async for each in lines(Silent(), silence=130)] == []  # type: ignore[arg-type]
    assert asyncio.get_running_loop().time() - started == 130


# --- errors ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "transient", "gone"),
    [
        (ApiError(0, "no answer"), True, False),
        (ApiError(429, "slow down"), True, False),
        (ApiError(503, "later"), True, False),
        (ApiError(401, "token expired"), True, False),
        (ApiError(403, "forbidden"), False, False),
        (ApiError(404, "not found"), False, True),
        (ApiError(409, "conflict with manager kubectl"), False, False),
        (ApiError(409, "Precondition failed: UID in precondition: a, UID in object meta: b"), False, True),
        (ApiError(422, "invalid"), False, False),
    ],
    ids=lambda value: f"{value.code}" if isinstance(value, ApiError) else "",
)
def test_what_to_do_about_an_error(error: ApiError, transient: bool, gone: bool) -> None:
    assert (error.transient, error.gone) == (transient, gone)


def test_a_status_is_read_and_anything_else_is_not_quoted() -> None:
    details = {"retryAfterSeconds": 3, "causes": [{"reason": "NamespaceTerminating"}]}
    body = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": "a\n  b", "details": details}
    error = error_from(403, json.dumps(body).encode())
    assert (error.code, error.message, error.terminating, error.retry_after) == (403, "a b", True, 3)
    assert error_from(502, b"<html>secret</html>", "7").message == "HTTP 502"
    assert error_from(429, b"{}", "7").retry_after == 7


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (Resource("v1", "Pod"), "/api/v1/namespaces/n/pods/x"),
        (Resource("networking.k8s.io/v1", "NetworkPolicy"), "/apis/networking.k8s.io/v1/namespaces/n/networkpolicies/x"),
        (Resource("policy/v1", "PodDisruptionBudget"), "/apis/policy/v1/namespaces/n/poddisruptionbudgets/x"),
    ],
)
def test_paths(resource: Resource, path: str) -> None:
    assert resource.path("n", "x") == path
    assert resource.path("n", "x", "status") == f"{path}/status"
    assert resource.path(None).count("namespaces") == 0

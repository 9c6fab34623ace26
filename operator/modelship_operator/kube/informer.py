"""One kind as the API server has it, kept up to date: list, then watch from there, for as long as the process lives.

Errors do not end it: it waits (capped back-off) and goes on from the last version that it saw; where that is too old (410), it
lists again, and what disappeared in between is found by its absence from the list.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

import aiohttp
import orjson

from modelship_operator.kube.client import Client
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.pruning import prune
from modelship_operator.kube.resources import Resource

Json = dict[str, Any]
log = logging.getLogger(__name__)

PAGE = 100
"""Objects per page of a list: what is held in memory unpruned."""
WATCH_SECONDS = 300
SILENCE_SECONDS = 130.0
"""Bookmarks come every minute: a watch that is silent for longer is broken, whatever TCP says."""
_BACKOFF = (0.2, 30.0)


class Sink(Protocol):
    """What is told of the objects."""

    def replace(self, kind: str, namespace: str | None, objects: Iterable[Json], version: str) -> None:
        """All objects that there are, as of `version`."""

    def put(self, obj: Json) -> None:
        """An object as it is now, and as it was sent."""

    def delete(self, obj: Json) -> None:
        """The last state of an object that is gone."""


class Expired(Exception):
    """The version to go on from is too old for the API server."""


class Informer:
    """Objects of one kind, in one namespace or (None) all, narrowed on the server by `selector` (query parameters)."""

    def __init__(self, client: Client, resource: Resource, namespace: str | None, selector: dict[str, str], sink: Sink) -> None:
        self.resource = resource
        self.namespace = namespace
        self._client = client
        self._selector = selector
        self._sink = sink
        self._version: str | None = None
        self.alive_at = time.monotonic()
        """When it last heard of the API server, or at least tried to. Stands still only if it hangs."""

    async def list(self) -> None:
        """Fill the sink with what exists.

        Raises:
            ApiError: the list cannot be had.
        """
        self._version = await fill(self._client, self.resource, self.namespace, self._selector, self._sink)
        self.alive_at = time.monotonic()

    async def run(self) -> None:
        """Watch for ever."""
        delay = _BACKOFF[0]
        while True:
            self.alive_at = time.monotonic()
            try:
                if self._version is None:
                    await self.list()
                heard = await self._watch()
                delay = _BACKOFF[0] if heard else min(delay * 2, _BACKOFF[1])
            except Expired:
                log.info("watch expired; listing again", extra={"resource": self.resource.plural})
                self._version = None
            except ApiError as error:
                log.warning("watch failed", extra={"resource": self.resource.plural, "code": error.code, "error": error.message})
                delay = min(delay * 2, _BACKOFF[1])
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load

    async def _watch(self) -> bool:
        """One watch request; whether it brought anything."""
        query = {
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(int(WATCH_SECONDS * random.uniform(0.8, 1.2))),  # noqa: S311
            **self._selector,
        }
        heard = False
        try:
            async with self._client.watch(self.resource, self.namespace, query) as stream:
                async for line in lines(stream):
                    self.alive_at = time.monotonic()
                    heard = True
                    self._take(orjson.loads(line))
        except ApiError as error:
            if error.code == 410:
                raise Expired from error
            raise
        return heard

    def _take(self, event: Json) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            if obj.get("code") == 410:
                raise Expired
            raise ApiError(obj.get("code", 500), f"watch: {obj.get('message', 'error')}")
        if kind in ("ADDED", "MODIFIED"):
            self._sink.put(obj)
        elif kind == "DELETED":
            self._sink.delete(obj)
        self._version = obj["metadata"]["resourceVersion"]


async def fill(client: Client, resource: Resource, namespace: str | None, selector: dict[str, str], sink: Sink) -> str:
    """List all objects into the sink, page by page; returns the version that a watch goes on from.

    Raises:
        ApiError: the list cannot be had.
    """
    objects: list[Json] = []
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    query = {"limit": str(PAGE), **selector}
    while True:
        page = await client.list_page(resource, namespace, query)
        objects.extend(prune({**kind, **item}) for item in page["items"])
        token = page["metadata"].get("continue")
        if not token:
            break
        query["continue"] = token
    version: str = page["metadata"]["resourceVersion"]
    sink.replace(resource.kind, namespace, objects, version)
    return version


async def lines(stream: aiohttp.StreamReader, silence: float = SILENCE_SECONDS) -> AsyncIterator[bytes]:
    """Lines of any length; ends where the stream does, or where nothing came for `silence` seconds."""
    rest = b""
    while True:
        try:
            async with asyncio.timeout(silence):
                chunk = await stream.readany()
        except TimeoutError:
            return
        except (aiohttp.ClientError, ConnectionError):
            return
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line

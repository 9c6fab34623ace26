"""Requests to the API server over one session with kept-alive connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from modelship_operator.kube.errors import ApiError, error_from
from modelship_operator.kube.resources import FIELD_MANAGER, Resource

Json = dict[str, Any]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
"""Content type of server-side apply. Every JSON document is a YAML document."""
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""Answer with metadata alone: of what we wrote, only its uid and version are news. A Job's body is twenty times as long."""
REQUEST_SECONDS = 30.0
_FORCE = {True: f"?fieldManager={FIELD_MANAGER}&force=true", False: f"?fieldManager={FIELD_MANAGER}&force=false"}

Observer = Callable[[str, str, int, float], None]
"""Called with verb, plural, HTTP code (0: no answer) and seconds of each request."""


@dataclass(frozen=True, slots=True)
class Login:
    """Where the API server is, and how to be let in."""

    server: str
    """`https://HOST:PORT`, without a path at the end."""
    ssl: SSLContext | None
    headers: Callable[[], dict[str, str]]
    """Called for each new token: a service account's token file changes every hour."""


class Client:
    """The API server. One for the process; close it at the end."""

    def __init__(self, login: Login, observer: Observer | None = None) -> None:
        self._login = login
        self._server = login.server.rstrip("/")
        self._observe: Observer = observer or (lambda verb, plural, code, seconds: None)
        # No limit here: workers bound the requests, and watches hold a connection each.
        self.connector = aiohttp.TCPConnector(limit=0, ssl=login.ssl or True, keepalive_timeout=75)
        self._session = self.session()

    def session(self) -> aiohttp.ClientSession:
        """A session over the same connections, which its owner may close without closing them."""
        # Responses of a LAN are not worth the server's and our time to compress.
        headers = {"User-Agent": "modelship-operator", "Accept-Encoding": "identity", **self._login.headers()}
        return aiohttp.ClientSession(connector=self.connector, connector_owner=False, headers=headers)

    def refresh_login(self) -> None:
        """Read the token again."""
        self._session.headers.update(self._login.headers())

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
        await self.connector.close()

    # --- objects ---------------------------------------------------------------------------------------------------------------

    async def apply(self, resource: Resource, obj: Json, *, force: bool) -> Json:
        """Server-side apply a whole object; returns it as it is now, with what others wrote meanwhile.

        Raises:
            ApiError: 409 where `force` is off and another manager has set one of our fields otherwise.
        """
        metadata = obj["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"]) + _FORCE[force]
        return await self._json("PATCH", path, "apply", resource.plural, orjson.dumps(obj), APPLY, JSON)

    async def apply_status(self, resource: Resource, obj: Json, status: Json, *, accept: str = METADATA_ONLY) -> Json:
        """Server-side apply the whole status of `obj`, if it is still the one with its uid; returns its metadata alone, or with
        `accept` JSON the whole object.

        Raises:
            ApiError: `gone` where it was deleted, even if another one has its name by now.
        """
        metadata = obj["metadata"]
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "status": status,
        }
        path = resource.path(metadata["namespace"], metadata["name"], "status") + _FORCE[True]
        return await self._json("PATCH", path, "apply", f"{resource.plural}/status", orjson.dumps(body), APPLY, accept)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """JSON merge patch; returns the object as it is now, with what others wrote meanwhile."""
        path = f"{resource.path(namespace, name)}?fieldManager={FIELD_MANAGER}"
        return await self._json("PATCH", path, "patch", resource.plural, orjson.dumps(patch), MERGE, JSON)

    async def remove(self, resource: Resource, obj: Json, pointers: Sequence[str], subresource: str | None = None) -> Json:
        """Remove what the JSON pointers name, if the object is still the one of `obj`'s resourceVersion; returns it as it is now.

        Raises:
            ApiError: 422 where it has changed since.
        """
        metadata = obj["metadata"]
        path = f"{resource.path(metadata['namespace'], metadata['name'], subresource)}?fieldManager={FIELD_MANAGER}"
        unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
        patch = [unchanged, *({"op": "remove", "path": pointer} for pointer in pointers)]
        return await self._json("PATCH", path, "patch", resource.plural, orjson.dumps(patch), JSON_PATCH, JSON)

    async def create(self, resource: Resource, namespace: str | None, obj: Json, *, accept: str = JSON) -> Json:
        """Create; returns the whole object, or with `accept` METADATA_ONLY its metadata alone.

        Raises:
            ApiError: 409 where one of that name exists.
        """
        path = f"{resource.path(namespace)}?fieldManager={FIELD_MANAGER}"
        return await self._json("POST", path, "create", resource.plural, orjson.dumps(obj), JSON, accept)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The object."""
        return await self._json("GET", resource.path(namespace, name), "get", resource.plural, None, JSON, JSON)

    async def replace(self, resource: Resource, obj: Json) -> Json:
        """Replace the object if its `resourceVersion` is still the one in `obj`."""
        path = resource.path(obj["metadata"]["namespace"], obj["metadata"]["name"])
        return await self._json("PUT", path, "update", resource.plural, orjson.dumps(obj), JSON, JSON)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str | None) -> None:
        """Delete in the background: the garbage collector takes its children. Where `uid` is given, only that very object."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        path = resource.path(namespace, name)
        await self._json("DELETE", path, "delete", resource.plural, orjson.dumps(options), JSON, METADATA_ONLY)

    async def list_page(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> Json:
        """One page of a list; `query` as in the API (`limit`, `continue`, `labelSelector`)."""
        path = f"{resource.path(namespace)}?{urlencode(query)}"
        return await self._json("GET", path, "list", resource.plural, None, JSON, JSON)

    @asynccontextmanager
    async def watch(self, resource: Resource, namespace: str | None, query: dict[str, str]) -> AsyncIterator[aiohttp.StreamReader]:
        """The stream of a watch: a JSON document per line. Ends by `timeoutSeconds`; reading it has no timeout of its own."""
        url = URL(f"{self._server}{resource.path(namespace)}?{urlencode({'watch': 'true', **query})}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS)
        started = time.perf_counter()
        try:
            async with self._session.get(url, timeout=timeout, headers={"Accept": JSON}) as response:
                self._observe("watch", resource.plural, response.status, time.perf_counter() - started)
                if response.status >= 400:
                    raise error_from(response.status, await response.read(), response.headers.get("Retry-After"))
                yield response.content
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, f"watch of {resource.plural} broke off: {type(error).__name__}: {error}") from error

    async def _json(
        self, method: Method, path: str, verb: str, plural: str, body: bytes | None, content_type: str, accept: str
    ) -> Json:
        started = time.perf_counter()
        code = 0
        try:
            async with (
                asyncio.timeout(REQUEST_SECONDS),
                self._session.request(
                    method,
                    URL(self._server + path, encoded=True),
                    data=body,
                    headers={"Content-Type": content_type, "Accept": accept},
                    timeout=_NO_TIMEOUT,
                ) as response,
            ):
                code = response.status
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(0, f"{verb} {plural}: the API server did not answer: {type(error).__name__}: {error}") from error
        finally:
            self._observe(verb, plural, code, time.perf_counter() - started)
        if code >= 400:
            raise error_from(code, answer, response.headers.get("Retry-After"))
        parsed: Json = orjson.loads(answer)
        return parsed


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

"""Kopf, and nothing but Kopf: it logs in, and it watches our three kinds. Every other file is free of it.

Of Kopf only `on.event` is used, which writes nothing. Its other handlers cost three requests and a deep diff per event, put
finalizers and annotations on users' objects, and its index is quadratic at start-up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import kopf

from modelship_operator.kube.client import Client, Login
from modelship_operator.kube.informer import PAGE, Sink

Json = dict[str, Any]
log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
_BACKOFF = (0.2, 0.5, 1, 2, 4, 8, 15, 30)


class NoLogin(Exception):
    """No way into the cluster was found."""


def log_in() -> Login:
    """As Kopf does: the pod's service account, or a kubeconfig (`KUBECONFIG`, `~/.kube/config`).

    Raises:
        NoLogin: neither is there.
    """
    info = _credentials()
    return Login(info.server, info.as_ssl_context(), lambda: _credentials().as_http_headers())


def _credentials() -> kopf.ConnectionInfo:
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if not isinstance(info, kopf.ConnectionInfo) or not info.server:
        raise NoLogin("no cluster: run in a pod with a service account, or set KUBECONFIG")
    return info


class WatchEnded(Exception):
    """Kopf gave up."""


class Endless:
    """Back-off seconds, capped, for ever: Kopf ends the operator when its list of them does."""

    def __iter__(self) -> Iterator[float]:
        yield from _BACKOFF
        while True:
            yield _BACKOFF[-1]


async def watch(
    client: Client,
    server: str,
    api_version: str,
    plurals: Iterable[str],
    namespaces: Collection[str],
    sink: Sink,
    spawned: Callable[[], None],
) -> None:
    """Tell `sink` of every event of these kinds, for ever.

    Calls `spawned` when Kopf has taken the signal handlers, so that they can be taken back.

    Raises:
        WatchEnded: on what Kopf holds for unrecoverable, such as a CRD that was deleted. Restart the process then.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login(client, server))
    kopf.on.startup(registry=registry)(_configure)
    group, _, version = api_version.partition("/")
    for plural in plurals:
        kopf.on.event(group, version, plural, registry=registry)(_handler(sink))
    tasks = await kopf.spawn_tasks(registry=registry, standalone=True, clusterwide=not namespaces, namespaces=namespaces)
    spawned()
    # Not `kopf.run_tasks`: in the end it cancels every task of the process that is younger than itself, ours among them.
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_SECONDS)
    errors = [error for task in done if not task.cancelled() and (error := task.exception())]
    raise WatchEnded(f"the watch ended: {errors[0] if errors else 'no reason given'}") from (errors[0] if errors else None)


def _login(client: Client, server: str) -> Callable[..., kopf.AiohttpSession]:
    def login(**_: Any) -> kopf.AiohttpSession:
        # After a 401 Kopf closes the session and asks for another: so it gets its own, over our connections.
        return kopf.AiohttpSession(server=server, aiohttp_session=client.session())

    return login


def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.scanning.disabled = True
    settings.watching.chunk_size = PAGE
    settings.posting.enabled = False
    settings.networking.error_backoffs = Endless()
    settings.networking.request_timeout = 60
    settings.queueing.error_delays = Endless()
    # A task per object that idles for longer than a moment is what a burst would leave in memory.
    settings.queueing.idle_timeout = 0.01
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.persistence.consistency_timeout = 0
    settings.process.ultimate_exiting_timeout = None


def _handler(sink: Sink) -> Callable[..., Any]:
    async def seen(event: Json, **_: Any) -> None:
        obj: Json = event["object"]
        if event["type"] == "DELETED":
            sink.delete(obj)
        else:
            sink.put(obj)
        _lighten(obj)

    return seen


def _lighten(obj: Json) -> None:
    """Free what is heavy in an event: Kopf's views of it refer to each other, so it would stay until the collector comes.

    Nothing reads it any more. What the sink keeps is its own (`kube.pruning`).
    """
    for part in ("spec", "status"):
        obj.pop(part, None)
    obj["metadata"].pop("managedFields", None)


class _NoDiffs(kopf.DiffBaseStorage):
    """Remembers nothing, compares nothing."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        pass


class _NoProgress(kopf.ProgressStorage):
    """Remembers nothing."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        pass

    def purge(self, **_: Any) -> None:
        pass

    def touch(self, **_: Any) -> None:
        pass

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence

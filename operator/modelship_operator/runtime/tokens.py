"""Who is pushing: a projected service-account token, reviewed by the API server, names the pod that it was made for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from modelship_operator.kube.client import Client
from modelship_operator.kube.resources import Resource
from modelship_trainer.protocol import AUDIENCE

TOKEN_REVIEW = Resource("authentication.k8s.io/v1", "TokenReview")
GOOD_SECONDS, BAD_SECONDS = 60.0, 10.0
"""How long an answer is believed: a revoked token (its pod was deleted) is of no use for longer than this."""
REMEMBERED = 20_000
AT_ONCE = 8
"""Reviews under way: bad tokens must not become a flood of requests."""

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"


class Pod(NamedTuple):
    """The pod that a token was made for."""

    namespace: str
    name: str
    uid: str


class TokenReviewer:
    """Asks the API server whose a token is, and remembers the answer for a while, by the token's hash."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Pod | None, float]] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def pod(self, token: str) -> Pod | None:
        """The pod, or None where the token is not valid, is for another audience, or is not bound to a pod.

        Raises:
            ApiError: the API server did not answer.
        """
        digest = sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known[1]:
            return known[0]
        async with self._slots:
            pod = await self._review(token)
        self._known[digest] = (pod, self._clock() + (GOOD_SECONDS if pod else BAD_SECONDS))
        self._known.move_to_end(digest)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return pod

    async def _review(self, token: str) -> Pod | None:
        review = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": TOKEN_REVIEW.kind,
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status = (await self._client.create(TOKEN_REVIEW, None, review)).get("status") or {}
        if not status.get("authenticated") or AUDIENCE not in (status.get("audiences") or ()):
            return None
        user = status.get("user") or {}
        account = str(user.get("username", "")).split(":")
        extra = user.get("extra") or {}
        if account[:2] != ["system", "serviceaccount"] or not extra.get(_POD_NAME) or not extra.get(_POD_UID):
            return None
        return Pod(account[2], extra[_POD_NAME][0], extra[_POD_UID][0])

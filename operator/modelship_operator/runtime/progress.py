"""Where pods push how far they are: `POST /v1/progress`, a `protocol.ProgressReport` with the pod's own token.

Every replica takes pushes, since the Service does not know who leads; one that does not lead passes them on to the leader, whose
address is on the Lease. Only the leader, which alone writes status, looks at the token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import orjson
from aiohttp import web
from pydantic import ValidationError

from modelship_operator.controllers.framework import FoldProgress, ObjectKey
from modelship_operator.kube.errors import ApiError
from modelship_operator.kube.lease import Election
from modelship_operator.resources.common import UID_LABEL
from modelship_operator.runtime.coalescing import Coalescer
from modelship_operator.runtime.metrics import Metrics
from modelship_operator.runtime.store import Store
from modelship_operator.runtime.tokens import Pod, TokenReviewer
from modelship_trainer.protocol import ProgressReport

PATH = "/v1/progress"
BODY_LIMIT = 64 * 1024
FORWARDED = "X-Modelship-Forwarded"
FORWARD_SECONDS = 5.0
READ_SECONDS = 10.0

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    422: "Invalid",
    503: "ServiceUnavailable",
}


class Refused(Exception):
    """The push is not taken; answered as a Kubernetes `Status`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ProgressServer:
    """The endpoint. `application` is served by `runtime.http`."""

    def __init__(self, store: Store, reviewer: TokenReviewer, coalescer: Coalescer, election: Election, metrics: Metrics) -> None:
        self._store = store
        self._reviewer = reviewer
        self._coalescer = coalescer
        self._election = election
        self._metrics = metrics
        self._leader: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=BODY_LIMIT, middlewares=[self._answer_errors])
        application.router.add_post(PATH, self._take)
        application.cleanup_ctx.append(self._session)
        return application

    async def _session(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FORWARD_SECONDS)) as self._leader:
            yield

    @web.middleware
    async def _answer_errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            response = await handler(request)
        except Refused as refused:
            response = _status(refused.code, refused.message)
        except web.HTTPException as error:
            response = _status(error.status, f"{error.reason}; POST {PATH}, at most {BODY_LIMIT} bytes")
        except TimeoutError:
            response = _status(408, f"the body did not arrive within {READ_SECONDS:.0f} s")
        except ApiError as error:
            response = _status(503, f"the token cannot be reviewed now: HTTP {error.code}")
        self._metrics.pushed(response.status)
        return response

    async def _take(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").partition("Bearer ")[2].strip()
        if not token:
            raise Refused(401, "no bearer token: send the projected token of the audience modelship")
        async with asyncio.timeout(READ_SECONDS):
            body = await request.read()
        if not self._election.leading:
            return await self._forward(request, body)
        report = _parse(body)
        self._plausible(report)
        pod = await self._reviewer.pod(token)
        if pod is None:
            raise Refused(401, "the token is not valid, not for the audience modelship, or not bound to a pod")
        self._authorize(pod, report)
        run = report.run
        key = ObjectKey(run.kind, run.namespace, run.name)
        self._coalescer.push(key, run.uid, FoldProgress(report.pod, report.fold, report.progress))
        return web.Response(status=204)

    def _plausible(self, report: ProgressReport) -> None:
        """The pod that is named works for the run that is named. Asked before the token is looked at: a review is a request to the
        API server, and whoever reaches this port could cause one for each token that they invent. One answer for all that is
        amiss, so that they learn nothing either.
        """
        run = report.run
        pod = self._store.get(ObjectKey("Pod", run.namespace, report.pod))
        resource = self._store.get(ObjectKey(run.kind, run.namespace, run.name))
        works = pod is not None and pod["metadata"].get("labels", {}).get(UID_LABEL) == run.uid
        if not works or resource is None or resource["metadata"]["uid"] != run.uid:
            raise Refused(
                403, f"no pod {report.pod} is known that works for {run.kind} {run.namespace}/{run.name} with this uid (yet)"
            )

    def _authorize(self, pod: Pod, report: ProgressReport) -> None:
        """The token is that of the very pod that is named, which speaks for the run that it works for, and for no other."""
        if report.pod != pod.name or report.run.namespace != pod.namespace:
            raise Refused(403, f"the token is that of pod {pod.namespace}/{pod.name}, which pushes for itself only")
        known = self._store.get(ObjectKey("Pod", pod.namespace, pod.name))
        if known is None or known["metadata"]["uid"] != pod.uid:
            raise Refused(403, f"pod {pod.namespace}/{pod.name} is not known as one of ours (yet)")

    async def _forward(self, request: web.Request, body: bytes) -> web.StreamResponse:
        address = self._election.leader_address
        if address is None or FORWARDED in request.headers or self._leader is None:
            raise Refused(503, "no replica leads at the moment")
        headers = {"Authorization": request.headers["Authorization"], "Content-Type": "application/json", FORWARDED: "1"}
        try:
            async with self._leader.post(address, data=body, headers=headers, allow_redirects=False) as answer:
                return web.Response(status=answer.status, body=await answer.read(), content_type="application/json")
        except (aiohttp.ClientError, TimeoutError):
            raise Refused(503, "the leading replica does not answer") from None


def _parse(body: bytes) -> ProgressReport:
    try:
        return ProgressReport.model_validate_json(body)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:5])
        raise Refused(422, f"not a ProgressReport: {wrong}") from None


def _status(code: int, message: str) -> web.Response:
    """As the API server says it."""
    body = {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _REASONS.get(code, "InternalError"),
        "code": code,
    }
    headers = {"Retry-After": "1"} if code == 503 else None
    return web.Response(status=code, body=orjson.dumps(body), content_type="application/json", headers=headers)

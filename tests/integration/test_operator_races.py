"""What others write between the operator's look and its own write is not lost: the operator in this process, interrupted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.builders import make_training
from tests.support.controlplane import ControlPlane, free_ports
from tests.support.kubelet import Json, Namespace

from modelship_operator.kube.client import Login
from modelship_operator.runtime.main import controllers
from modelship_operator.runtime.operator import Operator
from modelship_operator.runtime.settings import Settings

pytestmark = pytest.mark.integration

KIND, JOB = "ModelTraining", "churn-train"


@asynccontextmanager
async def operating(plane: ControlPlane, here: Namespace) -> AsyncIterator[Operator]:
    """An operator in this event loop, for one namespace."""
    metrics, progress = free_ports(2)
    settings = Settings.from_environment(
        {
            **{f"MODELSHIP_{name}_IMAGE": f"{name.lower()}:1" for name in ("TRAINER", "TRITON", "GATEWAY", "OPERATOR")},
            "MODELSHIP_NAMESPACES": here.name,
            "MODELSHIP_POD_NAMESPACE": here.name,
            "MODELSHIP_METRICS_LISTEN": f"127.0.0.1:{metrics}",
            "MODELSHIP_PROGRESS_LISTEN": f"127.0.0.1:{progress}",
        }
    )
    trust = ssl.create_default_context(cafile=str(plane.certificate))
    login = Login(plane.url, trust, lambda: {"Authorization": f"Bearer {plane.token}"})
    operator = Operator(settings, login, controllers(settings.pods))
    running = asyncio.create_task(operator.run())
    try:
        yield operator
    finally:
        operator.stop()
        assert await running


def interrupt_first(operator: Operator, here: Namespace, verb: str, others: Callable[[], Any]) -> None:
    """Let somebody else write just before the operator's first request of this verb.

    Both are sent without giving the event loop a turn, so that no watch tells the operator of it before its own answer is there.
    """
    client = operator._client
    send, waiting = client._json, [others]

    async def interrupted(method: str, path: str, told: str, plural: str, body: bytes, content: str, accept: str) -> Json:
        if told != verb or not waiting:
            return await send(method, path, told, plural, body, content, accept)  # type: ignore[arg-type]
        waiting.pop()()
        headers = {"Content-Type": content, "Accept": accept}
        answer: Json = here.client.request(method, path, content=body, headers=headers).raise_for_status().json()
        return answer

    client._json = interrupted  # type: ignore[method-assign,assignment]


async def test_a_spec_edited_just_before_the_status_is_written_is_seen(plane: ControlPlane) -> None:
    """The status' answer has a version after the edit: the spec of before must not be kept under it."""
    with Namespace.made(plane) as here:
        async with operating(plane, here) as operator:
            interrupt_first(operator, here, "apply", lambda: here.patch(KIND, "churn", {"spec": {"suspend": True}}))
            here.create(make_training())
            await asyncio.to_thread(here.wait, "Job", JOB, lambda job: job["spec"]["suspend"] is True)
            await asyncio.to_thread(here.reason, KIND, "churn", "Suspended")


async def test_a_job_that_fails_just_before_it_is_suspended_is_seen_to_fail(plane: ControlPlane) -> None:
    with Namespace.made(plane) as here:
        async with operating(plane, here) as operator:
            here.create(make_training())
            await asyncio.to_thread(here.job, JOB)
            await asyncio.to_thread(here.reason, KIND, "churn", "Starting")
            late = "Job was active longer than specified deadline"
            interrupt_first(operator, here, "patch", lambda: here.fail_job(JOB, "DeadlineExceeded", late))
            here.patch(KIND, "churn", {"spec": {"suspend": True}})
            await asyncio.to_thread(here.reason, KIND, "churn", "DeadlineExceeded")

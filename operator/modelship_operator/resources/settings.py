"""What the builders need to know of this installation: images, and where pods report to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PodSettings:
    """The part of the operator's settings that reaches the pods it starts. Filled by `runtime.settings`."""

    trainer_image: str
    triton_image: str
    gateway_image: str
    operator_image: str
    """Init step of serving pods."""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    progress_url: str | None = None
    """`http://HOST:8090/v1/progress`; None: pods push nothing, and results travel in the termination message alone."""

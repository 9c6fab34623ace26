"""The operator's settings, all of them from environment variables `MODELSHIP_<NAME>`."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from modelship_operator.kube.lease import LeaseSettings
from modelship_operator.resources.settings import PodSettings

PREFIX = "MODELSHIP_"


def _names(value: object) -> object:
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class SettingsError(Exception):
    """An environment variable is missing or wrong; the message names each."""


class Settings(BaseModel):
    """A field `x_y` is read from `MODELSHIP_X_Y`. Frozen: read once, at the start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer_image: str = Field(min_length=1, description="Image of training and evaluation pods.")
    triton_image: str = Field(min_length=1, description="Image of Triton Inference Server.")
    gateway_image: str = Field(min_length=1, description="Image of nginx before Triton.")
    operator_image: str = Field(min_length=1, description="This image: init step of serving pods.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="Of all pods.")
    image_pull_secrets: Names = Field((), description="Names of Secrets, in each namespace that pods run in, comma-separated.")
    progress_url: str | None = Field(None, description="Where pods push progress; unset: they do not.")

    namespaces: Names = Field((), description="Namespaces to work in, comma-separated; empty: all of the cluster.")
    workers: int = Field(32, ge=1, le=256, description="Resources that are reconciled at once, and so connections at most.")
    resync_seconds: float = Field(480, ge=30, description="Time between two lists that find what broken watches lost.")
    progress_seconds: float = Field(15, ge=1, description="Least time between two status writes for progress, per resource.")
    shutdown_seconds: float = Field(15, ge=0, description="For what is under way to end, at SIGTERM.")

    pod_name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{secrets.token_hex(4)}", description="Identity in the election."
    )
    pod_namespace: str = Field("default", description="Namespace of the Lease.")
    pod_ip: str | None = Field(None, description="Where other replicas forward progress to, while this one leads.")
    lease_name: str = Field("modelship-operator", description="Name of the Lease.")
    lease_seconds: float = Field(15, ge=3, description="A leader that is silent for longer is replaced.")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Of the JSON log.")
    metrics_listen: str = Field(":8080", pattern=r":\d+$", description="HOST:PORT of /metrics, /healthz and /readyz.")
    progress_listen: str = Field(":8090", pattern=r":\d+$", description="HOST:PORT of /v1/progress.")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the settings.

        Raises:
            SettingsError: names every variable that is missing or wrong.
        """
        # Other MODELSHIP_ variables are not ours: Kubernetes itself sets MODELSHIP_PORT and the like for a Service of that name.
        values = {name: environment[PREFIX + name.upper()] for name in cls.model_fields if environment.get(PREFIX + name.upper())}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = [f"{PREFIX}{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors()]
            raise SettingsError("; ".join(wrong)) from None

    @property
    def pods(self) -> PodSettings:
        """The part that reaches pods."""
        return PodSettings(
            trainer_image=self.trainer_image,
            triton_image=self.triton_image,
            gateway_image=self.gateway_image,
            operator_image=self.operator_image,
            pull_policy=self.image_pull_policy,
            pull_secrets=self.image_pull_secrets,
            progress_url=self.progress_url,
        )

    @property
    def lease(self) -> LeaseSettings:
        """The part that the election needs."""
        address = f"[{self.pod_ip}]" if self.pod_ip and ":" in self.pod_ip else self.pod_ip
        port = listen_address(self.progress_listen)[1]
        return LeaseSettings(
            namespace=self.pod_namespace,
            name=self.lease_name,
            identity=self.pod_name,
            address=f"http://{address}:{port}/v1/progress" if address else None,
            duration=self.lease_seconds,
            deadline=self.lease_seconds * 2 / 3,
            renew_every=self.lease_seconds / 5,
        )

    @property
    def watched_namespaces(self) -> tuple[str | None, ...]:
        """Namespaces to list and watch; `(None,)` for all."""
        return self.namespaces or (None,)


def listen_address(text: str) -> tuple[str | None, int]:
    """Host (None: every address) and port of `HOST:PORT`."""
    host, _, port = text.rpartition(":")
    return host.strip("[]") or None, int(port)

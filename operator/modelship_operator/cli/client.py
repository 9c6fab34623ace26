"""The cluster as the person at the keyboard reaches it: kubeconfig, or the pod's own account."""

from __future__ import annotations

import json
import os
from typing import Any

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from urllib3.exceptions import HTTPError

GROUP, VERSION = "modelship.dev", "v1alpha1"
Object = dict[str, Any]
_config: Any = config
"""Untyped in the kubernetes package."""


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and what to do."""


class Cluster:
    """A cluster and a namespace."""

    def __init__(self, context: str | None, namespace: str | None) -> None:
        self.configuration = Configuration()
        try:
            if context is None and _in_pod():
                _config.load_incluster_config(client_configuration=self.configuration)
                self.namespace = namespace or "default"
            else:
                _config.load_kube_config(context=context, client_configuration=self.configuration)
                self.namespace = namespace or _namespace_of(context)
        except config.ConfigException as error:
            raise CommandError(f"no cluster: {error}; set KUBECONFIG or --context") from error
        self._client = ApiClient(self.configuration)

    def api(self, group: type) -> Any:
        """An API of the kubernetes package, such as `CoreV1Api`. Untyped: each field of its models may be None on paper."""
        return group(self._client)

    def resource(self, plural: str, kind: str, name: str) -> Object:
        """One of our resources.

        Raises:
            CommandError: it does not exist, or cannot be read.
        """
        try:
            found: Object = self.api(CustomObjectsApi).get_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, name)
        except ApiException as error:
            if error.status == 404:
                raise CommandError(f'{kind} "{name}" does not exist in namespace {self.namespace}') from error
            raise CommandError(f"{kind} {name}: {said(error)}") from error
        except HTTPError as error:
            raise CommandError(f"the API server at {self.configuration.host} does not answer") from error
        return found


def said(error: ApiException) -> str:
    """The API server's own sentence."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


def standing(resource: Object) -> str:
    """`Stalled, GateFailed: ...`: the condition that tells why a resource is not ready."""
    conditions = {entry["type"]: entry for entry in resource.get("status", {}).get("conditions", [])}
    for kind in ("Stalled", "Reconciling"):
        if conditions.get(kind, {}).get("status") == "True":
            return f"{kind}, {conditions[kind]['reason']}: {conditions[kind].get('message', '')}"
    return str(conditions.get("Ready", {}).get("message", "the operator has not seen it yet"))


def _in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _namespace_of(context: str | None) -> str:
    contexts, active = _config.list_kube_config_contexts()
    chosen = active if context is None else next(entry for entry in contexts if entry["name"] == context)
    return str(chosen["context"].get("namespace", "default"))

"""The cluster as the person at the keyboard reaches it, with their rights and no others."""

from __future__ import annotations

import argparse
import base64
import json
import ssl
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import websocket
from kubernetes.client import ApiClient, ApiException, Configuration, CustomObjectsApi
from kubernetes.client.rest import RESTClientObject, should_bypass_proxies
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import HTTPError

from modelship_operator.cli.kubeconfig import CommandError as CommandError
from modelship_operator.cli.kubeconfig import Login, login

GROUP, VERSION = "modelship.dev", "v1alpha1"
Object = dict[str, Any]
_CONNECT_SECONDS = 30


class Cluster:
    """A cluster and a namespace."""

    def __init__(self, access: Login) -> None:
        self.namespace = access.namespace
        self._access = access
        self._client = ApiClient(access.configuration)
        if access.impersonation:
            self._client.rest_client = _Impersonating(access)

    @classmethod
    def of(cls, options: argparse.Namespace) -> Cluster:
        """By the options of `kubeconfig.add_arguments`.

        Raises:
            CommandError: there is none, or the kubeconfig has something that cannot be honoured.
        """
        return cls(login(options))

    @property
    def configuration(self) -> Configuration:
        """Where it is, and how to log in."""
        return self._access.configuration

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

    def websocket(self, path: str, query: list[tuple[str, str]]) -> Any:
        """An open WebSocket of Kubernetes' channel protocol, such as of a pod's `attach`; untyped in its package.

        Raises:
            CommandError: the API server refused it; in its words.
        """
        configuration = self.configuration
        url = urlsplit(f"{configuration.host}{path}?{urlencode(query)}")
        scheme = "ws" if url.scheme == "http" else "wss"
        headers = [f"{name}: {value}" for name, value in (*self._authorization(), *self._access.impersonation)]
        opened: Any = websocket.WebSocket(sslopt=_tls(configuration), skip_utf8_validation=True, enable_multithread=True)
        try:
            opened.connect(
                urlunsplit(url._replace(scheme=scheme)),
                header=headers,
                subprotocols=["v4.channel.k8s.io"],
                timeout=_CONNECT_SECONDS,
                suppress_origin=True,
                **_through(configuration),
            )
        except websocket.WebSocketBadStatusException as error:
            raise CommandError(_refusal(error.resp_body) or f"the API server answered {error.status_code}") from error
        except (websocket.WebSocketException, OSError) as error:
            raise CommandError(f"the API server at {configuration.host} does not answer: {error}") from error
        opened.settimeout(None)
        return opened

    def _authorization(self) -> list[tuple[str, str]]:
        settings: Any = self.configuration.auth_settings()
        return [("Authorization", entry["value"]) for entry in settings.values()]


class _Impersonating(RESTClientObject):
    """Requests in another's name. A header of the client may be there only once; groups are a header each."""

    def __init__(self, access: Login) -> None:
        super().__init__(access.configuration)
        self._impersonation = access.impersonation

    def request(self, method: Any, url: Any, headers: Any = None, *arguments: Any, **options: Any) -> Any:
        """As the client's own."""
        whole = HTTPHeaderDict(headers)
        for name, value in self._impersonation:
            whole.add(name, value)
        return super().request(method, url, whole, *arguments, **options)  # type: ignore[no-untyped-call]


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


def _refusal(body: bytes | None) -> str | None:
    try:
        return str(json.loads(body or b"")["message"])
    except (TypeError, ValueError, KeyError):
        return None


def _tls(configuration: Configuration) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    name = configuration.tls_server_name
    return {"context": context, **({"server_hostname": name} if name else {})}


def _through(configuration: Configuration) -> dict[str, Any]:
    """The proxy, where there is one and this host is not reached without; never what the environment says beside it."""
    if not configuration.proxy or should_bypass_proxies(configuration.host, configuration.no_proxy or ""):
        return {"http_no_proxy": ["*"]}
    proxy = urlsplit(configuration.proxy)
    login = (configuration.proxy_headers or {}).get("proxy-authorization", "").removeprefix("Basic ")
    return {
        "proxy_type": "http",
        "http_proxy_host": proxy.hostname,
        "http_proxy_port": proxy.port or 80,
        "http_proxy_auth": tuple(base64.b64decode(login).decode().split(":", 1)) if login else None,
        "http_no_proxy": ["-"],
    }

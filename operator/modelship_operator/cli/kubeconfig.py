"""Who the person at the keyboard is, and where their cluster is: the kubeconfig as kubectl reads it, or the pod's own account.

The official client reads most of it. Here is what it leaves out or reads otherwise: impersonation, which file's current context
counts, a plugin that gives nothing, a proxy with a login. What neither does is refused, never acted on with other rights.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import urllib3
import yaml
from kubernetes import config
from kubernetes.client import Configuration

Json = dict[str, Any]
_config: Any = config
"""Untyped in the kubernetes package."""
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and what to do."""


class Login(NamedTuple):
    """A cluster, a namespace in it, and as whom."""

    configuration: Configuration
    namespace: str
    impersonation: tuple[tuple[str, str], ...] = ()
    """Headers of every request; a name may be there more than once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What kubectl's own options are called."""
    parser.add_argument("--namespace", "-n", help="default: that of the kubeconfig's context")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")
    parser.add_argument("--kubeconfig", help="the kubeconfig; default: the files in $KUBECONFIG, or ~/.kube/config")
    parser.add_argument("--as", dest="as_user", metavar="USER", help="act as this user, where you may impersonate them")
    parser.add_argument("--as-group", dest="as_groups", metavar="GROUP", action="append", help="and as a member of this group")
    parser.add_argument("--as-uid", dest="as_uid", metavar="UID", help="and with this uid")


def login(options: argparse.Namespace) -> Login:
    """By the options of `add_arguments`, the environment and the files that they name.

    Raises:
        CommandError: there is no cluster to be found, or something that cannot be honoured.
    """
    if options.context is None and options.kubeconfig is None and _in_pod():
        configuration = Configuration()
        try:
            _config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise CommandError(f"no cluster: {error}") from error
        return Login(configuration, options.namespace or _own_namespace(), _impersonation({}, options))
    files = _files(options.kubeconfig)
    chosen, context, cluster, user = _entries(files, options.context)
    configuration = _configuration(files, chosen)
    _check_plugin(user, configuration)
    _set_proxy(cluster, configuration)
    if not configuration.verify_ssl:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # asked for in so many words
    return Login(configuration, options.namespace or context.get("namespace") or "default", _impersonation(user, options))


def _in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _own_namespace() -> str:
    return _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else "default"


# --- files --------------------------------------------------------------------------------------------------------------------


def _files(given: str | None) -> dict[str, Json]:
    """Path to content, in order; of several, those that are not there are left out, as kubectl does."""
    if given is not None:
        paths = [given]
    else:
        listed = [path for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
        paths = [path for path in listed or [str(Path("~/.kube/config").expanduser())] if Path(path).expanduser().exists()]
        if not paths:
            raise CommandError(f"no cluster: there is no kubeconfig at {' or '.join(listed) or '~/.kube/config'}; set KUBECONFIG")
    read = {path: _read(path) for path in paths}
    return {path: content for path, content in read.items() if content}


def _read(path: str) -> Json:
    try:
        content = yaml.safe_load(Path(path).expanduser().read_text())
    except OSError as error:
        raise CommandError(f"kubeconfig {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"kubeconfig {path}: not YAML") from error
    if content is not None and not isinstance(content, dict):
        raise CommandError(f"kubeconfig {path}: must be an object with clusters, contexts and users")
    return content or {}


def _entries(files: Mapping[str, Json], wanted: str | None) -> tuple[str, Json, Json, Json]:
    """Name of the context, and it, its cluster and its user. What is there twice counts where it is first."""
    chosen = wanted or next((str(content["current-context"]) for content in files.values() if content.get("current-context")), None)
    if chosen is None:
        raise CommandError(f"the kubeconfig {', '.join(files)} has no current context; choose one with --context")
    context = _entry(files, "contexts", chosen)
    if not context.get("cluster"):
        raise CommandError(f'context "{chosen}" of the kubeconfig names no cluster')
    cluster = _entry(files, "clusters", str(context["cluster"]))
    return chosen, context, cluster, _entry(files, "users", str(context["user"])) if context.get("user") else {}


def _entry(files: Mapping[str, Json], kind: str, name: str) -> Json:
    for content in files.values():
        for entry in content.get(kind) or []:
            if entry.get("name") == name:
                found: Json = entry.get(kind[:-1]) or {}
                return found
    raise CommandError(f'the kubeconfig {", ".join(files)} has no {kind[:-1]} "{name}"')


def _configuration(files: Mapping[str, Json], context: str) -> Configuration:
    configuration = Configuration()
    paths = os.pathsep.join(files)
    try:
        _config.load_kube_config(paths, context=context, client_configuration=configuration, persist_config=False)
    except config.ConfigException as error:
        raise CommandError(f"kubeconfig {paths}: {error}") from error
    return configuration


# --- what the official client does not --------------------------------------------------------------------------------------------


def _check_plugin(user: Json, configuration: Configuration) -> None:
    """A plugin that fails is only logged there, and what follows would be asked anonymously."""
    plugin = user.get("exec")
    if plugin and not configuration.api_key and not configuration.cert_file:
        raise CommandError(f"the kubeconfig's login plugin {plugin.get('command')} gave no credentials; run kubectl to see why")
    if user.get("token") and user.get("tokenFile"):
        raise CommandError("the kubeconfig's user has both token and tokenFile; keep one")


def _set_proxy(cluster: Json, configuration: Configuration) -> None:
    url = cluster.get("proxy-url")
    if not url:
        return
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise CommandError(
            f"the kubeconfig's proxy-url {parts.scheme}://{parts.hostname or ''} is not supported; use one of http://"
        )
    configuration.no_proxy = None  # as kubectl does: what stands there goes before the environment
    if parts.username:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        configuration.proxy = f"http://{parts.hostname}:{parts.port or 80}"
        configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=login)


def _impersonation(user: Json, options: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """The headers of https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation."""
    whom = options.as_user or user.get("as")
    uid = options.as_uid or user.get("as-uid")
    groups = options.as_groups or user.get("as-groups") or []
    extra: Mapping[str, list[str]] = user.get("as-user-extra") or {}
    if not whom:
        if uid or groups or extra:
            raise CommandError("impersonation of a group, uid or extra needs a user: as in the kubeconfig, or --as")
        return ()
    return (
        ("Impersonate-User", whom),
        *([("Impersonate-Uid", uid)] if uid else []),
        *(("Impersonate-Group", group) for group in groups),
        *_extra(extra),
    )


def _extra(extra: Mapping[str, list[str]]) -> Iterator[tuple[str, str]]:
    for key, values in extra.items():
        name = "Impersonate-Extra-" + quote(key.lower(), safe="!#$&'*+-.^_`|~")
        yield from ((name, value) for value in values)

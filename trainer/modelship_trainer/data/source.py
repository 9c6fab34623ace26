"""Fetch a source: files of a mounted claim where they lie, https into a temporary folder; and the digest of their bytes."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from modelship_trainer.artifact.manifest import sha256_of_file
from modelship_trainer.errors import UserError, listing
from modelship_trainer.locations import local_path, scheme_of, shown
from modelship_trainer.protocol import ENV_CREDENTIALS_PREFIX, FailureReason


class LeftOut(NamedTuple):
    """A file or folder that is not read."""

    name: str
    """Relative to the source's folder; of a folder, with a slash at the end."""
    why: str
    """`hidden`, `a link out of the folder`, ...: as it stands in a sentence."""


@dataclass(frozen=True)
class Source:
    """Local files of a source."""

    uri: str
    """Without credentials: fit for messages."""
    root: Path
    """A file, or a folder of files."""
    names: tuple[str, ...]
    """Files relative to the folder, sorted; of a single file, its name."""
    left_out: tuple[LeftOut, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """The files, in the order of their names."""
        return [self.root / name for name in self.names] if self.root.is_dir() else [self.root]

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of the file's bytes; for a folder, of the lines that `sha256sum` prints for its sorted files."""
        if not self.root.is_dir():
            return f"sha256:{sha256_of_file(self.root)}"
        lines = "".join(f"{sha256_of_file(path)}  {name}\n" for path, name in zip(self.paths, self.names, strict=True))
        return f"sha256:{hashlib.sha256(os.fsencode(lines)).hexdigest()}"

    def stamp(self) -> tuple[tuple[int, ...], ...]:
        """What changes when a file is written, exchanged or deleted: compared before reading and after hashing."""
        facts: list[tuple[int, ...]] = []
        for path in self.paths:
            try:
                status = path.stat()
            except FileNotFoundError:
                facts.append(())
            else:
                facts.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(facts)

    def single_file(self, format_: str) -> Path:
        """The file; raises UserError where the source is a folder of several."""
        if len(self.names) != 1:
            raise UserError(FailureReason.DATA_INVALID, f"{self.uri} has {len(self.names)} files; format {format_} takes one.")
        return self.paths[0]


def fetch(uri: str, work: Path) -> Source:
    """Make the files of `uri` readable on this machine; https goes into `work`.

    Raises:
        UserError: DataNotFound, DataInvalid, StoreUnavailable, RecipeInvalid.
    """
    if scheme_of(uri) == "https":
        path = _download(uri, work)
        return Source(shown(uri), path, (path.name,))
    path = local_path(uri)
    if not path.exists():
        raise UserError(FailureReason.DATA_NOT_FOUND, f"{uri} does not exist{_neighbours(path)}{_cure(uri)}.")
    if path.is_file():
        return Source(uri, path, (path.name,))
    names, left_out = _below(path)
    if not names:
        only = f"; left out: {listing([f'{entry.name} ({entry.why})' for entry in left_out], limit=3)}" if left_out else ""
        raise UserError(FailureReason.DATA_NOT_FOUND, f"{uri} is a folder without files{only}.")
    return Source(uri, path, tuple(sorted(names)), tuple(sorted(left_out)))


def _below(folder: Path) -> tuple[list[str], list[LeftOut]]:
    """Files below `folder`, and what is left out of them; links to folders are not followed. Raises OSError."""

    def fail(error: OSError) -> None:
        raise error  # else os.walk, as Path.rglob, leaves a folder out that cannot be read, and a class with it

    root = folder.resolve()
    names: list[str] = []
    left_out: list[LeftOut] = []
    for below, folders, files in os.walk(folder, onerror=fail):
        for name in [*folders, *files]:
            path = Path(below, name)
            why = _why_not(path, root)
            shown_name = path.relative_to(folder).as_posix()
            if why:
                left_out.append(LeftOut(f"{shown_name}/" if name in folders else shown_name, why))
            elif name not in folders:
                names.append(shown_name)
        folders[:] = [name for name in folders if not _why_not(Path(below, name), root)]
    return names, [entry for entry in left_out if entry.name != f"{_LOST}/"]


_LOST = "lost+found"
"""A file system's own folder at a volume's root, which only root may read."""


def _why_not(path: Path, root: Path) -> str | None:
    """Why a file or folder is not read; None where it is."""
    if path.name.startswith("."):
        return "hidden"
    if path.name == _LOST:
        return "the file system's own"
    if not path.is_symlink():
        return None if path.is_file() or path.is_dir() else "neither file nor folder"
    if path.is_dir():
        return "a link to a folder"
    if not path.is_file():
        return "a link to nothing"
    return None if path.resolve().is_relative_to(root) else "a link out of the folder"


def _cure(uri: str) -> str:
    """Of a claim: nothing waits for a file, as each look would cost a pod."""
    return f"; copy it there with `modelship upload FILE {uri}`, and create the run anew" if scheme_of(uri) == "pvc" else ""


def _neighbours(path: Path) -> str:
    """What lies beside a path that does not exist: the likely cure is a name."""
    parent = path.parent
    if not parent.is_dir():
        return f": there is no folder {parent.name}"
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    return f"; beside it: {listing(names)}" if names else ": its folder is empty"


# --- https --------------------------------------------------------------------------------------------------------------------


def _download(uri: str, work: Path) -> Path:
    import fsspec

    name = os.path.basename(unquote(urlsplit(uri).path)) or "data"
    target = work / name
    files = fsspec.filesystem("https", get_client=_session, skip_instance_cache=True)
    try:
        files.get_file(uri, str(target))
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(FailureReason.DATA_NOT_FOUND, f"{shown(uri)} does not exist (404).") from error
    except Exception as error:  # aiohttp has some twenty exceptions; the status tells them apart
        raise _download_error(uri, error) from error
    return target


async def _session(**options: Any) -> Any:
    """An aiohttp session that trusts what OpenSSL's environment says now (SSL_CERT_FILE), and uses the environment's proxies.

    aiohttp itself leaves the credentials out of a redirect to another host.
    """
    import aiohttp

    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(_refuse_plain_http)
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    return aiohttp.ClientSession(connector=connector, headers=_headers(), trust_env=True, trace_configs=[redirects], **options)


async def _refuse_plain_http(session: Any, context: Any, redirect: Any) -> None:
    """Raises UserError: DataInvalid where a server sends us on to another scheme: anybody on the way could exchange the bytes."""
    target = urljoin(str(redirect.url), redirect.response.headers.get("Location") or redirect.response.headers.get("URI") or "")
    if scheme_of(target) != "https":
        raise UserError(
            FailureReason.DATA_INVALID,
            f"{shown(str(redirect.url))} redirects to {scheme_of(target)}, and only https is followed; set data.source to its "
            "https address.",
        )


def _download_error(uri: str, error: Exception) -> UserError:
    status = getattr(error, "status", None)
    if status in (401, 403):
        cure = "set data.credentialsSecret to a Secret with the key token, or username and password"
        return UserError(FailureReason.DATA_NOT_FOUND, f"{shown(uri)} answered {status}; {cure}.")
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return UserError(FailureReason.DATA_NOT_FOUND, f"{shown(uri)} answered {status}.")
    what = f"answered {status}" if status else f"cannot be read: {type(error).__name__}"
    return UserError(FailureReason.STORE_UNAVAILABLE, f"{shown(uri)} {what}; trying again.")


def _headers() -> dict[str, str]:
    """The Authorization header of the data Secret's keys: token, or username and password."""
    token, user = os.environ.get(f"{ENV_CREDENTIALS_PREFIX}token"), os.environ.get(f"{ENV_CREDENTIALS_PREFIX}username")
    if token:
        return {"Authorization": f"Bearer {token.strip()}"}
    if user is not None:
        password = os.environ.get(f"{ENV_CREDENTIALS_PREFIX}password", "")
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}

"""Where a URI lies in the file system: `pvc://claim/path` below the folder of mounted claims, `file:///path` on a laptop."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from modelship_trainer.errors import UserError
from modelship_trainer.protocol import ENV_PVC_ROOT, PVC_ROOT, FailureReason


def scheme_of(uri: str) -> str:
    """`pvc` of `pvc://claim/path`."""
    return uri.partition("://")[0]


def shown(uri: str) -> str:
    """The URI as messages and logs may show it: without user, password, query (signed URLs) and fragment."""
    if scheme_of(uri) != "https":
        return uri
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def local_path(uri: str) -> Path:
    """Path of a `pvc://` or `file://` URI.

    Raises:
        UserError: RecipeInvalid where the path leaves the claim; StoreUnavailable where the claim is not mounted.
    """
    scheme, _, rest = uri.partition("://")
    if ".." in unquote(rest).split("/"):
        raise UserError(FailureReason.RECIPE_INVALID, f"{uri} must not contain '..'.")
    if scheme == "file":
        return Path(rest)
    claim, _, path = rest.partition("/")
    mount = Path(os.environ.get(ENV_PVC_ROOT, PVC_ROOT)) / claim
    if not mount.is_dir():
        raise UserError(FailureReason.STORE_UNAVAILABLE, f"claim {claim} of {uri} is not mounted at {mount}.")
    resolved = (mount / path).resolve()
    if not resolved.is_relative_to(mount.resolve()):
        raise UserError(FailureReason.RECIPE_INVALID, f"{uri} is a link out of its claim.")
    return resolved


def output_folder(path: Path) -> Path:
    """The folder that a person names on the command line, made where it is not there; absolute.

    Raises:
        UserError: RecipeInvalid where it, or a part of its path, is a file; StoreUnavailable where it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        file = next(part for part in (path, *path.parents) if part.exists() or part.is_symlink())
        raise UserError(FailureReason.RECIPE_INVALID, f"--output {path}: {file} is a file; name a folder.") from error
    except OSError as error:
        raise UserError(FailureReason.STORE_UNAVAILABLE, f"--output {path} cannot be made: {error.strerror}.") from error
    return path.resolve()

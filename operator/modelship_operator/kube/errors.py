"""What the API server answered when it did not do what was asked, sorted by what to do about it."""

from __future__ import annotations

from typing import Any

import orjson

_TRANSIENT = frozenset({408, 429})


class ApiError(Exception):
    """A request that the API server refused, or never answered (`code` 0)."""

    def __init__(
        self, code: int, message: str, *, reason: str = "", causes: frozenset[str] = frozenset(), retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.causes = causes
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""

    @property
    def transient(self) -> bool:
        """Whether the same request may well succeed later without anybody changing anything."""
        return self.code == 0 or self.code >= 500 or self.code in _TRANSIENT or (self.code == 401)

    @property
    def gone(self) -> bool:
        """Whether the object does not exist (any more), or is another one of its name: the uid precondition failed."""
        return self.code == 404 or (self.code == 409 and "uid" in self.message.lower() and "precondition" in self.message.lower())

    @property
    def terminating(self) -> bool:
        """Whether the namespace is being deleted, so that nothing can be created in it."""
        return "NamespaceTerminating" in self.causes


def error_from(code: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error in a response; its body is a `Status` object, or, from a proxy or a broken server, anything."""
    status: dict[str, Any] = {}
    try:
        parsed = orjson.loads(body)
        status = parsed if isinstance(parsed, dict) and parsed.get("kind") == "Status" else {}
    except orjson.JSONDecodeError:
        pass
    details = status.get("details") or {}
    message = status.get("message") or f"HTTP {code}"
    wait = retry_after or details.get("retryAfterSeconds")
    return ApiError(
        status.get("code", code),
        " ".join(str(message).split()),
        reason=status.get("reason", ""),
        causes=frozenset(cause.get("reason", "") for cause in details.get("causes") or ()),
        retry_after=float(wait) if wait is not None and str(wait).isdigit() else None,
    )

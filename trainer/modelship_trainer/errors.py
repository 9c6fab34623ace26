"""How a run fails: one exception that carries what the user is told."""

from __future__ import annotations

import errno

from modelship_trainer.protocol import ExitCode, Failure, FailureReason

_EXIT_CODES = {
    FailureReason.DIGEST_MISMATCH: ExitCode.DIGEST_MISMATCH,
    FailureReason.STORE_UNAVAILABLE: ExitCode.TEMPORARY,
}


class UserError(Exception):
    """A run cannot go on; `message` is one sentence that says what to change."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        message = printable(message)
        self.reason, self.message = reason, message
        super().__init__(message)

    def __reduce__(self) -> tuple[type[UserError], tuple[FailureReason, str]]:
        return type(self), (self.reason, self.message)

    @property
    def exit_code(self) -> int:
        """How the process ends: told to Kubernetes, whose Job retries some codes and others not."""
        return 1 if self.reason is FailureReason.INTERNAL_ERROR else _EXIT_CODES.get(self.reason, ExitCode.INVALID)

    def failure(self) -> Failure:
        """The termination message."""
        return Failure(reason=self.reason, message=self.message)


def printable(text: str) -> str:
    r"""`text` with bytes of a file's name that are no text as `\udcff`: neither JSON nor a terminal takes them otherwise."""
    return text.encode("utf-8", "backslashreplace").decode()


class Interrupted(Exception):
    """SIGTERM arrived and the state was saved."""


def quote(name: object) -> str:
    """A name in double quotes, as messages show columns, classes and values; long text is cut."""
    text = str(name)
    return f'"{text if len(text) <= 60 else text[:57] + "..."}"'


def listing(names: list[str], limit: int = 20) -> str:
    """`a, b, c`, and how many more there are beyond `limit`."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


_STORE_ERRORS = {errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}


def is_store_error(error: BaseException) -> bool:
    """Whether the store cannot be reached just now, as opposed to bytes that are not what they should be."""
    return isinstance(error, OSError) and error.errno in _STORE_ERRORS

"""What a pod of ours said when it ended: its termination message, read as the contract has it."""

from __future__ import annotations

import orjson
from pydantic import ValidationError

from modelship_trainer.protocol import EvaluateResult, Failure, FoldsResult, Outcome, TrainResult

LINE_LIMIT = 300
"""Characters of a foreign line that a status quotes."""


def parse_outcome(text: str | None) -> TrainResult | FoldsResult | EvaluateResult | Failure | None:
    """The result or failure in a termination message; None where it is something else (a crash's last log lines, nothing)."""
    try:
        # orjson, since what it reads it can write again: no half of a surrogate pair, no endless integer.
        return Outcome.model_validate({"message": orjson.loads(text or "")}).message
    except (ValueError, ValidationError):
        return None


def last_line(text: str | None) -> str:
    """The last line of a crash's log that says something, cut to `LINE_LIMIT`; empty where there is none."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return shorten(lines[-1]) if lines else ""


def shorten(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` with at most `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def short_digest(digest: str) -> str:
    """`sha256:9f31…`, for a column."""
    return f"{digest[:11]}…"

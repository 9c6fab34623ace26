"""What the tools say: progress on stderr (stdout is for results that scripts read), and failures with their cure."""

from __future__ import annotations

import sys


class Failure(Exception):
    """What went wrong and what to do about it, in one sentence; shown without a traceback."""


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"  {text}", file=sys.stderr, flush=True)

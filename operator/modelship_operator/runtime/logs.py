"""Logs as one JSON object per line, for people with `jq` and for log collectors."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What Kopf attaches to its records: whole objects among them, and so whatever a user wrote into one.
_UNWANTED = frozenset({"settings", "k8s_skip", "k8s_ref", "k8s_objs"})


class JsonFormatter(logging.Formatter):
    """`time`, `level`, `logger`, `message`, then what was given as `extra`: chosen fields, never a whole object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("modelship_operator."),
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD and key not in _UNWANTED}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def set_up(level: str) -> None:
    """Log to standard error; libraries only from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("modelship_operator").setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.ERROR)

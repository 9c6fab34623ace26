"""The gateway's Lua modules, called from tests."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

LUA = Path(__file__).parents[3] / "images/gateway/lua"


class Refused(Exception):
    """What a client would be told."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Lua:
    """Calls of `driver.lua`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, call: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "failed" not in answer, answer["failed"]
        if "refused" in answer:
            raise Refused(**answer["refused"])
        return answer["result"]

"""A container engine that runs nothing."""

from __future__ import annotations

import subprocess
from typing import Any

from tools.localcluster.engine import Engine


class FakeEngine(Engine):
    """Answers by the first two words of a command; keeps all that it was asked."""

    def __init__(self, name: str, said: dict[str, str] | None = None) -> None:
        super().__init__(name, {})
        object.__setattr__(self, "said", said or {})
        object.__setattr__(self, "asked", [])

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        self.asked.append(" ".join(arguments))
        answer = self.said.get(" ".join(arguments[:2]))
        if answer == "too late":
            raise subprocess.TimeoutExpired("pull", 60)
        return subprocess.CompletedProcess(arguments, 1 if answer is None else 0, answer or "")

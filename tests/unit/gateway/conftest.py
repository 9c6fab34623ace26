"""One luajit process for the session."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_lua import LUA, Lua


@pytest.fixture(scope="session")
def lua() -> Iterator[Lua]:
    driver = Path(__file__).with_name("driver.lua")
    with subprocess.Popen(["luajit", driver, LUA], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Lua(process)
        assert process.stdin is not None
        process.stdin.close()

"""A work queue that holds each key once, and gives it to one worker at a time.

The rules of client-go's workqueue: a key that is added while it waits is not added again; one that is added while a worker has it
is given out again when that worker is done, so that no change is missed and no two workers meet on one key. On top: delays, and
back-off with jitter for keys whose work failed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

FIRST_DELAY, LAST_DELAY = 0.25, 300.0
"""Seconds before the first retry of a failed key, doubled with each, up to the last."""


class RetryLater(Exception):
    """The work on a key failed; `after`: not before so many seconds, as the server asked."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class WorkQueue(Generic[Key]):
    """Keys that want work. All methods belong to the event loop's thread."""

    def __init__(self, jitter: Callable[[float, float], float] = random.uniform) -> None:
        self._jitter = jitter
        self._waiting: dict[Key, float] = {}
        """In order; value: since when, on the loop's clock."""
        self._last: dict[Key, float] = {}
        """The same, of keys that are given out only when no other waits."""
        self._running: set[Key] = set()
        self._again: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._idle: list[asyncio.Future[None]] = []
        """Workers that wait for a key. One is woken for each key: waking all for each would cost more than the work."""
        self._closed = False
        self.on_start: Callable[[float], None] = lambda waited: None
        """Told how long a key waited, in seconds."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._again) + len(self._last)

    @property
    def pressing(self) -> bool:
        """Whether keys wait that somebody has not looked at since they changed."""
        return bool(self._waiting)

    @property
    def running(self) -> int:
        """Keys that a worker has now."""
        return len(self._running)

    def add(self, key: Key) -> None:
        """Have the key worked on as soon as a worker is free."""
        self._cancel_timer(key)
        now = asyncio.get_running_loop().time()
        if key in self._running:
            self._again.setdefault(key, now)
        elif key not in self._waiting:
            self._waiting[key] = self._last.pop(key, now)
            self._wake_one()

    def add_after(self, key: Key, delay: float) -> None:
        """Have the key worked on after `delay` seconds, unless that happens earlier anyway."""
        loop = asyncio.get_running_loop()
        planned = self._timers.get(key)
        if planned is not None and planned.when() <= loop.time() + delay:
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(delay, self._due, key)

    def clear(self) -> None:
        """Drop all that waits, and what is known of it. What a worker has now is not touched."""
        for key in list(self._timers):
            self._cancel_timer(key)
        self._waiting.clear()
        self._last.clear()
        self._again.clear()
        self._failures.clear()

    def close(self) -> None:
        """Give out no more keys: `run` ends when those given out are done."""
        self._closed = True
        while self._idle:
            self._wake_one()

    async def run(self, workers: int, work: Callable[[Key], Awaitable[float | None]]) -> None:
        """Work on keys until `close`, `workers` at a time. Cancelled, it cancels the work; may be run again after that.

        `work` returns the seconds after which it wants the key again (0: when nothing else waits; None: only when something
        changes), and fails with `RetryLater` or any other exception, which it has reported by then.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(self._worker(work))

    async def _worker(self, work: Callable[[Key], Awaitable[float | None]]) -> None:
        while (key := await self._next()) is not None:
            try:
                delay = await work(key)
                self._failures.pop(key, None)
            except Exception as error:
                delay = self._backoff(key, error)
            except asyncio.CancelledError:
                self._again.setdefault(key, asyncio.get_running_loop().time())
                raise
            finally:
                self._done(key)
            if delay:
                self.add_after(key, delay)
            elif delay is not None:
                self._add_last(key)

    async def _next(self) -> Key | None:
        while not self._closed:
            if waiting := self._waiting or self._last:
                key = next(iter(waiting))
                since = waiting.pop(key)
                self._running.add(key)
                self.on_start(asyncio.get_running_loop().time() - since)
                return key
            idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        return None

    def _add_last(self, key: Key) -> None:
        if key not in self._waiting:
            self._cancel_timer(key)
            self._last[key] = asyncio.get_running_loop().time()
            self._wake_one()

    def _wake_one(self) -> None:
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return

    def _done(self, key: Key) -> None:
        self._running.discard(key)
        since = self._again.pop(key, None)
        if since is not None and key not in self._waiting:
            self._waiting[key] = since
            self._wake_one()

    def _backoff(self, key: Key, error: Exception) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(FIRST_DELAY * 2 ** min(failures, 32), LAST_DELAY)
        asked = error.after if isinstance(error, RetryLater) and error.after is not None else 0.0
        return max(self._jitter(delay / 2, delay), asked)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

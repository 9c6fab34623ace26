"""When to write a child that somebody else keeps writing: never at full speed, and not at all where it is another operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

FIRST_WAIT, LAST_WAIT = 1.0, 60.0
"""Seconds between two corrections of one child, doubled with each; the first is made at once."""
QUIET = 600.0
"""Seconds after which a child that nobody changed is no longer fought for."""
ABANDONED = 60.0
"""Seconds after which a change of spec that the other operator has not observed says that it is gone."""
_REMEMBERED = 10_000


class Corrections:
    """How long to wait before a child is put right again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._made: dict[str, tuple[int, float]] = {}

    def wait(self, child: str) -> float:
        """Seconds until the child with this uid may be corrected; 0: now."""
        count, last = self._made.get(child, (0, 0.0))
        passed = self._now() - last
        if not count or passed >= QUIET:
            return 0.0
        return max(0.0, min(FIRST_WAIT * 2.0 ** (count - 1), LAST_WAIT) - passed)

    def made(self, child: str) -> None:
        """The child is corrected now."""
        count, last = self._made.pop(child, (0, 0.0))
        fresh = self._now() - last >= QUIET
        self._made[child] = (1 if fresh else count + 1, self._now())
        while len(self._made) > _REMEMBERED:
            self._made.pop(next(iter(self._made)))


class Yielded(Exception):
    """Another operator acts on the resource: it is left to that one."""

    def __init__(self, other: str) -> None:
        super().__init__(other)
        self.other = other


class Yielding:
    """Which resources are left to which other operator.

    A child that another operator has signed is taken over once, since that one may be gone; if it takes it back it is alive, and
    keeps it. So the one that came last acts, and no two fight. A change of spec that the other does not observe within a minute is
    ours again.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._unobserved: dict[str, tuple[int, float]] = {}
        self._to: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._to)

    def begin(self, obj: Json, other: str) -> bool:
        """Leave the resource to `other`; whether that is news."""
        uid = obj["metadata"]["uid"]
        news = self._to.get(uid) != other
        self._to[uid] = other
        return news

    def end(self, uid: str) -> None:
        """The resource is ours, or gone."""
        self._to.pop(uid, None)
        self._unobserved.pop(uid, None)

    def is_abandoned(self, obj: Json) -> bool:
        """Whether the other operator has not looked at the resource's spec for too long."""
        metadata = obj["metadata"]
        uid, generation = metadata["uid"], int(metadata.get("generation", 1))
        if (obj.get("status") or {}).get("observedGeneration", 0) >= generation:
            self._unobserved.pop(uid, None)
            return False
        seen, since = self._unobserved.get(uid, (0, 0.0))
        if seen != generation:
            self._unobserved[uid] = (generation, self._now())
            return False
        return self._now() - since >= ABANDONED

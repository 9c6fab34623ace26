"""Progress between the pods that push it and the status that tells it: at most one change per resource in an interval."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modelship_operator.controllers.framework import FoldProgress, ObjectKey
from modelship_operator.runtime.store import Store


class Coalescer:
    """Takes every push, and shows the last of each pod to the controllers once per interval."""

    def __init__(self, store: Store, seconds: float, changed: Callable[[ObjectKey], None]) -> None:
        self._store = store
        self._seconds = seconds
        self._changed = changed
        self._pending: dict[str, dict[str, FoldProgress]] = {}
        self._resting: dict[str, asyncio.TimerHandle] = {}

    def push(self, key: ObjectKey, uid: str, pushed: FoldProgress) -> None:
        """A pod of the resource says how far it is. The first is shown at once, later ones when the interval is over."""
        self._pending.setdefault(uid, {})[pushed.pod] = pushed
        if uid not in self._resting:
            self._show(key, uid)

    def _show(self, key: ObjectKey, uid: str) -> None:
        self._resting.pop(uid, None)
        pending = self._pending.pop(uid, None)
        obj = self._store.get(key)
        if pending is None or obj is None or obj["metadata"]["uid"] != uid:
            return
        self._store.set_progress(uid, pending)
        self._changed(key)
        self._resting[uid] = asyncio.get_running_loop().call_later(self._seconds, self._show, key, uid)

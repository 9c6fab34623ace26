"""The work queue on virtual time: no test sleeps for real."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from itertools import pairwise

import looptime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelship_operator.runtime.queue import FIRST_DELAY, LAST_DELAY, RetryLater, WorkQueue

pytestmark = [pytest.mark.unit, pytest.mark.looptime]


def exact(low: float, high: float) -> float:
    return high


@asynccontextmanager
async def working(queue, work, workers=4):
    task = asyncio.create_task(queue.run(workers, work))
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Recorder:
    """Work that takes a second of virtual time, and notes when it began."""

    def __init__(self, *answers):
        self.began = []
        self.answers = list(answers)

    async def __call__(self, key):
        self.began.append((key, round(asyncio.get_running_loop().time(), 3)))
        await asyncio.sleep(1)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_key_that_waits_is_not_added_twice():
    queue, work = WorkQueue(), Recorder()
    queue.add("a")
    queue.add("a")
    async with working(queue, work):
        await asyncio.sleep(10)
    assert work.began == [("a", 0)]


async def test_a_key_that_changes_while_it_is_worked_on_is_worked_on_again():
    queue, work = WorkQueue(), Recorder()
    async with working(queue, work):
        queue.add("a")
        await asyncio.sleep(0.5)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(10)
    assert work.began == [("a", 0), ("a", 1)]


async def test_several_keys_at_once_but_no_more_than_there_are_workers():
    queue, work = WorkQueue(), Recorder()
    async with working(queue, work, workers=2):
        for key in "abc":
            queue.add(key)
        await asyncio.sleep(0.5)
        assert queue.running == 2
        assert len(queue) == 1
        await asyncio.sleep(10)
    assert work.began == [("a", 0), ("b", 0), ("c", 1)]


async def test_work_asks_to_be_called_again():
    queue, work = WorkQueue(), Recorder(5.0)
    async with working(queue, work):
        queue.add("a")
        await asyncio.sleep(20)
    assert work.began == [("a", 0), ("a", 6)]


async def test_an_earlier_delay_wins_and_a_change_wins_over_both():
    queue, work = WorkQueue(), Recorder()
    async with working(queue, work):
        queue.add_after("a", 10)
        queue.add_after("a", 5)
        queue.add_after("a", 7)
        queue.add_after("b", 50)
        queue.add("b")
        await asyncio.sleep(100)
    assert work.began == [("b", 0), ("a", 5)]


async def test_failures_back_off_doubling_up_to_the_cap_and_success_forgets_them():
    queue = WorkQueue(jitter=exact)
    work = Recorder(*[RuntimeError()] * 14, None, RuntimeError(), None)
    async with working(queue, work):
        queue.add("a")
        await asyncio.sleep(10_000)
        queue.add("a")
        await asyncio.sleep(10)
    starts = [at for _, at in work.began]
    delays = [later - earlier - 1 for earlier, later in pairwise(starts)]
    assert delays[:3] == pytest.approx([FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY])
    assert delays[12:14] == pytest.approx([LAST_DELAY, LAST_DELAY])
    assert delays[-1] == pytest.approx(FIRST_DELAY)


async def test_jitter_spreads_retries_over_half_the_delay():
    queue, work = WorkQueue(jitter=lambda low, high: low), Recorder(RuntimeError())
    async with working(queue, work):
        queue.add("a")
        await asyncio.sleep(10)
    assert work.began[1][1] == pytest.approx(1 + FIRST_DELAY / 2)


async def test_the_server_says_when_to_come_back():
    queue, work = WorkQueue(jitter=exact), Recorder(RetryLater("429", after=30))
    async with working(queue, work):
        queue.add("a")
        await asyncio.sleep(100)
    assert work.began == [("a", 0), ("a", 31)]


async def test_one_key_failing_for_ever_does_not_stop_another():
    queue = WorkQueue(jitter=exact)
    done = Counter()

    async def work(key):
        done[key] += 1
        if key == "bad":
            raise RuntimeError

    async with working(queue, work, workers=1):
        queue.add("bad")
        for second in range(5):
            queue.add(f"good-{second}")
            await asyncio.sleep(1)
    assert [done[f"good-{second}"] for second in range(5)] == [1] * 5
    assert done["bad"] > 1


async def test_closing_ends_what_is_under_way_and_starts_nothing_else():
    queue, work = WorkQueue(), Recorder()
    async with working(queue, work, workers=1) as task:
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(0.5)
        queue.close()
        await asyncio.wait_for(task, 5)
    assert work.began == [("a", 0)]


async def test_what_was_cancelled_is_done_again_when_the_lease_is_back():
    queue, work = WorkQueue(), Recorder()
    async with working(queue, work):
        queue.add("a")
        await asyncio.sleep(0.5)
    assert queue.running == 0
    async with working(queue, work):
        await asyncio.sleep(5)
    assert [key for key, _ in work.began] == ["a", "a"]


async def test_what_is_cleared_is_neither_waited_for_nor_retried():
    queue = WorkQueue()
    queue.add("a")
    queue.add_after("b", 5)
    queue.clear()
    assert len(queue) == 0
    work = Recorder()
    async with working(queue, work):
        await asyncio.sleep(10)
    assert work.began == []


async def test_what_can_wait_is_worked_on_when_nothing_else_waits():
    queue, work = WorkQueue(), Recorder(0.0)
    async with working(queue, work, workers=1):
        queue.add("a")
        queue.add("b")
        queue.add("c")
        await asyncio.sleep(1.5)  # a is done for now, and can wait; b is under way
        assert queue.pressing
        queue.add("d")
        await asyncio.sleep(10)
    assert [key for key, _ in work.began] == ["a", "b", "c", "d", "a"]


async def test_a_change_ends_the_waiting_of_what_could_wait():
    queue, work = WorkQueue(), Recorder(0.0)
    async with working(queue, work, workers=1):
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(1.5)
        queue.add("a")
        queue.add("c")
        await asyncio.sleep(10)
    assert [key for key, _ in work.began] == ["a", "b", "a", "c"]


async def test_how_long_a_key_waited_is_told():
    queue, work, waits = WorkQueue(), Recorder(), []
    queue.on_start = waits.append
    async with working(queue, work, workers=1):
        queue.add("a")
        queue.add("b")
        await asyncio.sleep(5)
    assert waits == pytest.approx([0, 1])


# --- whatever happens: never two workers on one key, and no change is lost ------------------------------------------------------

step = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abc"), st.just(0.0)),
    st.tuples(st.just("later"), st.sampled_from("abc"), st.floats(0, 3)),
    st.tuples(st.just("pause"), st.just(""), st.floats(0, 2)),
    st.tuples(st.just("lose lease"), st.just(""), st.floats(0, 1)),
)


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(step, max_size=40),
    durations=st.lists(st.floats(0, 2), min_size=1, max_size=8),
    failing=st.lists(st.booleans(), min_size=1, max_size=8),
    workers=st.integers(1, 4),
)
def test_never_two_workers_on_one_key_and_no_change_is_lost(steps, durations, failing, workers):
    versions: Counter[str] = Counter()
    seen: dict[str, int] = {}
    busy: set[str] = set()
    calls = 0

    async def work(key):
        nonlocal calls
        number, calls = calls, calls + 1
        assert key not in busy, "two workers on one key"
        busy.add(key)
        version = versions[key]
        try:
            await asyncio.sleep(durations[number % len(durations)])
            if failing[number % len(failing)] and number < 100:
                raise RuntimeError
            seen[key] = version
            return 0.0 if failing[(number + 1) % len(failing)] and number < 100 else None
        finally:
            busy.discard(key)

    async def scenario():
        queue = WorkQueue()
        task = asyncio.create_task(queue.run(workers, work))
        for what, key, amount in steps:
            if what == "add":
                versions[key] += 1
                queue.add(key)
            elif what == "later":
                versions[key] += 1
                queue.add_after(key, amount)
            elif what == "pause":
                await asyncio.sleep(amount)
            else:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert not busy
                await asyncio.sleep(amount)
                task = asyncio.create_task(queue.run(workers, work))
        await asyncio.sleep(100_000)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(queue) == 0

    loop = looptime.new_event_loop()
    try:
        loop.run_until_complete(scenario())
    finally:
        loop.close()
    assert seen == dict(versions)

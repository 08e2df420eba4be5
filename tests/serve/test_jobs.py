"""The queue: nothing is computed that nobody waits for, and nobody takes all of it."""

from __future__ import annotations

import asyncio
from threading import Event

import pytest

from git_starcoder.serve import jobs
from git_starcoder.serve.cursor import CancelledError, Cursor, Suggestion, Wishes
from git_starcoder.serve.jobs import DroppedError, Job, Jobs, QueueFullError, is_obsolete
from git_starcoder.serve.metrics import Metrics
from shell import HUNG

LICENCE = "# Licensed to the public under a licence of the usual kind, without any warranty.\n"


class SlowEngine:
    """An engine that waits until it is told to go on, or is cancelled."""

    def __init__(self):
        self.begun, self.goes_on = [], Event()

    def complete(self, cursor, _, *, is_cancelled, on_text):
        self.begun.append(cursor.prefix)
        while not self.goes_on.wait(0.01):
            if is_cancelled():
                raise CancelledError
        on_text(cursor.prefix.upper())
        return Suggestion(cursor.prefix.upper(), "line", 1.0, 0.0, "", 1, 0)


@pytest.fixture
def engine():
    return SlowEngine()


def job(prefix, client="one", **options):
    return Job(client, [(Cursor(prefix, **options), Wishes())])


async def texts(waiting):
    return [part.content async for part in waiting.parts() if isinstance(part.content, str)]


def run(engine, scenario):
    async def main():
        queue = Jobs(engine, Metrics())
        try:
            return await asyncio.wait_for(scenario(queue), HUNG)
        finally:
            await queue.close()

    return asyncio.run(main())


async def until(is_true):
    while not is_true():
        await asyncio.sleep(0.005)


def test_typing_on_drops_what_was_asked_before(engine):
    async def scenario(queue):
        first, second, other = job("de"), job("def"), job("de", "two")
        queue.submit(first)
        await until(lambda: engine.begun)
        queue.submit(other)
        queue.submit(second)
        with pytest.raises(DroppedError) as dropped:
            await texts(first)
        assert dropped.value.cause == "obsolete"
        engine.goes_on.set()
        assert (await texts(other), await texts(second)) == (["DE"], ["DEF"])
        assert queue._metrics.dropped == {"obsolete": 1}

    run(engine, scenario)
    assert engine.begun == ["de", "de", "def"]


def test_a_job_that_waits_is_dropped_without_work(engine):
    async def scenario(queue):
        running, waiting = job("a", path="a"), job("b", path="b")
        queue.submit(running)
        await until(lambda: engine.begun)
        queue.submit(waiting)
        queue.drop(waiting, "disconnected")
        engine.goes_on.set()
        assert await texts(running) == ["A"]
        with pytest.raises(DroppedError):
            await texts(waiting)
        last = job("c", path="c")
        queue.submit(last)
        assert await texts(last) == ["C"]

    run(engine, scenario)
    assert engine.begun == ["a", "c"]


def test_one_client_may_have_only_some_jobs_and_all_together_only_more(engine):
    async def scenario(queue):
        queue.submit(job("running", "first"))
        await until(lambda: engine.begun)
        refused = []
        for number in range(jobs.MAX_WAITING + 20):
            client = "one" if number < jobs.MAX_WAITING_OF_CLIENT + 2 else f"client {number}"
            try:
                queue.submit(job(f"{number}", client, path=str(number)))
            except QueueFullError as error:
                refused.append(error.is_of_client)
        assert refused[:2] == [True, True]
        assert set(refused[2:]) == {False}
        assert queue.count == jobs.MAX_WAITING + 1

    run(engine, scenario)


def test_what_has_waited_too_long_is_dropped_while_others_are_computed(engine, monkeypatch):
    async def scenario(queue):
        running, late = job("a", "one"), job("b", "two")
        queue.submit(running)
        await until(lambda: engine.begun)
        monkeypatch.setattr(jobs, "MAX_WAIT_SECONDS", 0.01)
        queue.submit(late)
        with pytest.raises(DroppedError) as dropped:
            await texts(late)
        assert (dropped.value.cause, queue.count) == ("late", 1)
        engine.goes_on.set()
        assert await texts(running) == ["A"]

    run(engine, scenario)
    assert engine.begun == ["a"]


def test_a_job_of_several_completions_lets_others_in_between(engine, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_WAIT_SECONDS", HUNG)

    async def scenario(queue):
        long = Job("one", [(Cursor(text), Wishes()) for text in "abbac"])
        queue.submit(long)
        await until(lambda: engine.begun)
        short = job("d", "two")
        queue.submit(short)
        engine.goes_on.set()
        assert (await texts(short), await texts(long)) == (["D"], ["A", "B", "B", "A", "C"])

    run(engine, scenario)
    assert engine.begun == ["a", "d", "b", "c"]


def test_equal_choices_are_computed_once(engine):
    engine.goes_on.set()

    async def scenario(queue):
        cursor = Cursor("a")
        several = Job("one", [(cursor, Wishes())] * 3)
        queue.submit(several)
        parts = [part async for part in several.parts()]
        assert [part.choice for part in parts if isinstance(part.content, Suggestion)] == [0, 1, 2]
        assert [part.content for part in parts if isinstance(part.content, str)] == ["A"] * 3

    run(engine, scenario)
    assert engine.begun == ["a"]


def test_an_error_belongs_to_its_request():
    class Broken:
        def complete(self, *_, **__):
            raise ValueError("no")

    async def scenario(queue):
        broken = job("a")
        queue.submit(broken)
        with pytest.raises(ValueError, match="no"):
            await texts(broken)
        again = job("b")
        queue.submit(again)
        with pytest.raises(ValueError, match="no"):
            await texts(again)

    run(Broken(), scenario)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (Cursor("abc"), Cursor("abcd"), True),
        (Cursor("abc", "x"), Cursor("abc", "x"), False),
        (Cursor("abc"), Cursor("xyz"), False),
        (Cursor("abcd"), Cursor("abc"), True),
        (Cursor("d"), Cursor("def g"), False),
        (Cursor("import a"), Cursor("import b"), False),
        (Cursor(f"{LICENCE}import a"), Cursor(f"{LICENCE}import b"), False),
        (Cursor(LICENCE), Cursor(f"{LICENCE}{LICENCE}{LICENCE}"), True),
        (Cursor("abc", LICENCE), Cursor("xyz", LICENCE), True),
        (Cursor("abc", ")"), Cursor("xyz", ")"), False),
        (Cursor("abc", path="a"), Cursor("abcd", path="b"), False),
        (Cursor("abc", path="a"), Cursor("xyz", path="a"), True),
        (Cursor(""), Cursor("a"), False),
        (Cursor(""), Cursor("", "a"), False),
    ],
)
def test_which_requests_are_versions_of_one(old, new, expected):
    assert is_obsolete(Job("", [(old, Wishes())]), Job("", [(new, Wishes())])) == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["abc", "abc"], ["abcd"], True),
        (["abc", "xyz"], ["abcd"], False),
        (["abc", "xyz"], ["xyz1", "abc1"], True),
        (["abc", "xyz"], ["abcd", "xyz"], False),
    ],
)
def test_a_request_is_obsolete_if_each_of_its_texts_is(old, new, expected):
    jobs_of = [Job("", [(Cursor(text), Wishes()) for text in texts]) for texts in (old, new)]
    assert is_obsolete(*jobs_of) == expected

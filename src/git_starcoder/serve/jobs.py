"""The queue in front of the engine: one worker, fair limits, and nothing is computed that nobody waits for.

A job of several completions goes back to the end of the queue after each one.

A job is dropped when its client disconnects, and when a newer job of the same client is for the same place in the same
text: somebody has typed on.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Literal, NamedTuple

from git_starcoder.serve.cursor import CancelledError, Cursor, Suggestion, Wishes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from git_starcoder.serve.engine import Engine
    from git_starcoder.serve.metrics import Metrics

DropCause = Literal["obsolete", "disconnected", "late", "closed"]
MAX_WAITING = 32
"""Jobs of all clients that wait; a further one is refused with 503."""
MAX_WAITING_OF_CLIENT = 8
"""Jobs of one client that wait; a further one is refused with 429."""
MAX_WAIT_SECONDS = 10.0
"""A job that is not begun by then is dropped: nobody looks at its place any more."""
SHARED_CHARACTERS = 64
"""So many equal characters show that two requests are for one text. Less, such as a bracket after the cursor, is in
many texts."""


class QueueFullError(Exception):
    """Too many jobs wait."""

    def __init__(self, *, is_of_client: bool) -> None:
        super().__init__("this client has too many requests" if is_of_client else "the server is busy")
        self.is_of_client = is_of_client


class DroppedError(Exception):
    """The job was dropped before it was done."""

    def __init__(self, cause: DropCause) -> None:
        super().__init__(cause)
        self.cause: DropCause = cause


class Part(NamedTuple):
    """A piece of news about one of the completions of a job."""

    choice: int
    content: str | Suggestion
    """A part of its text, or at the end the suggestion."""


class Job:
    """Some completions for one request."""

    def __init__(self, client: str, tasks: list[tuple[Cursor, Wishes]]) -> None:
        self.client = client
        self.tasks = tasks
        self.cursors: list[Cursor] = []
        """The cursors of the tasks, each once."""
        for cursor, _ in tasks:
            if cursor not in self.cursors:
                self.cursors.append(cursor)
        self.done: list[Suggestion] = []
        """The completions of the first tasks, as far as they are computed."""
        self.wait_limit: asyncio.TimerHandle | None = None
        """What drops it if it waits too long."""
        self.cause: DropCause | None = None
        self._parts: asyncio.Queue[Part | BaseException | None] = asyncio.Queue()
        self._cancelled = Event()

    @property
    def is_dropped(self) -> bool:
        """Whether nobody wants the result."""
        return self._cancelled.is_set()

    def end_waiting(self) -> None:
        """Let its waiting time count no longer."""
        if self.wait_limit is not None:
            self.wait_limit.cancel()

    def drop(self, cause: DropCause) -> None:
        """Stop working on it at once. Must be called from the event loop."""
        self.end_waiting()
        if not self._cancelled.is_set():
            self.cause = cause
            self._cancelled.set()
            self._parts.put_nowait(DroppedError(cause))

    def put(self, part: Part | BaseException | None) -> None:
        """Add news; None is the end. Must be called from the event loop."""
        self._parts.put_nowait(part)

    async def parts(self) -> AsyncIterator[Part]:
        """Yield news as it comes.

        Raises:
            DroppedError: The job was dropped.
            UsageError: A text cannot be completed.
        """
        while (part := await self._parts.get()) is not None:
            if isinstance(part, BaseException):
                raise part
            yield part


class Jobs:
    """The queue and its worker."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._wake = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, "complete")
        self._worker: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """The jobs that wait or are worked on."""
        return len(self._waiting) + (self._running is not None)

    def submit(self, job: Job) -> None:
        """Put a job into the queue, and drop those that it makes obsolete.

        Raises:
            QueueFullError: Too many jobs wait.
        """
        mine = [other for other in (*self._waiting, self._running) if other is not None and other.client == job.client]
        for other in mine:
            if not other.is_dropped and is_obsolete(other, job):
                self.drop(other, "obsolete")
        if sum(other.client == job.client for other in self._waiting) >= MAX_WAITING_OF_CLIENT:
            raise QueueFullError(is_of_client=True)
        if len(self._waiting) >= MAX_WAITING:
            raise QueueFullError(is_of_client=False)
        self._waiting.append(job)
        loop = asyncio.get_running_loop()
        job.wait_limit = loop.call_later(MAX_WAIT_SECONDS, self.drop, job, "late")
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        self._wake.set()

    def drop(self, job: Job, cause: DropCause) -> None:
        """Stop working on a job at once."""
        if not job.is_dropped:
            self._metrics.dropped[cause] += 1
            job.drop(cause)
            self._waiting = [other for other in self._waiting if other is not job]

    async def close(self) -> None:
        """Drop all jobs and end the worker."""
        for job in (*self._waiting, self._running):
            if job is not None:
                self.drop(job, "closed")
        if self._worker is not None:
            self._worker.cancel()
        await asyncio.to_thread(self._pool.shutdown)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                job = self._running = self._waiting.pop(0)
                job.end_waiting()
                try:
                    await loop.run_in_executor(self._pool, self._complete_next, job, loop)
                    if len(job.done) == len(job.tasks):
                        job.put(None)
                    elif not job.is_dropped:
                        self._waiting.append(job)  # the others come first
                except CancelledError:
                    pass  # whoever dropped it has said so
                except Exception as error:  # noqa: BLE001 - it belongs to the request, which reports it
                    job.put(error)
                finally:
                    self._running = None

    def _complete_next(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """Do the next task of a job, and those after it that are done with it. Runs in the worker's thread."""
        first = len(job.done)
        for index, task in enumerate(job.tasks[first:], first):

            def tell(text: str, index: int = index) -> None:
                loop.call_soon_threadsafe(job.put, Part(index, text))

            earlier = job.tasks.index(task)
            if earlier < index:  # several choices at temperature 0
                found = job.done[earlier]
                tell(found.text)
            elif index > first:
                break
            else:
                cursor, wishes = task
                found = self._engine.complete(cursor, wishes, is_cancelled=lambda: job.is_dropped, on_text=tell)
                tokens = found.prompt_tokens, found.cached_tokens, len(found.tokens), found.drafted
                self._metrics.complete(found.reason, found.seconds, *tokens)
            job.done.append(found)
            loop.call_soon_threadsafe(job.put, Part(index, found))


def is_obsolete(old: Job, new: Job) -> bool:
    """Whether a newer job is for the same places in other versions of the same texts."""
    return all(any(is_version(before, after) for after in new.cursors) for before in old.cursors)


def is_version(old: Cursor, new: Cursor) -> bool:
    """Whether a newer cursor is at the same place in another version of the same text.

    Equal requests are no versions: some editors ask several times, for several suggestions. Without a path, the texts
    decide. The text after the cursor is the same, or somebody has typed on or gone back: then one text before the
    cursor begins with all of the other. A common beginning, such as a licence, is no sign.
    """
    if (old.prefix, old.suffix) == (new.prefix, new.suffix):
        return False
    if old.path or new.path:
        return old.path == new.path
    if old.suffix == new.suffix and len(old.suffix) >= SHARED_CHARACTERS:
        return True
    shorter, longer = sorted((old.prefix, new.prefix), key=len)
    return longer.startswith(shorter) and len(shorter) >= min(SHARED_CHARACTERS, len(longer) / 2) > 0

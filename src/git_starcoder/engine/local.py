"""Supervised worker processes on this machine: one task in flight each, and a crash costs only that task.

`concurrent.futures.ProcessPoolExecutor` loses every queued task when one worker dies, and tree-sitter grammars do
crash and hang on hostile input. A worker here is a fresh interpreter that talks over a pair of pipes, so a caller's
`__main__` is never imported again.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from git_starcoder.seams import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 64
"""Results per worker that may wait for an earlier one, so that one slow task does not stall the others."""

IDLE = 10
"""Times its seconds that a task may take by the clock: most of that time the worker had no processor."""
PAUSE = 0.1
"""Seconds after which a worker that had hardly any is looked at again, at least."""

PIPE = 1 << 20
"""Bytes that a pipe to a worker holds: what Linux allows everybody."""

MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}
"""Bytes that glibc keeps for a worker that frees them: arrays come and go, and new pages cost as much as the work."""

BOOT = """\
import sys
sys.path[:] = {path!r}
from git_starcoder.engine.worker import serve
serve({read}, {write})
"""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """One child process and the task that it has, if any."""

    def __init__(self) -> None:
        task_out, task_in = os.pipe()
        answer_out, answer_in = os.pipe()
        # Not the current folder: it may be the repository, and a file in it named like a library must not be imported.
        path = [entry for entry in sys.path if entry]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **MEMORY}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", BOOT.format(path=path, read=task_out, write=answer_in)],
            process_group=0,  # Ctrl-C in a terminal is for us; a worker that is still starting would die loudly of it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(task_out, answer_in),
            env=environment,
        )
        for pipe in (task_in, answer_out):
            _widen(pipe)
        os.close(task_out)
        os.close(answer_in)
        self._tasks = Connection(task_in, readable=False)
        self.answers = Connection(answer_out, writable=False)
        self.number = -1
        self._limit = self._given = self._spent = 0.0
        self.deadline = 0.0

    def give(self, number: int, function: Callable[[Any], Any], task: Any, limit: float) -> bool:
        """Send a task; False if the worker is dead."""
        self.number = number
        self._limit, self._given, self._spent = limit, time.monotonic(), self._processor()
        self.deadline = self._given + limit
        try:
            self._tasks.send((function, task))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def late(self, now: float) -> bool:
        """Whether the task took its seconds: those of a processor, so that no busy or stopped machine fails a task.

        One that has hardly any is ended by the clock.
        """
        used = self._processor() - self._spent
        last = self._given + IDLE * self._limit
        self.deadline = min(last, now + max(PAUSE, self._limit - used))
        return used >= self._limit or now >= last

    def _processor(self) -> float:
        """Seconds of processors that the process has had; where nobody tells, the clock."""
        if sys.platform == "linux":
            with suppress(OSError):  # it is gone
                return time.clock_gettime(~self.process.pid << 3 | 2)  # the clock of clock_getcpuclockid(3)
        return time.monotonic()

    def take(self) -> Any:
        """The answer, or a `Failure` if the worker died over the task."""
        try:
            return self.answers.recv()
        except (EOFError, ConnectionResetError):
            code = self.process.wait()
            return Failure("crash", f"worker ended with {code}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._tasks.close()
        self.answers.close()


def _widen(pipe: int) -> None:
    """Let a pipe hold as much as it may, so that a message goes through in few steps."""
    if sys.platform == "linux":
        with suppress(OSError):  # the user's pipes hold much already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


class LocalEngine:
    """Worker processes on this machine. Results come in the order of the tasks, whatever the number of jobs."""

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs or cores()
        # Started at once, so that they import while the repository is read.
        self._workers = [_Worker() for _ in range(self.jobs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        while self._workers:
            self._workers.pop().kill()

    def map(self, function: Callable[[T], R], tasks: Iterable[T], *, limit: float) -> Iterator[R | Failure]:
        """Apply an importable function to each task; see `seams.Engine`."""
        source = enumerate(tasks)
        ready: dict[int, Any] = {}
        idle = deque(range(self.jobs))
        busy: dict[int, _Worker] = {}
        due = 0
        more = True
        try:
            while True:
                while more and idle and len(ready) < AHEAD * self.jobs:
                    number, task = next(source, (-1, None))
                    if number < 0:
                        more = False
                        break
                    place = idle.popleft()
                    busy[place] = self._give(place, number, function, task, limit)
                for place, answer in self._answers(busy) if due not in ready else ():
                    ready[busy.pop(place).number] = answer
                    idle.append(place)
                while due in ready:
                    yield cast("R | Failure", ready.pop(due))
                    due += 1
                if not more and not busy:
                    return
        finally:
            # The consumer stopped early or an error passed through: what is in flight must not answer a later map.
            # After an error the engine may have been closed by now, and has no workers.
            for place in busy if self._workers else ():
                self._replace(place)

    def _give(self, place: int, number: int, function: Callable[[Any], Any], task: Any, limit: float) -> _Worker:
        if not self._workers[place].give(number, function, task, limit):
            self._replace(place)
            self._workers[place].give(number, function, task, limit)
        return self._workers[place]

    def _answers(self, busy: dict[int, _Worker]) -> list[tuple[int, Any]]:
        """Wait for the next answers; kill whoever is past the deadline."""
        if not busy:
            return []
        places = {worker.answers: place for place, worker in busy.items()}
        patience = max(0.0, min(worker.deadline for worker in busy.values()) - time.monotonic())
        answers = [(places[cast("Connection", found)], busy[places[cast("Connection", found)]].take())
                   for found in wait(list(places), timeout=patience)]  # fmt: skip
        now = time.monotonic()
        for place, answer in answers:
            if isinstance(answer, Failure) and answer.kind == "crash":
                self._replace(place)
        answered = {place for place, _ in answers}
        for place, worker in busy.items():
            if place not in answered and worker.deadline <= now and worker.late(now):
                self._replace(place)
                answers.append((place, Failure("timeout", "took too long")))
        return answers

    def _replace(self, place: int) -> None:
        self._workers[place].kill()
        self._workers[place] = _Worker()

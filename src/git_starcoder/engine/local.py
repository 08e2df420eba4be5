"""Supervised worker processes on this machine: one task in flight each, and a crash costs only that task.

`concurrent.futures.ProcessPoolExecutor` loses every queued task when one worker dies, and tree-sitter grammars do
crash and hang on hostile input. A worker here is a fresh interpreter that talks over a pair of pipes, so a caller's
`__main__` is never imported again.

Where the machine has no more files, processes or memory for as many workers as were asked for, there are fewer.
Without any, the work ends with a `MachineError`: what fails for want of memory must not look like a file that cannot be
read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from git_starcoder.engine.worker import MAX_WORKER_BYTES, MEMORY_FAILURE
from git_starcoder.errors import LIMIT_MESSAGES, MachineError, as_machine_error
from git_starcoder.machine import OWN_THREADS, address_space_limit, startable_thread_count, usable_cpu_count
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

MAX_WAITING_RESULTS = 64
"""Results per worker that may wait for an earlier one, so that one slow task does not stall the others."""

WALL_TIME_FACTOR = 10
"""Times its seconds that a task may take by the clock: most of that time the worker had no processor."""
MIN_RECHECK_SECONDS = 0.1
"""Seconds after which a worker that had hardly any is looked at again, at least."""

PIPE_BYTES = 1 << 20
"""Bytes that a pipe to a worker holds: what Linux allows everybody."""

GLIBC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}
"""Bytes that glibc keeps for a worker that frees them: arrays come and go, and new pages cost as much as the work."""

RESERVED_FILES = 32
"""Files that the rest of the work may have open at once: git's pipes, the cache, the dataset."""
FILES_PER_WORKER = 2
"""Files that a worker keeps open here: the ends of its pipes."""
MAX_KILLED_WORKERS = 3
"""Times that a task may see its worker killed from outside before it counts as a crash."""

WORKER_SCRIPT = """\
import sys
sys.path[:] = {path!r}
try:
    from git_starcoder.engine.worker import serve
except BaseException as error:
    import os
    said = f"{{type(error).__name__}}: {{error}}".encode("utf-8", "replace")[:500]
    os.write({write}, len(said).to_bytes(4, "big") + said)
    os._exit(1)
serve({read}, {write})
"""
"""The first message, framed as `multiprocessing.connection` does, says why the worker could not start, or nothing."""
MEMORY_IS_LIMITED = "the memory of processes is limited (ulimit -v)"
FATAL_FAILURES = {"crash", "timeout"}
"""Kinds of failures after which there is no worker any more, or one that hangs."""


class _WorkerLostError(Exception):
    """A worker could not start, or was killed from outside, as the kernel does where memory runs out."""

    def __init__(self, what: str, *, started: bool) -> None:
        super().__init__(what)
        self.started = started


class _Worker:
    """One child process and the task that it has, if any."""

    def __init__(self) -> None:
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            task_out, task_in, answer_out, answer_in = pipes
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", WORKER_SCRIPT.format(path=_module_path(), read=task_out, write=answer_in)],
                process_group=0,  # Ctrl-C in a terminal is for us; a worker that still starts would die loudly of it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(task_out, answer_in),
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **GLIBC_VARIABLES},
            )
        except BaseException:
            for pipe in pipes:
                os.close(pipe)
            raise
        for pipe in (task_in, answer_out):
            _enlarge_pipe(pipe)
        os.close(task_out)
        os.close(answer_in)
        self._tasks = Connection(task_in, readable=False)
        self.answers = Connection(answer_out, writable=False)
        self.started = False
        self.task: tuple[int, Any] = -1, None
        """Number and content."""
        self._limit = self._given = self._spent = 0.0
        self.deadline = 0.0

    def send_task(self, number: int, function: Callable[[Any], Any], task: Any, limit: float) -> None:
        """Send a task. Of a worker that is dead, the other pipe tells."""
        self.task = number, task
        self._limit, self._given, self._spent = limit, time.monotonic(), self._cpu_seconds()
        self.deadline = self._given + limit
        with suppress(BrokenPipeError, ConnectionResetError):
            self._tasks.send((function, task))

    def is_overdue(self, now: float) -> bool:
        """Whether the task took its seconds: those of a processor, so that no busy or stopped machine fails a task.

        One that has hardly any is ended by the clock.
        """
        used = self._cpu_seconds() - self._spent
        last = self._given + WALL_TIME_FACTOR * self._limit
        self.deadline = min(last, now + max(MIN_RECHECK_SECONDS, self._limit - used))
        return used >= self._limit or now >= last

    def _cpu_seconds(self) -> float:
        """Seconds of processors that the process has had; where nobody tells, the clock."""
        if sys.platform == "linux":
            with suppress(OSError):  # it is gone
                return time.clock_gettime(~self.process.pid << 3 | 2)  # the clock of clock_getcpuclockid(3)
        return time.monotonic()

    def has_answer(self) -> bool:
        """Whether what came is an answer, and not the first message.

        Raises:
            _LostError: the worker could not start.

        """
        if self.started:
            return True
        try:
            said = self.answers.recv_bytes()
        except (EOFError, OSError) as error:
            raise _WorkerLostError(
                f"a worker ended with {self.process.wait()} before it began", started=False
            ) from error
        if said:
            raise _WorkerLostError(said.decode("utf-8", "replace"), started=False)
        self.started = True
        return False

    def receive_result(self) -> Any:
        """The answer, or a `Failure` if the worker died over the task.

        Raises:
            _LostError: the worker was killed.

        """
        try:
            return self.answers.recv()
        except (EOFError, OSError):  # at its end, or in the middle of an answer
            code = self.process.wait()
            what = f"worker ended with {code}"
            if code == -signal.SIGKILL:
                raise _WorkerLostError(what, started=True) from None
            return Failure("crash", what)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._tasks.close()
        self.answers.close()


def _module_path() -> list[str]:
    """Where a worker finds modules; not in the current folder, which may be the repository."""
    return [entry for entry in sys.path if entry]


def _enlarge_pipe(pipe: int) -> None:
    """Let a pipe hold as much as it may, so that a message goes through in few steps."""
    if sys.platform == "linux":
        with suppress(OSError):  # the user's pipes hold much already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _raise_file_limit(wanted: int) -> None:
    """Raise this process's own limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(OSError, ValueError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _has_spare_resources(jobs: int) -> bool:
    """Whether the rest of the work can open its files and start its threads, beside so many workers."""
    if startable_thread_count(OWN_THREADS + jobs) < OWN_THREADS + jobs:
        return False
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVED_FILES))
    except OSError:
        return False
    finally:
        for number in opened:
            os.close(number)
    return True


def _is_memory_limited() -> bool:
    """Whether the user limits the memory of processes to less than a worker may take."""
    return (address_space_limit() or MAX_WORKER_BYTES) < MAX_WORKER_BYTES


class LocalEngine:
    """Worker processes on this machine. Results come in the order of the tasks, whatever the number of jobs."""

    def __init__(self, jobs: int | None = None) -> None:
        """Start workers at once, so that they import while the repository is read.

        Raises:
            MachineError: not even one can be started.

        """
        wanted = jobs or usable_cpu_count()
        self._workers: list[_Worker] = []
        self.jobs = 0
        """How many workers there are."""
        self.shortage = ""
        """Why there are not as many as were asked for, if so."""
        _raise_file_limit(FILES_PER_WORKER * wanted + 2 * RESERVED_FILES)
        try:
            while len(self._workers) < wanted and self._start_worker():
                pass
            if len(self._workers) < wanted:  # a limit is reached: what was taken last is given back for other things
                self._shrink(max(1, wanted // 2))
            while len(self._workers) > 1 and not _has_spare_resources(self.jobs):
                self.shortage = self.shortage or "files or threads are few"
                self._shrink(len(self._workers) - 1)
            self._require_workers()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers."""
        while self._workers:
            self._workers.pop().kill()

    def map(self, function: Callable[[T], R], tasks: Iterable[T], *, limit: float) -> Iterator[R | Failure]:
        """Apply an importable function to each task; see `seams.Engine`.

        Raises:
            MachineError: no worker is left, and none can be started.

        """
        self._require_workers()
        source = enumerate(tasks)
        again: deque[tuple[int, Any]] = deque()  # tasks whose workers were lost through no fault of theirs
        lost: Counter[int] = Counter()
        ready: dict[int, Any] = {}
        idle = deque(self._workers)
        busy: list[_Worker] = []
        due = 0
        more = True
        try:
            while True:
                while idle and (again or (more and len(ready) < MAX_WAITING_RESULTS * self.jobs)):
                    number, task = again.popleft() if again else next(source, (-1, None))
                    if number < 0:
                        more = False
                        break
                    busy.append(idle.popleft())
                    busy[-1].send_task(number, function, task, limit)
                for worker, answer in self._wait_for_answers(busy) if due not in ready else ():
                    busy.remove(worker)
                    number = worker.task[0]
                    if isinstance(answer, _WorkerLostError):
                        lost[number] += 1
                        if answer.started and lost[number] >= MAX_KILLED_WORKERS:
                            ready[number] = Failure("crash", str(answer))
                        else:
                            again.append(worker.task)
                    else:
                        ready[number] = answer
                    idle.extend(self._next_workers(worker, answer))
                while due in ready:
                    yield cast("R | Failure", ready.pop(due))
                    due += 1
                if not (more or busy or again):
                    return
        finally:
            # The consumer stopped early or an error passed through: what is in flight must not answer a later map.
            # After an error the engine may have been closed by now, and has no workers.
            for worker in busy if self._workers else ():
                self._stop_worker(worker)
                self._start_worker()

    def _wait_for_answers(self, busy: list[_Worker]) -> list[tuple[_Worker, Any]]:
        """Wait for the next answers; whoever is past the deadline has failed."""
        if not busy:
            return []
        waiting = {worker.answers: worker for worker in busy}
        patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        answers: list[tuple[_Worker, Any]] = []
        for found in wait(list(waiting), timeout=patience):
            worker = waiting.pop(cast("Connection", found))
            try:
                if worker.has_answer():
                    answers.append((worker, worker.receive_result()))
            except _WorkerLostError as error:
                answers.append((worker, error))
        now = time.monotonic()
        answers += [
            (worker, Failure("timeout", "took too long"))
            for worker in waiting.values()
            if worker.deadline <= now and worker.is_overdue(now)
        ]
        return answers

    def _next_workers(self, worker: _Worker, answer: Any) -> list[_Worker]:
        """Who takes tasks in the place of a worker that gave an answer: itself, another one, or nobody."""
        if isinstance(answer, Failure) and _is_memory_limited() and answer.kind == "crash":
            raise MachineError(
                f"a worker died, and {MEMORY_IS_LIMITED}", where=answer.detail, hint=LIMIT_MESSAGES[errno.ENOMEM][1]
            )
        if isinstance(answer, Failure) and answer.kind == MEMORY_FAILURE:
            raise MachineError(
                f"memory does not suffice, and {MEMORY_IS_LIMITED}", hint=LIMIT_MESSAGES[errno.ENOMEM][1]
            )
        if not isinstance(answer, _WorkerLostError) and not (
            isinstance(answer, Failure) and answer.kind in FATAL_FAILURES
        ):
            return [worker]
        self._stop_worker(worker)
        if isinstance(answer, _WorkerLostError):
            self.shortage = str(answer)
            if self._workers or not answer.started:  # one less leaves more for the others
                self._require_workers()
                return []
        before = len(self._workers)
        self._start_worker()
        self._require_workers()
        return self._workers[before:]

    def _start_worker(self) -> bool:
        """Start another worker; gives whether that was possible."""
        try:
            self._workers.append(_Worker())
        except (OSError, MemoryError) as error:
            limit = as_machine_error(error)
            if limit is None:
                raise
            self.shortage = limit.what
            return False
        self.jobs = len(self._workers)
        return True

    def _stop_worker(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.kill()
        self.jobs = max(1, len(self._workers))

    def _shrink(self, count: int) -> None:
        while len(self._workers) > count:
            self._stop_worker(self._workers[-1])

    def _require_workers(self) -> None:
        if not self._workers:
            hint = "more memory, processes (ulimit -u) or open files (ulimit -n) are needed"
            raise MachineError("no worker process can be started", where=self.shortage, hint=hint)

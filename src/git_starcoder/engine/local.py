"""Runs tasks in worker processes on this machine. Each worker has one task at a time, and a crash loses only that task.

`concurrent.futures.ProcessPoolExecutor` loses all queued tasks when one worker dies, and tree-sitter grammars do crash
and hang on hostile input. A worker here is a fresh interpreter that communicates over two pipes, so the caller's
`__main__` is not imported again.

If the machine has too few files, processes or memory for all workers, fewer are started. If it cannot run any, the work
ends with a `MachineError`: a lack of memory must not look like a file that cannot be parsed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from git_starcoder.errors import LIMIT_MESSAGES, MachineError, as_machine_error
from git_starcoder.machine import (
    OWN_THREADS,
    address_space_limit,
    max_worker_count,
    startable_thread_count,
    usable_cpu_count,
)
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


T = TypeVar("T")
R = TypeVar("R")

MAX_WORKER_BYTES = 4 << 30
"""Address space of a worker: a runaway parse becomes a counted failure instead of a swapping machine."""
MEMORY_FAILURE = "memory"
"""Kind of a failure for lack of memory where the user allows less than `MAX_WORKER_BYTES`: with more it may succeed."""
GARBAGE_COLLECTION_THRESHOLD = 100_000
"""New objects after which Python searches for reference cycles: tasks make many objects and hardly any cycles."""
MAX_WAITING_RESULTS = 64
"""Results per worker that may wait for an earlier result, so that one slow task does not stall the other workers."""

WALL_TIME_FACTOR = 10
"""A task may take its limit times this factor of wall time: on a busy machine a worker often has no processor."""
MIN_RECHECK_SECONDS = 0.1
"""Shortest time until the processor time of an overdue worker is checked again."""

PIPE_BYTES = 1 << 20
"""Size of a pipe to a worker, so that a message passes in few steps: the largest that Linux allows every user."""

GLIBC_VARIABLES = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}
"""Freed bytes that glibc keeps for the worker: getting new pages for each array would cost as much as the work."""

RESERVED_FILES = 32
"""Open files that are left for other purposes: pipes of git, the cache, the dataset."""
FILES_PER_WORKER = 2
"""Open files of this process for each worker: one end of each of its two pipes."""
MAX_KILLED_WORKERS = 3
"""Workers that may be killed from outside during a task before the task counts as a crash."""

WORKER_SCRIPT = """\
import sys
sys.path[:] = {path!r}
try:
    from git_starcoder.engine.local import serve
except BaseException as error:
    import os
    reason = f"{{type(error).__name__}}: {{error}}".encode("utf-8", "replace")[:500]
    os.write({write}, len(reason).to_bytes(4, "big") + reason)
    os._exit(1)
serve({read}, {write})
"""
"""The code that a worker starts with. Its first message, framed as in `multiprocessing.connection`, is the reason why
it could not start, or empty."""
MEMORY_IS_LIMITED = "the memory of processes is limited (ulimit -v)"
"""Part of an error message."""
FATAL_FAILURES = {"crash", "timeout"}
"""Kinds of failures after which the worker is dead or hangs."""


class _WorkerLostError(Exception):
    """A worker could not start, or was killed from outside, as the kernel does when memory runs out."""

    def __init__(self, what: str, *, started: bool) -> None:
        super().__init__(what)
        self.started = started


class _Worker:
    """One child process and its current task."""

    def __init__(self) -> None:
        pipes: list[int] = []
        try:
            pipes += os.pipe()
            pipes += os.pipe()
            task_out, task_in, result_out, result_in = pipes
            # A worker never finds modules in the current folder, which may be the repository.
            path = [entry for entry in sys.path if entry]
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", WORKER_SCRIPT.format(path=path, read=task_out, write=result_in)],
                process_group=0,  # Ctrl-C must reach only us: a starting worker would print a traceback
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(task_out, result_in),
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **GLIBC_VARIABLES},
            )
        except BaseException:
            for pipe in pipes:
                os.close(pipe)
            raise
        for pipe in (task_in, result_out) if sys.platform == "linux" else ():
            with suppress(OSError):  # the limit of the user is used up
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.close(task_out)
        os.close(result_in)
        self._tasks = Connection(task_in, readable=False)
        self.results = Connection(result_out, writable=False)
        self.started = False
        self.task: tuple[int, Any] = -1, None
        """Index and content of the current task."""
        self._limit = self._sent_at = self._cpu_seconds_before = 0.0
        self.deadline = 0.0
        """When the worker is checked for being overdue, in seconds of `time.monotonic`."""

    def send_task(self, number: int, function: Callable[[Any], Any], task: Any, limit: float) -> None:
        """Send a task. If the worker is dead, that is noticed at the pipe of its results."""
        self.task = number, task
        self._limit, self._sent_at, self._cpu_seconds_before = limit, time.monotonic(), self._cpu_seconds()
        self.deadline = self._sent_at + limit
        with suppress(BrokenPipeError, ConnectionResetError):
            self._tasks.send((function, task))

    def is_overdue(self, now: float) -> bool:
        """Whether the task exceeded its limit of processor seconds, or the corresponding limit of wall time.

        Processor time counts so that a busy or suspended machine fails no task. Wall time ends a task that sleeps.
        """
        used = self._cpu_seconds() - self._cpu_seconds_before
        latest = self._sent_at + WALL_TIME_FACTOR * self._limit
        self.deadline = min(latest, now + max(MIN_RECHECK_SECONDS, self._limit - used))
        return used >= self._limit or now >= latest

    def _cpu_seconds(self) -> float:
        """Processor seconds that the process has used; wall time where the system does not tell."""
        if sys.platform == "linux":
            with suppress(OSError):  # the process has ended
                return time.clock_gettime(~self.process.pid << 3 | 2)  # the clock of clock_getcpuclockid(3)
        return time.monotonic()

    def has_result(self) -> bool:
        """Whether the received message is a result, and not the first message, which is read here."""
        if self.started:
            return True
        try:
            reason = self.results.recv_bytes()
        except (EOFError, OSError) as error:
            what = f"a worker ended with {self.process.wait()} before it began"
            raise _WorkerLostError(what, started=False) from error
        if reason:
            raise _WorkerLostError(reason.decode("utf-8", "replace"), started=False)
        self.started = True
        return False

    def receive_result(self) -> Any:
        """The result, or a `Failure` if the task crashed the worker; an error if it was killed from outside."""
        try:
            return self.results.recv()
        except (EOFError, OSError):  # before a result, or in the middle of one
            code = self.process.wait()
            what = f"worker ended with {code}"
            if code == -signal.SIGKILL:
                raise _WorkerLostError(what, started=True) from None
            return Failure("crash", what)

    def kill(self) -> None:
        """End the process and close its pipes."""
        self.process.kill()
        self.process.wait()
        self._tasks.close()
        self.results.close()


def _raise_file_limit(wanted: int) -> None:
    """Raise the limit of open files of this process, as far as allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < wanted:
        with suppress(OSError, ValueError):
            allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _scarce_resource(jobs: int) -> str:
    """What is too scarce beside this number of workers; empty if enough threads and files are left."""
    if startable_thread_count(OWN_THREADS + jobs) < OWN_THREADS + jobs:
        return LIMIT_MESSAGES[errno.EAGAIN][0]
    handles: list[int] = []
    try:
        handles.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVED_FILES))
    except OSError as error:
        limit = as_machine_error(error)
        return limit.what if limit else str(error)
    finally:
        for handle in handles:
            os.close(handle)
    return ""


class LocalEngine:
    """Worker processes on this machine. Results are in the order of the tasks, whatever the number of workers."""

    def __init__(self, jobs: int | None = None) -> None:
        """Start `jobs` workers, by default one per processor, so that they import modules while the repository is read.

        Raises:
            MachineError: not even one worker can be started.
        """
        wanted = min(jobs or usable_cpu_count(), max_worker_count())
        self._workers: list[_Worker] = []
        self.jobs = 0
        """The number of workers."""
        self.shortage = ""
        """Why there are fewer workers than wanted; empty if there are not."""
        _raise_file_limit(FILES_PER_WORKER * wanted + 2 * RESERVED_FILES)
        try:
            while len(self._workers) < wanted and self._start_worker():
                pass
            if len(self._workers) < wanted:  # a limit is reached: leave resources for other things
                self._shrink(max(1, wanted // 2))
            while len(self._workers) > 1 and (scarce := _scarce_resource(self.jobs)):
                self.shortage = scarce
                self._shrink(len(self._workers) - 1)
            self._require_workers()
            if not self.shortage and jobs and jobs > wanted:
                self.shortage = "more per processor gain nothing"
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
        """Apply an importable function to each task; see `protocols.Engine`.

        Raises:
            MachineError: no worker is left, and none can be started.
        """
        self._require_workers()
        source = enumerate(tasks)
        again: deque[tuple[int, Any]] = deque()  # tasks whose worker was lost, which may not be their fault
        lost: Counter[int] = Counter()  # lost workers by index of their task
        ready: dict[int, Any] = {}  # results by index of the task, waiting for earlier ones
        idle = deque(self._workers)
        busy: list[_Worker] = []
        due = 0  # the index of the next result to yield
        has_more = True
        try:
            while True:
                while idle and (again or (has_more and len(ready) < MAX_WAITING_RESULTS * self.jobs)):
                    index, task = again.popleft() if again else next(source, (-1, None))
                    if index < 0:
                        has_more = False
                        break
                    busy.append(idle.popleft())
                    busy[-1].send_task(index, function, task, limit)
                for worker, result in self._wait_for_results(busy) if due not in ready else ():
                    busy.remove(worker)
                    index = worker.task[0]
                    if isinstance(result, _WorkerLostError):
                        lost[index] += 1
                        if result.started and lost[index] >= MAX_KILLED_WORKERS:
                            ready[index] = Failure("crash", str(result))
                        else:
                            again.append(worker.task)
                    else:
                        ready[index] = result
                    idle.extend(self._next_workers(worker, result))
                while due in ready:
                    yield cast("R | Failure", ready.pop(due))
                    due += 1
                if not (has_more or busy or again):
                    return
        finally:
            # The consumer may have stopped early. Replace busy workers, so that their results do not reach a later map.
            # After an error the engine may be closed, and then it has no workers.
            for worker in busy if self._workers else ():
                self._stop_worker(worker)
                self._start_worker()

    def _wait_for_results(self, busy: list[_Worker]) -> list[tuple[_Worker, Any]]:
        """Wait for the next results; a worker that is overdue gives a `Failure`."""
        if not busy:
            return []
        waiting = {worker.results: worker for worker in busy}
        timeout = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        results: list[tuple[_Worker, Any]] = []
        for connection in wait(list(waiting), timeout=timeout):
            worker = waiting.pop(cast("Connection", connection))
            try:
                if worker.has_result():
                    results.append((worker, worker.receive_result()))
            except _WorkerLostError as error:
                results.append((worker, error))
        now = time.monotonic()
        results += [
            (worker, Failure("timeout", "took too long"))
            for worker in waiting.values()
            if worker.deadline <= now and worker.is_overdue(now)
        ]
        return results

    def _next_workers(self, worker: _Worker, result: Any) -> list[_Worker]:
        """The workers that take the next task after a result: the same one, a new one, or none.

        Raises:
            MachineError: the task failed for lack of memory, or no worker is left.
        """
        failure = result.kind if isinstance(result, Failure) else ""
        hint = LIMIT_MESSAGES[errno.ENOMEM][1]
        if failure == "crash" and (address_space_limit() or MAX_WORKER_BYTES) < MAX_WORKER_BYTES:
            raise MachineError(f"a worker died, and {MEMORY_IS_LIMITED}", where=result.detail, hint=hint)
        if failure == MEMORY_FAILURE:
            raise MachineError(f"memory does not suffice, and {MEMORY_IS_LIMITED}", hint=hint)
        if not isinstance(result, _WorkerLostError) and failure not in FATAL_FAILURES:
            return [worker]
        self._stop_worker(worker)
        if isinstance(result, _WorkerLostError):
            self.shortage = str(result)
            if self._workers or not result.started:  # with one worker less, the others have more memory
                self._require_workers()
                return []
        before = len(self._workers)
        self._start_worker()
        self._require_workers()
        return self._workers[before:]

    def _start_worker(self) -> bool:
        """Start another worker; return whether that was possible."""
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
        """End a worker and forget it."""
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


def serve(read: int, write: int) -> None:
    """Receive tasks from one pipe and send results to the other, until the first is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and kills us
    if sys.platform == "linux":  # the kernel kills this process when the parent dies, even while a grammar hangs
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
        if os.getppid() == 1:  # the parent died before
            os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    is_memory_limited = False
    if sys.platform == "linux":
        limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
        smallest = min([MAX_WORKER_BYTES, *limits])
        is_memory_limited = smallest < MAX_WORKER_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (smallest, smallest))
    gc.freeze()
    gc.set_threshold(GARBAGE_COLLECTION_THRESHOLD)
    tasks, results = Connection(read, writable=False), Connection(write, readable=False)
    results.send_bytes(b"")  # tells the parent that the worker has started
    while True:
        try:
            message = tasks.recv_bytes()
        except EOFError:
            return
        try:
            function, task = pickle.loads(message)  # noqa: S301 - from our own parent, over our own pipe
            result = function(task)
        except MemoryError as error:
            result = Failure(MEMORY_FAILURE if is_memory_limited else "error", f"MemoryError: {error}")
        except Exception as error:  # noqa: BLE001 - whatever the task raises is its result, and the parent counts it
            result = Failure("error", f"{type(error).__name__}: {error}")
        try:
            results.send(result)
        except BrokenPipeError:
            return

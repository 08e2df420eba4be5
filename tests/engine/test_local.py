"""The engine: order, crashes, hangs, errors, lazy tasks, and nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from git_starcoder.engine import local
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import MachineError
from git_starcoder.protocols import Failure
from shell import HUNG

HERE = os.path.dirname(__file__)


@pytest.fixture(autouse=True)
def _importable_here(monkeypatch):
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])


def work(task):
    match task:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            while True:
                pass
        case "sleep":
            time.sleep(1000)
        case "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise ValueError("no")
        case "memory":
            bytearray(5 << 30)
        case ("big", size):
            return b"x" * size
        case ("slow", seconds):
            time.sleep(seconds)
    return task


def pid(_task):
    return os.getpid()


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_tasks(jobs):
    tasks = [("slow", 0.02 if n % 3 == 0 else 0.0) for n in range(20)]
    with LocalEngine(jobs) as engine:
        assert list(engine.map(work, [*tasks, *range(300)], limit=HUNG)) == [*tasks, *range(300)]


def test_a_crash_costs_only_its_own_task():
    with LocalEngine(2) as engine:
        results = list(engine.map(work, [1, "crash", 2, "crash", 3, 4, 5], limit=HUNG))
    assert [r.kind if isinstance(r, Failure) else r for r in results] == [1, "crash", 2, "crash", 3, 4, 5]


@pytest.mark.parametrize("how", ["hang", "sleep"])
def test_a_hang_is_ended_and_counted(how):
    limit = 0.4
    with LocalEngine(2) as engine:
        assert list(engine.map(work, [1, 2], limit=HUNG)) == [1, 2]  # the seconds that a worker starts in count, too
        results = list(engine.map(work, [1, how, 2], limit=limit))
    assert [r.kind if isinstance(r, Failure) else r for r in results] == [1, "timeout", 2]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells how long a worker had a processor")
def test_a_worker_that_was_stopped_goes_on():
    with LocalEngine(1) as engine:
        assert list(engine.map(work, [1], limit=HUNG)) == [1]
        (worker,) = engine._workers
        timer = threading.Timer(1.0, worker.process.send_signal, [signal.SIGCONT])
        timer.start()
        results = list(engine.map(work, ["stopped", 2], limit=0.5))
        timer.join()
    assert results == ["stopped", 2]


def test_an_exception_is_an_answer():
    with LocalEngine(1) as engine:
        failure, after = engine.map(work, ["raise", 7], limit=HUNG)
    assert failure == Failure("error", "ValueError: no")
    assert after == 7


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_memory_is_limited():
    with LocalEngine(1) as engine:
        (failure,) = engine.map(work, ["memory"], limit=HUNG)
    assert isinstance(failure, Failure)
    assert "MemoryError" in failure.detail


def test_tasks_and_answers_larger_than_a_pipe_do_not_block():
    tasks = [("big", 3_000_000)] * 4 + [b"y" * 3_000_000] * 4
    with LocalEngine(2) as engine:
        sizes = [len(result) for result in engine.map(work, tasks, limit=HUNG)]
    assert sizes == [3_000_000] * 8


def test_tasks_are_drawn_as_results_are_taken():
    drawn = []

    def tasks():
        for number in range(10_000):
            drawn.append(number)
            yield number

    with LocalEngine(1) as engine:
        results = engine.map(work, tasks(), limit=HUNG)
        next(results)
        assert len(drawn) < 200
        results.close()
        # What was in flight then must not answer now.
        assert list(engine.map(work, ["a", "b"], limit=HUNG)) == ["a", "b"]


def test_workers_end_with_the_engine():
    with LocalEngine(2) as engine:
        pids = set(engine.map(pid, range(20), limit=HUNG))
    for number in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_a_module_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "selectors.py").write_text("raise SystemExit('imported from the repository')")
    (tmp_path / "pickle.py").write_text("raise SystemExit('imported from the repository')")
    monkeypatch.chdir(tmp_path)
    with LocalEngine(1) as engine:
        assert list(engine.map(work, [1], limit=HUNG)) == [1]


def test_a_function_that_a_worker_cannot_import_is_an_error(monkeypatch):
    monkeypatch.setattr(pid, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "pid", pid, raising=False)
    with LocalEngine(1) as engine:
        (failure,) = engine.map(pid, [1], limit=HUNG)
    assert isinstance(failure, Failure)
    assert failure.kind == "error"


class Refusing:
    """`subprocess.Popen` on a machine that gives only so many processes."""

    def __init__(self, most, error):
        self.most, self.error, self.real = most, error, subprocess.Popen

    def __call__(self, *arguments, **options):
        if self.most == 0:
            raise self.error
        self.most -= 1
        return self.real(*arguments, **options)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_fewer_workers_where_the_machine_gives_no_more(monkeypatch, number):
    monkeypatch.setattr(local.subprocess, "Popen", Refusing(5, OSError(number, os.strerror(number))))
    with LocalEngine(6) as engine:
        assert engine.jobs == 3  # half, so that there is room for the rest
        assert engine.shortage
        assert list(engine.map(work, range(40), limit=20)) == list(range(40))


def test_no_worker_at_all_is_one_clear_error(monkeypatch):
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(local.subprocess, "Popen", Refusing(0, BlockingIOError(errno.EAGAIN, "no")))
    with pytest.raises(MachineError, match="no worker process can be started"):
        LocalEngine(4)
    assert len(os.listdir("/dev/fd")) == before


def test_a_worker_that_cannot_be_replaced_is_done_without(monkeypatch):
    with LocalEngine(2) as engine:
        monkeypatch.setattr(local.subprocess, "Popen", Refusing(0, BlockingIOError(errno.EAGAIN, "no")))
        results = list(engine.map(work, [1, "crash", 2, 3], limit=20))
        assert [r.kind if isinstance(r, Failure) else r for r in results] == [1, "crash", 2, 3]
        assert engine.jobs == 1
        with pytest.raises(MachineError):
            list(engine.map(work, [1, "crash", 2, 3], limit=20))
        with pytest.raises(MachineError):  # and not for ever
            list(engine.map(work, [1], limit=20))


def test_workers_that_cannot_start_are_no_failure_of_a_task(monkeypatch):
    monkeypatch.setattr(
        local, "WORKER_SCRIPT", local.WORKER_SCRIPT.replace("try:", "try:\n    raise MemoryError('no room')", 1)
    )
    with pytest.raises(MachineError) as caught, LocalEngine(2) as engine:
        list(engine.map(work, range(4), limit=20))
    assert "MemoryError: no room" in caught.value.where


def killed_once(task):
    flag, number = task
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return number
    os.kill(os.getpid(), signal.SIGKILL)
    return None


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_task_whose_worker_the_kernel_killed_is_done_again(tmp_path, jobs):
    with LocalEngine(jobs) as engine:
        tasks = [(str(tmp_path / "flag"), number) for number in range(9)]
        assert list(engine.map(killed_once, tasks, limit=20)) == list(range(9))


def always_killed(_task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_that_always_kills_its_worker_is_a_crash():
    with LocalEngine(2) as engine:
        results = list(engine.map(always_killed, [1, 2], limit=20))
    assert [result.kind for result in results] == ["crash", "crash"]


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_memory_that_the_user_limits_is_no_failure_of_a_task(monkeypatch):
    monkeypatch.setattr(local, "address_space_limit", lambda: 1 << 30)
    monkeypatch.setattr(
        local,
        "WORKER_SCRIPT",
        f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({1 << 30}, {1 << 30}))\n{local.WORKER_SCRIPT}",
    )
    with LocalEngine(1) as engine:
        with pytest.raises(MachineError, match="memory does not suffice"):
            list(engine.map(work, ["memory"], limit=20))
        with pytest.raises(MachineError, match="a worker died"):
            list(engine.map(work, ["crash"], limit=20))


@pytest.mark.parametrize("jobs", [5, 10**30])
def test_no_more_workers_start_than_are_of_use(monkeypatch, jobs):
    monkeypatch.setattr(local, "max_worker_count", lambda: 3)
    with LocalEngine(jobs) as engine:
        assert engine.jobs == 3
        assert engine.shortage == "more per processor gain nothing"
        assert list(engine.map(work, range(9), limit=20)) == list(range(9))


def test_files_are_left_for_the_rest(monkeypatch):
    monkeypatch.setattr(local, "_scarce_resource", lambda jobs: "" if jobs <= 2 else "files are scarce")
    with LocalEngine(5) as engine:
        assert (engine.jobs, engine.shortage) == (2, "files are scarce")
        assert list(engine.map(work, range(9), limit=20)) == list(range(9))

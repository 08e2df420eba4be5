"""Runs tasks on the nodes of a Ray cluster, or on this machine with a cluster that is started and ended for them.

Only the names of functions, paths and small values travel. What tasks hand on is in folders, so these must be on
storage that all nodes see at the same path. `RayEngine.require_shared` finds out whether they do.

A Ray worker runs each task with a `LocalEngine` of one process. So crashes, hangs and limits of memory are those of the
local engine, and code of the current folder is never imported. What is left for Ray are workers and nodes that are
lost. Their tasks are repeated here and not by Ray, which repeats without a limit when a node lacks memory.

A cluster of our own listens on this machine only and lets only us in. It has no dashboard, and reports nothing to
anybody.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast

from git_starcoder.engine.cache import code_digest
from git_starcoder.engine.local import MAX_KILLED_WORKERS, LocalEngine
from git_starcoder.errors import MachineError, MissingExtraError, UsageError
from git_starcoder.machine import max_worker_count, usable_cpu_count
from git_starcoder.protocols import Failure
from git_starcoder.user_paths import STANDARD_TEMPORARY_FOLDERS, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")

MAX_SUBMITTED = 1000
"""Tasks that are handed to Ray and not yet done. Ray decides how many of them run; a task is a kilobyte."""
OBJECT_STORE_BYTES = 100 << 20
"""Memory for Ray's objects on this machine. Ray reserves a third of all memory by default, and we have no objects."""
CONNECT_SECONDS = 30.0
"""Time that a cluster has to accept a connection."""
OWN_CLUSTER = "local"
"""What Ray calls the address of a cluster that it starts."""
START_ATTEMPTS = 4
"""How often a cluster of our own is started before we give up."""
START_TIMEOUT_PHRASE = "timed out during startup"
"""Part of the message of Ray when its processes need longer than it waits."""
PROBE_SECONDS = 600.0
"""Time that a node has to answer. A node that was idle starts a Python process for it, and nodes may be busy."""
MAX_FOLDER_BYTES = 28
"""Length of the path of a folder for temporary files in which Ray's sockets have at most the 107 bytes of Linux."""
MESSAGE_BYTES = 200
"""Bytes of a message of Ray, whose messages have many lines, that an error quotes."""
FIXED_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""No statistics are sent, and the current folder is not sent to the cluster if we run under uv."""
OWN_CLUSTER_VARIABLES = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""A cluster of our own listens on this machine only (the variable works on every system), and asks for a token."""
LOST_PHRASES = {
    "WorkerCrashedError": "its worker was killed or crashed",
    "NodeDiedError": "its node was lost",
    "OutOfMemoryError": "its node had no memory left",
    "ObjectLostError": "its result was lost with its node",
    "OwnerDiedError": "its result was lost with its node",
}
"""Errors of Ray after which a task is repeated."""
NODES_HINT = "all nodes need the same git-starcoder, and must see repositories and the work folder at the same path"


class _Expected(NamedTuple):
    """What a worker must have, so that its results are right."""

    marker: str
    """A file in the work folder."""
    code: bytes
    """The `code_digest` of the process that hands out tasks."""


class RayEngine:
    """Ray tasks. Results are in the order of the tasks, whatever the number of workers and nodes."""

    def __init__(self, jobs: int | None = None, address: str = "") -> None:
        """Connect to a cluster, or start one on this machine.

        Args:
            jobs: Tasks that run at once. By default as many as the cluster has processors.
            address: The address of a cluster. By default one is started, with a worker per processor.

        Raises:
            MissingExtraError: Ray is not installed.
            MachineError: The cluster cannot be started, or does not answer.
        """
        if "://" in address:
            hint = "run the command on a node of the cluster, with --ray-address auto"
            raise UsageError(f"'{address}' is an address of Ray Client", where="--ray-address", hint=hint)
        self._expected: _Expected | None = None
        self._open = ExitStack()
        options: dict[str, Any] = {"address": address}
        variables = FIXED_VARIABLES
        try:
            if not address:
                # Ray opens its own folder to all users, so it is in one that is ours. Its sockets are there.
                parent = temporary_folder()
                if len(parent) > MAX_FOLDER_BYTES:
                    parent = STANDARD_TEMPORARY_FOLDERS[0]
                folder = tempfile.mkdtemp(prefix="ray-", dir=parent)
                self._open.callback(shutil.rmtree, folder, ignore_errors=True)
                variables = FIXED_VARIABLES | OWN_CLUSTER_VARIABLES | {"RAY_AUTH_TOKEN": _own_token()}
                options = {
                    "address": OWN_CLUSTER, "num_cpus": min(jobs or usable_cpu_count(), max_worker_count()),
                    "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES, "_temp_dir": f"{folder}/r",
                }  # fmt: skip
            elif address != "auto":
                _require_listener(address)
            self._open.enter_context(_environment(variables))
            self._ray = _load_ray()
            self._open.callback(self._ray.shutdown)
            _connect(self._ray, options)
            # Ray prints on standard output that a worker died, whatever its options say. The answer is there.
            worker: Any = import_module("ray._private.worker")
            worker._worker_logs_enabled = False  # noqa: SLF001
            cpus = int(self._ray.cluster_resources().get("CPU", 1))
        except BaseException:
            self.close()
            raise
        self.jobs = min(jobs, cpus) if jobs else cpus
        """Tasks that run at once."""
        self._max_submitted = jobs if jobs and address else MAX_SUBMITTED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, and end it if it is our own."""
        self._open.close()

    def require_shared(self, folder: Path, paths: Sequence[Path]) -> None:
        """Find out whether all nodes have our code, see `paths`, and can write to a folder, which is made if needed.

        Nodes that join later are asked before their first task.

        Raises:
            MachineError: A node has other code, or does not see a folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        handle, marker = tempfile.mkstemp(prefix="ray-", dir=folder.absolute())
        os.close(handle)
        self._open.callback(Path(marker).unlink, missing_ok=True)
        self._expected = _Expected(marker, code_digest())
        names = [str(path.absolute()) for path in paths]
        placement = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        nodes: dict[str, str] = {
            node["NodeID"]: node["NodeManagerAddress"] for node in self._ray.nodes() if node["Alive"]
        }
        probe = self._ray.remote(num_cpus=0, max_retries=0)(_find_fault_of_node)
        faults = [
            (address, probe.options(scheduling_strategy=placement(node, soft=False)).remote(self._expected, names))
            for node, address in nodes.items()
        ]
        for address, reference in faults:
            try:
                fault: str = self._ray.get(reference, timeout=PROBE_SECONDS)
            except self._ray.exceptions.RayError as error:
                fault = f"cannot run our code: {_cause_of(error)}"
            if fault:
                raise MachineError(f"node {address} {fault}", where="--engine ray", hint=NODES_HINT)

    def map(self, function: Callable[[T], R], tasks: Iterable[T], *, limit: float) -> Iterator[R | Failure]:
        """Apply an importable function to each task; see `protocols.Engine`.

        Raises:
            MachineError: A worker lacks memory, or a node that joined lacks our code or the work folder.
        """
        source = enumerate(tasks)
        remote = self._ray.remote(num_cpus=1, max_retries=0)(_run_task)
        here = os.fspath(Path.cwd())
        submitted: dict[Any, tuple[int, bytes]] = {}  # by Ray's reference to the result
        lost: Counter[int] = Counter()  # lost workers by index of their task
        ready: dict[int, Any] = {}  # results by index of the task, waiting for earlier ones
        due = 0  # the index of the next result to yield
        has_more = True

        def submit(index: int, payload: bytes) -> None:
            submitted[remote.remote(payload, limit, self._expected)] = index, payload

        try:
            while True:
                while has_more and len(submitted) + len(ready) < self._max_submitted:
                    index, task = next(source, (-1, None))
                    has_more = index >= 0
                    if has_more:
                        submit(index, pickle.dumps((function, task, here)))
                while due in ready:
                    yield cast("R | Failure", ready.pop(due))
                    due += 1
                if not submitted:
                    if not has_more:
                        return
                    continue
                done, _ = self._ray.wait(list(submitted), num_returns=1)
                for reference in done:
                    index, payload = submitted.pop(reference)
                    result, is_lost = self._result_of(reference)
                    lost[index] += is_lost
                    if is_lost and lost[index] < MAX_KILLED_WORKERS:
                        submit(index, payload)
                    else:
                        ready[index] = result
        finally:
            for reference in submitted:  # the consumer stopped early
                with suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(reference, force=True)

    def _result_of(self, reference: Any) -> tuple[Any, bool]:
        """The result of a task, and whether it was lost with its worker or node.

        Raises:
            MachineError: The machine is to blame, or Ray is.
        """
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            return Failure("error", _cause_of(error)), False
        except self._ray.exceptions.RayError as error:
            phrase = next(
                (LOST_PHRASES[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in LOST_PHRASES), ""
            )
            if not phrase:
                raise MachineError("Ray failed", where=_one_line(error), hint="see the logs of the cluster") from error
            return Failure("crash", phrase), True
        if isinstance(result, MachineError):
            raise result
        return result, False


def _connect(ray: Any, options: dict[str, Any]) -> None:
    """Connect to a cluster, or start one. Ray gives its own processes 30 s, too little for a busy machine."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            # Ray lets workers import from the current folder, which may be the repository.
            with _in_root_folder(), _same_sigterm_handler():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # often a plain `Exception`
            if attempt == START_ATTEMPTS or START_TIMEOUT_PHRASE not in str(error):
                raise _unusable_error(options["address"], error) from error
            ray.shutdown()
        else:
            return


def _unusable_error(address: str, error: Exception) -> MachineError:
    what = "Ray cannot be started" if address == OWN_CLUSTER else f"the Ray cluster at '{address}' cannot be used"
    return MachineError(what, where=_one_line(error), hint="without --engine ray, this machine works")


@cache
def _own_token() -> str:
    """The token of clusters of this process. Ray reads its variables once, when it is loaded.

    Raises:
        MachineError: Ray is loaded, so it does not know the token.
    """
    if "ray" in sys.modules:
        hint = "start one with `ray start --head`, and give its address"
        raise MachineError("Ray was loaded before, so no cluster of our own can be started", hint=hint)
    return secrets.token_hex(32)


def _load_ray() -> Any:
    """The module of Ray, which is not connected to a cluster yet."""
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "ray", "ray") from error
    if ray.is_initialized():
        raise MachineError("this process is connected to a Ray cluster already", hint="call ray.shutdown() first")
    return ray


def _require_listener(address: str) -> None:
    """Raise a `MachineError` if nobody listens at an address. Ray would try for 20 s, and print much."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _unusable_error(address, error) from error


@contextmanager
def _environment(variables: dict[str, str]) -> Generator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _in_root_folder() -> Generator[None]:
    """Make the root folder the current one for a while."""
    try:
        here = os.open(".", os.O_RDONLY)
    except OSError:  # it was deleted
        here = None
    os.chdir("/")
    try:
        yield
    finally:
        if here is not None:
            os.fchdir(here)
            os.close(here)


@contextmanager
def _same_sigterm_handler() -> Generator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one that exits with a code of its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:MESSAGE_BYTES]


def _cause_of(error: Any) -> str:
    """What was raised in a worker, in one line."""
    cause: BaseException = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {_one_line(cause)}"


def _find_fault_of_node(expected: _Expected, paths: Sequence[str]) -> str:
    """What this node lacks, or ""."""
    return _find_fault(expected) or next((f"does not see '{path}'" for path in paths if not os.path.exists(path)), "")  # noqa: PTH110 - texts


@cache
def _find_fault(expected: _Expected) -> str:
    """What this process lacks, or ""."""
    folder = os.path.dirname(expected.marker)  # noqa: PTH120 - a text
    if code_digest() != expected.code:
        return "has another version of git-starcoder, of Python or of a library"
    if not os.path.exists(expected.marker):  # noqa: PTH110
        return f"does not see the work folder '{folder}'"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"cannot write to the work folder '{folder}': {error.strerror}"


_engines: list[LocalEngine] = []
"""The process that works for this Ray worker, which outlives a task: starting it takes as long as a small task."""


def _run_task(payload: bytes, limit: float, expected: _Expected | None) -> Any:
    """Run a task in the process of this Ray worker; its result, a `Failure`, or a `MachineError`."""
    if expected is not None and (fault := _find_fault(expected)):
        return MachineError(f"a node {fault}", where="--engine ray", hint=NODES_HINT)
    try:
        if not _engines:
            _engines.append(LocalEngine(1))
        [result] = _engines[0].map(call, [payload], limit=limit)
    except MachineError as error:
        while _engines:
            _engines.pop().close()
        return error
    return result


def call(payload: bytes) -> Any:
    """Call a pickled function with its task, in the current folder of the process that hands out tasks."""
    function, task, folder = pickle.loads(payload)  # noqa: S301 - from our own process, over Ray
    with suppress(OSError):  # there may be no such folder on this node, and absolute paths do not need it
        os.chdir(folder)
    return function(task)

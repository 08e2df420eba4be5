"""The Ray engine: the bytes of the local engine on two simulated nodes, lost workers and nodes, and what nodes lack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from git_starcoder.engine import ray as ray_engine
from git_starcoder.engine.local import MAX_KILLED_WORKERS, LocalEngine
from git_starcoder.engine.ray import RayEngine
from git_starcoder.errors import MachineError, RepositoryError, UsageError
from git_starcoder.many.build import build_many
from git_starcoder.many.storage import open_work_folder
from git_starcoder.many.tasks import RepositorySource
from git_starcoder.protocols import Failure, Progress
from git_starcoder.recipe import Recipe
from shell import HUNG, SMALL, environment
from toy import code_base

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="nodes are told apart by /proc"),
]

IMPORTED_FROM = str(Path(__file__).parents[__name__.count(".")])
RECIPE = Recipe.load("natural", SMALL[1::2])
CPUS_PER_NODE = 2


def patient(start):
    """What a function starts. Ray gives its processes 30 s, which a busy machine exceeds."""
    for _ in range(20):
        try:
            return start()
        except Exception as error:
            if ray_engine.START_TIMEOUT_PHRASE not in str(error):
                raise
    return start()


@pytest.fixture(scope="module")
def cluster():
    """Two simulated nodes with two processors each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ray_engine.FIXED_VARIABLES | ray_engine.OWN_CLUSTER_VARIABLES).items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        # Ray's workers are started by its nodes, and import what the tests define from here.
        patch.setenv("PYTHONPATH", os.pathsep.join([IMPORTED_FROM, *filter(None, sys.path)]))
        from ray.cluster_utils import Cluster

        nodes = {"num_cpus": CPUS_PER_NODE, "object_store_memory": ray_engine.OBJECT_STORE_BYTES}
        with TemporaryDirectory() as folder:  # not that of pytest: the paths of sockets must be short
            # Ray also writes the head's address into this folder, and without it into /tmp/ray.
            patch.setenv("RAY_TMPDIR", folder)
            head = {**nodes, "include_dashboard": False}
            made = patient(lambda: Cluster(initialize_head=True, head_node_args=head))
            patient(lambda: made.add_node(**nodes))
            yield made
            made.shutdown()


@pytest.fixture(scope="module")
def engine(cluster):
    with RayEngine(address=cluster.address) as made:
        yield made


def parent(process):
    """The parent of a process."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def node_of(folder, number, count):
    """The process of this task's node, once as many tasks have begun as there are processors."""
    (folder / str(number)).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)
    return parent(os.getppid())


def call_with(task):
    function, *arguments = task
    return function(*arguments)


def run(engine, *tasks):
    return list(engine.map(call_with, tasks, limit=HUNG))


def test_tasks_run_on_both_nodes_at_once_and_results_are_in_order(engine, tmp_path):
    assert engine.jobs >= 2 * CPUS_PER_NODE  # more if a node was given up that started after all
    nodes = run(engine, *((node_of, tmp_path, number, engine.jobs) for number in range(engine.jobs)))
    assert set(Counter(nodes).values()) == {CPUS_PER_NODE}
    assert run(engine, *((divmod, number, 7) for number in range(50))) == [divmod(number, 7) for number in range(50)]


def test_what_a_task_raises_is_its_result(engine):
    first, second = run(engine, (divmod, 1, 0), (divmod, 9, 5))
    assert first == Failure("error", "ZeroDivisionError: integer division or modulo by zero")
    assert second == (1, 4)


def killed(folder, times, victim):
    """The number of this attempt, unless it is one of the first, which are killed."""
    attempt = len(list(folder.iterdir()))
    (folder / str(attempt)).touch()
    if attempt < times:
        os.kill(
            {"process": os.getpid, "worker": os.getppid, "node": lambda: parent(os.getppid())}[victim](), signal.SIGKILL
        )
        signal.pause()
    return attempt


@pytest.mark.parametrize("victim", ["process", "worker"])
def test_a_task_whose_worker_is_killed_is_done_again(engine, tmp_path, victim):
    assert run(engine, (killed, tmp_path, 2, victim), (divmod, 9, 5)) == [2, (1, 4)]


@pytest.mark.parametrize("victim", ["process", "worker"])
def test_a_task_that_always_kills_its_worker_is_a_crash(engine, tmp_path, victim):
    failure, other = run(engine, (killed, tmp_path, 99, victim), (divmod, 9, 5))
    assert isinstance(failure, Failure)
    assert failure.kind == "crash"
    assert failure.detail in {"worker ended with -9", "its worker was killed or crashed"}
    assert len(list(tmp_path.iterdir())) == MAX_KILLED_WORKERS
    assert other == (1, 4)


def test_what_ray_says_about_killed_workers_is_not_our_answer(engine, tmp_path, capfd):
    run(engine, (killed, tmp_path, 1, "worker"))
    time.sleep(1)
    assert capfd.readouterr() == ("", "")


def test_tasks_are_drawn_as_results_are_taken(engine, monkeypatch):
    monkeypatch.setattr(engine, "_max_submitted", 3)
    drawn = []

    def tasks():
        for number in range(1000):
            drawn.append(number)
            yield divmod, number, 7

    results = engine.map(call_with, tasks(), limit=HUNG)
    assert next(results) == (0, 0)
    assert len(drawn) < 10
    results.close()
    assert run(engine, (divmod, 9, 5)) == [(1, 4)]


def test_a_node_without_the_repositories_is_named(engine, tmp_path):
    engine.require_shared(tmp_path / "work", [tmp_path])
    with pytest.raises(MachineError, match=rf"node 127\.0\.0\.1 does not see '{tmp_path}/repo'"):
        engine.require_shared(tmp_path / "work", [tmp_path, tmp_path / "repo"])


def test_a_node_with_other_code_is_named(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "code_digest", lambda: b"other")
    with pytest.raises(MachineError, match="has another version of git-starcoder"):
        engine.require_shared(tmp_path, [])


def test_a_node_without_the_work_folder_is_named_when_it_joins_later(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_expected", None)
    engine.require_shared(tmp_path, [])
    assert run(engine, (divmod, 9, 5)) == [(1, 4)]
    for path in tmp_path.iterdir():
        path.unlink()
    monkeypatch.setattr(engine, "_expected", engine._expected._replace(marker=f"{tmp_path}/elsewhere"))
    with pytest.raises(MachineError, match=f"a node does not see the work folder '{tmp_path}'"):
        run(engine, (divmod, 9, 5))


@pytest.fixture(scope="module")
def repos(repo_maker):
    """Three repositories, of which two share files."""
    code = code_base(12)
    commits = [code, {**code_base(9, 50), "copy.py": code[min(code)]}, code_base(6, 900)]
    made = [RepositorySource(repo_maker(files), name=name) for name, files in zip("abc", commits, strict=True)]
    return dict(zip("abc", made, strict=True))


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def local(repos, tmp_path_factory):
    """The dataset as the local engine makes it."""
    out = tmp_path_factory.mktemp("local") / "out"
    with LocalEngine(1) as engine:
        build_many(list(repos.values()), RECIPE, out, engine=engine)
    return out


class Spoiled:
    """An engine in which the worker of one repository is killed in one part: the first times, or always."""

    def __init__(self, engine, source, part, flags, times):
        self.jobs, self.engine = engine.jobs, engine
        self.given = source.path, part, flags, times

    def map(self, function, tasks, *, limit):
        return self.engine.map(spoiled, ((function, task, *self.given) for task in tasks), limit=limit)


def spoiled(given):
    function, task, path, part, flags, times = given
    if function.__name__ == part and task.path == path:
        killed(flags, times, "worker")
    return function(task)


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize("jobs", [2, 4])
def test_the_bytes_are_those_of_the_local_engine(engine, repos, local, tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(engine, "_max_submitted", jobs)
    work = open_work_folder(tmp_path / "work")
    engine.require_shared(work, [source.path for source in repos.values()])
    build_many(list(repos.values()), RECIPE, tmp_path / "out", engine=engine, work=work)
    assert contents(tmp_path / "out") == contents(local)


@pytest.mark.parametrize("part", ["read_part", "shard_part"])
def test_the_part_of_a_killed_worker_is_done_again(engine, repos, local, tmp_path, part):
    flags = tmp_path / "flags"
    flags.mkdir()
    once = Spoiled(engine, repos["b"], part, flags, 1)
    build_many(list(repos.values()), RECIPE, tmp_path / "out", engine=once, work=tmp_path / "work")
    assert len(list(flags.iterdir())) == 2
    assert contents(tmp_path / "out") == contents(local)


def test_a_repository_that_always_kills_its_worker_is_left_out_or_stops_the_build(engine, repos, tmp_path):
    flags, progress, out = tmp_path / "flags", Notes(), tmp_path / "out"
    flags.mkdir()
    always = Spoiled(engine, repos["b"], "read_part", flags, 99)
    sources, options = list(repos.values()), {"engine": always, "work": tmp_path / "work"}
    with pytest.raises(RepositoryError) as caught:
        build_many(sources, RECIPE, out, strict=True, **options)
    because = "worker crash (its worker was killed or crashed)"
    assert caught.value.what == f"b ({repos['b'].path}) cannot be used: {because}"
    assert caught.value.where == str(repos["b"].path)
    assert {path.name for path in tmp_path.iterdir()} == {"flags", "work"}
    dataset = build_many(sources, RECIPE, out, progress=progress, **options)
    assert dataset.manifest["repositories"] == {"seen": 3, "kept": 2, "dropped": {"failed": 1}}
    assert [note for note in progress.notes if note.startswith("left out: b (")]


def lose_node(folder, number, count, victim):
    """Kill this task's node and worker if it is the victim, once as many tasks have begun as there are processors."""
    if node_of(folder, number, count) == victim:
        os.kill(victim, signal.SIGKILL)  # another task may have done it, but nobody waits for the dead process
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    return number


def test_tasks_of_a_lost_node_are_done_again(cluster, engine, tmp_path):
    options = {"num_cpus": CPUS_PER_NODE, "object_store_memory": ray_engine.OBJECT_STORE_BYTES}
    node = patient(lambda: cluster.add_node(**options))
    victim = node.all_processes["raylet"][0].process.pid
    count = 3 * CPUS_PER_NODE
    assert run(engine, *((lose_node, tmp_path, number, count, victim) for number in range(count))) == [*range(count)]


def git_starcoder(*arguments, **options):
    command = [sys.executable, "-m", "git_starcoder", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False, **options)


def test_the_command_starts_a_cluster_imports_nothing_from_the_current_folder_and_leaves_nothing(repos, tmp_path):
    hostile, kept = tmp_path / "hostile", tmp_path / "kept"
    hostile.mkdir()
    for module in ("numpy", "pickle", "json", "selectors", "msgspec", "git_starcoder"):
        (hostile / f"{module}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nraise SystemExit\n")
    (tmp_path / "list.txt").write_text("".join(f"{source.path}\t\t{source.name}\n" for source in repos.values()))
    words = ["build", "--list", "../list.txt", "-r", "natural", *SMALL, "--json", "-j", "2"]
    answers = []
    with TemporaryDirectory() as temporary:  # its path is short enough for Ray's sockets
        for engine in ("local", "ray"):
            done = subprocess.run(
                [Path(sys.executable).with_name("git-starcoder"), *words, "-o", kept / engine, "--engine", engine],
                cwd=hostile, env=environment(TMPDIR=temporary, PYTHONPATH=""), capture_output=True, text=True,
                timeout=HUNG, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            answers.append(json.loads(done.stdout) | {"out": ""})
        assert not os.listdir(temporary)
    assert answers[0] == answers[1]
    assert contents(kept / "ray") == contents(kept / "local")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["build", ".", "--engine", "ray"], "--engine ray is for many repositories"),
        (["build", "--list", "l", "--ray-address", "auto"], "--ray-address is for --engine ray"),
        (["build", "--list", "l", "--engine", "ray", "--no-cache"], "--engine ray needs a work folder"),
        (["build", "--list", "l", "--engine", "ray", "--ray-address", "127.0.0.1:9"], "127.0.0.1:9' cannot be used"),
        (["build", "--list", "l", "--engine", "ray", "--ray-address", "ray://a:1"], "an address of Ray Client"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, words, what):
    (tmp_path / "l").write_text("nowhere\n")
    done = git_starcoder(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert what in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_a_cluster_of_our_own_needs_ray_to_be_loaded_by_us(engine):
    assert engine.jobs
    with pytest.raises(MachineError, match="Ray was loaded before"):
        RayEngine()
    with pytest.raises(UsageError, match="Ray Client"):
        RayEngine(address="ray://somewhere:10001")


class Slow:
    """Ray on a machine on which its processes start only at the third attempt. It sets a handler of SIGTERM."""

    def __init__(self, message):
        self.attempts, self.message = 0, message

    def init(self, **_):
        self.attempts += 1
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        if self.attempts < 3:
            raise Exception(self.message)  # noqa: TRY002 - as Ray does

    def shutdown(self):
        pass


def test_a_cluster_that_starts_slowly_is_started_again():
    slow = Slow("The current node timed out during startup. This could happen because")
    handler = signal.getsignal(signal.SIGTERM)
    ray_engine._connect(slow, {"address": ray_engine.OWN_CLUSTER})
    assert slow.attempts == 3
    assert signal.getsignal(signal.SIGTERM) is handler
    with pytest.raises(MachineError) as caught:
        ray_engine._connect(Slow("no\nway"), {"address": ray_engine.OWN_CLUSTER})
    assert (caught.value.what, caught.value.where) == ("Ray cannot be started", "no way")

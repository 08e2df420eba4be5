"""Phases of a build that several processes do, each for its share of the repositories."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from git_starcoder.errors import RepositoryError, StarcoderError
from git_starcoder.many import tasks
from git_starcoder.many.build import Share, build_many
from git_starcoder.many.repositories import read_list
from git_starcoder.many.share import build_share
from git_starcoder.many.tasks import RepositorySource
from git_starcoder.recipe import Recipe
from shell import HUNG, SMALL
from toy import code_base

RECIPE = Recipe.load("natural", SMALL[1::2])
COUNT = 3


class Here:
    """An engine that works in this process, and remembers which folders it filled."""

    jobs = 1

    def __init__(self):
        self.filled = []

    def map(self, function, given, *, limit):
        assert limit > 0
        for task in given:
            if hasattr(task, "folder") and not task.folder.is_dir():
                self.filled.append(task.folder)
            yield function(task)


@pytest.fixture(scope="module", autouse=True)
def _workers():
    yield
    while tasks._engines:
        tasks._engines.pop().close()


@pytest.fixture(scope="module")
def sources(repo_maker, tmp_path_factory):
    """Four repositories, of which two share files, and a folder that is none."""
    code = code_base(12)
    commits = [code, {**code_base(9, 50), "copy.py": code[min(code)]}, code_base(6, 900), code_base(5, 2000)]
    made = [RepositorySource(repo_maker(files), name=name) for name, files in zip("abcd", commits, strict=True)]
    return [*made, RepositorySource(tmp_path_factory.mktemp("none"), name="none")]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(sources, tmp_path_factory):
    """The dataset as one process makes it."""
    out = tmp_path_factory.mktemp("whole") / "out"
    build_many(sources, RECIPE, out, engine=Here())
    return out


def run_phase(sources, work, phase, numbers=range(1, COUNT + 1)):
    """What each process of a phase filled and found."""
    found = []
    for number in numbers:
        engine = Here()
        done = build_share(sources, RECIPE, phase, Share(number, COUNT), engine, work.with_name("out"), work)
        found.append(([folder.parent.name for folder in engine.filled], done.done, done.left_out))
    return found


def test_phases_in_shares_give_the_bytes_of_one_process(sources, whole, tmp_path):
    work = tmp_path / "work"
    for phase, kind in (("read", "read"), ("rows", "rows"), ("write", "shard")):
        assert run_phase(sources, work, phase) == [([kind] * 2, 2, 1), ([kind], 1, 1), ([kind], 1, 1)]
    engine = Here()
    build_many(sources, RECIPE, tmp_path / "out", engine=engine, work=work)
    assert not engine.filled
    assert contents(tmp_path / "out") == contents(whole)


def test_what_a_killed_process_did_not_do_is_done_by_the_next_phase(sources, whole, tmp_path):
    work = tmp_path / "work"
    run_phase(sources, work, "read", numbers=[2])
    assert run_phase(sources, work, "rows", numbers=[1, 3]) == [(["read"] * 3 + ["rows"] * 2, 2, 1), (["rows"], 1, 1)]
    engine = Here()
    build_many(sources, RECIPE, tmp_path / "out", engine=engine, work=work)
    assert [folder.parent.name for folder in engine.filled] == ["rows", *["shard"] * 4]
    assert contents(tmp_path / "out") == contents(whole)


def test_a_repository_that_fails_stops_a_strict_process(sources, tmp_path):
    with pytest.raises(RepositoryError, match="none"):
        build_share(sources, RECIPE, "read", Share(1, COUNT), Here(), tmp_path / "out", tmp_path / "work", strict=True)


@pytest.mark.parametrize(
    ("override", "work", "what"),
    [
        ("split.holdout=commits", "work", "the commits of several repositories cannot be held out"),
        ("window.tokenizer=nowhere", "work", "'nowhere'"),
        ("seed=1", "out/work", "are one folder, or one contains the other"),
    ],
)
def test_a_share_is_refused_if_the_whole_would_be(sources, tmp_path, override, work, what):
    recipe = Recipe.load("natural", (*SMALL[1::2], override))
    with pytest.raises(StarcoderError, match=what) as whole:
        build_many(sources, recipe, tmp_path / "out", engine=Here(), work=tmp_path / work)
    with pytest.raises(StarcoderError) as part:
        build_share(sources, recipe, "read", Share(1, COUNT), Here(), tmp_path / "out", tmp_path / work)
    assert str(part.value) == str(whole.value)
    assert not list(tmp_path.iterdir())


def git_starcoder(*arguments, **options):
    command = [sys.executable, "-m", "git_starcoder", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HUNG, check=False, **options)


def test_processes_of_a_phase_that_run_at_once(sources, whole, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{source.path}\t\t{source.name}\n" for source in sources))
    words = ["build", "--list", listed, "-r", "natural", *SMALL, "-o", tmp_path / "out", "-j", "1"]
    command = [sys.executable, "-m", "git_starcoder", *map(str, words), "--json", "--phase", "read", "--shard"]
    # Two processes have the same share: the second one finds, or overtakes, the first.
    started = [subprocess.Popen([*command, share], stdout=subprocess.PIPE) for share in ("1/2", "2/2", "1/2")]
    answers = [json.loads(process.communicate(timeout=HUNG)[0]) for process in started]
    assert [(answer["shard"], answer["done"], answer["left_out"]) for answer in answers] == [
        ([1, 2], 2, 1), ([2, 2], 2, 1), ([1, 2], 2, 1),
    ]  # fmt: skip
    done = git_starcoder(*words, "-q")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([".", "--shard", "1/2", "--phase", "read"], "--shard is for many repositories"),
        ([".", "--phase", "read"], "--phase is for many repositories"),
        (["--list", "l", "--shard", "1/2"], "--shard needs --phase"),
        (["--list", "l", "--phase", "rows"], "--phase needs --shard I/N"),
        (["--list", "l", "--shard", "3/2", "--phase", "read"], "'3/2' is not one of several parts"),
        (["--list", "l", "--shard", "0/2", "--phase", "read"], "'0/2' is not one of several parts"),
        (["--list", "l", "--shard", "1/2", "--phase", "read", "--no-cache"], "--shard needs a work folder"),
        (["--list", "l", "--shard", "1/2", "--phase", "read", "--engine", "ray"], "--shard does without Ray"),
        (["--list", "l", "--shard", "1/2", "--phase", "read", "--force"], "--shard does without --force"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, words, what):
    (tmp_path / "l").write_text("nowhere\n")
    done = git_starcoder("build", *words, cwd=tmp_path)
    assert (done.returncode, what in done.stderr) == (2, True), done.stderr


def test_a_list_may_have_a_byte_order_mark_and_a_home_folder(sources, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(sources[0].path.parent))
    (tmp_path / "list.txt").write_bytes(f"\ufeff~/{sources[0].path.name}\n".encode())
    assert [source.path for source in read_list(tmp_path / "list.txt")] == [sources[0].path]

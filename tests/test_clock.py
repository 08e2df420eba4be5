"""Commits made by a clock that is wrong, or with dates that are none: told in a line, and the same on every machine."""

from __future__ import annotations

import json

import pytest

from git_starcoder.checks import check
from git_starcoder.cli import main
from git_starcoder.git import objects
from git_starcoder.git.history import MAX_TIMESTAMP, committer_time
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from toy import code_base

SMALL = ("window.vocab_size=600", "window.size=[64]", "augment.git_diff=1.0")
FUTURE = 4_733_510_400
"""In 2120."""
COMMITTERS = [
    "A <a@b> 1700000000 +0000", "A <a@b> 1700000000", "A <a@b>", "A <a@b> -5 +0000", "A <a@b> 1700000000 UTC",
    f"A <a@b> {'9' * 23} +0000", f"A <a@b> {'9' * 5000} +0000", "A <a@b> 18446744073709551616 +0000", f"A <a@b> {MAX_TIMESTAMP + 1} +0000",
    f"A <a@b> {FUTURE} -13068837", "A <a@b 1700000000 +0000", "A a@b 1700000000 +0000", "A <a@b> x> 1700000000 +0000",
    "A <a@b>  1700000000  +0000", "A <a@b>1700000000+0000", "A <a@b> 1700000000 +0000 more", "A <a@b> 1700000000.5 +0000",
    "A <a@b> 1700000000 +", "A <a@b> > 5 +0000", "A <a@b> 5 +0000 > 6", "A <a@b> 00000001700000000 -0000", "", "A <> 0 +0000",
    "A <a@b> \t1700000000\t+0000", "> 7 +0000",
]  # fmt: skip


def commit(git, repo, committer, parent, author="author A <a@b> 1700000000 +0000\n"):
    """A commit object with such a line, or without it; it changes a file."""
    path = min(repo.glob("**/*.py"))
    path.write_text(path.read_text() + f"\n\ndef changed_by(depth):\n    return depth * {len(str(committer)) + 100}\n")
    git(repo, "add", "-A")
    tree = git(repo, "write-tree").decode().strip()
    line = "" if committer is None else f"committer {committer}\n"
    data = f"tree {tree}\nparent {parent}\n{author}{line}\nmessage\n".encode()
    name = git(repo, "hash-object", "-w", "-t", "commit", "--literally", "--stdin", stdin=data).decode().strip()
    git(repo, "update-ref", "HEAD", name)
    return name, data


def head(git, repo):
    return git(repo, "rev-parse", "HEAD").decode().strip()


@pytest.mark.parametrize("committer", COMMITTERS, ids=[committer[:30] for committer in COMMITTERS])
def test_a_time_is_what_git_prints(repo_maker, git, committer):
    repo = repo_maker({"a.py": "x = 1\n"})
    name, data = commit(git, repo, committer, head(git, repo))
    shown = git(repo, "log", "-1", "--format=%ct", name).decode().strip()
    assert committer_time(data) == min(int(shown[:30] or 0), MAX_TIMESTAMP)
    assert Repo.open(repo).committed_at == Repo.open(repo).last_changes()["a.py"].committed_at == committer_time(data)


@pytest.mark.parametrize("committer", [*(COMMITTERS[at] for at in (1, 3, 6, 9, 12, 17)), None])
def test_every_check_is_kept_whatever_the_date_is(repo_maker, git, tmp_path, committer):
    repo = repo_maker(code_base(40, seed=3))
    commit(git, repo, committer, head(git, repo), author="" if committer is None else "author A <a@b> x +0000\n")
    commit(git, repo, "A <a@b> 1700300000 +0000", head(git, repo))
    for rev in ("HEAD", "HEAD~1"):
        opened = Repo.open(repo, rev)
        dataset = build(opened, Recipe.load("elite", SMALL), tmp_path / rev)
        ages = [
            each
            for each in check(dataset, opened)
            if each.check in {"ages", "metadata", "weights", "origins", "source"}
        ]
        assert [each.findings for each in ages if each.finding_count] == []


@pytest.fixture
def ahead(repo_maker, git):
    """A repository whose newest commit was made in 2120."""
    repo = repo_maker(code_base(30))
    commit(git, repo, f"A <a@b> {FUTURE} -13068837", head(git, repo))
    return repo


def test_a_newest_commit_of_the_future_is_told(ahead, tmp_path, capsys):
    arguments = [
        "build",
        str(ahead),
        "-o",
        str(tmp_path / "out"),
        "-j",
        "1",
        *(word for one in SMALL[:2] for word in ("--set", one)),
    ]
    for more in ([], ["--force"], ["-n"]):
        assert main([*arguments, *more]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "future" in line]
        assert told == ["the date of the newest commit, 2120-01-01, lies in the future: ages count from it, so that all other files look old"]  # fmt: skip
    assert main([*arguments, "--json", "-q"]) == 0
    assert any("2120-01-01" in note for note in json.loads(capsys.readouterr().out)["notes"])


def test_the_bytes_do_not_depend_on_the_clock(ahead, tmp_path, monkeypatch):
    digests = set()
    for number, now in enumerate((0.0, FUTURE - 1e6, FUTURE + 1e6)):
        monkeypatch.setattr(objects.time, "time", lambda now=now: now)
        repo = Repo.open(ahead)
        assert any("future" in note for note in repo.notes) == (now < FUTURE)
        digests.add(build(repo, Recipe.load("elite", SMALL), tmp_path / str(number)).digest)
    assert len(digests) == 1


def test_a_clock_that_is_a_little_fast_is_not_told(ahead, monkeypatch):
    monkeypatch.setattr(objects.time, "time", lambda: FUTURE - 3600.0)
    assert Repo.open(ahead).notes == []


def test_commits_that_are_later_than_the_newest_are_counted(repo_maker, git):
    repo = repo_maker([{"a.py": "x = 1\n"}, {"b.py": "y = 1\n"}, {"c.py": "z = 1\n"}])
    commit(git, repo, "A <a@b> 5 +0000", head(git, repo))
    opened = Repo.open(repo)
    opened.last_changes()
    told = "3 of 4 commits have later dates than the newest (1970-01-01): what they changed counts as new"
    assert opened.notes == [told]


def test_dates_of_a_day_apart_are_no_matter(repo_maker, git):
    repo = repo_maker([{"a.py": "x = 1\n"}, {"b.py": "y = 1\n"}])
    commit(git, repo, "A <a@b> 1700000000 +0000", head(git, repo))
    opened = Repo.open(repo)
    opened.last_changes()
    assert opened.notes == []

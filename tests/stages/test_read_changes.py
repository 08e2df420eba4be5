"""The second half of read: what commits did, as text; every change is kept or dropped with a reason."""

import json

import pytest

from git_starcoder.build_state import BuildState
from git_starcoder.engine.cache import SqliteCache
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.protocols import NO_CACHE, Failure
from git_starcoder.recipe import ReadOptions
from git_starcoder.records import content_id
from git_starcoder.stages import read, read_changes

DAY = 86_400
FIRST = 1_700_000_000
TEXT = "".join(f"line {number}\n" for number in range(100))
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(jobs=2) as engine:
        yield engine


class Result:
    """What the step made of a history."""

    def __init__(self, repository, folder, engine, cache=NO_CACHE, **options) -> None:
        self.repo = Repo.open(repository)
        with BuildState(folder, 0, engine, cache=cache) as run:
            self.sources, self.changes = read.read_repository(
                run, ReadOptions(**{"changes": 1000, **options}), self.repo
            )
            self.edits = [
                (
                    change.path,
                    [(run.texts.get(edit.before), run.texts.get(edit.after), edit.line) for edit in change.edits],
                )
                for change in self.changes
            ]
            self.messages = [run.texts.get(change.message).decode() for change in self.changes]
            self.drops = run.drops
            [self.step] = run.steps
        self.dropped = {drop.id: drop.reason for drop in run.drops}
        assert self.step.kept == len(self.sources) + len(self.changes) == self.step.seen - self.step.dropped.total()
        assert self.step.dropped.total() == sum(drop.occurrences for drop in run.drops)


def commits(git, path) -> list[str]:
    return git(path, "rev-list", "--topo-order", "--reverse", "HEAD").decode().split()


def test_what_a_change_is(repo_maker, git, tmp_path, engine):
    path = repo_maker([{"src/a.py": TEXT}, {"src/a.py": TEXT.replace("line 50\n", "line fifty\n"), "b.txt": "x\n"}])
    root, newest = commits(git, path)
    result = Result(path, tmp_path, engine)
    text, edited, added = result.changes
    assert (edited.id, edited.path, edited.former_path) == (content_id(newest, "src/a.py"), "src/a.py", "")
    assert (edited.current_path, edited.commit, edited.changed_at, edited.authored_at) == (
        "src/a.py",
        newest,
        FIRST + DAY,
        FIRST + DAY,
    )
    assert (edited.language, edited.role, edited.is_whole_file) == ("python", "core", False)
    assert (text.path, text.is_whole_file, text.blob_before) == ("b.txt", True, "")
    assert (added.commit, added.blob_before, added.blob_after, added.is_whole_file) == (
        root,
        "",
        edited.blob_before,
        True,
    )
    assert 0 < edited.difficulty < added.difficulty < 1
    around = [f"line {number}\n" for number in range(40, 61)]
    before = "".join(around).encode()
    assert result.edits == [
        ("b.txt", [(b"", b"x\n", 1)]),
        ("src/a.py", [(before, before.replace(b"line 50", b"line fifty"), 41)]),
        ("src/a.py", [(b"", TEXT.encode(), 1)]),
    ]
    assert result.messages == ["commit 1", "commit 1", "commit 0"]
    assert result.changes[0].message == result.changes[1].message
    figures = result.step.figures
    assert (figures["commits"], figures["changes"], figures["edits"]) == (2, 3, 3)
    assert (figures["changes_added"], figures["changes_renamed"], figures["changes_whole"]) == (2, 0, 2)


def test_no_history(repo_maker, tmp_path, engine):
    result = Result(repo_maker([{"a": "1\n"}, {"a": "2\n"}]), tmp_path, engine, changes=0)
    assert result.changes == []
    assert result.step.figures == {"entries": 1, "bytes": 2, "renamed": 0}
    assert result.step.seen == 1


def test_renamed_and_edited(repo_maker, tmp_path, engine):
    path = repo_maker(
        [{"one.py": TEXT}, {"one.py": None, "two.py": TEXT + "more\n"}, {"two.py": None, "three.py": TEXT + "more\n"}]
    )
    result = Result(path, tmp_path, engine)
    assert [(change.path, change.former_path, change.current_path) for change in result.changes] == [
        ("two.py", "one.py", "three.py"),
        ("one.py", "", "three.py"),
    ]
    assert result.edits[0][1][0][2] == 91
    assert result.dropped == {"three.py": "moved"}
    assert result.step.figures["changes_renamed"] == 1


def notebook(*sources, picture="", count=1):
    outputs = [{"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}] if picture else []
    cells = [
        {"cell_type": "code", "execution_count": count, "metadata": {}, "outputs": outputs, "source": source}
        for source in sources
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def test_a_change_of_a_notebook_is_one_of_its_text(repo_maker, git, tmp_path, engine):
    path = repo_maker(
        [
            {"a.ipynb": notebook("x = 1\n", TEXT, picture="A")},
            {"a.ipynb": notebook("x = 1\n", TEXT, picture="B" * 2_000_000, count=7)},
            {"a.ipynb": notebook("x = 2\n", TEXT, picture="C" * 2_000_000, count=8)},
            {"a.ipynb": "<<<<<<< HEAD\n" + notebook("x = 2\n", TEXT)},
            {"a.ipynb": notebook("x = 2\n", TEXT, count=None)},
        ]
    )
    _, run, edit, broken, mended = commits(git, path)
    result = Result(path, tmp_path, engine)
    assert result.changes[0].commit == edit
    (_, [(before, after, line)]), _ = result.edits
    assert before.startswith(b"# %%\nx = 1\n\n# %%\nline 0\n")
    assert (after, line) == (before.replace(b"x = 1", b"x = 2"), 1)
    assert [(drop.reason, drop.detail.split()[1]) for drop in result.drops] == [
        ("no_notebook", mended), ("no_notebook", broken), ("same_text", run),
    ]  # fmt: skip
    assert result.changes[0].language == "python"
    figures = {name: value for name, value in result.step.figures.items() if "notebook" in name}
    assert figures == {
        "notebooks": 1,
        "changes_of_notebooks": 2,
        "changes_notebook_outputs": 4,
        "changes_notebook_images": 4,
        "changes_notebook_execution_counts": 4,
    }


def test_attributes_of_the_commit_hold_for_all_of_history(repo_maker, git, tmp_path, engine):
    root = {
        "gen/a.c": TEXT,
        "vendor/own.c": TEXT,
        "vendor/b.c": TEXT,
        "old/c.c": TEXT,
        "made.c": "/* @generated */\n" + TEXT,
    }
    edit = {path: text.replace("line 5\n", "line five\n") for path, text in root.items()}
    said = {".gitattributes": "gen/* linguist-generated\nvendor/own.c -linguist-vendored\nold/* linguist-vendored\n"}
    path = repo_maker([root, {**edit, "old/c.c": None}, said])
    cache = SqliteCache(tmp_path / "cache", 1 << 30)
    result = Result(path, tmp_path / "one", engine, cache)
    assert {change.path for change in result.changes} == {"vendor/own.c", ".gitattributes"}
    assert {drop.id: drop.reason for drop in result.drops} == {
        "gen/a.c": "generated",
        "vendor/b.c": "vendored",
        "old/c.c": "vendored",
        "made.c": "generated",
    }
    assert any("says: /* @generated" in drop.detail for drop in result.drops)
    assert result.step.figures["changes_marked"] == 2
    git(path, "rm", "-q", ".gitattributes")
    git(path, "commit", "-q", "-m", "nothing is said any more")
    result = Result(path, tmp_path / "two", engine, cache)
    assert {change.path for change in result.changes} == {"gen/a.c", "old/c.c", ".gitattributes"}
    cache.close()


def test_texts_that_are_none_have_their_reasons(repo_maker, tmp_path, engine):
    root = {
        "picture": b"\x89PNG\0\0",
        "was.bin": b"\0\0",
        "latin.txt": b"caf\xe9\n",
        "big.txt": "x\n" * 600,
        "crlf.txt": "a\r\nb\r\n",
        "end.txt": "a\nb\n",
        "emptied": "x\n",
        "filled": "",
        "empty": "",
        "gone": "x\n",
        "node_modules/a.js": "x\n",
        "a.pb.go": "x\n",
        "made.py": "# @generated\nx = 1\n",
        "line.txt": "y" * 300 + "\n",
        ".env": f"TOKEN={TOKEN}\n",
    }
    after = {
        "was.bin": "text now\n",
        "crlf.txt": "a\nb\n",
        "end.txt": "a\nb",
        "emptied": "",
        "filled": "x\n",
        "gone": None,
    }
    result = Result(repo_maker([root, after]), tmp_path, engine, max_bytes=1000, max_line=200)
    by_reason = {}
    for drop in result.drops:
        by_reason.setdefault(drop.reason, []).append(drop.id)
    assert {reason: sorted(names) for reason, names in by_reason.items()} == {
        "binary": ["picture"],
        "binary_change": ["picture", "was.bin", "was.bin"],
        "undecodable": ["latin.txt", "latin.txt"],
        "too_large": ["big.txt", "big.txt"],
        "same_text": ["crlf.txt"],
        "empty": ["emptied", "emptied", "empty", "empty", "filled"],
        "deletion": ["gone"],
        "vendored": ["node_modules/a.js"],
        "generated": ["a.pb.go", "made.py"],
        "long_line": ["line.txt", "line.txt"],
        "secret_file": [".env", ".env"],
    }
    assert sorted(result.edits) == sorted([
        ("crlf.txt", [(b"", b"a\nb\n", 1)]),
        ("emptied", [(b"", b"x\n", 1)]),
        ("end.txt", [(b"", b"a\nb\n", 1)]),
        ("end.txt", [(b"a\nb\n", b"a\nb", 1)]),
        ("filled", [(b"", b"x\n", 1)]),
        ("gone", [(b"", b"x\n", 1)]),
    ])  # fmt: skip


def test_a_change_all_over_a_file(repo_maker, tmp_path, engine):
    lines = [f"line {number}\n" for number in range(70 * 40)]
    every = [f"x{line}" if number % 40 == 20 else line for number, line in enumerate(lines)]
    path = repo_maker([{"a": "".join(lines), "b": "".join(lines)}, {"a": "".join(every)}])
    result = Result(path, tmp_path, engine)
    assert [(drop.id, drop.reason, drop.detail[48:]) for drop in result.drops] == [
        ("a", "too_many_hunks", "70 hunks"),
        ("a", "large_edit", f"{len(''.join(lines))} bytes"),
        ("b", "large_edit", f"{len(''.join(lines))} bytes"),
    ]
    assert result.changes == []


def test_a_large_hunk_costs_only_itself(repo_maker, tmp_path, engine):
    lines = [f"line {number}\n" for number in range(400)]
    after = ["first\n", *lines[1:200], "long " * 4000 + "\n", *lines[200:]]
    path = repo_maker([{"a": "".join(lines)}, {"a": "".join(after)}])
    result = Result(path, tmp_path, engine)
    assert [len(edits) for _, edits in result.edits] == [1, 1]
    assert result.edits[0][1][0][1].startswith(b"first\n")
    assert result.step.figures["edits_too_large"] == 1


def test_secrets_go_on_both_sides(repo_maker, tmp_path, engine):
    other = TOKEN[:-1] + "9"
    path = repo_maker([{"a.py": f'key = "{TOKEN}"\n{TEXT}'}, {"a.py": f'key = "{other}"\n{TEXT}'}, {"a.py": TEXT}])
    result = Result(path, tmp_path / "redacted", engine)
    [(_, [(last, _, _)]), (_, [(before, after, _)]), (_, [(_, first, _)])] = result.edits
    assert first.startswith(before)
    assert last == after != before
    assert before.startswith(b'key = "REDACTED_')
    assert after.startswith(b'key = "REDACTED_')
    assert result.step.figures["changes_with_github_token"] == 3
    kept = Result(path, tmp_path / "off", engine, secrets="off")
    assert TOKEN.encode() in kept.edits[1][1][0][0]
    dropped = Result(path, tmp_path / "drop", engine, secrets="drop")
    assert (dropped.changes, dropped.step.dropped) == ([], {"secret": 3})


def test_damage_costs_only_the_changes_it_touches(repo_maker, git, tmp_path, engine):
    path = repo_maker([{"a": f"{number}\n", "b": f"b {number}\n", "z": "z\n"} for number in range(4)])
    for name, keep in (("HEAD~2:a", None), ("HEAD~1:b", -4)):
        oid = git(path, "rev-parse", name).decode().strip()
        place = path / ".git/objects" / oid[:2] / oid[2:]
        raw = place.read_bytes()
        place.unlink()
        if keep:
            place.write_bytes(raw[:keep])
    result = Result(path, tmp_path, engine)
    assert sorted((drop.id, drop.reason) for drop in result.drops) == [
        ("a", "missing"), ("a", "missing"), ("b", "corrupt"), ("b", "corrupt"),
    ]  # fmt: skip
    assert [change.path for change in result.changes] == ["a", "b", "a", "b", "z"]


def test_a_path_and_a_message_that_are_no_utf8(repo_maker, git, tmp_path, engine):
    path = repo_maker([{b"caf\xe9.py": "1\n"}])
    git(path, "-c", "i18n.commitEncoding=ISO-8859-1", "commit", "--quiet", "--amend", "-F", "-", stdin=b"caf\xe9\n")
    assert b"\ncaf\xe9\n" in git(path, "cat-file", "commit", "HEAD")
    result = Result(path, tmp_path, engine)
    assert result.edits[0][0] == "caf\udce9.py"
    assert result.messages == ["café"]


def test_a_commit_without_a_message(repo_maker, git, tmp_path, engine):
    path = repo_maker([{"a": "1\n"}])
    git(path, "commit", "--quiet", "--allow-empty-message", "--amend", "-m", "")
    assert Result(path, tmp_path, engine).messages == [""]


def test_a_giant_commit_is_one_line(repo_maker, tmp_path, engine):
    result = Result(repo_maker([{f"{number}": f"{number}\n" for number in range(5)}]), tmp_path, engine, commit_files=4)
    [drop] = result.drops
    assert (drop.id, drop.reason, drop.occurrences) == (result.repo.commit, "giant_commit", 5)
    assert drop.detail.startswith("5 files of commit")


def test_what_is_beyond_the_budget_is_one_line(repo_maker, tmp_path, engine):
    result = Result(repo_maker([{"a": f"{number}\n"} for number in range(20)]), tmp_path, engine, changes=2)
    assert len(result.changes) == 2
    assert result.step.dropped == {"over_budget": 18}
    assert [drop.occurrences for drop in result.drops] == [14, 1, 1, 1, 1]


def test_each_text_is_read_once(repo_maker, tmp_path, engine, monkeypatch):
    path = repo_maker([{"a.py": f"{number}\n" + TEXT, "b.py": f"b {number}\n" + TEXT} for number in range(30)])
    asked = []
    real = Repo.read_blobs

    def spy(self, blobs):
        names = list(blobs)
        asked.append(names)
        return real(self, names)

    monkeypatch.setattr(Repo, "read_blobs", spy)
    monkeypatch.setattr(read_changes, "DIFF_TASK_BYTES", 2000)
    result = Result(path, tmp_path, engine)
    assert len(result.changes) == 60
    history, _ = asked
    assert len(history) == len(set(history)) == 60


def test_the_same_whatever_jobs_and_batches(repo_maker, tmp_path, engine, monkeypatch):
    history = [
        {f"{file}.py": f"# {number}\n" * (number % 3) + TEXT + f"{file}{number}\n" * (number % 5) for file in "abc"}
        for number in range(12)
    ]
    path = repo_maker([{"a.py": TEXT}, *history, {"a.py": None, "d.py": TEXT + "end\n"}])
    whole = Result(path, tmp_path / "whole", engine)
    monkeypatch.setattr(read_changes, "DIFF_TASK_BYTES", 3000)
    with LocalEngine(jobs=1) as one:
        parts = Result(path, tmp_path / "parts", one)
    assert len(whole.changes) > 20
    assert whole.edits == parts.edits
    assert whole.changes == parts.changes
    assert whole.step.figures == parts.step.figures


@pytest.mark.parametrize(("together", "anew"), [(1, 2), (3, 2), (4, 4), (8, 8)])
def test_what_an_earlier_build_found_is_not_read_again(repo_maker, tmp_path, engine, monkeypatch, together, anew):
    monkeypatch.setattr(
        read_changes, "CHANGES_PER_CACHE_ENTRY", together
    )  # counted from the oldest of the seven changes of a.py
    history = [{"a.py": f"{number}\n" + TEXT, "b": b"\0%d" % number} for number in range(6)]
    path = repo_maker([*history, {"a.py": TEXT, "c.py": "c\n"}])
    fresh = Result(path, tmp_path / "fresh", engine)
    with SqliteCache(tmp_path / "cache", 1 << 30) as cache:
        older = Result(repo_maker(history), tmp_path / "older", engine, cache)
    assert len(older.changes) == 6
    tasks = []
    real = engine.map
    monkeypatch.setattr(
        engine,
        "map",
        lambda function, some, *, limit: real(function, (tasks.append(t) or t for t in some), limit=limit),
    )
    with SqliteCache(tmp_path / "cache", 1 << 30) as cache:
        again = Result(path, tmp_path / "again", engine, cache)
        assert sum(len(task.pairs) for task in tasks) == anew
        assert (again.edits, again.changes, again.drops) == (fresh.edits, fresh.changes, fresh.drops)
        other = Result(path, tmp_path / "other", engine, cache, max_line=50_000)
        assert sum(len(task.pairs) for task in tasks) == anew + 14
        assert other.edits == fresh.edits


def test_damage_is_not_remembered(repo_maker, git, tmp_path, engine):
    path = repo_maker([{"a": "1\n"}, {"a": "2\n"}])
    oid = git(path, "rev-parse", "HEAD~1:a").decode().strip()
    place = path / ".git/objects" / oid[:2] / oid[2:]
    raw = place.read_bytes()
    place.unlink()
    place.write_bytes(raw[:-4])
    with SqliteCache(tmp_path / "cache", 1 << 30) as cache:
        assert Result(path, tmp_path / "one", engine, cache).step.dropped == {"corrupt": 2}
        place.write_bytes(raw)
        assert len(Result(path, tmp_path / "two", engine, cache).changes) == 2


class Broken:
    """An engine whose workers die."""

    jobs = 1

    def map(self, function, tasks, *, limit):  # noqa: ARG002
        for _ in tasks:
            yield Failure("crash", "worker ended with -9")


def test_a_worker_that_dies_costs_only_changes(repo_maker, tmp_path):
    result = Result(repo_maker([{"a": "1\n"}, {"a": "2\n"}]), tmp_path, Broken())
    assert len(result.sources) == 1
    assert result.step.dropped == {"worker_crash": 2}


def test_messages_that_no_encoding_fits_are_counted(repo_maker, git, tmp_path, engine):
    path = repo_maker({"a.py": TEXT})
    stream = b""
    for number, (encoding, message) in enumerate(
        ((b"EUC-TW", b"\xa4\xa4"), (b"CP936", b"\xd0\xde\xb8\xb4"), (b"none", b"plain"))
    ):
        stream += b"commit refs/heads/main\ncommitter A <a@b> %d +0000\nencoding %s\n" % (FIRST + number, encoding)
        stream += b"data %d\n%s\n" % (len(message), message) + (b"from refs/heads/main^0\n" if not number else b"")
        stream += b"M 100644 inline b%d.py\ndata 6\nx = %d\n\n" % (number, number)
    git(path, "fast-import", "--quiet", stdin=stream)
    result = Result(path, tmp_path, engine)
    assert sorted(result.messages) == ["commit 0", "plain", "修复", "\ufffd\ufffd"]
    assert result.step.figures["messages_undecodable"] == 1

import os

import pytest

from git_starcoder.errors import RepositoryError
from git_starcoder.git import command, history
from git_starcoder.git.history import LastChange
from git_starcoder.git.objects import Repo

DAY = 86_400
FIRST = 1_700_000_000
TEXT = "".join(f"line {number}\n" for number in range(20))


def commits(git, path) -> list[str]:
    """From the oldest to the newest."""
    return git(path, "rev-list", "--topo-order", "--reverse", "HEAD").decode().split()


def merge(git, path, tree: str, *parents: str, at: int = FIRST) -> str:
    """Make a commit of a tree with these parents, and go there."""
    words = [word for parent in parents for word in ("-p", parent)]
    dates = {"GIT_COMMITTER_DATE": f"{at} +0000"}
    name = git(path, "commit-tree", tree, *words, "-m", "merge", env=dates).decode().strip()
    git(path, "update-ref", "refs/heads/main", name)
    return name


def test_the_newest_commit_that_touched_a_path(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n", "c": "1\n"}, {"a": "2\n"}, {"b": "2\n"}, {"b": None}, {"b": "3\n"}])
    made = commits(git, path)
    assert Repo.open(path).last_changes() == {
        "a": LastChange(made[1], FIRST + DAY),
        "b": LastChange(made[4], FIRST + 4 * DAY),
        "c": LastChange(made[0], FIRST),
    }


def test_a_change_of_mode_is_a_change(repo_maker, git):
    path = repo_maker([{"a": "1\n"}, {"b": "1\n"}])
    git(path, "update-index", "--chmod=+x", "a")
    git(path, "commit", "--quiet", "-m", "mode")
    assert Repo.open(path).last_changes()["a"].commit == commits(git, path)[2]


def test_topology_counts_and_not_the_clock(repo_maker, git):
    path = repo_maker([{"a": "1\n"}, {"a": "2\n"}])
    tree = git(path, "rev-parse", "HEAD~1^{tree}").decode().strip()
    newest = merge(git, path, tree, "HEAD", at=100_000_000)
    assert Repo.open(path).last_changes()["a"] == LastChange(newest, 100_000_000)


def test_a_merge_does_not_count(repo_maker, git):
    path = repo_maker([{"a": "1\n"}, {"b": "1\n"}])
    base, main = commits(git, path)
    side = git(path, "commit-tree", "HEAD^{tree}", "-p", base, "-m", "the same aside").decode().strip()
    merge(git, path, "HEAD^{tree}", base, side)
    assert Repo.open(path).last_changes()["b"].commit == side != main


def test_a_merge_counts_where_nothing_else_does(repo_maker, git):
    path = repo_maker([{"a": "1\n"}, {"evil": "1\n"}])
    base, evil = commits(git, path)
    aside = git(path, "commit-tree", f"{base}^{{tree}}", "-p", base, "-m", "aside").decode().strip()
    merged = merge(git, path, f"{evil}^{{tree}}", base, aside)
    assert Repo.open(path).last_changes()["evil"].commit == merged


def test_renames_are_followed_through_changes(repo_maker):
    path = repo_maker(
        [{"one": TEXT}, {"one": None, "two": TEXT}, {"two": TEXT + "more\n"}, {"two": None, "three": TEXT + "new\n"}]
    )
    assert Repo.open(path).last_changes()["three"].former_paths == ("two", "one")


def test_there_and_back_again(repo_maker):
    path = repo_maker([{"one": TEXT}, {"one": None, "two": TEXT}, {"two": None, "one": TEXT}])
    assert Repo.open(path).last_changes()["one"].former_paths == ("two",)


def test_a_path_used_again_has_a_lineage_of_its_own(repo_maker):
    path = repo_maker([{"a": TEXT}, {"a": None, "b": TEXT}, {"a": "quite another\n"}])
    changes = Repo.open(path).last_changes()
    assert changes["b"].former_paths == ("a",)
    assert changes["a"].former_paths == ()


def test_a_deleted_file_that_is_not_similar_is_no_former_path(repo_maker):
    path = repo_maker([{"a": TEXT}, {"a": None, "b": "".join(f"other {number * 7}\n" for number in range(20))}])
    assert Repo.open(path).last_changes()["b"].former_paths == ()


def test_a_repository_cannot_change_how_renames_are_found(repo_maker, git):
    path = repo_maker([{"one": TEXT}, {"one": None, "two": TEXT + "more\n"}])
    git(path, "config", "diff.renames", "false")
    git(path, "config", "diff.renameLimit", "0")
    assert Repo.open(path).last_changes()["two"].former_paths == ("one",)


def test_a_missing_blob_costs_only_inexact_renames_beside_it(repo_maker, git):
    path = repo_maker(
        [
            {"one": TEXT, "old": TEXT * 2, "gone": "gone\n", "first": TEXT * 3},
            {"first": None, "second": TEXT * 3 + "more\n"},
            {"one": None, "two": TEXT, "old": None, "new": TEXT * 2 + "more\n", "gone": None},
        ]
    )
    whole = Repo.open(path).last_changes()
    name = git(path, "rev-parse", "HEAD~1:gone").decode().strip()
    (path / ".git/objects" / name[:2] / name[2:]).unlink()
    broken = Repo.open(path)
    changes = broken.last_changes()
    assert whole["new"].former_paths == ("old",)
    assert changes == {**whole, "new": whole["new"]._replace(former_paths=())}
    assert broken.notes == []


def test_large_files_are_not_compared(repo_maker, monkeypatch):
    path = repo_maker([{"one": TEXT}, {"one": None, "two": TEXT + "more\n"}, {"two": None, "three": TEXT + "more\n"}])
    assert Repo.open(path).last_changes()["three"].former_paths == ("two", "one")
    monkeypatch.setattr(history, "MAX_COMPARED_FILE_BYTES", 10)
    assert Repo.open(path).last_changes()["three"].former_paths == ("two",)


def test_comparing_stops_at_its_budget(repo_maker, monkeypatch):
    path = repo_maker([{"one": TEXT}, {"one": None, "two": TEXT + "1\n"}, {"two": None, "three": TEXT + "2\n"}])
    monkeypatch.setattr(history, "MAX_COMPARED_BYTES", 2 * len(TEXT) + 10)
    assert Repo.open(path).last_changes()["three"].former_paths == ("two",)


@pytest.mark.parametrize("limit", ["MAX_CHANGED_PATHS", "MAX_CHANGED_PATHS_PER_COMMIT", "MAX_CHANGED_PATHS_BYTES"])
def test_an_endless_history_is_cut_and_told(repo_maker, monkeypatch, limit):
    path = repo_maker([{f"{number}": "1\n" for number in range(5)}, {"0": "2\n"}])
    monkeypatch.setattr(history, limit, 3)
    repo = Repo.open(path)
    assert repo.last_changes() == {"0": LastChange(repo.commit, FIRST + DAY)}
    assert "too large" in repo.notes[0]


def test_a_path_of_megabytes_ends_the_history(repo_maker, git, monkeypatch):
    path = repo_maker({"a": "1\n"})
    blob, tree = git(path, "rev-parse", "HEAD:a", "HEAD^{tree}").decode().split()
    raw = b"100644 " + b"b" * 300_000 + b"\0" + bytes.fromhex(blob)
    merge(git, path, git(path, "hash-object", "-wttree", "--stdin", stdin=raw).decode().strip(), "HEAD")
    merge(git, path, tree, "HEAD")
    whole = Repo.open(path).last_changes()
    assert whole["a"].commit
    monkeypatch.setattr(command, "MAX_FIELD_BYTES", 1000)
    repo = Repo.open(path)
    repo.last_changes()
    assert "longer than 1000 bytes" in repo.notes[0]


def test_a_former_path_that_is_too_long_is_not_followed(repo_maker, monkeypatch):
    path = repo_maker([{"a" * 30: TEXT}, {"a" * 30: None, "b" * 31: TEXT}, {"b" * 31: None, "c": TEXT}])
    assert Repo.open(path).last_changes()["c"].former_paths == ("b" * 31, "a" * 30)
    monkeypatch.setattr(history, "MAX_PATH_BYTES", 30)
    assert Repo.open(path).last_changes()["c"].former_paths == ()


def test_a_bomb_in_the_history_meets_a_limit_of_memory(repo_maker, git, monkeypatch):
    path = repo_maker({"a": "1\n"})
    name, mode = git(path, "rev-parse", "HEAD:a").decode().strip(), b"100644"
    for _ in range(8):
        raw = b"".join(mode + b" %d\0" % number + bytes.fromhex(name) for number in range(10))
        name, mode = git(path, "hash-object", "-wttree", "--stdin", stdin=raw).decode().strip(), b"40000"
    tree = git(path, "rev-parse", "HEAD^{tree}").decode().strip()
    merge(git, path, name, "HEAD")
    merge(git, path, tree, "HEAD")
    monkeypatch.setattr(command, "MAX_GIT_MEMORY_BYTES", 64 << 20)
    repo = Repo.open(path)
    repo.last_changes()
    assert "history cannot be read to its end" in repo.notes[0]


def test_a_shallow_history_says_only_what_it_knows(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"b": "2\n"}, {"a": "2\n"}])
    git(path.parent, "clone", "--quiet", "--depth=2", path.as_uri(), "shallow")
    repo = Repo.open(path.parent / "shallow")
    assert repo.is_shallow
    assert "shallow" in repo.notes[0]
    assert repo.last_changes() == {
        "a": LastChange(commits(git, path)[2], FIRST + 2 * DAY),
        "b": LastChange("", FIRST + DAY),
    }


def test_a_history_with_a_hole(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"b": "2\n"}, {"a": "2\n"}])
    name = commits(git, path)[0]
    (path / ".git/objects" / name[:2] / name[2:]).unlink()
    repo = Repo.open(path)
    assert {entry.path for entry in repo.entries()} == {"a", "b"}
    assert repo.last_changes() == {}
    assert "history cannot be read to its end" in repo.notes[0]


def test_rubbish_in_the_shallow_file(repo_maker):
    path = repo_maker([{"a": "1\n"}, {"a": "2\n"}])
    expected = Repo.open(path).last_changes()
    (path / ".git/shallow").write_bytes(b"\xff\nrubbish\n" + b"0" * 39 + b"\n")
    assert Repo.open(path).last_changes() == expected


def test_a_false_commit_graph_hides_nothing(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"b": "2\n"}, {"c": "1\n"}])
    expected = Repo.open(path).last_changes()
    first, second, third = commits(git, path)
    # A graph in which the newest commit has no parents, made where that is so, for the same names.
    git(path, "commit-graph", "write", "--reachable")
    graph = path / ".git/objects/info/commit-graph"
    raw = graph.read_bytes()
    order = sorted([first, second, third])
    begin = raw.index(bytes.fromhex(git(path, "rev-parse", f"{third}^{{tree}}").decode().strip()), 8)
    none = (0x70000000).to_bytes(4, "big")
    assert raw[begin + 20 : begin + 24] == order.index(second).to_bytes(4, "big")
    graph.chmod(0o644)
    graph.write_bytes(raw[: begin + 20] + none + raw[begin + 24 :])
    assert git(path, "rev-list", "--count", "HEAD") == b"1\n", "the trap is not armed"
    assert Repo.open(path).last_changes() == expected


def test_a_history_that_stops_answering(repo_maker, git, monkeypatch):
    path = repo_maker([{"a": "1\n"}, {"a": "2\n"}])
    repo = Repo.open(path)
    repo.entries()
    name = commits(git, path)[0]
    place = path / ".git/objects" / name[:2] / name[2:]
    place.unlink()
    os.mkfifo(place)
    monkeypatch.setattr(command, "SILENCE_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(RepositoryError, match="no answer"):
        repo.last_changes()


def test_a_damaged_blob_leaves_renames_without_changes(repo_maker, git):
    path = repo_maker(
        [
            {"one": TEXT, "old": TEXT * 2},
            {"one": None, "two": TEXT + "more\n"},
            {"two": None, "three": TEXT + "more\n", "old": None, "new": TEXT * 2},
        ]
    )
    name = git(path, "rev-parse", "HEAD:three").decode().strip()
    place = path / ".git/objects" / name[:2] / name[2:]
    raw = place.read_bytes()
    place.unlink()
    place.write_bytes(raw[:-8])
    repo = Repo.open(path)
    assert repo.last_changes()["new"].former_paths == ("old",)
    assert repo.last_changes()["three"].former_paths == ("two",)
    assert "not every rename can be followed" in repo.notes[0]


@pytest.mark.parametrize("cut", range(1, 6))
def test_an_answer_may_end_anywhere(cut):
    raw = b":100644 100644 " + b"1" * 40 + b" " + b"2" * 40
    fields = [b"f" * 40 + b" 1", raw + b" M", b"path", raw + b" R090", b"old", b"new"]
    [(header, touches)] = history._parse_raw_diffs(iter(fields[:cut]))
    assert header == "f" * 40 + " 1"
    assert len(touches) == cut // 2

"""Which changes of a history are worth reading, what they are against, and which file descends from theirs."""

from collections import Counter

from git_starcoder.git import changes as module
from git_starcoder.git.changes import select_changes
from git_starcoder.git.history import MAX_PATH_BYTES
from git_starcoder.git.objects import Repo

DAY = 86_400
FIRST = 1_700_000_000
TEXT = "".join(f"line {number}\n" for number in range(20))


def commits(git, path) -> list[str]:
    """From the oldest to the newest."""
    return git(path, "rev-list", "--topo-order", "--reverse", "HEAD").decode().split()


def tree_of(git, path, files: dict[str, str]) -> str:
    """A tree with these files at the top."""
    lines = []
    for name, text in sorted(files.items()):
        blob = git(path, "hash-object", "-w", "--stdin", stdin=text.encode()).decode().strip()
        lines.append(f"100644 blob {blob}\t{name}")
    return git(path, "mktree", stdin="\n".join(lines).encode()).decode().strip()


def commit(git, path, files: dict[str, str], *parents: str) -> str:
    """Make a commit with exactly these files, and go there."""
    words = [word for parent in parents for word in ("-p", parent)]
    name = git(path, "commit-tree", tree_of(git, path, files), *words, "-m", "made").decode().strip()
    git(path, "update-ref", "refs/heads/main", name)
    return name


class Result:
    """Changes of a repository, in short."""

    def __init__(self, path, most=100, commit_files=100, skip={}.get) -> None:
        self.repo = Repo.open(path)
        self.all = select_changes(self.repo, most, commit_files, lambda path: skip(path) or "")
        self.kept = [(change.path, change.former_path, change.current_path) for change in self.all.selected]
        self.dropped = Counter()
        for one in self.all.rejected:
            self.dropped[one.reason] += one.change_count

    def texts(self) -> list[tuple[str, str, str]]:
        """Path, text before and text after of each change."""
        blobs = {blob for change in self.all.selected for blob in (change.blob_before, change.blob_after) if blob}
        read = {name: data.decode() for name, data in self.repo.read_blobs(sorted(blobs))}
        return [
            (change.path, read.get(change.blob_before, ""), read[change.blob_after]) for change in self.all.selected
        ]


def test_what_a_change_says(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"a": "2\n"}])
    root, newest = commits(git, path)
    result = Result(path)
    first, *added = result.all.selected
    assert (first.commit, first.walk_index, first.committed_at, first.authored_at) == (
        newest,
        0,
        FIRST + DAY,
        FIRST + DAY,
    )
    assert [(change.commit, change.path, change.blob_before) for change in added] == [(root, "a", ""), (root, "b", "")]
    assert result.texts() == [("a", "1\n", "2\n"), ("a", "", "1\n"), ("b", "", "1\n")]
    assert result.all.commit_count == 2
    assert result.all.last_changes == result.repo.last_changes()


def test_author_time_is_not_committer_time(repo_maker, git):
    path = repo_maker([{"a": "1\n"}])
    git(path, "commit", "--amend", "--quiet", "-m", "x", "--date", "2001-02-03T00:00:00+0000")
    [change] = Result(path).all.selected
    assert (change.authored_at, change.committed_at) == (981_158_400, FIRST)


def test_a_clean_merge_did_nothing(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}])
    [base] = commits(git, path)
    left = commit(git, path, {"a": "2\n", "b": "1\n"}, base)
    right = commit(git, path, {"a": "1\n", "b": "2\n", "c": "1\n"}, base)
    commit(git, path, {"a": "2\n", "b": "2\n", "c": "1\n"}, left, right)
    result = Result(path)
    assert sorted(result.texts()) == sorted(
        [("a", "1\n", "2\n"), ("b", "1\n", "2\n"), ("c", "", "1\n"), ("a", "", "1\n"), ("b", "", "1\n")]
    )
    assert result.all.commit_count == 4


def test_a_merge_did_what_none_of_its_parents_has(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}])
    [base] = commits(git, path)
    left = commit(git, path, {"a": "left\n", "b": "1\n"}, base)
    right = commit(git, path, {"a": "right\n", "b": "1\n", "c": "1\n", "d": "1\n"}, base)
    merge = commit(git, path, {"a": "both\n", "b": "1\n", "c": "2\n", "d": "1\n", "evil": "1\n"}, left, right)
    result = Result(path)
    assert [change.path for change in result.all.selected if change.commit == merge] == ["a", "c", "evil"]
    # `c` is told against the parent that has it, and not as new.
    assert result.texts()[:3] == [("a", "left\n", "both\n"), ("c", "1\n", "2\n"), ("evil", "", "1\n")]
    assert result.all.last_changes["a"].commit == merge


def test_a_merge_that_takes_a_file_away(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}])
    [base] = commits(git, path)
    left = commit(git, path, {"a": "1\n", "b": "1\n", "c": "1\n"}, base)
    right = commit(git, path, {"a": "1\n", "b": "1\n", "d": "1\n"}, base)
    commit(git, path, {"a": "1\n", "c": "1\n", "d": "1\n"}, left, right)
    result = Result(path)
    assert result.dropped == {"deletion": 1}
    assert sorted(result.kept) == [("a", "", "a"), ("b", "", ""), ("c", "", "c"), ("d", "", "d")]


def test_an_octopus(repo_maker, git):
    path = repo_maker([{"a": "0\n"}])
    [base] = commits(git, path)
    arms = [commit(git, path, {"a": f"{arm}\n", f"new{arm}": "1\n"}, base) for arm in (1, 2, 3)]
    merge = commit(git, path, {"a": "all\n", "new1": "1\n", "new2": "1\n", "new3": "evil\n"}, *arms)
    result = Result(path)
    assert [(change.path) for change in result.all.selected if change.commit == merge] == ["a", "new3"]
    assert result.texts()[:2] == [("a", "1\n", "all\n"), ("new3", "1\n", "evil\n")]


def test_two_roots(repo_maker, git):
    path = repo_maker([{"a": "1\n"}])
    [one] = commits(git, path)
    other = commit(git, path, {"b": "1\n"})
    commit(git, path, {"a": "1\n", "b": "1\n"}, one, other)
    assert sorted(Result(path).kept) == [("a", "", "a"), ("b", "", "b")]


def test_renames(repo_maker):
    path = repo_maker(
        [
            {"one": TEXT, "x": "1\n"},
            {"one": TEXT + "first\n"},
            {"one": None, "two": TEXT + "first\n"},
            {"two": None, "three": TEXT + "first\nmore\n"},
            {"three": TEXT + "first\nmore\nlast\n"},
        ]
    )
    result = Result(path)
    assert result.kept == [
        ("three", "", "three"),
        ("three", "two", "three"),
        ("one", "", "three"),
        ("one", "", "three"),
        ("x", "", "x"),
    ]
    assert result.dropped == {"moved": 1}
    assert result.texts()[1] == ("three", TEXT + "first\n", TEXT + "first\nmore\n")


def test_a_path_that_was_left_and_taken_again(repo_maker):
    path = repo_maker([{"a": TEXT}, {"a": None, "b": TEXT + "x\n"}, {"a": "quite another\n"}, {"a": "another still\n"}])
    result = Result(path)
    assert result.kept == [("a", "", "a"), ("a", "", "a"), ("b", "a", "b"), ("a", "", "b")]


def test_a_file_that_is_gone_and_came_back(repo_maker):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"a": None}, {"a": "2\n"}])
    result = Result(path)
    # The first `a` is another file, but what is there now has its path: they share a lineage.
    assert result.kept == [("a", "", "a"), ("a", "", "a"), ("b", "", "b")]
    assert result.dropped == {"deletion": 1}


def test_a_file_that_nothing_descends_from(repo_maker):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"a": "2\n"}, {"a": None}])
    result = Result(path)
    assert result.kept == [("a", "", ""), ("a", "", ""), ("b", "", "b")]


def test_histories_side_by_side(repo_maker, git):
    """The same file was added on both sides: on the side that is walked later, it is still that file."""
    path = repo_maker([{"x": "1\n"}])
    [base] = commits(git, path)
    left = commit(git, path, {"x": "1\n", "a": "1\n"}, base)
    right = commit(git, path, {"x": "1\n", "a": "2\n"}, commit(git, path, {"x": "1\n", "a": "1\n"}, base))
    commit(git, path, {"x": "1\n", "a": "2\n"}, left, right)
    assert {change.current_path for change in Result(path).all.selected if change.path == "a"} == {"a"}


def test_what_is_no_edit_of_a_file(repo_maker):
    path = repo_maker(
        [
            {"a": "1\n", "link": ("120000", "a"), "module": ("160000", "1" * 40), "was": "1\n"},
            {"link": ("120000", "b"), "module": ("160000", "2" * 40), "was": ("120000", "a"), "a": ("100755", "1\n")},
        ]
    )
    result = Result(path)
    assert result.kept == [("a", "", "a"), ("was", "", "was")]
    assert result.dropped == {"symlink": 3, "submodule": 2, "mode_only": 1}


def test_giant_commits(repo_maker):
    many = {f"{number}": f"{number}\n" for number in range(6)}
    path = repo_maker([many, dict.fromkeys(list(many)[:5], "x\n"), {"0": "y\n"}])
    result = Result(path, commit_files=5)
    assert result.dropped == {"giant_commit": 6}
    assert len(result.kept) == 6
    result = Result(path, commit_files=4)
    assert result.dropped == {"giant_commit": 11}
    assert result.kept == [("0", "", "0")]


def test_a_renamed_folder_is_as_large_as_its_files(repo_maker):
    files = {f"old/{number}": f"{number}\n" + TEXT for number in range(5)}
    moved = {path.replace("old", "new"): text + "more\n" for path, text in files.items()}
    path = repo_maker([files, {**dict.fromkeys(files), **moved}])
    result = Result(path, commit_files=5)
    assert [former for _, former, _ in result.kept] == [f"old/{number}" for number in range(5)] + [""] * 5
    # A rename counts once, also in a commit that is dropped as a whole.
    assert Result(path, commit_files=4).dropped == {"giant_commit": 10}


def test_the_newest_are_kept_within_the_budget(repo_maker):
    path = repo_maker([{"a": f"{number}\n", "b": f"{number}\n"} for number in range(10)])
    whole = Result(path).all.selected
    assert len(whole) == 20
    for most in range(1, 21):
        result = Result(path, most=most)
        assert result.all.selected == whole[:most]
        assert result.dropped.total() == 20 - most
        assert set(result.dropped) <= {"over_budget"}


def test_a_rename_beyond_the_budget_counts_once(repo_maker):
    path = repo_maker([{"a": TEXT}, {"a": None, "b": TEXT + "x\n"}, *({"c": f"{number}\n"} for number in range(9))])
    assert Result(path, most=1).dropped == {"over_budget": 10}


def test_few_worth_reading_do_not_make_it_look_at_all(repo_maker):
    path = repo_maker([{"a": f"{number}\n"} for number in range(10)])
    result = Result(path, most=1, skip={"a": "generated"}.get)
    assert result.dropped == {
        "generated": module.EXAMINED_PATHS_PER_CHANGE,
        "over_budget": 10 - module.EXAMINED_PATHS_PER_CHANGE,
    }


def test_paths_may_be_skipped(repo_maker):
    path = repo_maker([{"a": "1\n", "vendor/a": "1\n"}])
    result = Result(path, skip={"vendor/a": "vendored"}.get)
    assert result.kept == [("a", "", "a")]
    assert result.dropped == {"vendored": 1}


def test_the_same_change_twice(repo_maker, git):
    path = repo_maker([{"a": "1\n"}])
    [base] = commits(git, path)
    picked = commit(git, path, {"a": "2\n", "b": "1\n"}, commit(git, path, {"a": "1\n", "b": "1\n"}, base))
    other = commit(git, path, {"a": "2\n"}, base)
    commit(git, path, {"a": "2\n", "b": "1\n"}, other, picked)
    result = Result(path)
    assert result.dropped == {"repeated": 1}
    assert Counter(path for path, _, _ in result.kept) == {"a": 2, "b": 1}


def test_the_edge_of_a_shallow_history(repo_maker, git):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"b": "2\n"}, {"a": "2\n"}])
    git(path.parent, "clone", "--quiet", "--depth=2", path.as_uri(), "shallow")
    result = Result(path.parent / "shallow")
    assert result.texts() == [("a", "1\n", "2\n")]
    assert result.dropped == {"shallow": 2}


def test_a_history_with_a_hole_says_nothing(repo_maker, git):
    """Git sorts all commits before it speaks of any."""
    path = repo_maker([{"a": f"{number}\n"} for number in range(4)])
    name = commits(git, path)[1]
    (path / ".git/objects" / name[:2] / name[2:]).unlink()
    result = Result(path)
    assert result.kept == []
    assert "history cannot be read to its end" in result.repo.notes[0]


def test_paths_are_bytes(repo_maker):
    path = repo_maker([{b"caf\xe9": "1\n", b"new\nline": "1\n"}, {b"caf\xe9": "2\n"}])
    assert [name for name, _, _ in Result(path).kept] == ["caf\udce9", "caf\udce9", "new\nline"]


def test_a_path_that_is_too_long(repo_maker):
    long = f"{'d' * 200}/" * 20 + "e" * 100
    path = repo_maker([{"a": "1\n", long: "1\n"}, {long: "2\n"}, {long: None}], "--bare")
    result = Result(path)
    assert result.texts() == [("a", "", "1\n")]
    assert [one.reason for one in result.all.rejected] == ["deletion", "long_path", "long_path"]
    assert {len(one.path) for one in result.all.rejected[1:]} == {MAX_PATH_BYTES}


def test_a_long_object_format(repo_maker):
    path = repo_maker([{"a": "1\n"}, {"a": "2\n"}], "--object-format=sha256")
    assert Result(path).texts() == [("a", "1\n", "2\n"), ("a", "", "1\n")]


def test_a_merge_of_very_many(repo_maker, git):
    arms = 300
    path = repo_maker([{"a": "0\n"}])
    [base] = commits(git, path)
    stream = b"".join(
        b"commit refs/heads/arm%d\ncommitter A <a@b> %d +0000\ndata 0\nfrom %s\nM 100644 inline a\ndata 4\n%03d\n\n"
        % (arm, FIRST, base.encode(), arm)
        for arm in range(arms)
    )
    git(path, "fast-import", "--quiet", stdin=stream)
    names = git(path, "for-each-ref", "--format=%(objectname)", "refs/heads/arm*").decode().split()
    merge = commit(git, path, {"a": "all\n"}, *names)
    result = Result(path, most=1000)
    assert [change.commit for change in result.all.selected].count(merge) == 1
    assert len(result.kept) == arms + 2


def test_trees_and_times_that_no_git_would_make(repo_maker, git):
    path = repo_maker([{"a": "1\n"}])
    [base] = commits(git, path)
    blobs = [git(path, "hash-object", "-w", "--stdin", stdin=b"%d\n" % number).strip() for number in (2, 3)]
    twice = b"".join(b"100644 a\0" + bytes.fromhex(blob.decode()) for blob in blobs)
    tree = git(path, "hash-object", "-wttree", "--stdin", "--literally", stdin=twice).decode().strip()
    raw = f"tree {tree}\nparent {base}\nauthor A <a@b> -5 +0000\ncommitter A <a@b> {'9' * 30} +9999\n\nx\0y"
    name = git(path, "hash-object", "-wtcommit", "--stdin", "--literally", stdin=raw.encode()).decode().strip()
    git(path, "update-ref", "refs/heads/main", name)
    result = Result(path)
    assert {change.path for change in result.all.selected} == {"a"}
    assert all(
        0 <= time < 1 << 38 for change in result.all.selected for time in (change.committed_at, change.authored_at)
    )

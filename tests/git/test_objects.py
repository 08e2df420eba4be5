import hashlib
import os
import zlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_starcoder.errors import RepositoryError
from git_starcoder.git import command, objects
from git_starcoder.git.objects import Repo, Unreadable

FILES = {"a.py": "x = 1\n", "pkg/b.py": "y = 2\n"}


def contents(repo: Repo) -> dict[str, bytes | Unreadable]:
    """Path → what reading gives."""
    entries = repo.entries()
    read = dict(repo.read_blobs([entry.blob for entry in entries]))
    return {entry.path: read[entry.blob] for entry in entries}


def loose(repo: Path, name: str, raw: bytes) -> None:
    """Put bytes in the place of an object, whatever they are."""
    place = repo / ".git/objects" / name[:2] / name[2:]
    place.parent.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    place.write_bytes(raw)


def blob_of(git, repo: Path, path: str) -> str:
    return git(repo, "rev-parse", f"HEAD:{path}").decode().strip()


def commit_tree(git, repo: Path, entries: list[tuple[bytes, bytes, str]]) -> None:
    """Commit a tree of (mode, name, object) exactly as it is written here, however wrong."""
    raw = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
    name = hashlib.sha1(b"tree %d\0" % len(raw) + raw).hexdigest()
    loose(repo, name, zlib.compress(b"tree %d\0" % len(raw) + raw))
    commit = git(repo, "commit-tree", name, "-m", "odd").decode().strip()
    git(repo, "update-ref", "refs/heads/main", commit)


def store(git, repo: Path, data: bytes, kind: str = "blob") -> str:
    return git(repo, "hash-object", "-w", "-t", kind, "--stdin", stdin=data).decode().strip()


# what there is


def test_files_of_the_commit_are_listed_and_read(repo_maker, git):
    path = repo_maker(FILES)
    repo = Repo.open(path)
    assert contents(repo) == {"a.py": b"x = 1\n", "pkg/b.py": b"y = 2\n"}
    assert [(entry.path, entry.mode, entry.size) for entry in repo.entries()] == [
        ("a.py", 0o100644, 6),
        ("pkg/b.py", 0o100644, 6),
    ]
    assert repo.commit == git(path, "rev-parse", "HEAD").decode().strip()
    assert (repo.name, repo.committed_at, repo.is_shallow, repo.notes) == ("repo", 1_700_000_000, False, [])


def test_a_folder_inside_the_work_tree_is_its_repository(repo_maker):
    path = repo_maker(FILES)
    assert Repo.open(path / "pkg").commit == Repo.open(path).commit


def test_what_is_not_committed_is_not_read(repo_maker):
    path = repo_maker(FILES)
    (path / "a.py").write_text("changed\n")
    (path / "new.py").write_text("new\n")
    assert contents(Repo.open(path)) == {"a.py": b"x = 1\n", "pkg/b.py": b"y = 2\n"}


def test_a_bare_repository(repo_maker):
    assert contents(Repo.open(repo_maker(FILES, "--bare")))["a.py"] == b"x = 1\n"


def test_a_linked_work_tree_has_its_own_head(repo_maker, git):
    path = repo_maker([{"a.py": "1\n"}, {"a.py": "2\n"}])
    git(path, "worktree", "add", "--quiet", "--detach", "../linked", "HEAD~1")
    linked = Repo.open(path.parent / "linked")
    assert contents(linked) == {"a.py": b"1\n"}
    assert linked.name == "repo"


def test_a_sha256_repository(repo_maker):
    repo = Repo.open(repo_maker([FILES, {"c.py": "z = 3\n"}], "--object-format=sha256"))
    assert len(repo.commit) == 64
    assert contents(repo)["c.py"] == b"z = 3\n"
    assert repo.last_changes()["c.py"].commit == repo.commit


def test_packed_objects_and_packed_refs(repo_maker, git):
    path = repo_maker([FILES, {"a.py": "x = 2\n"}])
    git(path, "gc", "--quiet")
    assert contents(Repo.open(path, "main"))["a.py"] == b"x = 2\n"


def test_borrowed_objects_are_read_and_told(repo_maker, git):
    path = repo_maker(FILES)
    git(path.parent, "clone", "--quiet", "--shared", str(path), "borrower")
    repo = Repo.open(path.parent / "borrower")
    assert contents(repo)["a.py"] == b"x = 1\n"
    assert [note for note in repo.notes if str(path) in note]


def test_replaced_objects_are_not_replaced(repo_maker, git):
    path = repo_maker(FILES)
    other = store(git, path, b"replaced\n")
    git(path, "replace", blob_of(git, path, "a.py"), other)
    assert git(path, "cat-file", "-p", "HEAD:a.py") == b"replaced\n"
    assert contents(Repo.open(path))["a.py"] == b"x = 1\n"


def test_a_repository_of_another_user(repo_maker):
    path = repo_maker(FILES)
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    for place in [path, *path.rglob("*")]:
        os.chown(place, 12345, 12345)
    assert contents(Repo.open(path))["a.py"] == b"x = 1\n"


# revisions


@pytest.mark.parametrize("revision", ["HEAD~1", "old", "tags/v1", "v1", "side", ":/commit 0"])
def test_revisions(repo_maker, git, revision):
    path = repo_maker([{"a.py": "1\n"}, {"a.py": "2\n"}])
    git(path, "tag", "--annotate", "v1", "HEAD~1", "-m", "one")
    git(path, "tag", "old", "v1")
    git(path, "branch", "side", "HEAD~1")
    assert contents(Repo.open(path, revision)) == {"a.py": b"1\n"}


def test_an_abbreviated_commit(repo_maker, git):
    path = repo_maker(FILES)
    short = git(path, "rev-parse", "--short", "HEAD").decode().strip()
    assert Repo.open(path, short).commit.startswith(short)


@pytest.mark.parametrize(
    "revision", ["nope", "HEAD..main", "^HEAD", "HEAD:nope", "x\ny", "0" * 40, "HEAD:a.py", "HEAD:"]
)
def test_unknown_revisions(repo_maker, revision):
    with pytest.raises(RepositoryError, match=r"names nothing|not a commit|cannot be read"):
        Repo.open(repo_maker(FILES), revision)


def test_an_unknown_revision_names_branches(repo_maker):
    with pytest.raises(RepositoryError) as caught:
        Repo.open(repo_maker(FILES), "mian")
    assert "main" in caught.value.hint


@pytest.mark.parametrize("revision", ["--output=out", "-q", "--all", "", "a\0b"])
def test_a_revision_that_looks_like_an_option(repo_maker, tmp_path, monkeypatch, revision):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RepositoryError, match="is not a revision"):
        Repo.open(repo_maker(FILES), revision)
    assert not list(tmp_path.iterdir())


# no repository


def test_no_such_folder(tmp_path):
    with pytest.raises(RepositoryError, match="does not exist"):
        Repo.open(tmp_path / "nowhere")


def test_a_path_that_cannot_be():
    with pytest.raises(RepositoryError, match="cannot be opened"):
        Repo.open("x" * 5000)


def test_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryError, match="is not a folder"):
        Repo.open(tmp_path / "file")


def test_not_a_repository(tmp_path):
    with pytest.raises(RepositoryError, match="is not a Git repository") as caught:
        Repo.open(tmp_path)
    assert "git init" in caught.value.hint


def test_an_empty_repository(repo_maker):
    with pytest.raises(RepositoryError, match="has no commits yet"):
        Repo.open(repo_maker([]))


def test_an_unborn_head(repo_maker, git):
    path = repo_maker(FILES)
    git(path, "symbolic-ref", "HEAD", "refs/heads/unborn")
    with pytest.raises(RepositoryError, match="'unborn', which has no commits") as caught:
        Repo.open(path)
    assert "main" in caught.value.hint


@pytest.mark.parametrize("config", ["[[[broken", "[core]\nrepositoryformatversion = 1\n[extensions]\nsurprise = 1\n"])
def test_a_repository_that_git_cannot_open(repo_maker, config):
    path = repo_maker(FILES)
    (path / ".git/config").write_text(config)
    with pytest.raises(RepositoryError, match="git cannot read"):
        Repo.open(path)


def test_no_git(repo_maker, monkeypatch, tmp_path):
    path = repo_maker(FILES)
    repo = Repo.open(path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(repo._env, "PATH", str(tmp_path))
    with pytest.raises(RepositoryError, match="git is not installed"):
        Repo.open(path)
    with pytest.raises(RepositoryError, match="git is not installed"):
        repo.entries()


def test_no_room_for_a_temporary_folder(repo_maker, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(RepositoryError, match="no temporary folder"):
        Repo.open(repo_maker(FILES))


# damage


def test_a_truncated_object_costs_only_itself(repo_maker, git):
    path = repo_maker({"a": "first\n", "b": Random(0).randbytes(50_000), "c": "third\n"})
    name = blob_of(git, path, "b")
    raw = (path / ".git/objects" / name[:2] / name[2:]).read_bytes()
    loose(path, name, raw[: len(raw) // 2])
    read = contents(Repo.open(path))
    assert read["b"] == Unreadable("corrupt", "it is cut off, or its size is a lie")
    assert (read["a"], read["c"]) == (b"first\n", b"third\n")


@pytest.mark.parametrize("raw", [b"", b"\0" * 100, zlib.compress(b"strange 5\0hello")])
def test_rubbish_in_the_place_of_an_object(repo_maker, git, raw):
    path = repo_maker({"a": "first\n", "b": "second\n", "c": "third\n"})
    loose(path, blob_of(git, path, "b"), raw)
    repo = Repo.open(path)
    assert [entry.size for entry in repo.entries()] == [6, None, 6]
    read = contents(repo)
    assert read["b"].reason == "corrupt"
    assert (read["a"], read["c"]) == (b"first\n", b"third\n")


def test_an_object_under_a_wrong_name(repo_maker, git):
    path = repo_maker({"a": "first\n", "b": "second\n", "c": "third\n"})
    loose(path, blob_of(git, path, "b"), zlib.compress(b"blob 5\0evil\n"))
    read = contents(Repo.open(path))
    assert read["b"] == Unreadable("corrupt", "its content does not have its name")
    assert (read["a"], read["c"]) == (b"first\n", b"third\n")


@pytest.mark.parametrize("claim", [5, 500, 0])
def test_an_object_that_lies_about_its_size_forges_nothing(repo_maker, git, claim):
    path = repo_maker({"a": "liar\n", "b": "second\n", "c": "third\n"})
    forged = b"evil!\n" + blob_of(git, path, "b").encode() + b" blob 7\nforged\n\n"
    loose(path, blob_of(git, path, "a"), zlib.compress(b"blob %d\0" % claim + forged))
    read = contents(Repo.open(path))
    assert read["a"].reason == "corrupt"
    assert (read["b"], read["c"]) == (b"second\n", b"third\n")


def test_an_object_that_claims_to_be_endless(repo_maker, git):
    path = repo_maker({"a": "liar\n", "b": "second\n"})
    loose(path, blob_of(git, path, "a"), zlib.compress(b"blob %d\0liar\n" % (2**62)))
    read = contents(Repo.open(path))
    assert read["a"].reason in {"too_large", "corrupt"}
    assert read["b"] == b"second\n"


def test_an_object_that_never_answers(repo_maker, git, monkeypatch):
    path = repo_maker({"a": "first\n"})
    repo = Repo.open(path)
    place = path / ".git/objects" / blob_of(git, path, "a")[:2] / blob_of(git, path, "a")[2:]
    place.unlink()
    os.mkfifo(place)
    monkeypatch.setattr(command, "SILENCE_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(RepositoryError, match=r"git gave no answer for 0\.2 seconds"):
        repo.entries()


def test_a_configuration_that_never_ends(repo_maker, monkeypatch):
    path = repo_maker({"a": "first\n"})
    os.mkfifo(path / ".git/pipe")
    (path / ".git/config").write_text("[include]\npath = pipe\n")
    monkeypatch.setattr(command, "SHORT_COMMAND_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(RepositoryError, match="git gave no answer"):
        Repo.open(path)


def test_a_missing_object(repo_maker, git):
    path = repo_maker({"a": "first\n", "b": "second\n"})
    name = blob_of(git, path, "a")
    (path / ".git/objects" / name[:2] / name[2:]).unlink()
    repo = Repo.open(path)
    assert [entry.size for entry in repo.entries()] == [None, 7]
    assert contents(repo) == {"a": Unreadable("missing", "the object is not in the repository"), "b": b"second\n"}


def test_a_folder_that_is_gone_costs_only_itself(repo_maker, git):
    path = repo_maker({"a": "first\n", "gone/b": "second\n"})
    name = blob_of(git, path, "gone")
    (path / ".git/objects" / name[:2] / name[2:]).unlink()
    a, gone = Repo.open(path).entries()
    assert (a.path, a.size) == ("a", 6)
    assert (gone.path, gone.unreadable.reason) == ("gone/", "missing")


@pytest.mark.parametrize("which", ["HEAD", "HEAD^{tree}"])
def test_a_commit_that_is_gone(repo_maker, git, which):
    path = repo_maker(FILES)
    name = git(path, "rev-parse", which).decode().strip()
    (path / ".git/objects" / name[:2] / name[2:]).unlink()
    with pytest.raises(RepositoryError, match=r"cannot be read|is missing"):
        Repo.open(path, "main").entries()


def test_a_commit_with_an_impossible_date(repo_maker, git):
    path = repo_maker(FILES)
    commit = git(path, "cat-file", "commit", "HEAD").replace(b"> 1700000000", b"> " + b"9" * 19)
    name = git(path, "hash-object", "-w", "-t", "commit", "--stdin", "--literally", stdin=commit).decode().strip()
    repo = Repo.open(path, name)
    assert repo.committed_at == 253_402_300_799
    assert 0 <= repo.last_changes()["a.py"].committed_at <= 253_402_300_799


# odd trees


def test_odd_names_and_modes_are_only_data(repo_maker, git):
    path = repo_maker(FILES)
    blob = store(git, path, b"data\n")
    names = [
        b"../../climbs",
        b"/etc/passwd",
        b"-rf",
        b".git",
        b"..",
        b"new\nline",
        b"\xff\xfe",
        b":(glob)*",
        b"x" * 3000,
    ]
    commit_tree(git, path, [(b"100644", name, blob) for name in names] + [(b"777777", b"mode", blob)])
    repo = Repo.open(path)
    found = {entry.path.encode("utf-8", "surrogateescape"): entry for entry in repo.entries()}
    assert set(found) == {*names, b"mode"}
    assert found[b"mode"].mode == 0o777777
    assert all(data == b"data\n" for data in contents(repo).values())


@pytest.mark.parametrize("raw", [b"100644 name", b"100644 name\0short", b"rubbish", b"100644  \0" + b"x" * 20 + b"99"])
def test_a_malformed_folder_costs_only_itself(repo_maker, git, raw):
    path = repo_maker(FILES)
    name = hashlib.sha1(b"tree %d\0" % len(raw) + raw).hexdigest()
    loose(path, name, zlib.compress(b"tree %d\0" % len(raw) + raw))
    commit_tree(git, path, [(b"100644", b"a", store(git, path, b"a\n")), (b"40000", b"odd", name)])
    a, odd = Repo.open(path).entries()
    assert a.size == 2
    assert (odd.path, odd.unreadable) == ("odd/", Unreadable("corrupt", "the folder's list is malformed"))


def test_a_file_where_a_folder_should_be(repo_maker, git):
    path = repo_maker(FILES)
    blob = store(git, path, b"data\n")
    tree = git(path, "rev-parse", "HEAD^{tree}").decode().strip()
    commit_tree(git, path, [(b"40000", b"folder", blob), (b"100644", b"file", tree)])
    file, folder = Repo.open(path).entries()
    assert (file.path, file.size) == ("file", None)
    assert (folder.path, folder.unreadable.reason) == ("folder/", "corrupt")
    assert dict(Repo.open(path).read_blobs([tree]))[tree] == Unreadable("corrupt", "is a tree")


def test_a_deep_tree_is_cut(repo_maker, monkeypatch):
    monkeypatch.setattr(objects, "MAX_FOLDER_DEPTH", 3)
    repo = Repo.open(repo_maker({"a/b/c/file": "kept\n", "a/b/c/d/e/file": "too deep\n"}))
    assert [(entry.path, entry.unreadable and entry.unreadable.reason) for entry in repo.entries()] == [
        ("a/b/c/d/", "too_deep"),
        ("a/b/c/file", None),
    ]


def test_a_path_that_is_too_long_costs_only_itself(repo_maker):
    long = "d" * 200 + "/" + "e" * 200
    repo = Repo.open(repo_maker({"a": "1\n", f"{long}{'f' * 4000}": "2\n", long: "3\n"}, "--bare"))
    entries = {entry.path: entry.unreadable for entry in repo.entries()}
    assert entries == {"a": None, long: None, f"{long}{'f' * 4000}"[:4096]: Unreadable("long_path", "4401 bytes")}


def test_a_commit_with_too_much_in_its_paths_is_refused(repo_maker, monkeypatch):
    monkeypatch.setattr("git_starcoder.git.objects.MAX_TOTAL_PATH_BYTES", 40)
    with pytest.raises(RepositoryError, match="more than 40 bytes"):
        Repo.open(repo_maker({"a" * 21: "1\n", "b" * 20: "2\n"})).entries()


def test_a_tree_bomb_is_refused(repo_maker, git):
    path = repo_maker(FILES)
    name = store(git, path, b"boom\n")
    mode = b"100644"
    for _ in range(9):
        raw = b"".join(mode + b" %d\0" % number + bytes.fromhex(name) for number in range(10))
        name, mode = store(git, path, raw, "tree"), b"40000"
    commit_tree(git, path, [(mode, b"bomb", name)])
    with pytest.raises(RepositoryError, match="more than 1,000,000 files"):
        Repo.open(path).entries()


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=40).filter(lambda name: not {0, ord("/")} & set(name)))
@example(b"\xff")
@example(b"\n")
@example(b"\xed\xb3\xbf")
def test_any_bytes_are_a_path(repo_maker, git, name):
    path = any_bytes_repository(repo_maker)
    commit_tree(git, path, [(b"100644", name, store(git, path, b"data\n"))])
    [entry] = Repo.open(path).entries()
    assert entry.path.encode("utf-8", "surrogateescape") == name


def any_bytes_repository(repo_maker, made: list[Path] = []) -> Path:  # noqa: B006 - one repository for all examples
    if not made:
        made.append(repo_maker(FILES))
    return made[0]


def test_a_chain_of_tags_is_followed_and_has_an_end(repo_maker, git):
    path = repo_maker(FILES)
    target, kind = Repo.open(path).commit, "commit"
    for number in range(12):
        raw = f"object {target}\ntype {kind}\ntag t{number}\ntagger Ada <a@b> 0 +0000\n\n".encode()
        target, kind = store(git, path, raw, "tag"), "tag"
        if number == 5:
            assert contents(Repo.open(path, target))["a.py"] == b"x = 1\n"
    with pytest.raises(RepositoryError, match="cannot be read"):
        Repo.open(path, target)


def test_a_file_of_git_that_cannot_be_read(repo_maker):
    path = repo_maker(FILES)
    (path / ".git/shallow").symlink_to("/proc/self/mem")
    with pytest.raises(RepositoryError, match=r"a file cannot be read|git cannot read"):
        Repo.open(path)

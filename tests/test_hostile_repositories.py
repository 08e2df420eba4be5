"""Reading a repository runs nothing of it. Each trap is shown to be armed: plain git falls into it."""

import os
import subprocess

import pytest

from git_starcoder.errors import RepositoryError
from git_starcoder.git.objects import Repo
from shell import HUNG

FILES = [
    {"a.txt": "one\n" * 20, ".gitattributes": "* filter=evil diff=evil\n"},
    {"a.txt": None, "b.txt": "one\n" * 20 + "two\n"},
]


@pytest.fixture
def canary(tmp_path):
    """A program that leaves a file behind, and the file."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    program.chmod(0o755)
    return program, tmp_path / "ran"


def read_everything(path, revision: str = "HEAD") -> dict[str, bytes]:
    repo = Repo.open(path, revision)
    entries = repo.entries()
    repo.last_changes()
    read = dict(repo.read_blobs([entry.blob for entry in entries]))
    return {entry.path: read[entry.blob] for entry in entries}


def plain_git(path, *arguments: str) -> None:
    """Git as a user would run it, who has configured nothing; whether it succeeds does not matter."""
    environment = {"PATH": os.environ["PATH"], "HOME": f"{os.devnull}/none", "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {"GIT_SSH_VARIANT": "simple", "GIT_ALLOW_PROTOCOL": "file:ssh:ext"}
    command = ["git", "-C", str(path), *arguments]
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=HUNG)


TRAPS = {
    "fsmonitor": ({"core.fsmonitor": "PROGRAM"}, ["status"]),
    "textconv": ({"diff.evil.textconv": "PROGRAM"}, ["log", "-p"]),
    "smudge": ({"filter.evil.smudge": "PROGRAM"}, ["archive", "HEAD"]),
    "process filter": ({"filter.evil.process": "PROGRAM"}, ["archive", "HEAD"]),
    "external diff": ({"diff.external": "PROGRAM"}, ["diff", "HEAD~1", "HEAD"]),
    "diff driver": ({"diff.evil.command": "PROGRAM"}, ["diff", "HEAD~1", "HEAD"]),
    "hooks path": ({"core.hooksPath": "FOLDER"}, ["checkout", "--force"]),
    "alias": ({"alias.read": "!PROGRAM"}, ["read"]),
    "ssh command": ({"core.sshCommand": "PROGRAM", "remote.origin.url": "ssh://x/y"}, ["fetch", "origin"]),
    "external transport": (
        {"remote.origin.url": "ext::PROGRAM", "protocol.ext.allow": "always"},
        ["fetch", "origin"],
    ),
    "included file": ({"include.path": "included"}, ["status"]),
}


def configure(git, path, program, settings: dict[str, str]) -> None:
    (program.parent / "post-checkout").write_bytes(program.read_bytes())
    (program.parent / "post-checkout").chmod(0o755)
    (path / ".git/included").write_text(f"[core]\nfsmonitor = {program}\n")
    for key, value in settings.items():
        git(path, "config", key, value.replace("PROGRAM", str(program)).replace("FOLDER", str(program.parent)))


@pytest.mark.parametrize("trap", TRAPS)
def test_configuration_runs_nothing(repo_maker, git, canary, trap):
    path = repo_maker(FILES)
    program, ran = canary
    settings, control = TRAPS[trap]
    configure(git, path, program, settings)
    assert read_everything(path)["b.txt"] == b"one\n" * 20 + b"two\n"
    assert not ran.exists()
    plain_git(path, *control)
    assert ran.exists(), "the trap is not armed"


def test_everything_hostile_at_once(repo_maker, git, canary):
    path = repo_maker(FILES)
    program, ran = canary
    more = {
        "core.pager": "PROGRAM",
        "core.editor": "PROGRAM",
        "credential.helper": "!PROGRAM",
        "pager.rev-parse": "PROGRAM",
    }
    for settings, _ in TRAPS.values():
        configure(git, path, program, settings)
    configure(git, path, program, more)
    (path / ".git/info").mkdir(exist_ok=True)
    (path / ".git/info/attributes").write_text("* filter=evil diff=evil\n")
    assert read_everything(path)["b.txt"] == b"one\n" * 20 + b"two\n"
    assert not ran.exists()


def test_hooks_do_not_run(repo_maker, canary):
    path = repo_maker(FILES)
    program, ran = canary
    (path / ".git/hooks").mkdir(exist_ok=True)
    for name in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"):
        (path / ".git/hooks" / name).write_bytes(program.read_bytes())
        (path / ".git/hooks" / name).chmod(0o755)
    read_everything(path)
    assert not ran.exists()
    plain_git(path, "checkout", "--force")
    assert ran.exists(), "the trap is not armed"


def test_signatures_are_not_verified(repo_maker, git, canary):
    path = repo_maker(FILES)
    program, ran = canary
    signature = b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n"
    signed = git(path, "cat-file", "commit", "HEAD").replace(b"\n\n", b"\n" + signature, 1)
    git(path, "update-ref", "HEAD", git(path, "hash-object", "-wtcommit", "--stdin", stdin=signed).decode().strip())
    git(path, "config", "gpg.program", str(program))
    git(path, "config", "log.showSignature", "true")
    read_everything(path)
    assert not ran.exists()
    plain_git(path, "log", "-1")
    assert ran.exists(), "the trap is not armed"


@pytest.mark.parametrize("remote", ["uploadpack", "ssh"])
def test_a_partial_clone_fetches_nothing(repo_maker, git, canary, remote):
    path = repo_maker([{"a": "one\n", "b": "two\n"}, {"a": "three\n"}])
    program, ran = canary
    git(path, "config", "uploadpack.allowFilter", "true")
    partial = path.parent / "partial"
    git(path.parent, "clone", "--quiet", "--no-checkout", "--filter=blob:none", path.as_uri(), "partial")
    name = git(path, "rev-parse", "HEAD:b").decode().strip()
    (partial / ".git/objects" / name[:2]).mkdir(exist_ok=True)
    (partial / ".git/objects" / name[:2] / name[2:]).write_bytes(
        (path / ".git/objects" / name[:2] / name[2:]).read_bytes()
    )
    if remote == "ssh":
        git(partial, "config", "remote.origin.url", "ssh://x/y")
        git(partial, "config", "core.sshCommand", str(program))
    else:
        git(partial, "config", "remote.origin.uploadpack", str(program))
    repo = Repo.open(partial)
    assert [(entry.path, entry.size) for entry in repo.entries()] == [("a", None), ("b", 4)]
    assert repo.explain_unreadable(repo.entries()[0].blob).reason == "missing"
    assert repo.last_changes()["a"].commit == repo.commit
    assert read_everything(partial, "HEAD~1")["b"] == b"two\n"
    with pytest.raises(RepositoryError):
        read_everything(partial, "HEAD:a")
    assert not ran.exists()
    plain_git(partial, "cat-file", "-p", "HEAD:a")
    assert ran.exists(), "the trap is not armed"


def test_the_environment_of_the_caller_is_not_heard(repo_maker, canary, monkeypatch):
    path = repo_maker(FILES)
    other = repo_maker({"other.txt": "other\n"})
    program, ran = canary
    for name, value in {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_COMMON_DIR": str(other / ".git"),
        "GIT_OBJECT_DIRECTORY": str(other / ".git/objects"),
        "GIT_INDEX_FILE": str(other / ".git/index"),
        "GIT_NAMESPACE": "evil",
        "GIT_CEILING_DIRECTORIES": "/",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(program),
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor'='{program}'",
        "GIT_EXTERNAL_DIFF": str(program),
        "GIT_SSH_COMMAND": str(program),
        "GIT_PAGER": str(program),
        "GIT_TRACE": str(ran),
        "GIT_TRACE2_EVENT": str(ran),
        "GIT_EXEC_PATH": str(program.parent),
        "LD_PRELOAD": "",
    }.items():
        monkeypatch.setenv(name, value)
    assert set(read_everything(path)) == {"b.txt", ".gitattributes"}
    assert not ran.exists()


def test_nothing_is_written_into_the_repository(repo_maker):
    path = repo_maker(FILES)

    def state():
        return {place: place.lstat()[:9] for place in [path, *path.rglob("*")]}

    before = state()
    read_everything(path)
    after = state()
    assert {place: values[1:7] + values[8:] for place, values in after.items()} == {
        place: values[1:7] + values[8:] for place, values in before.items()
    }


def test_a_symbolic_link_is_not_followed(repo_maker):
    path = repo_maker({"link": ("120000", "/etc/hostname"), "loop": ("120000", "loop")})
    assert read_everything(path) == {"link": b"/etc/hostname", "loop": b"loop"}


def test_a_symbolic_link_loop_in_the_refs(repo_maker):
    path = repo_maker(FILES)
    (path / ".git/refs/heads/loop").write_text("ref: refs/heads/loop\n")
    with pytest.raises(RepositoryError, match="'loop' names nothing"):
        Repo.open(path, "loop")


def test_temporary_folders_go_when_the_repository_is_closed(repo_maker, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    repo = Repo.open(repo_maker(FILES))
    repo.entries()
    assert [place.name for place in tmp_path.iterdir() if place.name.startswith("git-starcoder-")]
    del repo
    assert not list(tmp_path.iterdir())

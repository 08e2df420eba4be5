"""Tiny deterministic repositories for every test, made with the git command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, settings

import preloaded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

pytest_plugins = ["workers", "browsers"]
collect_ignore = ["test_dataset_effectiveness.py", "test_dataset_ELITE.py"]
"""The seeds' commands of these names are run on a dataset; they are no tests of ours."""

# A busy machine fails no test: there is no deadline, and drawing may be slow.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

FIRST_COMMIT_AT = 1_700_000_000
DAY = 86_400
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": f"{os.devnull}/none",
    "LC_ALL": "C",
    "TZ": "UTC",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_AUTHOR_DATE": f"{FIRST_COMMIT_AT} +0000",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_COMMITTER_DATE": f"{FIRST_COMMIT_AT} +0000",
}

Content = bytes | str | None | tuple[str, bytes | str]
"""Bytes or text of a file; None removes it; ("120000", target) is a symlink, ("160000", commit) a submodule."""
Files = "Mapping[str, Content] | Mapping[bytes, Content]"
"""What a commit changes: path → content."""


class Git(Protocol):
    """Run git in a repository; give its standard output."""

    def __call__(
        self,
        repo: Path,
        *arguments: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> bytes: ...


class RepoMaker(Protocol):
    """Make a repository with one commit, or one commit per mapping of changes."""

    def __call__(self, files: Files | Sequence[Files], *init: str) -> Path: ...


def run_git(
    repo: Path, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, check: bool = True
) -> bytes:
    """Run git in `repo` with fixed names and dates, and no configuration but the repository's own."""
    command = ["git", "-C", str(repo), *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, env={**ENVIRONMENT, **(env or {})}, check=False)
    if check and done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr!r}")
    return done.stdout


def _quote(path: str | bytes) -> bytes:
    raw = path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
    plain = (chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in b"._-/" else f"\\{byte:03o}" for byte in raw)
    return b'"' + "".join(plain).encode() + b'"'


def _data(content: bytes | str) -> bytes:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    return b"data %d\n" % len(raw) + raw + b"\n"


def _commit(number: int, files: Mapping[str | bytes, Content]) -> Iterator[bytes]:
    at = FIRST_COMMIT_AT + number * DAY
    yield b"commit refs/heads/main\ncommitter Ada <ada@example.com> %d +0000\n" % at
    yield _data(f"commit {number}\n")
    for path, content in files.items():
        mode, content = content if isinstance(content, tuple) else ("100644", content)
        if content is None:
            yield b"D " + _quote(path) + b"\n"
        elif mode == "160000":
            yield b"M 160000 " + str(content).encode() + b" " + _quote(path) + b"\n"
        else:
            yield b"M " + mode.encode() + b" inline " + _quote(path) + b"\n" + _data(content)


@pytest.fixture(scope="session")
def git() -> Git:
    """`git(repo, "tag", "v1")`: run git in a repository."""
    return run_git


@pytest.fixture(scope="session")
def repo_maker(tmp_path_factory: pytest.TempPathFactory) -> RepoMaker:
    """`repo_maker({"a.py": "x = 1\\n"})`: a repository on branch main, checked out.

    A list makes one commit per mapping, a day apart, each changing what the one before left; None removes a file.
    No mapping makes no commit.
    Words after the files go to `git init`, such as "--bare" or "--object-format=sha256".
    """

    def make(files: Files | Sequence[Files], *init: str) -> Path:
        commits = files if isinstance(files, list) else [files]
        path = tmp_path_factory.mktemp("made") / "repo"
        path.mkdir()
        run_git(path, "init", "--quiet", "--template=", "--initial-branch=main", *init)
        stream = b"".join(part for number, commit in enumerate(commits) for part in _commit(number, commit))
        if stream:
            run_git(path, "fast-import", "--quiet", stdin=stream)
            if "--bare" not in init:
                run_git(path, "reset", "--quiet", "--hard")
        return path

    return make


@pytest.fixture(scope="session", autouse=True)
def isolation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the user's configuration, caches or Git environment."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_", "HF_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("STARCODER_CACHE", "off")  # builds are to be seen working; who tests the cache says where it is
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def commands(isolation: None) -> Iterator[Path]:  # noqa: ARG001 - they are started in its environment
    """A folder for the PATH with our commands, which start at once: see `preloaded`."""
    with TemporaryDirectory() as folder, preloaded.commands(Path(folder), OMP_NUM_THREADS="1") as made:
        yield made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How to get the browser without which some tests were skipped."""
    skipped = [
        one for one in terminalreporter.stats.get("skipped", ()) if "no browser is installed" in str(one.longrepr)
    ]
    if skipped:
        how = "`apt-get install chromium` as root, or one of your system's"
        terminalreporter.write_line(f"{len(skipped)} tests of pages need a browser: {how}", yellow=True)

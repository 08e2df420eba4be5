"""Find a repository and a commit in it.

This is the one place where git sees the repository's own configuration. It only asks `rev-parse` and the like, which
were measured to run nothing whatever the configuration says; see `SWITCHES` for what is switched off besides.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from git_starcoder.errors import RepositoryError, RevisionError
from git_starcoder.git.command import ask, environment

SWITCHES = (
    *("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.commitGraph=false"),
    *("-c", "safe.directory=*", "-c", "safe.bareRepository=all"),  # reading what another user owns runs nothing
    *("-c", "advice.graftFileDeprecated=false"),
)
OBJECT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Found(NamedTuple):
    """Where a repository lies, and what a revision of it names."""

    folder: Path
    """The directory that holds `objects`; for a linked work tree that of the main one."""
    format: str
    """`sha1` or `sha256`."""
    object: str
    """The full id of what the revision names: a commit, or a tag of one."""


def discover(path: Path, revision: str) -> Found:
    """The repository that `path` is or lies in, as git itself would find it.

    Raises:
        RepositoryError: no such folder, no repository there, one that git cannot read.
        RevisionError: no commits, no such revision.
    """
    try:
        what = "" if path.is_dir() else "is not a folder" if path.exists() else "does not exist"
    except OSError as error:
        what = f"cannot be opened: {error.strerror}"
    if what:
        raise RepositoryError(f"'{path}' {what}", hint="give the path of a Git repository")
    if revision.startswith("-") or "\0" in revision or not revision:
        raise RepositoryError(f"{revision!r} is not a revision", where="--rev", hint="give a branch, tag or commit")
    git = ("-C", str(path.absolute()), *SWITCHES)
    places = ("rev-parse", "--show-object-format", "--path-format=absolute", "--git-common-dir")
    code, answer, complaint = ask(*git, *places, env=_environment())
    if code:
        if "not a git repository" in complaint:
            hint = "give the path of one, or make one with `git init`"
            raise RepositoryError(f"'{path}' is not a Git repository", hint=hint)
        raise RepositoryError(f"git cannot read '{path}': {complaint}", hint="`git status` there says more")
    kind, _, folder = answer.removesuffix("\n").partition("\n")
    code, answer, complaint = ask(
        *git, "rev-parse", "--verify", "--quiet", "--end-of-options", revision, env=_environment()
    )
    if code or not OBJECT.fullmatch(answer.strip()):
        raise _no_such(revision, path, git)
    return Found(Path(folder), kind, answer.strip())


def _environment() -> dict[str, str]:
    return environment(GIT_GRAFT_FILE=os.devnull)


def _no_such(revision: str, path: Path, git: tuple[str, ...]) -> RevisionError:
    _, branches, _ = ask(*git, "for-each-ref", "--format=%(refname:short)", "--count=5", env=_environment())
    if not branches and revision == "HEAD":
        return RevisionError(f"'{path}' has no commits yet", hint="commit something first")
    hint = f"there is {', '.join(branches.split())}" if branches else "the repository has no commits yet"
    if revision == "HEAD":
        _, head, _ = ask(*git, "symbolic-ref", "--quiet", "--short", "HEAD", env=_environment())
        return RevisionError(
            f"HEAD of '{path}' points to {head.strip()!r}, which has no commits", hint=f"choose with --rev: {hint}"
        )
    return RevisionError(f"{revision!r} names nothing in '{path}'", where="--rev", hint=hint)

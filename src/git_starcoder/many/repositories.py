"""Decides which repositories a dataset is made from, and what they are called."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.errors import RepositoryError, UsageError
from git_starcoder.git.objects import UNNAMED
from git_starcoder.many.tasks import Problem, RepositoryFacts, RepositorySource
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_starcoder.recipe import RepositoryOptions

NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)
"""A name of a repository: it is the name of its files, and the first part of their paths."""
COMMIT_DIGITS = 8
"""Digits of the commit in the name of a repository that would have the name of another."""


class Named(NamedTuple):
    """A repository with its name in the dataset."""

    name: str
    facts: RepositoryFacts


class LeftOut(NamedTuple):
    """A repository that is not part of the dataset."""

    name: str
    """Its name; empty if it could not be opened and the user gave none."""
    commit: str
    licences: tuple[str, ...]
    reason: str
    """`failed`, `license`, or `repeated`: another repository of the list is at the same commit."""
    because: str
    path: Path


def read_list(path: Path, revision: str = "HEAD") -> list[RepositorySource]:
    """The repositories of a list: a line for each, its path, and after tabs a revision and a name if they are wanted.

    Lines without a revision have `revision`. Empty lines and lines that begin with `#` do not count. Paths are relative
    to the folder of the list.

    Raises:
        UsageError: The list cannot be read, or a line has more than three parts.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}", where="--list") from error
    sources: list[RepositorySource] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip(" \r") for part in line.split("\t")]
        where = f"{path}:{number}"
        if len(parts) > len(RepositorySource._fields) or not parts[0]:
            hint = "one line per repository: its path, and after tabs a revision and a name"
            raise UsageError(f"{line!r} is not a repository", where=where, hint=hint)
        own_revision, name = (*parts[1:], "", "")[:2]
        if name and not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a name", where=where, hint="letters, digits, '.', '-' and '_'")
        sources.append(RepositorySource(path.parent / expand_user(parts[0]), own_revision or revision, name))
    if not sources:
        raise UsageError(f"'{path}' names no repository", where="--list", hint="one line per repository: its path")
    return sources


def choose_repositories(
    sources: Sequence[RepositorySource],
    found: Sequence[RepositoryFacts | Problem],
    options: RepositoryOptions,
) -> tuple[list[Named], list[LeftOut]]:
    """The repositories to read, by name, and those that are left out.

    Neither depends on the order of `sources`.
    """
    left_out: list[LeftOut] = []
    of_commit: dict[str, list[RepositoryFacts]] = defaultdict(list)
    for source, facts in zip(sources, found, strict=True):
        if isinstance(facts, Problem):
            left_out.append(failed(source.name, "", source.path, facts))
        else:
            name = facts.name if NAME.fullmatch(facts.name) else UNNAMED
            of_commit[facts.commit].append(facts._replace(name=name))
    unnamed: list[RepositoryFacts] = []
    for several in of_commit.values():
        # A complete history knows more than a shallow one.
        first, *others = sorted(several, key=lambda facts: (len(facts.shallow_boundary), facts.name, facts.path))
        unnamed.append(first)
        left_out += [
            LeftOut(facts.name, facts.commit, facts.licences, "repeated", f"at the commit of {first.name}", facts.path)
            for facts in others
        ]
    chosen: list[Named] = []
    for name, facts in _give_names(unnamed):
        if problem := _licence_problem(facts.licences, options.licenses):
            left_out.append(LeftOut(name, facts.commit, facts.licences, "license", problem, facts.path))
        else:
            chosen.append(Named(name, facts))
    return sorted(chosen, key=lambda each: each.name), sorted(left_out, key=lambda each: (each.name, each.commit))


def failed(name: str, commit: str, path: Path, problem: Problem) -> LeftOut:
    """A repository that could not be read."""
    because = f"{problem.what} ({problem.where})" if problem.where else problem.what
    return LeftOut(name, commit, (), "failed", because, path)


def require_some(chosen: Sequence[Named], left_out: Sequence[LeftOut]) -> None:
    """Raise an error if no repository is left."""
    if not chosen:
        counts = Counter(each.reason for each in left_out)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        first = left_out[0]
        where = f"{first.path}: {first.because}"
        raise RepositoryError(f"none of {len(left_out)} repositories can be used ({reasons})", where=where)


def _give_names(repositories: Sequence[RepositoryFacts]) -> list[Named]:
    """Each repository with a name that no other has; names that differ in case only count as equal.

    Of two repositories called `flask`, both get the beginning of their commit: `flask@1f2e3d4c`.
    """
    count: dict[str, int] = defaultdict(int)
    for facts in repositories:
        count[facts.name.lower()] += 1
    named: list[Named] = []
    for facts in repositories:
        is_taken = count[facts.name.lower()] > 1
        named.append(Named(f"{facts.name}@{facts.commit[:COMMIT_DIGITS]}" if is_taken else facts.name, facts))
    return named


def _licence_problem(licences: Sequence[str], wanted: Sequence[str]) -> str:
    """Why a repository with these licences is refused, or ""."""
    if not wanted:
        return ""
    known = {licence.lower() for licence in wanted}
    refused = [licence for licence in licences if licence.lower() not in known]
    if refused:
        return f"licence {', '.join(refused)}"
    return "" if licences else "no licence file"

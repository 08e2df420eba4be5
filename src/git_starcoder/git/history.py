"""The commit that last changed each file, and the paths it had before.

**Last change**: the newest commit, in topological order, whose difference from its first parent touches the path. A
merge counts only where no other commit does. Commits at the edge of a shallow history seem to add every file; they are
never taken for a last change.

**Former paths**: going from the newest commit to the oldest, a file that a commit adds while it deletes a similar one
continues under that one's path. Similar is what git says with `-M`: half of the content. Where a blob of such a commit
is missing or large, or where there is too much to compare, only files that moved unchanged are followed there.
"""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from git_starcoder.git.objects import Repo

LATEST = 253_402_300_799
"""The last second of the year 9999; later times are not times."""
LARGEST_COMPARED = 1 << 22
"""Bytes of the largest file that is compared with others to find what it was renamed from."""
MOST_COMPARED = 50_000_000_000
"""Bytes compared to find renames over the whole history, newest commits first; some seconds of work."""
MOST_TOUCHES = 10_000_000
"""Paths that the commits of a history touch, all together. A dozen objects can spell out ten billion."""
MOST_OF_ONE = 1_000_000
"""Paths that one commit touches."""
LOG = ("log", "--topo-order", "--no-renames", "--raw", "--no-abbrev", "-z", "--format=%H %ct")
RENAMES = ("diff-tree", "--stdin", "-r", "--raw", "--no-abbrev", "-z", "--diff-filter=R")


class LastChange(NamedTuple):
    """When a path last changed, and where its content was before."""

    commit: str
    """Empty where the history does not say."""
    at: int
    """Committer time, seconds since 1970; where the history does not say, the latest that it can have been."""
    former: tuple[str, ...] = ()
    """Paths before renames, newest first, each once."""


class Touch(NamedTuple):
    """One path in the difference of a commit from its first parent."""

    status: str
    """`A`, `D`, `M`, `R`, `T`."""
    before: str
    after: str
    path: bytes
    old: bytes
    """The path before a rename."""


class Moves(NamedTuple):
    """What a commit adds and deletes: path → blob."""

    commit: str
    added: dict[bytes, str]
    deleted: dict[bytes, str]


def last_changes(repo: Repo) -> dict[str, LastChange]:
    """For each path at the commit the last commit that changed it. Paths that no commit explains are left out."""
    heads = {entry.path.encode("utf-8", "surrogateescape") for entry in repo.entries()}
    changed: dict[bytes, tuple[str, int]] = {}
    moves: list[Moves] = []
    told = len(repo.notes)
    for commit, at, touches in _log(repo, "--no-merges"):
        _note_changes(changed, heads, "" if commit in repo.boundary else commit, at, touches)
        added = {touch.path: touch.after for touch in touches if touch.status == "A"}
        deleted = {touch.path: touch.before for touch in touches if touch.status == "D"}
        if added:
            moves.append(Moves(commit, added, deleted))
    if heads - changed.keys() and len(repo.notes) == told:
        for commit, at, touches in _log(repo, "--merges", "--diff-merges=first-parent"):
            _note_changes(changed, heads, commit, at, touches)
    former = _former(heads, moves, _renames(repo, moves))
    return {_text(path): LastChange(*changed[path], tuple(map(_text, former[path]))) for path in sorted(changed)}


def _log(repo: Repo, *which: str) -> Iterator[tuple[str, int, list[Touch]]]:
    seen = 0
    with repo.git(*LOG, *which, repo.commit) as answer:
        for header, touches in _differences(answer.fields()):
            seen += len(touches)
            if seen > MOST_TOUCHES or len(touches) > MOST_OF_ONE:
                repo.notes.append(f"the history is too large and is read down to commit {header.split()[0]} only")
                return
            commit, _, at = header.partition(" ")
            yield commit, min(int(at), LATEST) if at.isdecimal() else 0, touches
        if why := answer.failure():
            repo.notes.append(f"the history cannot be read to its end: {why}")


def _note_changes(
    changed: dict[bytes, tuple[str, int]], heads: set[bytes], commit: str, at: int, touches: list[Touch]
) -> None:
    for touch in touches:
        if touch.path in heads and touch.status != "D":
            changed.setdefault(touch.path, (commit, at))


def _renames(repo: Repo, moves: list[Moves]) -> dict[str, dict[bytes, bytes]]:
    """For each commit, the path before of what it renamed."""
    moves = [move for move in moves if move.deleted]
    sizes = repo.sizes(blob for move in moves for blob in (*move.added.values(), *move.deleted.values()))
    similar: list[str] = []
    same: list[str] = []
    compared = 0
    for move in moves:
        added, deleted = set(move.added.values()), set(move.deleted.values())
        small = all(sizes.get(blob, LARGEST_COMPARED) < LARGEST_COMPARED for blob in added | deleted)
        new, gone = added - deleted, deleted - added  # what moved unchanged is found without comparing
        cost = sum(len(gone) * sizes.get(blob, 0) for blob in new) + sum(len(new) * sizes.get(blob, 0) for blob in gone)
        if small and compared + cost <= MOST_COMPARED:
            compared += cost
            similar.append(move.commit)
        else:
            same.append(move.commit)
    found, why = _diff_trees(repo, similar, "-M", "-l1000")
    if why:  # some blob is damaged: without comparing, none is read
        same = [move.commit for move in moves]
    unchanged, why_not = _diff_trees(repo, same, "-M100%")
    if why or why_not:
        repo.notes.append(f"not every rename can be followed: {why or why_not}")
    return {**found, **unchanged}


def _diff_trees(repo: Repo, commits: Sequence[str], *how: str) -> tuple[dict[str, dict[bytes, bytes]], str]:
    """What each commit renamed, new path → old path; and why git did not come to the end, if so."""
    if not commits:
        return {}, ""
    with TemporaryFile() as questions:
        questions.writelines(f"{commit}\n".encode() for commit in commits)
        questions.seek(0)
        with repo.git(*RENAMES, *how, stdin=questions) as answer:
            found = {
                header: {touch.path: touch.old for touch in touches}
                for header, touches in _differences(answer.fields())
            }
            return found, answer.failure()


def _former(
    heads: Iterable[bytes], moves: list[Moves], renames: dict[str, dict[bytes, bytes]]
) -> dict[bytes, dict[bytes, None]]:
    """The former paths of each head, in the order in which going back meets them."""
    former: dict[bytes, dict[bytes, None]] = {head: {} for head in heads}
    following = {head: [head] for head in former}
    for move in moves:
        renamed = renames.get(move.commit, {})
        for path in move.added:
            followers = following.pop(path, [])
            if old := renamed.get(path):
                for head in followers:
                    if old != head:
                        former[head][old] = None
                following.setdefault(old, []).extend(followers)
    return former


def _differences(fields: Iterator[bytes]) -> Iterator[tuple[str, list[Touch]]]:
    """Header and touched paths of each commit in the `--raw -z` output of git."""
    header = ""
    touches: list[Touch] = []
    for field in fields:
        if not field.lstrip(b"\n").startswith(b":"):
            if header:
                yield header, touches
            header, touches = field.decode("ascii"), []
            continue
        _, _, before, after, status = field.decode("ascii").split(" ")
        path = old = next(fields, b"")  # where git died, its answer may end anywhere
        if status[0] == "R":
            path = next(fields, b"")
        touches.append(Touch(status[0], before, after, path, old))
        if len(touches) > MOST_OF_ONE:
            break
    if header:
        yield header, touches


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")

"""One walk over the history: what every commit did, which one last changed each file, and the paths it had before.

**What a commit did**: its difference from its parent; a first commit adds everything. A merge did only what none of
its parents has, as after a conflict (`git log --diff-merges=combined`): the rest was done by the commits that it
brings together, and would count twice. What a merge did to a file is told against the first parent that has it.
Commits at the edge of a shallow history seem to add every file; nobody knows what they did.

**Last change**: the newest commit, in topological order, that did something to the path.

**Former paths**: going from the newest commit to the oldest, a file that a commit adds while it deletes a similar one
continues under that one's path. Similar is what git says with `-M`: half of the content. Where a blob of such a commit
is missing or large, or where there is too much to compare, only files that moved unchanged are followed there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.user_paths import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_starcoder.git.objects import Repo

LATEST = 253_402_300_799
"""The last second of the year 9999; later times are not times."""
DAY = 86_400
COMMITTER = re.compile(rb"^committer ([^\n]*)$", re.MULTILINE)
TIME = re.compile(rb"[ \t\r]*(\d+)[ \t\r]*[+-]\d")
"""What stands behind a name and an address. Without a time zone, however odd, git shows no date either."""
LONGEST_PATH = 4096
"""Bytes of the longest path that is read or followed: every row of a file says it."""
LARGEST_COMPARED = 1 << 22
"""Bytes of the largest file that is compared with others to find what it was renamed from."""
MOST_COMPARED = 50_000_000_000
"""Bytes compared to find renames over the whole history, newest commits first; some seconds of work."""
MOST_TOUCHES = 10_000_000
"""Paths that the commits of a history touch, all together. A dozen objects can spell out ten billion."""
MOST_OF_ONE = 1_000_000
"""Paths that one commit touches."""
MOST_BYTES = 1 << 29
"""Bytes of the paths that the commits touch, all together, with `MOVED` more for each that comes or goes."""
MOVED = 256
"""Bytes, about, that it takes to remember such a path until renames are known."""
LOG = (
    *("log", "--topo-order", "--no-renames", "--raw", "--no-abbrev", "-z", "--diff-merges=combined"),
    "--format=%H %ct %at",
)
SUBMODULE = "160000"
"""A mode."""
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
    """What a commit did to one path."""

    status: str
    """`A`, `D`, `M`, `R`, `T`."""
    before: str
    after: str
    path: bytes
    old: bytes
    """The path before a rename."""
    modes: tuple[str, str]
    """Octal digits, before and after."""


class Commit(NamedTuple):
    """One commit of the walk. Renames are not known yet: one path goes, another comes."""

    id: str
    number: int
    """Its place in the walk, from 0; the newest comes first."""
    at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    touches: list[Touch]
    edge: bool
    """At the edge of a shallow history."""


class Moves(NamedTuple):
    """What a commit adds and deletes: path → blob."""

    commit: str
    number: int
    added: dict[bytes, str]
    deleted: dict[bytes, str]


class History(NamedTuple):
    """What the walk has found."""

    last: dict[str, LastChange]
    """For each path at the commit the last commit that changed it; paths that no commit explains are left out."""
    moves: list[Moves]
    """Of each commit that adds something, in the order of the walk."""
    renames: dict[str, dict[bytes, bytes]]
    """Commit → path after a rename → path before."""


def last_changes(repo: Repo) -> dict[str, LastChange]:
    """For each path at the commit the last commit that changed it. Paths that no commit explains are left out."""
    return walk(repo).last


def walk(repo: Repo, look: Callable[[Commit], None] | None = None) -> History:
    """Go over every commit once, from the newest to the oldest that can be read; `look` sees each."""
    heads = {bytes_of(entry.path) for entry in repo.entries()}
    changed: dict[bytes, tuple[str, int]] = {}
    moves: list[Moves] = []
    submodules: set[str] = set()
    later = commits = 0
    for commit in _commits(repo):
        commits += 1
        later += commit.at > repo.committed_at + DAY
        if commit.edge:
            repo.partial = "the clone is shallow"
        if look is not None:
            look(commit)
        _note_changes(changed, heads, commit)
        added = {touch.path: touch.after for touch in commit.touches if touch.status == "A"}
        if added:
            deleted = {touch.path: touch.before for touch in commit.touches if touch.status == "D"}
            moves.append(Moves(commit.id, commit.number, added, deleted))
            submodules.update(
                blob for touch in commit.touches if SUBMODULE in touch.modes for blob in (touch.before, touch.after)
            )
    if later:
        what = f"{later:,} of {commits:,} commits have later dates than the newest ({day(repo.committed_at)})"
        repo.notes.append(f"{what}: what they changed counts as new")
    renames = _renames(repo, moves, submodules)
    descent = Descent(heads)
    for move in moves:
        descent.back(move, renames)
    last = {text_of(path): LastChange(*changed[path], descent.former(path)) for path in sorted(changed)}
    return History(last, moves, renames)


def first_parents(repo: Repo) -> list[str]:
    """The commit and its first ancestors, the newest first, as far as they can be read."""
    with repo.git("rev-list", "--first-parent", repo.commit) as answer:
        return [line.decode("ascii") for line in iter(answer.line, None)]


class Descent:
    """Which files at the commit descend from a path, while one goes back from commit to commit."""

    def __init__(self, heads: Iterable[bytes]) -> None:
        self._former: dict[bytes, dict[bytes, None]] = {head: {} for head in heads}
        self._following = {head: [head] for head in self._former}

    def back(self, move: Moves, renames: dict[str, dict[bytes, bytes]]) -> None:
        """Go to before a commit that adds something."""
        renamed = renames.get(move.commit, {})
        for path in move.added:
            followers = self._following.pop(path, [])
            old = renamed.get(path, b"")
            if 0 < len(old) <= LONGEST_PATH:
                for head in followers:
                    if old != head:
                        self._former[head][old] = None
                self._following.setdefault(old, []).extend(followers)

    def former(self, head: bytes) -> tuple[str, ...]:
        """The paths that a file had before, as far as one has gone back; newest first."""
        return tuple(map(text_of, self._former[head]))

    def of(self, path: bytes) -> str:
        """The file at the commit that descends from a path where one is now, or "".

        The first where there are several. A path that the commit has and that was left and taken again is itself: in
        histories that run side by side the two are often the same file.
        """
        followers = self._following.get(path) or ([path] if path in self._former else [b""])
        return text_of(followers[0])


def _commits(repo: Repo) -> Iterator[Commit]:
    seen = size = 0
    with repo.git(*LOG, repo.commit) as answer:
        for number, (header, touches) in enumerate(_differences(answer.fields())):
            seen += len(touches)
            size += sum(len(touch.path) + MOVED * (touch.status in {"A", "D"}) for touch in touches)
            name, *times = header.split(" ")
            if seen > MOST_TOUCHES or len(touches) > MOST_OF_ONE or size > MOST_BYTES:
                repo.notes.append(f"the history is too large and is read down to commit {name} only")
                return
            at, authored_at = map(seconds, times)
            yield Commit(name, number, at, authored_at, touches, name in repo.boundary)
        if why := answer.failure():
            repo.partial = "the history cannot be read to its end"
            repo.notes.append(f"{repo.partial}: {why}")


def _note_changes(changed: dict[bytes, tuple[str, int]], heads: set[bytes], commit: Commit) -> None:
    name = "" if commit.edge else commit.id
    for touch in commit.touches:
        if touch.path in heads and touch.status != "D":
            changed.setdefault(touch.path, (name, commit.at))


def _renames(repo: Repo, moves: list[Moves], submodules: set[str]) -> dict[str, dict[bytes, bytes]]:
    """For each commit, the path before of what it renamed. Commits of submodules are no blobs of the repository."""
    moves = [move for move in moves if move.deleted]
    blobs = {blob for move in moves for blob in (*move.added.values(), *move.deleted.values())}
    sizes = repo.sizes(sorted(blobs))
    repo.unsure_renames = not blobs - sizes.keys() <= submodules
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
        repo.unsure_renames = True
        repo.notes.append(f"not every rename can be followed: {why or why_not}")
    return {**found, **unchanged}


def _diff_trees(repo: Repo, commits: Sequence[str], *how: str) -> tuple[dict[str, dict[bytes, bytes]], str]:
    """What each commit renamed, new path → old path; and why git did not come to the end, if so."""
    if not commits:
        return {}, ""
    with TemporaryFile(dir=temporary_folder()) as questions:
        questions.writelines(f"{commit}\n".encode() for commit in commits)
        questions.seek(0)
        with repo.git(*RENAMES, *how, stdin=questions) as answer:
            found = {
                header: {touch.path: touch.old for touch in touches}
                for header, touches in _differences(answer.fields())
            }
            return found, answer.failure()


def _differences(fields: Iterator[bytes]) -> Iterator[tuple[str, list[Touch]]]:
    """Header and touched paths of each commit in the `--raw -z` output of git."""
    header = ""
    touches: list[Touch] = []
    size = 0
    for field in fields:
        raw = field.lstrip(b"\n")
        if not raw.startswith(b":"):
            if raw:
                if header:
                    yield header, touches
                header, touches, size = raw.decode("ascii"), [], 0
            continue
        path = old = next(fields, b"")  # where git died, its answer may end anywhere
        words = raw.decode("ascii").split(" ")
        if words[-1][0] == "R":
            path = next(fields, b"")
        touches.append(_touch(words, path, old))
        size += len(path)
        if len(touches) > MOST_OF_ONE or size > MOST_BYTES:
            break
    if header:
        yield header, touches


def _touch(words: list[str], path: bytes, old: bytes) -> Touch:
    """`:modes… blobs… statuses`, with as many colons and statuses as there are parents."""
    parents = len(words) // 2 - 1
    statuses = words[-1] if parents > 1 else words[-1][0]
    parent = next((at for at, status in enumerate(statuses) if status != "A"), 0)
    modes = words[parent].lstrip(":"), words[parents]
    return Touch(statuses[parent], words[parents + 1 + parent], words[-2], path, old, modes)


def seconds(digits: str) -> int:
    """A time as git prints it, in seconds since 1970; 0 where it prints none."""
    if not digits.isdecimal():
        return 0
    return min(int(digits), LATEST) if len(digits.lstrip("0")) < len(str(LATEST)) + 1 else LATEST


def committed_at(commit: bytes) -> int:
    """The committer's time in a commit object, as `git log --format=%ct` prints it; 0 where that is nothing."""
    found = COMMITTER.search(commit.partition(b"\n\n")[0])
    address = found[1].partition(b"<")[2] if found else b""
    time = TIME.match(address.rpartition(b">")[2]) if b">" in address else None
    return seconds(time[1].decode("ascii")) if time else 0


def day(at: int) -> str:
    """The day of a time, for a person."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def bytes_of(path: str) -> bytes:
    """The bytes of a path that is text."""
    return path.encode("utf-8", "surrogateescape")


def text_of(path: bytes) -> str:
    """A path as text, whatever its bytes."""
    return path.decode("utf-8", "surrogateescape")

"""What commits did to files, as far as it is worth reading: the newest changes, with the lineage of each file.

A change is one file of one commit against its parent, as `git_starcoder.git.history` defines it; a file that was
renamed is one change, also where it was edited on the way. Nothing is read here: what does not go on is told by
path, mode, blob ids and the size of its commit alone. The reasons, in the order in which they are looked for:

- `over_budget`: newer changes were enough
- `shallow`: the commit is at the edge of a shallow history, so nobody knows what it did
- `giant_commit`: it touches too many files, as a formatter or an import of other people's code does
- `deletion`: the file is gone, which teaches nothing
- `long_path`: the path is longer than any that is read
- `submodule`, `symlink`: the path is none of a file, before or after
- `moved`, `mode_only`: the content is the same
- what `skip` says of the path
- `repeated`: a newer commit does the same to the same path, as a rebase or a cherry-pick does
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.git.history import LONGEST_PATH, Descent, bytes_of, text_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_starcoder.git.history import Commit, LastChange, Touch
    from git_starcoder.git.objects import Repo

KINDS = {"160": "submodule", "120": "symlink"}
"""By the first digits of a mode."""
LOOKED_AT = 3
"""Paths looked at for each change that is wanted: a bound for histories in which few are worth reading."""


class FileChange(NamedTuple):
    """What one commit did to one file."""

    commit: str
    number: int
    """The commit's place in the walk, from 0; the newest comes first."""
    at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    path: str
    former: str
    """The path before, where the commit renamed the file, else empty."""
    lineage: str
    """The file at the commit that is read that descends from it, else empty."""
    before: str
    """A blob; empty where the commit adds the file."""
    after: str


class Refused(NamedTuple):
    """Changes that go no further, and why."""

    reason: str
    commit: str
    """Of those beyond the budget, the newest."""
    path: str = ""
    """Empty where there may be several."""
    changes: int = 1


class Changes(NamedTuple):
    """What the history holds."""

    last: dict[str, LastChange]
    """See `git_starcoder.git.history.last_changes`."""
    kept: list[FileChange]
    """Newest first: by the place of the commit in the walk, then by the bytes of the path."""
    refused: list[Refused]
    commits: int
    """That were walked."""


def changes_of(repo: Repo, most: int, commit_files: int, skip: Callable[[str], str]) -> Changes:
    """The newest changes that are worth reading, at most `most`.

    A commit that touches more than `commit_files` files is a giant. `skip` gives for a path why its changes are not
    worth reading, or "".
    """
    near = _Near(most, commit_files)
    history = walk(repo, near.look)
    # A rename is one change, but two paths of its commit.
    halves = {move.commit: len(history.renames.get(move.commit, ())) for move in history.moves}
    refused = [one._replace(changes=one.changes - halves.get(one.commit, 0)) for one in near.whole]
    if near.beyond:
        beyond = sum(halves[move.commit] for move in history.moves if move.number >= near.cut)
        refused.append(Refused("over_budget", near.oldest, changes=near.beyond - beyond))
    kept: list[FileChange] = []
    done: set[tuple[str, str, str]] = set()
    descent = Descent(bytes_of(entry.path) for entry in repo.entries())
    moves = iter(history.moves)
    move = next(moves, None)
    for commit in near.commits:
        while move is not None and move.number < commit.number:
            descent.back(move, history.renames)
            move = next(moves, None)
        for change, reason in _changes(commit, history.renames.get(commit.id, {}), descent, skip):
            does = change.path, change.before, change.after
            if reason or does in done or len(kept) == most:
                reason = reason or ("repeated" if does in done else "over_budget")
                refused.append(Refused(reason, commit.id, change.path[:LONGEST_PATH]))
            else:
                done.add(does)
                kept.append(change)
    return Changes(history.last, kept, refused, near.walked)


def _changes(
    commit: Commit, renamed: dict[bytes, bytes], descent: Descent, skip: Callable[[str], str]
) -> Iterator[tuple[FileChange, str]]:
    """Each change of a commit, and why it is not worth reading, or ""."""
    gone = {touch.path: touch for touch in commit.touches if touch.status == "D"}
    sources = {old for touch in commit.touches if (old := renamed.get(touch.path)) in gone}
    for touch in sorted(commit.touches, key=lambda touch: touch.path):
        if touch.path in sources and touch.status == "D":
            continue
        old = gone.get(renamed.get(touch.path, b"")) if touch.status == "A" else None
        before = old.before if old else touch.before.strip("0") and touch.before
        change = FileChange(
            *(commit.id, commit.number, commit.at, commit.authored_at, text_of(touch.path)),
            *(text_of(old.path) if old else "", descent.of(touch.path), before, touch.after),
        )
        yield change, _refusal(touch, change) or skip(change.path)


def _refusal(touch: Touch, change: FileChange) -> str:
    if touch.status == "D":
        return "deletion"
    if any(len(bytes_of(path)) > LONGEST_PATH for path in (change.path, change.former)):
        return "long_path"
    for mode in touch.modes:
        if mode[:3] in KINDS:
            return KINDS[mode[:3]]
    if change.before == change.after:
        return "moved" if change.former else "mode_only"
    return ""


class _Near:
    """Sees each commit of a walk, and holds those that are near enough and not too large to look at each change."""

    def __init__(self, most: int, commit_files: int) -> None:
        self.commits: list[Commit] = []
        self.whole: list[Refused] = []
        """Commits that are refused as a whole, with a count of paths."""
        self.walked = 0
        self.beyond = 0
        """Paths in commits that are too far away."""
        self.cut = 0
        """The place of the first such commit in the walk."""
        self.oldest = ""
        """Its id."""
        self._room = most * LOOKED_AT
        self._files = commit_files

    def look(self, commit: Commit) -> None:
        """Take the next commit."""
        self.walked += 1
        paths = len(commit.touches)
        added = sum(touch.status == "A" for touch in commit.touches)
        deleted = sum(touch.status == "D" for touch in commit.touches)
        if self._room <= 0:
            if not self.beyond:
                self.cut, self.oldest = commit.number, commit.id
            self.beyond += paths
        elif not paths:
            return
        elif commit.edge:
            self.whole.append(Refused("shallow", commit.id, changes=paths))
        elif paths - min(added, deleted) > self._files:  # of what goes and comes, at most so many were renamed
            self.whole.append(Refused("giant_commit", commit.id, changes=paths))
        else:
            self.commits.append(commit)
            self._room -= paths

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

from git_starcoder.git.history import MAX_PATH_BYTES, RenameTracker, decode_path, encode_path, walk_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_starcoder.git.history import HistoryCommit, LastChange, PathChange
    from git_starcoder.git.objects import Repo

SPECIAL_MODES = {"160": "submodule", "120": "symlink"}
"""By the first digits of a mode."""
EXAMINED_PATHS_PER_CHANGE = 3
"""Paths looked at for each change that is wanted: a bound for histories in which few are worth reading."""


class FileChange(NamedTuple):
    """What one commit did to one file."""

    commit: str
    walk_index: int
    """The commit's place in the walk, from 0; the newest comes first."""
    committed_at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    path: str
    former_path: str
    """The path before, where the commit renamed the file, else empty."""
    current_path: str
    """The file at the commit that is read that descends from it, else empty."""
    blob_before: str
    """A blob; empty where the commit adds the file."""
    blob_after: str


class RejectedChanges(NamedTuple):
    """Changes that go no further, and why."""

    reason: str
    commit: str
    """Of those beyond the budget, the newest."""
    path: str = ""
    """Empty where there may be several."""
    change_count: int = 1


class SelectedHistory(NamedTuple):
    """What the history holds."""

    last_changes: dict[str, LastChange]
    """See `git_starcoder.git.history.last_changes`."""
    selected: list[FileChange]
    """Newest first: by the place of the commit in the walk, then by the bytes of the path."""
    rejected: list[RejectedChanges]
    commit_count: int
    """That were walked."""


def select_changes(
    repo: Repo, max_changes: int, max_commit_files: int, skip_reason: Callable[[str], str]
) -> SelectedHistory:
    """The newest changes that are worth reading, at most `most`.

    A commit that touches more than `commit_files` files is a giant. `skip` gives for a path why its changes are not
    worth reading, or "".
    """
    near = _Near(max_changes, max_commit_files)
    history = walk_history(repo, near.look)
    # A rename is one change, but two paths of its commit.
    halves = {move.commit: len(history.renames.get(move.commit, ())) for move in history.rename_candidates}
    refused = [one._replace(change_count=one.change_count - halves.get(one.commit, 0)) for one in near.whole]
    if near.beyond:
        beyond = sum(halves[move.commit] for move in history.rename_candidates if move.walk_index >= near.cut)
        refused.append(RejectedChanges("over_budget", near.oldest, change_count=near.beyond - beyond))
    kept: list[FileChange] = []
    done: set[tuple[str, str, str]] = set()
    descent = RenameTracker(encode_path(entry.path) for entry in repo.entries())
    moves = iter(history.rename_candidates)
    move = next(moves, None)
    for commit in near.commits:
        while move is not None and move.walk_index < commit.walk_index:
            descent.step_back(move, history.renames)
            move = next(moves, None)
        for change, reason in _changes(commit, history.renames.get(commit.id, {}), descent, skip_reason):
            does = change.path, change.blob_before, change.blob_after
            if reason or does in done or len(kept) == max_changes:
                reason = reason or ("repeated" if does in done else "over_budget")
                refused.append(RejectedChanges(reason, commit.id, change.path[:MAX_PATH_BYTES]))
            else:
                done.add(does)
                kept.append(change)
    return SelectedHistory(history.last_changes, kept, refused, near.walked)


def _changes(
    commit: HistoryCommit, renamed: dict[bytes, bytes], descent: RenameTracker, skip: Callable[[str], str]
) -> Iterator[tuple[FileChange, str]]:
    """Each change of a commit, and why it is not worth reading, or ""."""
    gone = {touch.path: touch for touch in commit.path_changes if touch.status == "D"}
    sources = {old for touch in commit.path_changes if (old := renamed.get(touch.path)) in gone}
    for touch in sorted(commit.path_changes, key=lambda touch: touch.path):
        if touch.path in sources and touch.status == "D":
            continue
        old = gone.get(renamed.get(touch.path, b"")) if touch.status == "A" else None
        before = old.blob_before if old else touch.blob_before.strip("0") and touch.blob_before
        change = FileChange(
            *(commit.id, commit.walk_index, commit.committed_at, commit.authored_at, decode_path(touch.path)),
            *(decode_path(old.path) if old else "", descent.current_path(touch.path), before, touch.blob_after),
        )
        yield change, _refusal(touch, change) or skip(change.path)


def _refusal(touch: PathChange, change: FileChange) -> str:
    if touch.status == "D":
        return "deletion"
    if any(len(encode_path(path)) > MAX_PATH_BYTES for path in (change.path, change.former_path)):
        return "long_path"
    for mode in touch.modes:
        if mode[:3] in SPECIAL_MODES:
            return SPECIAL_MODES[mode[:3]]
    if change.blob_before == change.blob_after:
        return "moved" if change.former_path else "mode_only"
    return ""


class _Near:
    """Sees each commit of a walk, and holds those that are near enough and not too large to look at each change."""

    def __init__(self, most: int, commit_files: int) -> None:
        self.commits: list[HistoryCommit] = []
        self.whole: list[RejectedChanges] = []
        """Commits that are refused as a whole, with a count of paths."""
        self.walked = 0
        self.beyond = 0
        """Paths in commits that are too far away."""
        self.cut = 0
        """The place of the first such commit in the walk."""
        self.oldest = ""
        """Its id."""
        self._room = most * EXAMINED_PATHS_PER_CHANGE
        self._files = commit_files

    def look(self, commit: HistoryCommit) -> None:
        """Take the next commit."""
        self.walked += 1
        paths = len(commit.path_changes)
        added = sum(touch.status == "A" for touch in commit.path_changes)
        deleted = sum(touch.status == "D" for touch in commit.path_changes)
        if self._room <= 0:
            if not self.beyond:
                self.cut, self.oldest = commit.walk_index, commit.id
            self.beyond += paths
        elif not paths:
            return
        elif commit.is_boundary:
            self.whole.append(RejectedChanges("shallow", commit.id, change_count=paths))
        elif paths - min(added, deleted) > self._files:  # of what goes and comes, at most so many were renamed
            self.whole.append(RejectedChanges("giant_commit", commit.id, change_count=paths))
        else:
            self.commits.append(commit)
            self._room -= paths

"""Selects the newest changes of the history that are worth learning from, with the lineage of each file.

A change is what one commit did to one file (see `git_starcoder.git.history`). A renamed file is one change, also if the
commit edited it. Selection reads no content: path, mode, blob ids and the size of the commit decide. The reasons for
which changes are rejected, in the order in which they are checked:

- `over_budget`: newer changes use up the budget
- `shallow`: the commit is at the boundary of a shallow clone, so its changes are unknown
- `giant_commit`: the commit changes too many files, like the run of a formatter or an import of other people's code
- `deletion`: the commit deletes the file
- `long_path`: the path is too long to be read
- `submodule`, `symlink`: the path is not a file, before or after the commit
- `moved`, `mode_only`: the content is the same
- what `skip_reason` returns for the path
- `repeated`: a newer commit makes the same change to the same path, as after a rebase or cherry-pick
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.git.history import MAX_PATH_BYTES, RenameTracker, decode_path, encode_path, walk_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_starcoder.git.history import HistoryCommit, LastChange, PathChange
    from git_starcoder.git.objects import Repo

SPECIAL_MODES = {"160": "submodule", "120": "symlink"}
"""The first digits of a mode, and why such a path is rejected."""
EXAMINED_PATHS_PER_CHANGE = 3
"""Paths examined per wanted change: a bound for histories in which few changes are worth learning from."""


class FileChange(NamedTuple):
    """What one commit did to one file."""

    commit: str
    walk_index: int
    """The position of the commit in the walk; 0 is the newest."""
    committed_at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    path: str
    former_path: str
    """The path before if the commit renamed the file, else empty."""
    current_path: str
    """The path of the file at the commit that is read; empty if it is gone."""
    blob_before: str
    """Empty if the commit adds the file."""
    blob_after: str


class RejectedChanges(NamedTuple):
    """One or several changes that are not used, and why."""

    reason: str
    commit: str
    """For changes over the budget, the newest of their commits."""
    path: str = ""
    """Empty if there may be several."""
    change_count: int = 1


class SelectedHistory(NamedTuple):
    """The result of the selection."""

    last_changes: dict[str, LastChange]
    """See `git_starcoder.git.history.History`."""
    selected: list[FileChange]
    """Newest commits first; within a commit sorted by the bytes of the path."""
    rejected: list[RejectedChanges]
    commit_count: int
    """Number of commits in the walk."""


def select_changes(
    repo: Repo, max_changes: int, max_commit_files: int, skip_reason: Callable[[str], str]
) -> SelectedHistory:
    """Select the newest changes that are worth learning from.

    A commit that changes more than `max_commit_files` is a giant. `skip_reason` returns for a path why its changes are
    not used, or "".
    """
    commits = _CommitSelection(max_changes, max_commit_files)
    history = walk_history(repo, commits.visit)
    # A rename is one change but two paths of its commit, so counts of paths are reduced by the number of renames.
    rejected = [
        whole._replace(change_count=whole.change_count - len(history.renames.get(whole.commit, ())))
        for whole in commits.rejected
    ]
    if commits.over_budget_paths:
        over_budget = (each for each in history.rename_candidates if each.walk_index >= commits.over_budget_index)
        rename_count = sum(len(history.renames.get(candidates.commit, ())) for candidates in over_budget)
        change_count = commits.over_budget_paths - rename_count
        rejected.append(RejectedChanges("over_budget", commits.over_budget_commit, change_count=change_count))
    selected: list[FileChange] = []
    seen: set[tuple[str, str, str]] = set()
    tracker = RenameTracker(encode_path(entry.path) for entry in repo.entries())
    remaining_candidates = deque(history.rename_candidates)
    for commit in commits.selected:
        while remaining_candidates and remaining_candidates[0].walk_index < commit.walk_index:
            tracker.step_back(remaining_candidates.popleft(), history.renames)
        for change, reason in _examine_commit(commit, history.renames.get(commit.id, {}), tracker, skip_reason):
            effect = change.path, change.blob_before, change.blob_after
            reason = reason or ("repeated" if effect in seen else "")
            if reason or len(selected) == max_changes:
                reason = reason or "over_budget"
                rejected.append(RejectedChanges(reason, commit.id, change.path[:MAX_PATH_BYTES]))
            else:
                seen.add(effect)
                selected.append(change)
    return SelectedHistory(history.last_changes, selected, rejected, commits.commit_count)


def _examine_commit(
    commit: HistoryCommit, renames: dict[bytes, bytes], tracker: RenameTracker, skip_reason: Callable[[str], str]
) -> Iterator[tuple[FileChange, str]]:
    """Each change of a commit, and why it is rejected, or ""."""
    deleted = {change.path: change for change in commit.path_changes if change.status == "D"}
    rename_sources = {old for change in commit.path_changes if (old := renames.get(change.path)) in deleted}
    for change in sorted(commit.path_changes, key=lambda change: change.path):
        if change.path in rename_sources and change.status == "D":
            continue
        source = deleted.get(renames.get(change.path, b"")) if change.status == "A" else None
        blob_before = source.blob_before if source else change.blob_before
        file_change = FileChange(
            commit=commit.id,
            walk_index=commit.walk_index,
            committed_at=commit.committed_at,
            authored_at=commit.authored_at,
            path=decode_path(change.path),
            former_path=decode_path(source.path) if source else "",
            current_path=tracker.current_path(change.path),
            blob_before=blob_before if blob_before.strip("0") else "",
            blob_after=change.blob_after,
        )
        yield file_change, _rejection_reason(change, file_change) or skip_reason(file_change.path)


def _rejection_reason(change: PathChange, file_change: FileChange) -> str:
    if change.status == "D":
        return "deletion"
    if any(len(encode_path(path)) > MAX_PATH_BYTES for path in (file_change.path, file_change.former_path)):
        return "long_path"
    if special := next((mode[:3] for mode in change.modes if mode[:3] in SPECIAL_MODES), ""):
        return SPECIAL_MODES[special]
    if file_change.blob_before == file_change.blob_after:
        return "moved" if file_change.former_path else "mode_only"
    return ""


class _CommitSelection:
    """Visits each commit of a walk, and keeps those whose changes are examined one by one."""

    def __init__(self, max_changes: int, max_commit_files: int) -> None:
        self.selected: list[HistoryCommit] = []
        self.rejected: list[RejectedChanges] = []
        """Commits rejected as a whole, with the number of their paths."""
        self.commit_count = 0
        self.over_budget_paths = 0
        """Number of paths in commits after the budget was used up."""
        self.over_budget_index, self.over_budget_commit = 0, ""
        """The position of the first such commit in the walk, and its id."""
        self._remaining_paths = max_changes * EXAMINED_PATHS_PER_CHANGE
        self._max_commit_files = max_commit_files

    def visit(self, commit: HistoryCommit) -> None:
        """Sort the next commit into one of the groups."""
        self.commit_count += 1
        path_count = len(commit.path_changes)
        possible_renames = min(sum(change.status == status for change in commit.path_changes) for status in "AD")
        if self._remaining_paths <= 0:
            if not self.over_budget_paths:
                self.over_budget_index, self.over_budget_commit = commit.walk_index, commit.id
            self.over_budget_paths += path_count
        elif not path_count:
            return
        elif commit.is_boundary:
            self.rejected.append(RejectedChanges("shallow", commit.id, change_count=path_count))
        elif path_count - possible_renames > self._max_commit_files:
            self.rejected.append(RejectedChanges("giant_commit", commit.id, change_count=path_count))
        else:
            self.selected.append(commit)
            self._remaining_paths -= path_count

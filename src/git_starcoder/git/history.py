"""Walks the history once: what each commit changed, the last commit of each file, and its former paths.

**What a commit changed** is its difference from its parent; a first commit adds everything. A merge changed only the
paths that differ from all its parents, as after a conflict (`git log --diff-merges=combined`): other paths belong to
the commits that it merges, and would count twice. A path that a merge changed is compared with the first parent that
has it, as a whole, so edits of a merged branch may be in it once more. Commits at the boundary of a shallow clone seem
to add every file, but their real changes are unknown.

**The last change** of a path is the newest commit, in topological order, that changed it.

**Former paths**: from the newest commit to the oldest, a file that a commit adds while it deletes a similar one
continues under the path of that one. Similar means half of the content, which is the default of git's option `-M`. If a
blob of such a commit is missing or large, or there is too much to compare, only files with the same content are
followed there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.user_paths import temporary_folder
from git_starcoder.weight_rules import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_starcoder.git.objects import Repo

MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999; later times are replaced by it."""
COMMITTER_LINE = re.compile(rb"^committer ([^\n]*)$", re.MULTILINE)
COMMITTER_TIMESTAMP = re.compile(rb"[ \t\r]*(\d+)[ \t\r]*[+-]\d")
"""What follows a name and an address. Git shows no date without a time zone, however odd that is."""
MAX_PATH_BYTES = 4096
"""Longer paths are neither read nor followed, because every row of a file contains its path."""
MAX_COMPARED_FILE_BYTES = 1 << 22
"""Larger files are not compared with others to find renames."""
MAX_COMPARED_BYTES = 50_000_000_000
"""Bytes compared to find renames in the whole history, newest commits first; this takes some seconds."""
MAX_CHANGED_PATHS = 10_000_000
"""Changed paths of all commits together: a dozen objects can describe ten billion."""
MAX_CHANGED_PATHS_PER_COMMIT = 1_000_000
MAX_CHANGED_PATHS_BYTES = 1 << 29
"""Bytes of the changed paths of all commits together, with `ADDED_PATH_OVERHEAD_BYTES` per added or deleted path."""
ADDED_PATH_OVERHEAD_BYTES = 256
"""Approximate memory for an added or deleted path until renames are known."""
LOG_COMMAND = (
    *("log", "--topo-order", "--no-renames", "--raw", "--no-abbrev", "-z", "--diff-merges=combined"),
    "--format=%H %ct %at",
)
LATER_COMMAND = (
    *("log", "--reverse", "--first-parent", "--diff-merges=first-parent", "--no-renames", "--raw", "--no-abbrev", "-z"),
    "--format=%H",
)
RENAMES_COMMAND = ("diff-tree", "--stdin", "-r", "--raw", "--no-abbrev", "-z", "--diff-filter=R")
SUBMODULE_MODE_DIGITS = "160000"
UNREADABLE_REASON = "the history cannot be read to its end"
"""Why a walked history is incomplete if objects are missing or damaged."""


class LastChange(NamedTuple):
    """The last change of a path, and where its content was before."""

    commit: str
    """Empty if the history does not contain it."""
    committed_at: int
    """Committer time, seconds since 1970; if the commit is unknown, the latest possible time."""
    former_paths: tuple[str, ...] = ()
    """Distinct paths before renames, newest first."""


class PathChange(NamedTuple):
    """What a commit did to one path."""

    status: str
    """`A`, `D`, `M`, `R`, `T`: added, deleted, modified, renamed, type changed."""
    blob_before: str
    blob_after: str
    path: bytes
    old_path: bytes
    """The path before a rename."""
    modes: tuple[str, str]
    """Octal digits, before and after."""


class HistoryCommit(NamedTuple):
    """One commit of the walk. Renames are not known yet: one path is deleted, another one added."""

    id: str
    walk_index: int
    """Its position in the walk; 0 is the newest commit."""
    committed_at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    path_changes: list[PathChange]
    is_boundary: bool
    """Whether it is at the boundary of a shallow clone."""


class RenameCandidates(NamedTuple):
    """The paths that a commit adds and deletes, with their blobs."""

    commit: str
    walk_index: int
    added: dict[bytes, str]
    deleted: dict[bytes, str]


class History(NamedTuple):
    """The result of a walk."""

    last_changes: dict[str, LastChange]
    """For each path of the commit; paths that no commit explains are missing."""
    rename_candidates: list[RenameCandidates]
    """For each commit that adds something, in the order of the walk."""
    renames: dict[str, dict[bytes, bytes]]
    """For each commit, new path → old path."""


def walk_history(repo: Repo, visit: Callable[[HistoryCommit], None] | None = None) -> History:
    """Walk over every commit once, from the newest to the oldest that can be read, and call `visit` with each."""
    head_paths = {encode_path(entry.path) for entry in repo.entries()}
    last_commits: dict[bytes, tuple[str, int]] = {}
    rename_candidates: list[RenameCandidates] = []
    submodules: set[str] = set()
    later_count = commit_count = 0
    for commit in _read_log(repo):
        commit_count += 1
        later_count += commit.committed_at > repo.committed_at + DAY_SECONDS
        if commit.is_boundary:
            repo.incomplete_reason = "the clone is shallow"
        if visit is not None:
            visit(commit)
        for change in commit.path_changes:
            if change.path in head_paths and change.status != "D":
                last_commits.setdefault(change.path, ("" if commit.is_boundary else commit.id, commit.committed_at))
        if added := {change.path: change.blob_after for change in commit.path_changes if change.status == "A"}:
            deleted = {change.path: change.blob_before for change in commit.path_changes if change.status == "D"}
            rename_candidates.append(RenameCandidates(commit.id, commit.walk_index, added, deleted))
            for change in commit.path_changes:
                if SUBMODULE_MODE_DIGITS in change.modes:
                    submodules.update((change.blob_before, change.blob_after))
    if later_count:
        what = f"{later_count:,} of {commit_count:,} commits have later dates than the newest"
        repo.notes.append(f"{what} ({format_day(repo.committed_at)}): what they changed counts as new")
    renames = _find_renames(repo, rename_candidates, submodules)
    tracker = RenameTracker(head_paths)
    for candidates in rename_candidates:
        tracker.step_back(candidates, renames)
    last_changes = {
        decode_path(path): LastChange(*last_commits[path], tracker.former_paths(path)) for path in sorted(last_commits)
    }
    return History(last_changes, rename_candidates, renames)


def first_parent_commits(repo: Repo) -> list[str]:
    """The commit and its first parents, newest first, as far as they can be read."""
    with repo.start_git("rev-list", "--first-parent", repo.commit) as output:
        return [line.decode("ascii") for line in iter(output.read_line, None)]


def read_later_changes(repo: Repo, commit: str) -> list[tuple[str, list[PathChange]]]:
    """What each commit of the main line that came after `commit` did to which path, the oldest first.

    A merge did all that the commits did which it merged.
    """
    with repo.start_git(*LATER_COMMAND, f"{commit}..{repo.commit}") as output:
        changes = list(_parse_raw_diffs(output.read_fields()))
        if message := output.failure_message():
            repo.notes.append(f"the later commits cannot be read to their end: {message}")
    return changes


class RenameTracker:
    """Tracks which files of the commit that is read continue a path, while stepping back through the history.

    "Head paths" are the paths at the commit that is read.
    """

    def __init__(self, head_paths: Iterable[bytes]) -> None:
        self._former_paths: dict[bytes, dict[bytes, None]] = {path: {} for path in head_paths}
        self._head_paths = {path: [path] for path in self._former_paths}  # path at the current step -> head paths

    def step_back(self, candidates: RenameCandidates, renames: dict[str, dict[bytes, bytes]]) -> None:
        """Step back to before a commit that adds something."""
        old_paths = renames.get(candidates.commit, {})
        for path in candidates.added:
            head_paths = self._head_paths.pop(path, [])
            old_path = old_paths.get(path, b"")
            if 0 < len(old_path) <= MAX_PATH_BYTES:
                for head_path in head_paths:
                    if old_path != head_path:
                        self._former_paths[head_path][old_path] = None
                self._head_paths.setdefault(old_path, []).extend(head_paths)

    def former_paths(self, head_path: bytes) -> tuple[str, ...]:
        """The former paths of a file up to the current step, newest first."""
        return tuple(map(decode_path, self._former_paths[head_path]))

    def current_path(self, path: bytes) -> str:
        """The head path of the file that has a path at the current step, or "". The first if there are several.

        A head path that was deleted and added again counts as the same file: in parallel branches it often is.
        """
        head_paths = self._head_paths.get(path) or ([path] if path in self._former_paths else [b""])
        return decode_path(head_paths[0])


def _read_log(repo: Repo) -> Iterator[HistoryCommit]:
    """The commits of the history, up to a limit or to where git fails."""
    path_count = byte_count = 0
    with repo.start_git(*LOG_COMMAND, repo.commit) as output:
        for index, (header, changes) in enumerate(_parse_raw_diffs(output.read_fields())):
            path_count += len(changes)
            byte_count += sum(len(each.path) + ADDED_PATH_OVERHEAD_BYTES * (each.status in "AD") for each in changes)
            commit_id, *times = header.split(" ")
            is_commit_too_large = len(changes) > MAX_CHANGED_PATHS_PER_COMMIT
            if path_count > MAX_CHANGED_PATHS or is_commit_too_large or byte_count > MAX_CHANGED_PATHS_BYTES:
                repo.notes.append(f"the history is too large and is read down to commit {commit_id} only")
                return
            committed_at, authored_at = map(parse_timestamp, times)
            is_boundary = commit_id in repo.shallow_boundary
            yield HistoryCommit(commit_id, index, committed_at, authored_at, changes, is_boundary)
        if message := output.failure_message():
            repo.incomplete_reason = UNREADABLE_REASON
            repo.notes.append(f"{repo.incomplete_reason}: {message}")


def _find_renames(
    repo: Repo, rename_candidates: list[RenameCandidates], submodules: set[str]
) -> dict[str, dict[bytes, bytes]]:
    """The renames of each commit, new path → old path. `submodules` are ids that are no blobs of the repository."""
    rename_candidates = [candidates for candidates in rename_candidates if candidates.deleted]
    blobs = {blob for each in rename_candidates for blob in (*each.added.values(), *each.deleted.values())}
    sizes = repo.blob_sizes(sorted(blobs))
    repo.has_uncertain_renames = not blobs - sizes.keys() <= submodules
    compared_commits: list[str] = []
    exact_commits: list[str] = []
    compared_bytes = 0
    for candidates in rename_candidates:
        added, deleted = set(candidates.added.values()), set(candidates.deleted.values())
        is_small = all(sizes.get(blob, MAX_COMPARED_FILE_BYTES) < MAX_COMPARED_FILE_BYTES for blob in added | deleted)
        new, old = added - deleted, deleted - added  # git finds files with the same content without comparing
        cost = sum(len(old) * sizes.get(blob, 0) for blob in new) + sum(len(new) * sizes.get(blob, 0) for blob in old)
        is_compared = is_small and compared_bytes + cost <= MAX_COMPARED_BYTES
        compared_bytes += cost if is_compared else 0
        (compared_commits if is_compared else exact_commits).append(candidates.commit)
    similar_renames, failure = _run_diff_tree(repo, compared_commits, "-M", "-l1000")
    if failure:  # a blob is damaged; searching for equal content reads no blobs
        exact_commits = [candidates.commit for candidates in rename_candidates]
    exact_renames, exact_failure = _run_diff_tree(repo, exact_commits, "-M100%")
    if failure or exact_failure:
        repo.has_uncertain_renames = True
        repo.notes.append(f"not every rename can be followed: {failure or exact_failure}")
    return {**similar_renames, **exact_renames}


def _run_diff_tree(repo: Repo, commits: Sequence[str], *options: str) -> tuple[dict[str, dict[bytes, bytes]], str]:
    """The renames of each commit, new path → old path; and the message of git if it failed."""
    if not commits:
        return {}, ""
    with TemporaryFile(dir=temporary_folder()) as input_file:
        input_file.writelines(f"{commit}\n".encode() for commit in commits)
        input_file.seek(0)
        with repo.start_git(*RENAMES_COMMAND, *options, stdin=input_file) as output:
            diffs = _parse_raw_diffs(output.read_fields())
            renames = {header: {change.path: change.old_path for change in changes} for header, changes in diffs}
            return renames, output.failure_message()


def _parse_raw_diffs(fields: Iterator[bytes]) -> Iterator[tuple[str, list[PathChange]]]:
    """Header and path changes of each commit in the `--raw -z` output of git."""
    header = ""
    changes: list[PathChange] = []
    path_bytes = 0
    for raw_field in fields:
        field = raw_field.lstrip(b"\n")
        if not field.startswith(b":"):
            if field and header:
                yield header, changes
            if field:
                header, changes, path_bytes = field.decode("ascii"), [], 0
            continue
        path = old_path = next(fields, b"")  # if git died, its output may end anywhere
        words = field.decode("ascii").split(" ")
        if words[-1][0] == "R":
            path = next(fields, b"")
        changes.append(_parse_path_change(words, path, old_path))
        path_bytes += len(path)
        if len(changes) > MAX_CHANGED_PATHS_PER_COMMIT or path_bytes > MAX_CHANGED_PATHS_BYTES:
            break
    if header:
        yield header, changes


def _parse_path_change(words: list[str], path: bytes, old_path: bytes) -> PathChange:
    """Parse `:modes… blobs… statuses`, where a merge has one colon, mode, blob and status more for each parent."""
    # ["::100644", "100644", "100644", blob of parent 1, of parent 2, of the merge, "MM"] -> 2 parents
    parent_count = len(words) // 2 - 1
    statuses = words[-1] if parent_count > 1 else words[-1][0]
    parent = next((index for index, status in enumerate(statuses) if status != "A"), 0)  # the first that has the path
    modes = words[parent].lstrip(":"), words[parent_count]
    return PathChange(statuses[parent], words[parent_count + 1 + parent], words[-2], path, old_path, modes)


def parse_timestamp(digits: str) -> int:
    """A time as git prints it, in seconds since 1970; 0 if git prints none."""
    if not digits.isdecimal():
        return 0
    # A number with more digits than the maximum is not converted: that could take very long.
    return min(int(digits), MAX_TIMESTAMP) if len(digits.lstrip("0")) <= len(str(MAX_TIMESTAMP)) else MAX_TIMESTAMP


def committer_time(commit: bytes) -> int:
    """The committer time in the data of a commit, as `git log --format=%ct` prints it; 0 if git prints none."""
    line = COMMITTER_LINE.search(commit.partition(b"\n\n")[0])
    after_name = line[1].partition(b"<")[2] if line else b""
    timestamp = COMMITTER_TIMESTAMP.match(after_name.rpartition(b">")[2]) if b">" in after_name else None
    return parse_timestamp(timestamp[1].decode("ascii")) if timestamp else 0


def format_day(timestamp: int) -> str:
    """The UTC date of a time, as `2026-01-31`."""
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()


def encode_path(path: str) -> bytes:
    """The bytes of a path; see `decode_path`."""
    return path.encode("utf-8", "surrogateescape")


def decode_path(path: bytes) -> str:
    """A path as text; bytes that are not UTF-8 become surrogates."""
    return path.decode("utf-8", "surrogateescape")

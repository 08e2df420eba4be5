"""Reads what later commits added to files, as text that a person typed, with what stood around it.

The commits of the main line are read from the oldest to the newest; a merge is one commit. Files that a model does not
know are left out: binary files, files with secrets, vendored and generated ones. Lines that were moved or copied are
not typed: three or more in a row that the repository already had (`hashing.known_lines`).
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.git.history import decode_path, read_later_changes
from git_starcoder.git.objects import FILE_MODE, MODE_TYPE_MASK
from git_starcoder.hashing.known_lines import KnownLines
from git_starcoder.hashing.texts import HashedLines
from git_starcoder.parse.language import detect_language
from git_starcoder.records import content_id
from git_starcoder.serve.disk import clean_source
from git_starcoder.text.diff import find_replaced_lines
from git_starcoder.text.encoding import split_lines
from git_starcoder.text.secrets import secret_file_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_starcoder.git.history import PathChange
    from git_starcoder.git.objects import Repo

MAX_FILE_BYTES = 1 << 20
"""Larger files are not read."""
MAX_HUNK_CHARACTERS = 1000
"""Of a longer run of added lines, these are typed, to the end of a line: a few long files would be all the text."""


class Hunk(NamedTuple):
    """Consecutive lines that a commit added, and the file around them at the time when they are typed."""

    commit: str
    path: str
    language: str
    before: str
    """The new file before them."""
    text: str
    """What is typed: whole lines."""
    after: str
    """The old file after them, from where it is not replaced."""


class CommitTexts(NamedTuple):
    """What a commit added, and the texts of the files after it."""

    commit: str
    hunks: list[Hunk]
    files: dict[str, str | None]
    """The new text of each file that the commit changed; None if there is none any more."""


class LaterText(NamedTuple):
    """What was written after a commit."""

    start: dict[str, str]
    """The text of each file at the beginning."""
    commits: list[CommitTexts]
    """The oldest first."""
    skipped: Counter[str]
    """The changes of files that are left out, and the lines that are not typed, by reason."""

    def draw(self, limit: int) -> LaterText:
        """The same with some hunks, drawn by a hash, until they have `limit` characters; all if they have fewer."""
        hunks = [hunk for commit in self.commits for hunk in commit.hunks]
        chosen: set[int] = set()
        left = limit
        for hunk in sorted(hunks, key=lambda hunk: content_id(hunk.commit, hunk.path, len(hunk.before))):
            if left <= 0:
                break
            chosen.add(id(hunk))
            left -= len(hunk.text)
        return self._replace(
            commits=[
                commit._replace(hunks=[hunk for hunk in commit.hunks if id(hunk) in chosen]) for commit in self.commits
            ]
        )


def read_later_text(repo: Repo, past: Repo) -> LaterText:
    """Read what the commits of `repo` added that came after that of `past`."""
    changes = read_later_changes(repo, past.commit)
    entries = [entry for entry in past.entries() if entry.mode & MODE_TYPE_MASK == FILE_MODE]
    blobs = {entry.blob for entry in entries}
    blobs |= {blob for _, paths in changes for each in paths for blob in (each.blob_before, each.blob_after)}
    sizes = repo.blob_sizes(sorted(blobs))
    data = dict(repo.read_blobs([blob for blob, size in sizes.items() if size <= MAX_FILE_BYTES]))
    start = {entry.path: text for entry in entries if (text := _clean(entry.path, data.get(entry.blob))) is not None}
    known = KnownLines.of(HashedLines.from_texts(start.values()))
    skipped = Counter[str]()
    commits: list[CommitTexts] = []
    for commit, paths in changes:
        hunks: list[Hunk] = []
        files: dict[str, str | None] = {}
        texts: list[bytes] = []
        for change in paths:
            path = decode_path(change.path)
            after = _clean(path, data.get(change.blob_after)) if _is_file(change) else None
            files[path] = None if after is None else after.decode("utf-8", "replace")
            if after is None:
                skipped["deleted" if change.status == "D" else "not read"] += 1
                continue
            texts.append(after)
            before = _clean(path, data.get(change.blob_before)) if change.status != "A" else b""
            if before is None:
                skipped["not read before"] += 1
                continue
            hunks += _find_hunks(commit, path, before, after, known, skipped)
        known = known.and_those_of(KnownLines.of(HashedLines.from_texts(texts)))
        commits.append(CommitTexts(commit, hunks, files))
    decoded = {path: text.decode("utf-8", "replace") for path, text in start.items()}
    return LaterText(decoded, commits, skipped)


def _is_file(change: PathChange) -> bool:
    return change.status != "D" and int(change.modes[1], 8) & MODE_TYPE_MASK == FILE_MODE


def _clean(path: str, data: object) -> bytes | None:
    """The text of a file as a build reads it; None if a model does not know it."""
    return clean_source(path, data) if isinstance(data, bytes) and not secret_file_reason(path) else None


def _find_hunks(
    commit: str, path: str, before: bytes, after: bytes, known: KnownLines, skipped: Counter[str]
) -> Iterable[Hunk]:
    """The runs of lines that were typed to make one text from another."""
    replaced = find_replaced_lines(before, after)
    if replaced is None:
        skipped["not compared"] += 1
        return
    language = detect_language(path, after)
    for old, new in replaced:
        lines = split_lines(after[new.start : new.stop])
        is_moved = known.mark_runs(HashedLines.from_texts(lines))
        skipped["lines moved"] += sum(is_moved)
        edges = list(accumulate(map(len, lines), initial=new.start))
        for first, stop in _runs(is_moved):
            text = "".join(line.decode("utf-8", "replace") for line in _first_lines(lines[first:stop]))
            if text.strip():
                rest = before[old.stop :].decode("utf-8", "replace")
                yield Hunk(commit, path, language, after[: edges[first]].decode("utf-8", "replace"), text, rest)


def _runs(is_moved: Sequence[bool]) -> Iterable[tuple[int, int]]:
    """Where the runs of lines begin and end that are not moved."""
    first = 0
    for stop in range(1, len(is_moved) + 1):
        if stop == len(is_moved) or is_moved[stop] != is_moved[first]:
            if not is_moved[first]:
                yield first, stop
            first = stop


def _first_lines(lines: Sequence[bytes]) -> Sequence[bytes]:
    """The first lines, up to `MAX_HUNK_CHARACTERS`, but at least one."""
    ends = accumulate(map(len, lines))
    return lines[: max(1, sum(end <= MAX_HUNK_CHARACTERS for end in ends))]

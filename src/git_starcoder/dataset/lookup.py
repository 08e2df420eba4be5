"""Finds what a word means in a dataset: a row, a path or a commit. Files are streamed; no row is kept in memory."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.records import SPLITS, parse_printable_path, printable_path
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.records import Split

ROW_POSITION = re.compile(r"(train|val|validation|test):(\d{1,15})")
HEX_PREFIX = re.compile(r"[0-9a-f]{4,64}")
"""What may be the beginning of a row's or a commit's id; fewer than four digits would be ambiguous."""
DROP_ID = re.compile(r"(?P<path>.*?)(#(?P<row>[0-9a-f]{16,32})|@(?P<commit>[0-9a-f]{40,64}))?", re.DOTALL)
"""The id of a drop: a path, and the row or the commit if the drop is not a whole file."""
COMMIT_IN_DETAIL = re.compile(r"\bcommit ([0-9a-f]{40,64})")
NEEDED_KEYS = {"source_file": str, "row_id": str, "commit": str, "augmentation_type": str, "window_size": int}
"""The metadata of rows that is read here, with its types."""


class RowPosition(NamedTuple):
    """Which row is meant."""

    split: Split
    row_index: int
    """Counted from 0."""


class DropRecord(NamedTuple):
    """A line of `drops.jsonl`. The fields are keys in the output of `show --json`."""

    step: str
    path: str
    """Empty if a whole commit was dropped."""
    commit: str
    """Empty if the drop is not about a commit."""
    reason: str
    because: str
    """Details of the reason."""
    things: int
    """How many things were dropped."""


@dataclass(slots=True)
class RowTally:
    """Counts of rows that have a path or a commit in common."""

    count: int = 0
    by_group: Counter[tuple[str, str, str, int]] = field(default_factory=Counter[tuple[str, str, str, int]])
    """Rows by path, split, technique and window size."""

    def add(self, split: Split, metadata: dict[str, Any]) -> None:
        """Count a row."""
        self.count += 1
        group = (metadata["source_file"], split, metadata["augmentation_type"], metadata["window_size"])
        self.by_group[group] += 1


@dataclass(slots=True)
class LookupResult:
    """All that a word may mean in a dataset, except the position of a row."""

    path: str = ""
    """The path that the word means, as rows spell it; empty if it means none."""
    rows_by_id: dict[str, RowPosition] = field(default_factory=dict[str, RowPosition])
    """Rows whose id begins with the word; of copies the first."""
    path_rows: RowTally = field(default_factory=RowTally)
    """Rows of the path."""
    commit_rows: RowTally = field(default_factory=RowTally)
    """Rows of commits whose id begins with the word."""
    commits: set[str] = field(default_factory=set[str])
    """Commits whose id begins with the word."""
    drops: list[DropRecord] = field(default_factory=list[DropRecord])
    """Drops of the path, or of those commits."""


def look_up(dataset: Dataset, word: str) -> RowPosition | LookupResult:
    """Find what a word means: `train:17`, the beginning of a row's or a commit's id, or a path.

    Raises:
        UsageError: Nothing in the dataset has this name, or several rows or commits have it.
        DatasetError: The dataset is damaged.
    """
    if position := ROW_POSITION.fullmatch(word):
        split: Split = "val" if position[1] == "validation" else cast("Split", position[1])
        return RowPosition(split, int(position[2]))
    result, paths = LookupResult(), set[str]()
    matching: dict[str, RowTally] = {}
    """Paths that the word may mean, and their rows."""
    may_be_id = bool(HEX_PREFIX.fullmatch(word))

    def matches(path: str) -> bool:
        if path not in paths:
            paths.add(path)
            if path and word in {path, parse_printable_path(path), escape_line(path)}:
                matching[path] = RowTally()
        return path in matching

    for split, index, metadata in _checked_metadata(dataset):
        if matches(metadata["source_file"]):
            matching[metadata["source_file"]].add(split, metadata)
        elif may_be_id and metadata["row_id"].startswith(word):
            result.rows_by_id.setdefault(metadata["row_id"], RowPosition(split, index))
        elif may_be_id and metadata["commit"].startswith(word):
            result.commit_rows.add(split, metadata)
            result.commits.add(metadata["commit"])
    path_drops: list[DropRecord] = []
    for drop in read_drops(dataset):
        if matches(drop.path):
            path_drops.append(drop)
        elif may_be_id and drop.commit.startswith(word):
            result.drops.append(drop)
            result.commits.add(drop.commit)
    # Prefer the path that rows spell like the word, then the one that the repository does, then the one that a
    # terminal shows like it.
    result.path = min(matching, key=lambda path: (path != word, parse_printable_path(path) != word, path), default="")
    result.path_rows = matching.get(result.path, RowTally())
    result.drops += [drop for drop in path_drops if drop.path == result.path]
    result.drops.sort(key=lambda drop: drop.path == result.path and bool(drop.commit))  # files before their changes
    return _require_one(result, printable_path(word), paths)


def _require_one(result: LookupResult, word: str, paths: set[str]) -> RowPosition | LookupResult:
    """Return the one thing that a word means; raise an error with a hint if there is not exactly one."""
    if result.path:
        return result
    ids = [*result.rows_by_id, *result.commits]
    if len(ids) > 1:
        hint = f"give more digits: {', '.join(sorted(ids)[:3])}{', …' if len(ids) > 3 else ''}"
        raise UsageError(f"'{word}' is the beginning of {len(ids)} rows or commits", where="show", hint=hint)
    if result.rows_by_id:
        return next(iter(result.rows_by_id.values()))
    if result.commits:
        return result
    same_name = [path for path in paths if path.rpartition("/")[2] == word.rpartition("/")[2]]
    close = get_close_matches(word, sorted(same_name or paths - {""}), n=1, cutoff=0.0 if same_name else 0.5)
    hint = f"did you mean '{close[0]}'?" if close else "without an argument it shows what is there"
    raise UsageError(f"'{word}' is no row, path or commit of this dataset", where="show", hint=hint)


def _checked_metadata(dataset: Dataset) -> Iterator[tuple[Split, int, dict[str, Any]]]:
    """Yield split, index and metadata of every row; an error names a row without the needed keys."""
    for split in SPLITS:
        for index, metadata in enumerate(dataset.row_metadata(split)):
            if not isinstance(cast("Any", metadata), dict):
                raise DatasetError("a row whose metadata is not an object", where=dataset.row_location(split, index))
            missing = [key for key, kind in NEEDED_KEYS.items() if not isinstance(metadata.get(key), kind)]
            if missing:
                raise DatasetError(f"a row without {missing[0]}", where=dataset.row_location(split, index))
            yield split, index, metadata


def count_rows_by_kind(dataset: Dataset) -> Counter[tuple[str, str, int]]:
    """Count the rows of a dataset by split, technique and window size.

    Raises:
        DatasetError: The dataset is damaged.
    """
    return Counter(
        (split, metadata["augmentation_type"], metadata["window_size"])
        for split, _, metadata in _checked_metadata(dataset)
    )


def read_drops(dataset: Dataset) -> Iterator[DropRecord]:
    """Yield what the build saw and did not pass on, from `drops.jsonl`.

    Raises:
        DatasetError: The file cannot be read, or a line is not a drop.
    """
    path = dataset.folder / "drops.jsonl"
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _parse_drop(orjson.loads(line))
                except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                    raise DatasetError(f"line {number} is not a drop: {error}", where=path.name) from error
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(dataset.folder)) from error


def _parse_drop(values: dict[str, Any]) -> DropRecord:
    parts = DROP_ID.fullmatch(values["id"])
    in_detail = COMMIT_IN_DETAIL.search(values["because"])
    commit = (parts and parts["commit"]) or (in_detail[1] if in_detail else "")
    path = parts["path"] if parts and values["id"] != commit else ""
    things = int(values.get("things", 1))
    return DropRecord(str(values["step"]), path, commit, str(values["reason"]), values["because"], things)

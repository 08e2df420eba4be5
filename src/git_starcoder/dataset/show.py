"""Answers `git starcoder show`: what is in a dataset, a row, or what became of a file or of a commit.

Files are streamed; no row is kept in memory.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.dataset.folder import Dataset
from git_starcoder.dataset.read_rows import numbered_lines
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.records import SPLITS, Split, parse_printable_path, printable_path
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_starcoder.dataset.explain_row import RowExplanation

ROW_POSITION = re.compile(r"(train|val|validation|test):(\d{1,15})")
HEX_PREFIX = re.compile(r"[0-9a-f]{4,64}")
"""What may be the beginning of a row's or a commit's id; fewer than four digits would be ambiguous."""
DROP_ID = re.compile(r"(?P<path>.*?)(#(?P<row>[0-9a-f]{16,32})|@(?P<commit>[0-9a-f]{40,64}))?", re.DOTALL)
"""The id of a drop: a path, and the row or the commit if the drop is not a whole file."""
COMMIT_IN_DETAIL = re.compile(r"\bcommit ([0-9a-f]{40,64})")
NEEDED_KEYS = {"source_file": str, "row_id": str, "commit": str, "augmentation_type": str, "window_size": int}
"""The metadata of rows that is read here, with its types."""
_RowCounter = Counter[tuple[str, Split, str, int]]
"""Rows by path, split, technique and window size."""


class RowPosition(NamedTuple):
    """Where a row is."""

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


class RowCount(NamedTuple):
    """A number of rows that have something in common."""

    path: str
    """The file that they come from; empty where all files are counted together."""
    split: Split
    technique: str
    """What made them: `base` or the name of an augmentation."""
    window_size: int
    """Tokens of each row."""
    rows: int


class DropCount(NamedTuple):
    """A number of things that a step saw and did not pass on, for one reason."""

    step: str
    reason: str
    drops: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What is in a dataset: the answer of `show(dataset)`."""

    splits: dict[Split, int]
    """Rows of each split."""
    rows: tuple[RowCount, ...]
    """Rows by split, technique and window size."""
    drops: tuple[DropCount, ...]
    """What was dropped, by step and reason."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What became of a file or of a commit: the answer of `show(dataset, path)` and of `show(dataset, commit)`."""

    path: str
    """The file; empty where a commit was asked for."""
    commit: str
    """The commit; empty where a file was asked for."""
    rows: tuple[RowCount, ...]
    """Its rows in the dataset."""
    drops: tuple[DropRecord, ...]
    """What was dropped of it, with step and reason."""


def show(dataset: Dataset | str | Path, what: str | None = None) -> Overview | Origin | RowExplanation:
    """Describe a dataset, a row, or why rows of a file or commit were dropped.

    Args:
        dataset: A dataset or its folder.
        what: None for an overview, `train:17` or the start of a row id for a row, or a path or a commit id.

    Returns:
        An `Overview`, an `Origin`, or for a row its text and where it comes from.

    Raises:
        DatasetError: the folder is not a dataset, or it is damaged.
        UsageError: nothing in the dataset has this name.
    """
    if not isinstance(dataset, Dataset):
        dataset = Dataset.open(dataset)
    if what is not None:
        found = look_up(dataset, what)
        if isinstance(found, Origin):
            return found
        from git_starcoder.dataset.explain_row import explain_row  # numpy needs more memory than the rest of `show`

        return explain_row(dataset, found)
    counts = count_rows_by_kind(dataset)
    rows = tuple(RowCount("", *kind, count) for kind, count in sorted(counts.items()))
    splits: dict[Split, int] = {split: sum(each.rows for each in rows if each.split == split) for split in SPLITS}
    drops = Counter[tuple[str, str]]()
    for drop in read_drops(dataset):
        drops[drop.step, drop.reason] += drop.things
    return Overview(splits, rows, tuple(DropCount(*key, count) for key, count in sorted(drops.items())))


def look_up(dataset: Dataset, word: str) -> RowPosition | Origin:
    """Find what a word means: `train:17`, the beginning of a row's or a commit's id, or a path.

    Raises:
        UsageError: Nothing in the dataset has this name, or several rows or commits have it.
        DatasetError: The dataset is damaged.
    """
    if position := ROW_POSITION.fullmatch(word):
        split: Split = "val" if position[1] == "validation" else cast("Split", position[1])
        return RowPosition(split, int(position[2]))
    may_be_id = bool(HEX_PREFIX.fullmatch(word))
    is_match: dict[str, bool] = {}  # all paths, and whether the word may mean them
    path_rows: defaultdict[str, _RowCounter] = defaultdict(_RowCounter)
    rows_by_id: dict[str, RowPosition] = {}  # rows whose id begins with the word; of copies the first
    commit_rows = _RowCounter()
    commits: set[str] = set()

    def matches(path: str) -> bool:
        if path not in is_match:
            is_match[path] = bool(path) and word in {path, parse_printable_path(path), escape_line(path)}
        return is_match[path]

    for split, index, metadata in _checked_metadata(dataset):
        path = metadata["source_file"]
        group = (path, split, metadata["augmentation_type"], metadata["window_size"])
        if matches(path):
            path_rows[path][group] += 1
        elif may_be_id and metadata["row_id"].startswith(word):
            rows_by_id.setdefault(metadata["row_id"], RowPosition(split, index))
        elif may_be_id and metadata["commit"].startswith(word):
            commit_rows[group] += 1
            commits.add(metadata["commit"])
    drops = [drop for drop in read_drops(dataset) if matches(drop.path) or (may_be_id and drop.commit.startswith(word))]
    # Prefer the path that rows spell like the word, then the one that the repository does, then the one that a
    # terminal shows like it.
    matching = [path for path in is_match if is_match[path]]
    path = min(matching, key=lambda path: (path != word, parse_printable_path(path) != word, path), default="")
    if path:
        drops = [drop for drop in drops if drop.path == path or not is_match[drop.path]]
        drops.sort(key=lambda drop: drop.path == path and bool(drop.commit))  # files before their changes
        return Origin(path, "", _row_counts(path_rows[path]), tuple(drops))
    commits |= {drop.commit for drop in drops}
    drops.sort(key=lambda drop: not drop.path)  # files before whole commits
    if len(rows_by_id) + len(commits) != 1:
        raise _ambiguous_or_unknown(printable_path(word), sorted([*rows_by_id, *commits]), set(is_match))
    if rows_by_id:
        return next(iter(rows_by_id.values()))
    return Origin("", min(commits), _row_counts(commit_rows), tuple(drops))


def _ambiguous_or_unknown(word: str, ids: list[str], paths: set[str]) -> UsageError:
    if ids:
        hint = f"give more digits: {', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}"
        return UsageError(f"'{word}' is the beginning of {len(ids)} rows or commits", where="show", hint=hint)
    same_name = [path for path in paths if path.rpartition("/")[2] == word.rpartition("/")[2]]
    close = get_close_matches(word, sorted(same_name or paths - {""}), n=1, cutoff=0.0 if same_name else 0.5)
    hint = f"did you mean '{close[0]}'?" if close else "`git starcoder show DATASET` lists what is there"
    return UsageError(f"'{word}' is no row, path or commit of this dataset", where="show", hint=hint)


def _row_counts(counter: _RowCounter) -> tuple[RowCount, ...]:
    return tuple(RowCount(*group, count) for group, count in sorted(counter.items()))


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


def count_rows_by_kind(dataset: Dataset) -> Counter[tuple[Split, str, int]]:
    """Count the rows of a dataset by split, technique and window size."""
    return Counter(
        (split, metadata["augmentation_type"], metadata["window_size"])
        for split, _, metadata in _checked_metadata(dataset)
    )


def read_drops(dataset: Dataset) -> Iterator[DropRecord]:
    """Yield what the build saw and did not pass on, from `drops.jsonl`."""
    path = dataset.folder / "drops.jsonl"
    for number, line in numbered_lines(path):
        try:
            yield _parse_drop(orjson.loads(line))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"line {number} is not a drop: {error}", where=path.name) from error


def _parse_drop(values: dict[str, Any]) -> DropRecord:
    parts = DROP_ID.fullmatch(values["id"])
    in_detail = COMMIT_IN_DETAIL.search(values["because"])
    commit = (parts and parts["commit"]) or (in_detail[1] if in_detail else "")
    path = parts["path"] if parts and values["id"] != commit else ""
    things = int(values.get("things", 1))
    return DropRecord(str(values["step"]), path, commit, str(values["reason"]), values["because"], things)

"""`show` of the public Python API: what `git starcoder show` prints, as typed objects."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from git_starcoder.records import SPLITS

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.explain_row import RowExplanation
    from git_starcoder.dataset.lookup import DropRecord
    from git_starcoder.records import Split


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
    """Show what is in a dataset, a row, or what became of a file or commit.

    Args:
        dataset: A dataset or its folder.
        what: Nothing for an overview; `train:17` or the beginning of a row id for a row; else a path or a commit.

    Returns:
        An `Overview`, an `Origin`, or for a row its text and where it comes from.

    Raises:
        DatasetError: the folder is not a dataset, or it is damaged.
        UsageError: nothing in the dataset has this name.

    """
    from git_starcoder.dataset import Dataset, explain_row, lookup

    if not isinstance(dataset, Dataset):
        dataset = Dataset.open(dataset)
    if what is None:
        counts = lookup.count_rows_by_kind(dataset)
        rows = tuple(
            RowCount("", cast("Split", split), technique, size, count)
            for (split, technique, size), count in sorted(counts.items())
        )
        splits: dict[Split, int] = {split: sum(each.rows for each in rows if each.split == split) for split in SPLITS}
        drops = Counter[tuple[str, str]]()
        for drop in lookup.read_drops(dataset):
            drops[drop.step, drop.reason] += drop.things
        return Overview(splits, rows, tuple(DropCount(*key, count) for key, count in sorted(drops.items())))
    found = lookup.look_up(dataset, what)
    if not isinstance(found, lookup.LookupResult):
        return explain_row.explain_row(dataset, found)
    matching = found.path_rows if found.path else found.commit_rows
    counted = tuple(
        RowCount(path, cast("Split", split), technique, size, count)
        for (path, split, technique, size), count in sorted(matching.by_group.items())
    )
    return Origin(found.path, "" if found.path else min(found.commits), counted, tuple(found.drops))

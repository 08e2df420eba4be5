"""Statistics of a dataset's rows, counted in one pass over their metadata. No token is read."""

from __future__ import annotations

from array import array
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from git_starcoder.errors import DatasetError
from git_starcoder.records import SPLITS
from git_starcoder.row_layout import BASE, loss_token_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

CANDIDATES_PER_TECHNIQUE = 8
"""The number of rows kept per technique, from which the page chooses its sample."""
FILL_BINS = 20
"""The number of bins of the histogram of how much of a window is text."""
MAX_AGE_DAYS = 100_000
"""Older rows count as this old: a commit can claim any date, and the time axis must stay drawable."""


class RowGroup(NamedTuple):
    """The properties by which rows are counted."""

    split: Split
    technique: str
    window_size: int
    language: str
    role: str


class AgeGroup(NamedTuple):
    """The age of a row's code, its split, and whether the row shows a change."""

    age_days: int
    """Days between the last change and the newest commit."""
    split: Split
    is_change: bool


class SampleCandidate(NamedTuple):
    """A row that may be shown as a sample. Candidates sort by window size, then by row id.

    A row id is a hash, so its order is a random draw that does not depend on the order of rows.
    """

    window_size: int
    row_id: str
    row_number: int
    path: str


@dataclass(slots=True)
class RowTotals:
    """The number of rows, of their tokens in the loss, and of these tokens times the row's weight."""

    rows: int = 0
    tokens: int = 0
    weight: float = 0.0

    def add(self, rows: int, tokens: int, weight: float) -> None:
        """Adds rows, tokens and weight."""
        self.rows += rows
        self.tokens += tokens
        self.weight += weight


@dataclass(slots=True)
class FileTotals:
    """The totals of the training rows of one file."""

    role: str
    language: str
    totals: RowTotals = field(default_factory=RowTotals)


@dataclass(slots=True)
class RowStatistics:
    """The statistics of all rows of a dataset."""

    by_group: dict[RowGroup, RowTotals] = field(default_factory=dict[RowGroup, RowTotals])
    by_age: dict[AgeGroup, RowTotals] = field(default_factory=dict[AgeGroup, RowTotals])
    train_files: dict[str, FileTotals] = field(default_factory=dict[str, FileTotals])
    """The totals of each training file, by path."""
    fill_counts: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    """The number of rows by window size and fill bin: bin 0 is nearly empty, the last bin is nearly full."""
    padding_tokens: Counter[int] = field(default_factory=Counter[int])
    """The number of padding tokens, by window size."""
    base_lengths: dict[str, int] = field(default_factory=dict[str, int])
    """The number of tokens of each `base` sample without its header, by sample id."""
    base_tokens: Counter[int] = field(default_factory=Counter[int])
    """The number of tokens in `base` rows without headers, by window size.

    Tokens in overlapping windows count repeatedly.
    """
    train_difficulties: array[float] = field(default_factory=lambda: array("d"))
    """One entry per training row, in file order; so are the next two."""
    train_window_sizes: array[int] = field(default_factory=lambda: array("l"))
    train_stages: array[int] = field(default_factory=lambda: array("l"))
    candidates: dict[str, list[SampleCandidate]] = field(default_factory=dict[str, "list[SampleCandidate]"])
    """Training rows to choose samples from, by technique."""
    splits_of: dict[str, dict[str, set[Split]]] = field(
        default_factory=lambda: {"files": {}, "leak groups": {}, "rows": {}}
    )
    """The splits that each file, leak group and row is in. Rows are identified by a hash of their tokens.

    Files and rows of which only lines are held out are not in it.
    """
    row_ids: set[str] = field(default_factory=set[str])
    """The ids of all rows. Rows with equal tokens have one id."""

    def total(self, **wanted: Any) -> RowTotals:
        """Sums the rows whose `RowGroup` has the wanted values, for example `total(split="val", role="test")`."""
        result = RowTotals()
        for group, totals in self.by_group.items():
            if all(getattr(group, name) == value for name, value in wanted.items()):
                result.add(totals.rows, totals.tokens, totals.weight)
        return result

    def values(self, name: str) -> list[Any]:
        """The values of a `RowGroup` field, most tokens first; window sizes in ascending order."""
        tokens: Counter[Any] = Counter()
        for group, totals in self.by_group.items():
            tokens[getattr(group, name)] += totals.tokens
        return sorted(tokens) if name == "window_size" else sorted(tokens, key=lambda value: (-tokens[value], value))


def count_rows(dataset: Dataset) -> RowStatistics:
    """Reads the metadata of every row and counts; a `DatasetError` if that of a row is damaged."""
    statistics = RowStatistics()
    for split in SPLITS:
        for row_number, metadata in enumerate(dataset.row_metadata(split)):
            try:
                _count_row(statistics, split, row_number, metadata)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                where = dataset.row_location(split, row_number)
                raise DatasetError(f"the row's metadata is damaged: {error}", where=where) from error
    return statistics


def _count_row(statistics: RowStatistics, split: Split, row_number: int, metadata: dict[str, Any]) -> None:
    technique, window_size = str(metadata["augmentation_type"]), metadata["window_size"]
    if not isinstance(window_size, int) or window_size <= 0:
        raise ValueError(f"a window of {window_size!r} tokens")
    path, role, language, row_id = (str(metadata[name]) for name in ("source_file", "role", "language", "row_id"))
    length, weight = metadata["length"], float(metadata["weight"])
    if not (isfinite(weight) and weight >= 0 and 0 <= length <= window_size):
        raise ValueError(f"weight {weight}, length {length} in a window of {window_size}")
    loss_tokens = loss_token_count(metadata)
    totals = 1, loss_tokens, weight * loss_tokens
    group = RowGroup(split, technique, window_size, language, role)
    statistics.by_group.setdefault(group, RowTotals()).add(*totals)
    age_days = min(max(0, int(metadata["age_days"])), MAX_AGE_DAYS)
    age_group = AgeGroup(age_days, split, bool(metadata.get("is_evolution")))
    statistics.by_age.setdefault(age_group, RowTotals()).add(*totals)
    statistics.fill_counts[window_size, min(FILL_BINS - 1, length * FILL_BINS // window_size)] += 1
    statistics.padding_tokens[window_size] += window_size - length
    statistics.row_ids.add(row_id)
    names = path, str(metadata["group"]), row_id
    for (kind, splits_by_name), name in zip(statistics.splits_of.items(), names, strict=True):
        if "scored" in metadata and kind != "leak groups":
            continue  # only lines of the file are held out, and the check `held_out_lines` counts them
        splits_by_name.setdefault(name, set()).add(split)
    if technique == BASE:
        sample = str(metadata["sample"])
        text_length = length - metadata.get("context", 0)
        end = int(metadata["token_start"]) + text_length
        statistics.base_lengths[sample] = max(statistics.base_lengths.get(sample, 0), end)
        statistics.base_tokens[window_size] += text_length
    if split == "train":
        statistics.train_files.setdefault(path, FileTotals(role, language)).totals.add(*totals)
        statistics.train_difficulties.append(metadata["complexity"])
        statistics.train_window_sizes.append(window_size)
        statistics.train_stages.append(metadata.get("stage", 0))
        candidates = statistics.candidates.setdefault(technique, [])
        candidate = SampleCandidate(window_size, row_id, row_number, path)
        if len(candidates) < CANDIDATES_PER_TECHNIQUE or candidate < candidates[-1]:
            insort(candidates, candidate)
            del candidates[CANDIDATES_PER_TECHNIQUE:]


def read_json_lines(dataset: Dataset, name: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a file of the dataset, one per line. A file that does not exist has none."""
    path = dataset.folder / name
    if not path.is_file():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise DatasetError(f"line {number} is not JSON: {error}", where=name) from error
            if not isinstance(value, dict):
                raise DatasetError(f"line {number} is not a JSON object", where=name)
            yield value

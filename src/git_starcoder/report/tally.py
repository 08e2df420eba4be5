"""One reading of what the rows say of themselves, counted; tokens are passed over."""

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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

CANDIDATES = 8
"""Rows of each kind that are remembered, to choose a sample from."""
PARTS = 20
"""Into how many parts the share of a window that is text is sorted."""
OLDEST = 100_000
"""Days; what is older (a commit can say any time) counts as so old."""


class Key(NamedTuple):
    """What rows are counted by."""

    split: Split
    made_by: str
    size: int
    language: str
    role: str


class Day(NamedTuple):
    """When what a row shows was last changed."""

    age: int
    """Days before the newest commit."""
    split: Split
    change: bool
    """Whether the row shows a change."""


class Candidate(NamedTuple):
    """A row that may be shown."""

    size: int
    row_id: str
    """Sorting by this hash is a draw that does not depend on the order of rows."""
    number: int
    path: str


@dataclass(slots=True)
class Amount:
    """Rows, the tokens of them that count for the loss, and these times the rows' weights."""

    rows: int = 0
    tokens: int = 0
    weight: float = 0.0

    def add(self, rows: int, tokens: int, weight: float) -> None:
        """Count more."""
        self.rows += rows
        self.tokens += tokens
        self.weight += weight


@dataclass(slots=True)
class File:
    """What the training rows of a file come to."""

    role: str
    language: str
    amount: Amount = field(default_factory=Amount)


@dataclass(slots=True)
class Tally:
    """What all rows come to."""

    by: dict[Key, Amount] = field(default_factory=dict[Key, Amount])
    files: dict[str, File] = field(default_factory=dict[str, File])
    """Of training, by path."""
    days: dict[Day, Amount] = field(default_factory=dict[Day, Amount])
    fill: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    """Rows by window size and the share of the window that is text, in `PARTS` parts."""
    padding: Counter[int] = field(default_factory=Counter[int])
    """Tokens of padding by window size."""
    ends: dict[str, int] = field(default_factory=dict[str, int])
    """How many tokens a `base` text has, by sample."""
    shown: Counter[int] = field(default_factory=Counter[int])
    """Tokens of `base` rows by window size."""
    complexity: array[float] = field(default_factory=lambda: array("d"))
    """Of the training rows in their order."""
    sizes: array[int] = field(default_factory=lambda: array("l"))
    stages: array[int] = field(default_factory=lambda: array("l"))
    candidates: dict[str, list[Candidate]] = field(default_factory=dict[str, "list[Candidate]"])
    """Of the training rows, the drawn ones by what made them."""
    owners: dict[str, dict[str, set[Split]]] = field(
        default_factory=lambda: {"files": {}, "groups of files": {}, "rows": {}}
    )
    """In which splits a thing of each kind is; rows by a hash of their tokens."""

    def total(self, **wanted: Any) -> Amount:
        """What rows with these values of `Key` come to."""
        found = Amount()
        for key, amount in self.by.items():
            if all(getattr(key, name) == value for name, value in wanted.items()):
                found.add(amount.rows, amount.tokens, amount.weight)
        return found

    def values(self, name: str) -> list[Any]:
        """The values of a field of `Key`, those with the most tokens first; sizes in their order."""
        found: Counter[Any] = Counter()
        for key, amount in self.by.items():
            found[getattr(key, name)] += amount.tokens
        return sorted(found) if name == "size" else sorted(found, key=lambda value: (-found[value], value))


def counted(dataset: Dataset) -> Tally:
    """Read the metadata of every row, once.

    Raises:
        DatasetError: a row does not say what it must.
    """
    result = Tally()
    for split in SPLITS:
        for number, about in enumerate(dataset.row_metadata(split)):
            try:
                _add(result, split, number, about)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise DatasetError(f"the row is damaged: {error}", where=dataset.row_location(split, number)) from error
    return result


def _add(result: Tally, split: Split, number: int, about: dict[str, Any]) -> None:
    made_by, size, length = str(about["augmentation_type"]), _positive(about["window_size"]), about["length"]
    path, role, language, row_id = (str(about[name]) for name in ("source_file", "role", "language", "row_id"))
    weight = float(about["weight"])
    if not (isfinite(weight) and weight >= 0 and 0 <= length <= size):
        raise ValueError(f"weight {weight}, length {length} of {size}")
    learned = length - about.get("context", 0)
    amount = 1, learned, weight * learned
    result.by.setdefault(Key(split, made_by, size, language, role), Amount()).add(*amount)
    age = min(max(0, int(about["age_days"])), OLDEST)
    result.days.setdefault(Day(age, split, bool(about.get("is_evolution"))), Amount()).add(*amount)
    result.fill[size, min(PARTS - 1, length * PARTS // size)] += 1
    result.padding[size] += size - length
    for kind, name in zip(result.owners, (path, str(about["group"]), row_id), strict=True):
        result.owners[kind].setdefault(name, set()).add(split)
    if made_by == "base":
        sample = str(about["sample"])
        result.ends[sample] = max(result.ends.get(sample, 0), int(about["token_start"]) + length)
        result.shown[size] += length
    if split == "train":
        result.files.setdefault(path, File(role, language)).amount.add(*amount)
        result.complexity.append(about["complexity"])
        result.sizes.append(size)
        result.stages.append(about.get("stage", 0))
        best = result.candidates.setdefault(made_by, [])
        candidate = Candidate(size, row_id, number, path)
        if len(best) < CANDIDATES or candidate < best[-1]:
            insort(best, candidate)
            del best[CANDIDATES:]


def _positive(value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"a window of {value!r}")
    return value


def lines(dataset: Dataset, name: str) -> Iterator[dict[str, Any]]:
    """The objects in a file of the dataset, one on each line; none where it has no such file.

    Raises:
        DatasetError: a line is not an object.
    """
    path = dataset.folder / name
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise DatasetError(f"line {number} is not JSON: {error}", where=name) from error
            if not isinstance(value, dict):
                raise DatasetError(f"line {number} is not an object", where=name)
            yield value

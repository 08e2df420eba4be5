"""What in a dataset a word means: a row, a path or a commit. The files are streamed, nothing of them is kept."""

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

    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

PLACE = re.compile(r"(train|val|validation|test):(\d{1,15})")
DIGITS = re.compile(r"[0-9a-f]{4,64}")
OF = re.compile(r"(?P<path>.*?)(#(?P<row>[0-9a-f]{16,32})|@(?P<commit>[0-9a-f]{40,64}))?", re.DOTALL)
"""The id of a drop: a path, and which row or which commit."""
NEEDED = {"source_file": str, "row_id": str, "commit": str, "augmentation_type": str, "window_size": int}
COMMIT = re.compile(r"\bcommit ([0-9a-f]{40,64})")


class Place(NamedTuple):
    """Where a row lies."""

    split: Split
    number: int
    """From 0."""


class Gone(NamedTuple):
    """A line of `drops.jsonl`."""

    step: str
    path: str
    """Empty where the drop is a whole commit."""
    commit: str
    """Empty where it is not about one."""
    reason: str
    because: str
    things: int


@dataclass(slots=True)
class Rows:
    """Rows that have something in common, counted."""

    count: int = 0
    by: Counter[tuple[str, str, str, int]] = field(default_factory=Counter[tuple[str, str, str, int]])
    """By path, split, what made them, and window size."""

    def add(self, split: Split, about: dict[str, Any]) -> None:
        """Count one more."""
        self.count += 1
        self.by[about["source_file"], split, about["augmentation_type"], about["window_size"]] += 1


@dataclass(slots=True)
class Found:
    """What a word means, once all of the dataset was looked at."""

    path: str = ""
    """The path that it means, as rows have it; empty where it means none."""
    ids: dict[str, Place] = field(default_factory=dict[str, "Place"])
    """Rows whose id begins with it, the first copy of each."""
    of_path: Rows = field(default_factory=Rows)
    of_commit: Rows = field(default_factory=Rows)
    commits: set[str] = field(default_factory=set[str])
    """Commits whose id begins with it."""
    drops: list[Gone] = field(default_factory=list[Gone])
    """Of the path, or of those commits."""


def find(dataset: Dataset, word: str) -> Place | Found:
    """Look a word up: `train:17`, the beginning of a row's id or of a commit's, or a path.

    Raises:
        UsageError: nothing in the dataset is called so, or several rows are.
        DatasetError: the dataset is damaged.
    """
    if place := PLACE.fullmatch(word):
        split: Split = "val" if place[1] == "validation" else cast("Split", place[1])
        return Place(split, int(place[2]))
    found, paths = Found(), set[str]()
    meant: dict[str, Rows] = {}
    """Paths that the word may mean, and their rows."""
    digits = bool(DIGITS.fullmatch(word))

    def is_meant(path: str) -> bool:
        if path not in paths:
            paths.add(path)
            if path and word in {path, parse_printable_path(path), escape_line(path)}:
                meant[path] = Rows()
        return path in meant

    for split, number, about in _abouts(dataset):
        if is_meant(about["source_file"]):
            meant[about["source_file"]].add(split, about)
        elif digits and about["row_id"].startswith(word):
            found.ids.setdefault(about["row_id"], Place(split, number))
        elif digits and about["commit"].startswith(word):
            found.of_commit.add(split, about)
            found.commits.add(about["commit"])
    gone_of_paths: list[Gone] = []
    for gone in drops(dataset):
        if is_meant(gone.path):
            gone_of_paths.append(gone)
        elif digits and gone.commit.startswith(word):
            found.drops.append(gone)
            found.commits.add(gone.commit)
    # A name that is written as rows write it is that one; else it is the file's own, else as a terminal shows it.
    found.path = min(meant, key=lambda path: (path != word, parse_printable_path(path) != word, path), default="")
    found.of_path = meant.get(found.path, Rows())
    found.drops += [gone for gone in gone_of_paths if gone.path == found.path]
    found.drops.sort(key=lambda gone: gone.path == found.path and bool(gone.commit))  # the file before what changed it
    return _one(found, printable_path(word), paths)


def _one(found: Found, word: str, paths: set[str]) -> Place | Found:
    """The one thing that is meant."""
    if found.path:
        return found
    meant = [*found.ids, *found.commits]
    if len(meant) > 1:
        hint = f"give more digits: {', '.join(sorted(meant)[:3])}{', …' if len(meant) > 3 else ''}"
        raise UsageError(f"'{word}' is the beginning of {len(meant)} rows or commits", where="show", hint=hint)
    if found.ids:
        return next(iter(found.ids.values()))
    if found.commits:
        return found
    same = [path for path in paths if path.rpartition("/")[2] == word.rpartition("/")[2]]
    close = get_close_matches(word, sorted(same or paths - {""}), n=1, cutoff=0.0 if same else 0.5)
    hint = f"did you mean '{close[0]}'?" if close else "without an argument it shows what is there"
    raise UsageError(f"'{word}' is no row, path or commit of this dataset", where="show", hint=hint)


def _abouts(dataset: Dataset) -> Iterator[tuple[Split, int, dict[str, Any]]]:
    for split in SPLITS:
        for number, about in enumerate(dataset.about(split)):
            if not isinstance(cast("Any", about), dict):
                raise DatasetError("a row whose metadata is not an object", where=dataset.place(split, number))
            missing = [key for key, kind in NEEDED.items() if not isinstance(about.get(key), kind)]
            if missing:
                raise DatasetError(f"a row without {missing[0]}", where=dataset.place(split, number))
            yield split, number, about


def table(dataset: Dataset) -> Counter[tuple[str, str, int]]:
    """Rows by split, what made them, and window size.

    Raises:
        DatasetError: the dataset is damaged.
    """
    counts: Counter[tuple[str, str, int]] = Counter()
    for split, _, about in _abouts(dataset):
        counts[split, about["augmentation_type"], about["window_size"]] += 1
    return counts


def drops(dataset: Dataset) -> Iterator[Gone]:
    """What was seen and is not in the dataset.

    Raises:
        DatasetError: a line is not a drop.
    """
    path = dataset.folder / "drops.jsonl"
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _gone(orjson.loads(line))
                except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                    raise DatasetError(f"line {number} is not a drop: {error}", where=path.name) from error
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(dataset.folder)) from error


def _gone(drop: dict[str, Any]) -> Gone:
    of = OF.fullmatch(drop["id"])
    told = COMMIT.search(drop["because"])
    commit = (of and of["commit"]) or (told[1] if told else "")
    path = of["path"] if of and drop["id"] != commit else ""
    return Gone(str(drop["step"]), path, commit, str(drop["reason"]), drop["because"], int(drop.get("things", 1)))

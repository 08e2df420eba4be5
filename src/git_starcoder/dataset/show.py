"""Answers `git starcoder show`: what is in a dataset, a row, or what became of a file or of a commit.

Files are streamed; no row is kept in memory.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import orjson

from git_starcoder.dataset.folder import Dataset
from git_starcoder.dataset.read_rows import numbered_lines
from git_starcoder.dataset.samples import UNKNOWN_TOKEN, JoinedWindows
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.layout import BASE, CURRICULUM_STAGES, age_factor, role_factor
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS, Split, parse_printable_path, printable_path
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_starcoder.dataset.read_rows import Row
    from git_starcoder.text.tokenizer import Tokenizer

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


class RowSegment(NamedTuple):
    """A part of a row's text. The fields are keys in the output of `show --json`."""

    text: str
    counts: bool
    """Whether it is in the loss."""
    control: bool = False
    """Whether it is a control token, as it is spelled."""


class FileExtent(NamedTuple):
    """Which part of its file a row is. The file has LF line ends and no byte order mark.

    The fields are keys in the output of `show --json`.
    """

    first_byte: int
    last_byte: int
    """Exclusive."""
    first_line: int
    """Counted from 1."""
    last_line: int


class RowExplanation(NamedTuple):
    """All that can be said about a row."""

    row: Row
    location: str
    """File and line."""
    row_id: str
    facts: dict[str, str]
    """Sentences for a person, each with a heading."""
    weight_factors: dict[str, float]
    """The weight is their product."""
    extent: FileExtent | None
    segments: list[RowSegment]


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
    if not isinstance(dataset, Dataset):
        dataset = Dataset.open(dataset)
    if what is not None:
        found = look_up(dataset, what)
        return found if isinstance(found, Origin) else explain_row(dataset, found)
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
    hint = f"did you mean '{close[0]}'?" if close else "without an argument it shows what is there"
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


def explain_row(dataset: Dataset, position: RowPosition) -> RowExplanation:
    """Explain the row at a position. A `DatasetError` says that there is none, or that the dataset is damaged."""
    row = next(dataset.select(position.split, lambda index, _: index == position.row_index), None)
    if row is None:
        hint = f"the last one is {position.split}:{dataset.count(position.split) - 1}; they count from 0"
        what = f"there is no row {position.split}:{position.row_index}"
        raise DatasetError(what, where=str(dataset.folder), hint=hint)
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    location = dataset.row_location(*position)
    try:
        factors = weight_factors(recipe, row.metadata)
        extent = _file_extent(dataset, position, row, tokenizer)
        facts = _facts(row, factors, extent, position, dataset.count(position.split))
        row_id = str(row.metadata["row_id"])
        return RowExplanation(row, location, row_id, facts, factors, extent, split_row(row, tokenizer))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DatasetError(f"the row is damaged: {error}", where=location) from error


def split_row(row: Row, tokenizer: Tokenizer) -> list[RowSegment]:
    """Return the text of a row without padding, cut where the loss begins and at control tokens."""
    tokens = np.array(row.tokens[: row.metadata["length"]], dtype=np.int64)
    controls = [index for index, token in enumerate(tokens.tolist()) if token in tokenizer.control_tokens]
    context_length = min(row.context_length, len(tokens))
    cuts = sorted({0, len(tokens), context_length, *controls, *(index + 1 for index in controls)})
    segments: list[RowSegment] = []
    for start, stop in pairwise(cuts):
        text = tokenizer.decode(tokens[start:stop]).decode("utf-8", "replace")
        segments.append(RowSegment(text, start >= row.context_length, start in controls))
    return segments


def weight_factors(recipe: Recipe, metadata: dict[str, Any]) -> dict[str, float]:
    """Return the factors whose product is the weight of a row."""
    options = recipe.weigh
    return {
        "role": role_factor(metadata["role"], options.core, options.utility, options.test),
        "age": age_factor(metadata["age_days"], options.recent, options.old),
        "evolution": options.evolution if metadata.get("is_evolution") else 1.0,
    }


def _facts(
    row: Row, factors: dict[str, float], extent: FileExtent | None, position: RowPosition, row_count: int
) -> dict[str, str]:
    metadata = row.metadata
    length, size = metadata["length"], metadata["window_size"]
    part = ", lines {2:,}-{3:,}, bytes {0:,}-{1:,}".format(*extent) if extent else ""
    made_by = metadata["augmentation_type"] + (f" ({metadata['kind']})" if metadata.get("kind") else "")
    product = " × ".join(f"{name} {factor:g}" for name, factor in factors.items())
    weight = metadata.get("weight_of_row", metadata["weight"])
    copies = f", copy {metadata['copy'] + 1} of {metadata['copies']}" if "copies" in metadata else ""
    stage = f"stage {metadata['stage']} of {CURRICULUM_STAGES}, " if "stage" in metadata else ""
    commit = metadata["commit"] or "unknown"
    facts = {
        "file": f"{metadata['source_file']}{part}",
        "commit": f"{commit}, {metadata['age_days']} days before the newest; blob {metadata['blob']}",
        "made by": f"{made_by}, window {metadata['chunk_index'] + 1} of {metadata['total_chunks']}, "
        f"from token {metadata['token_start']:,}",
        "tokens": f"{size:,}, {size - length:,} of them padding; {length - row.context_length:,} count for the loss",
        "weight": f"{weight:g} = {product}{copies}",
        "role": f"{metadata['role']}, {metadata['language']}",
        "order": f"{stage}complexity {metadata['complexity']:g}, row {position.row_index + 1:,} of {row_count:,}",
        "split": f"{position.split}, group {metadata['group']}, sample {metadata['sample']}",
    }
    if metadata.get("commit_message"):
        facts["message"] = metadata["commit_message"]
    return facts


def _file_extent(dataset: Dataset, position: RowPosition, row: Row, tokenizer: Tokenizer) -> FileExtent | None:
    """Return where the text of a `base` row stands in its file; None if rows do not show all text before it."""
    metadata = row.metadata
    if metadata["augmentation_type"] != BASE or tokenizer.token_byte_counts is None:
        return None
    sample, start = metadata["sample"], metadata["token_start"]

    def is_earlier(_: int, other: dict[str, Any]) -> bool:
        return other["sample"] == sample and other["token_start"] < start

    earlier = JoinedWindows()
    for other in dataset.select(position.split, is_earlier) if start else ():
        window = np.array(other.tokens[: other.metadata["length"]], dtype=np.int32)
        earlier.join(other.metadata["token_start"], window)
    before = earlier.tokens[: min(start, earlier.length)]
    if len(before) < start or UNKNOWN_TOKEN in before:
        return None
    text = tokenizer.decode(before)
    tokens = [token for token in row.tokens[: metadata["length"]] if token not in tokenizer.control_tokens]
    own = tokenizer.decode(np.array(tokens, dtype=np.int64))
    first_line = text.count(b"\n") + 1
    last_line = first_line + own.removesuffix(b"\n").count(b"\n")
    return FileExtent(len(text), len(text) + len(own), first_line, last_line)

"""What the step split has to know of the files of a repository, in a form that can be stored and joined."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, fsum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from git_starcoder import augmentations
from git_starcoder.hashing.arrays import SHINGLE_TOKENS, run_offsets
from git_starcoder.hashing.near_duplicates import ComparableTexts, describe_texts, join_shingles
from git_starcoder.hashing.texts import HashedLines, TextShingles
from git_starcoder.memo import Memo
from git_starcoder.records import content_id, dataset_path
from git_starcoder.row_layout import window_stride
from git_starcoder.stages.augment import draw_variations
from git_starcoder.stages.history_gate import ComparableChanges, cached_lines, describe_changes
from git_starcoder.stages.row_table import ROLE_PREFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState
    from git_starcoder.hashing.texts import JoinedShingles
    from git_starcoder.records import Change, Span, Unit


T = TypeVar("T")

TOKENS_PER_WORD = 1.33
"""Tokens per word or run of signs, to estimate the length of a text before there is a tokenizer. Learned tokenizers
need 1.2 to 1.5, depending on the repository."""
DELETED_FILES_GROUP = "gone"
"""The group of changes to deleted files whose path no later file has; part of the dataset's bytes."""
BLANK_DIGEST = "blank "
"""Stands with its path for the digest of a blank text."""


class FileTable(NamedTuple):
    """What the join needs to know of the files and changes of one repository."""

    name: str
    """The name of the repository; empty if the dataset has only this one."""
    paths: list[str]
    """The path of each file."""
    oldest_paths: list[str]
    """The first path that each file is known to have had."""
    roles: NDArray[np.int8]
    """The role of each file, as an index into `ROLE_PREFERENCE`."""
    changed_at: NDArray[np.int64]
    """The committer time of the last change of each file."""
    lineage_links: NDArray[np.int64]
    """Pairs of files that had one path, as indexes, shape (links, 2)."""
    text_of_file: NDArray[np.int64]
    """For each file the index of its text."""
    first_file: NDArray[np.int64]
    """For each different text the index of its first file by path."""
    digests: list[str]
    """A hash of each text."""
    expected_rows: NDArray[np.float64]
    """The expected rows of the first file of each text."""
    compared: ComparableTexts
    """What texts are compared by."""
    lines: HashedLines
    """The lines of each text, as the gate compares them; of no text if the recipe reads no changes."""
    file_of_change: NDArray[np.int64]
    """For each change the index of its file; -1 if nothing is left of the file."""
    rows_of_change: NDArray[np.float64]
    """The expected rows of each change."""
    changes: ComparableChanges
    """What changes are compared by."""

    @property
    def size(self) -> int:
        """About how many words and signs the texts have, in a form that a small commit seldom changes."""
        return round_to_three_bits(float(self.compared.shingles.offsets[-1]))


def describe_files(
    build: BuildState, recipe: recipes.Recipe, units: Sequence[Unit], changes: Sequence[Change], name: str = ""
) -> FileTable:
    """What the join needs to know of the units and changes of one repository."""
    digests = [_text_digest(build, unit) for unit in units]
    first_unit: dict[str, int] = {}
    for index in sorted(range(len(units)), key=lambda index: units[index].path):
        first_unit.setdefault(digests[index], index)
    spans = {digest: units[index].source.text for digest, index in first_unit.items()}
    text_index = {digest: index for index, digest in enumerate(first_unit)}
    shingles = _cached_shingles(build, spans)
    lines = cached_lines(build, list(spans), lambda digest: (digest,), lambda digest: [build.texts.get(spans[digest])])
    token_counts = ((shingles.shingle_counts() + SHINGLE_TOKENS - 1) * TOKENS_PER_WORD).tolist()
    expected_rows = [
        expected_row_count(token_count, recipe.window, expected_variations(build, units[index], recipe.augment))
        for index, token_count in zip(first_unit.values(), token_counts, strict=True)
    ]
    unit_of_path = {path: index for index, unit in enumerate(units) for path in _all_paths(unit)}
    file_of_change = [unit_of_path.get(change.current_path, unit_of_path.get(change.path, -1)) for change in changes]
    shares = fsum(option.share for key, option in recipe.augment.items() if augmentations.input_kind(key) == "change")
    return FileTable(
        name=name,
        paths=[unit.path for unit in units],
        oldest_paths=[oldest_path(unit) for unit in units],
        roles=np.array([ROLE_PREFERENCE.index(unit.role) for unit in units], dtype=np.int8),
        changed_at=np.array([unit.changed_at for unit in units], dtype=np.int64),
        lineage_links=_find_lineage_links(units),
        text_of_file=np.array([text_index[digest] for digest in digests], dtype=np.int64),
        first_file=np.array(list(first_unit.values()), dtype=np.int64),
        digests=list(first_unit),
        expected_rows=np.array(expected_rows, dtype=np.float64),
        compared=describe_texts(shingles, lines, build.engine.jobs),
        lines=lines if recipe.read.changes or changes else HashedLines.from_texts([]),
        file_of_change=np.array(file_of_change, dtype=np.int64),
        # For each augmentation for changes, a change has a row for each edit, and for each edit that follows another.
        rows_of_change=np.array([shares * (2 * len(change.edits) - 1) for change in changes], dtype=np.float64),
        changes=describe_changes(build, changes, recipe.read),
    )


def expected_row_count(tokens: float, window: recipes.WindowOptions, variations: int) -> int:
    """Approximate rows of a text of so many tokens and of its variations, over all window sizes.

    For example, 126 tokens in windows of 100 with an overlap of 0.75 (a stride of 25) give 3 rows.
    """
    rows = 0
    for size in window.sizes:
        rows += 1 + max(0, ceil((tokens - size) / window_stride(size, window.overlap)))
        if tokens <= size:
            break
    return rows * (1 + variations)


def expected_variations(build: BuildState, unit: Unit, variations: Mapping[str, recipes.AugmentationOptions]) -> int:
    """Approximate samples of a unit besides its own text: the augmentations drawn for it that can be made of it."""
    can_be_made = {"text": True, "tree": unit.parse_status == "clean", "imports": bool(unit.imports)}
    drawn = draw_variations(build, variations, unit)
    return sum(can_be_made.get(augmentations.input_kind(variation.key), False) for variation in drawn)


def _text_digest(build: BuildState, unit: Unit) -> str:
    """A hash of the unit's text. Blank texts all differ: as copies they would connect files that share nothing."""
    text = build.texts.get(unit.source.text)
    return content_id(text) if text.strip() else BLANK_DIGEST + unit.source.path


def _cached_shingles(build: BuildState, spans: Mapping[str, Span]) -> TextShingles:
    """The shingles of texts, which are given as digest → span."""

    def compute(digests: list[str]) -> Iterator[bytes]:
        shingles = TextShingles.from_texts(build.texts.get(spans[digest]) for digest in digests)
        for begin, end in zip(shingles.offsets[:-1].tolist(), shingles.offsets[1:].tolist(), strict=True):
            yield shingles.hashes[begin:end].tobytes()

    memo: Memo[bytes] = Memo(build.cache, "shingles", bytes)
    parts = list(memo.map(list(spans), lambda digest: (digest,), compute))
    counts = np.array([len(part) // 8 for part in parts], dtype=np.int64)  # a shingle has 8 bytes
    return TextShingles(np.frombuffer(b"".join(parts), dtype=np.uint64), run_offsets(counts))


def oldest_path(unit: Unit) -> str:
    """The first path that a unit's file is known to have had."""
    return (unit.source.path, *unit.source.former_paths)[-1]


def _all_paths(unit: Unit) -> tuple[str, ...]:
    return (unit.source.path, *unit.source.former_paths)


def _find_lineage_links(units: Sequence[Unit]) -> NDArray[np.int64]:
    """Pairs of units that had one path, shape (links, 2)."""
    unit_of_path: dict[str, int] = {}
    links = [
        (other, index)
        for index, unit in enumerate(units)
        for path in _all_paths(unit)
        if (other := unit_of_path.setdefault(path, index)) != index
    ]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def round_to_three_bits(rows: float) -> int:
    """Round to three binary digits, so that a small commit does not move other files to another split.

    For example, 37 is 100101 in binary and becomes 101000, which is 40.
    """
    whole = round(rows)
    spare_bits = max(0, whole.bit_length() - 3)
    return (whole + (1 << spare_bits >> 1)) >> spare_bits << spare_bits


@dataclass(frozen=True, slots=True)
class JoinedFiles:
    """The files of all repositories, numbered one repository after another, and their different texts."""

    tables: Sequence[FileTable]
    first_number: list[int]
    """The number of the first file of each repository, and of all files."""
    text_numbers: list[NDArray[np.int64]]
    """For each text of each repository its number; -1 if an earlier repository has it, too."""
    text_of_file: NDArray[np.int64]
    """For each file the number of its text."""
    first_file: NDArray[np.int64]
    """For each text the number of its first file."""

    @classmethod
    def from_tables(cls, tables: Sequence[FileTable]) -> JoinedFiles:
        """Number the files and the different texts of all tables."""
        first_number = run_offsets(np.array([len(table.paths) for table in tables], dtype=np.int64)).tolist()
        number_of_digest: dict[str, int] = {}
        text_numbers: list[NDArray[np.int64]] = []
        text_of_file: list[NDArray[np.int64]] = []
        first_file: list[NDArray[np.int64]] = []
        for table, first in zip(tables, first_number, strict=False):
            digests = [
                dataset_path(table.name, digest) if digest.startswith(BLANK_DIGEST) else digest
                for digest in table.digests
            ]
            is_new = np.array([digest not in number_of_digest for digest in digests], dtype=bool)
            known = [number_of_digest.setdefault(digest, len(number_of_digest)) for digest in digests]
            numbers = np.array(known, dtype=np.int64)
            text_numbers.append(np.where(is_new, numbers, -1))
            text_of_file.append(numbers[table.text_of_file])
            first_file.append(table.first_file[is_new] + first)
        return cls(tables, first_number, text_numbers, np.concatenate(text_of_file), np.concatenate(first_file))

    def of_table(self, values: Sequence[T], index: int) -> list[T]:
        """The values of the files of one repository, from those of all files."""
        return list(values[self.first_number[index] : self.first_number[index + 1]])

    def groups_of_changes(self, group_names: Sequence[str], index: int) -> list[str]:
        """The group of each change of a repository: that of its file now, or of the file that had its path before."""
        names = [*self.of_table(group_names, index), DELETED_FILES_GROUP]
        return [names[file] for file in self.tables[index].file_of_change.tolist()]  # -1 is the last

    def shingles_of_files(self) -> JoinedShingles:
        """The shingles of each file."""
        documents = join_shingles([table.compared.shingles for table in self.tables], self.text_numbers)
        return documents.select(self.text_of_file)

    def path(self, file: int) -> str:
        """The path of a file in the dataset."""
        index = int(np.searchsorted(self.first_number, file, side="right")) - 1
        table = self.tables[index]
        return dataset_path(table.name, table.paths[file - self.first_number[index]])

"""The split step: decides once, before anything multiplies, which files train and which are held out.

Files that share text form a leak group and get the same split: equal texts, near-duplicates, files that are mostly
contained in others, copies with something added to every line (`hashing.near_duplicates`), and the rename lineage of
each. All samples of a file inherit its split.

A change belongs to the group of the file that descends from it, or else of the file that had its path before, so that
no path is in two splits. Changes of files of which nothing is left train. Training history passes a gate
(`history_gate`): an edit with a line of held-out code is dropped, because code moves between files without a trace.

Groups are ordered by a hash of the seed and the group's oldest path. In this order they fill test and val up to their
shares of the rows; the rest trains. So a file keeps its split when it is edited or renamed, and a small commit moves
few groups: those at the edge of a share. A group that is too large for the room that is left trains.

All this is about `holdout: files`. With `none`, everything trains; with `commits`, what the newest commits added is
held out (`newest_commits`).

Files are never cut to make a split possible, since that would leak. One group all trains; two groups are train and val;
three or more always give all three splits, even if that misses their shares. The figure `fallback` says so in the
manifest. Readers of a dataset must cope with an empty val or test split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from math import ceil, fsum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from git_starcoder import augmentations
from git_starcoder.hashing.arrays import SHINGLE_TOKENS, connect_components, run_offsets
from git_starcoder.hashing.near_duplicates import (
    ComparableTexts,
    describe_texts,
    find_copies_in,
    find_keepers,
    join_shingles,
)
from git_starcoder.hashing.texts import HashedLines, TextShingles
from git_starcoder.memo import Memo
from git_starcoder.records import SPLITS, Split, content_id, dataset_path, printable_path
from git_starcoder.row_layout import window_stride
from git_starcoder.stages.augment import draw_variations
from git_starcoder.stages.history_gate import (
    ComparableChanges,
    GatedRepository,
    PassedEdits,
    apply_gate,
    cached_lines,
    describe_changes,
    gate_edits,
)
from git_starcoder.stages.newest_commits import hold_out_newest
from git_starcoder.stages.row_table import ROLE_PREFERENCE
from git_starcoder.text import embed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.hashing.texts import JoinedShingles
    from git_starcoder.records import Change, Span, Unit

T = TypeVar("T")

TOKENS_PER_WORD = 1.33
"""Tokens per word or run of signs, to estimate the length of a text before there is a tokenizer. Learned tokenizers
need 1.2 to 1.5, depending on the repository."""
UNGATED_SHARE = 0.8
"""Expected share of the rows of training changes that pass the gate: 0.76 to 0.90, depending on the repository. Of
held-out changes nearly all pass."""
SPLIT_TOLERANCE = 0.001
"""Share of all rows by which val and test may miss their shares before more groups are tried."""
MAX_CHANCE_SHARE = 0.25
"""Share of the rows of one of many repositories that a group may have that is held out though it exceeds a share."""
CHANCE_SCALE = 1 << 20
"""Factor that leaves the later digits of a random number."""
NOTE_TOLERANCE = 0.01
"""Share of all rows by which a split may miss its share before the user gets a note."""
DELETED_FILES_GROUP = "gone"
"""The group of changes to deleted files whose path no later file has; part of the dataset's bytes."""


BLANK_DIGEST = "blank "
"""Stands with its path for the digest of a blank text."""


class LeakGroup(NamedTuple):
    """Files that must share a split."""

    id: str
    expected_rows: float
    """Rows that the group is expected to give if it is held out."""
    holdout_rank: float
    """Its place in the order in which groups are offered to the held-out splits, 0 (first) to 1."""
    test_preference: float
    """Which split it is offered to first, 0 to 1: test if low, val if high."""


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


class FileDecisions(NamedTuple):
    """What the join decides about the files and changes of one repository."""

    groups: list[str]
    """The leak group of each file."""
    splits: list[Split]
    change_groups: list[str]
    """The leak group of each change."""
    change_splits: list[Split]
    keepers: dict[int, tuple[str, float]]
    """The files that repeat another file: index → printable path of the file that stays, similarity."""
    copies: dict[int, str]
    """The files with the text of a file of another repository: index → printable path of the file that stays."""
    passed_edits: PassedEdits
    """Which edits pass the gate."""


class _ExpectedRows(NamedTuple):
    """Estimates of how many rows there will be."""

    of_group: dict[str, float]
    """For each group with files, all its rows."""
    gated: dict[str, float]
    """For each such group, the rows of changes that the gate will drop if the group trains."""
    of_deleted_files: list[float]
    """For each repository, rows of the changes to deleted files, without those that the gate will drop."""
    home: dict[str, int]
    """The repository whose shares the rows of each group fill: the first one that has a file of the group."""


def assign_splits(
    build: BuildState, recipe: recipes.Recipe, units: Sequence[Unit], changes: Sequence[Change]
) -> tuple[list[Unit], list[Change]]:
    """Units and changes with their group and split, without near-duplicates and without edits that the gate blocks."""
    with build.count_step("split", len(units) + len(changes)) as step:
        later = [unit for unit in units if unit.source.added is not None]
        past = [unit for unit in units if unit.source.added is None]
        table = describe_files(build, recipe, past, changes)
        [decisions] = join_files(build, step, recipe, [table], _find_pinned_splits(past, build.pins.splits))
        kept, kept_changes = apply_decisions(build, step, recipe, past, changes, decisions)
        if recipe.split.holdout == "commits":
            past = with_splits(past, decisions._replace(keepers={}, copies={}))
            kept += hold_out_newest(build, step, recipe, past, kept_changes, later)
        return kept, kept_changes


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
        expected_row_count(token_count, recipe.window, _expected_variations(build, units[index], recipe.augment))
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


def join_files(
    build: BuildState,
    step: StepCounts,
    recipe: recipes.Recipe,
    tables: Sequence[FileTable],
    pinned: Sequence[Split | None] = (),
) -> list[FileDecisions]:
    """The decisions about the files and changes of each repository.

    `tables` are in the order in which their repositories keep what several of them have. `pinned` has the splits of an
    earlier dataset, for each file of the one repository.
    """
    files = _JoinedFiles.from_tables(tables)
    components = _find_components(build, step, files, recipe.split.near)
    names = _name_groups(files, components)
    group_names = [names[component] for component in components.tolist()]
    expected = _estimate_rows(files, group_names)
    splits = _choose_splits(build, recipe.split, expected, is_one=not tables[0].name)
    splits |= _splits_of_pinned_groups(group_names, pinned)
    step.figures["groups"] = len(expected.of_group)
    step.figures["largest_group"] = max(Counter(group_names).values(), default=0)
    _report_shares(build, step, recipe, expected, splits)
    order = _join_preference_order(files)
    keepers = _find_near_copies(files, components, order, recipe.dedup.files)
    keeps_copies = not recipe.dedup.exact or not tables[0].name
    no_copies: list[dict[int, str]] = [{} for _ in tables]
    copies = no_copies if keeps_copies else _find_copied_files(files, order, keepers)
    splits_of_files: list[list[Split]] = [
        [splits[name] for name in files.of_table(group_names, index)] for index in range(len(tables))
    ]
    groups_of_changes = [files.groups_of_changes(group_names, index) for index in range(len(tables))]
    splits_of_changes: list[list[Split]] = [[splits[name] for name in groups] for groups in groups_of_changes]
    passed = gate_edits(
        [
            GatedRepository(table.lines, _splits_of_texts(table, file_splits), table.changes, change_splits)
            for table, file_splits, change_splits in zip(tables, splits_of_files, splits_of_changes, strict=True)
        ]
    )
    return [
        FileDecisions(
            files.of_table(group_names, index),
            splits_of_files[index],
            groups_of_changes[index],
            splits_of_changes[index],
            keepers[index],
            copies[index],
            passed[index],
        )
        for index in range(len(tables))
    ]


def apply_decisions(
    build: BuildState,
    step: StepCounts,
    recipe: recipes.Recipe,
    units: Sequence[Unit],
    changes: Sequence[Change],
    decisions: FileDecisions,
) -> tuple[list[Unit], list[Change]]:
    """Units and changes of one repository after the join."""
    change_pairs = zip(changes, decisions.change_groups, decisions.change_splits, strict=True)
    changes = [change._replace(group=group, split=split) for change, group, split in change_pairs]
    for index, keeper in decisions.copies.items():
        step.drop(units[index].path, "copied_file", keeper)
    for index, (keeper, similarity) in decisions.keepers.items():
        step.drop(units[index].path, "near_copy", f"{keeper}, similarity {similarity:.3f}")
    kept = with_splits(units, decisions)
    kept = _drop_same_meaning(build, step, kept, recipe.dedup)
    step.keep(len(kept))
    return kept, apply_gate(step, changes, decisions.passed_edits)


def with_splits(units: Sequence[Unit], decisions: FileDecisions) -> list[Unit]:
    """The units that stay, with their group and split."""
    rows = enumerate(zip(units, decisions.groups, decisions.splits, strict=True))
    return [
        replace(unit, group=group, split=split)
        for index, (unit, group, split) in rows
        if index not in decisions.keepers and index not in decisions.copies
    ]


@dataclass(frozen=True, slots=True)
class _JoinedFiles:
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
    def from_tables(cls, tables: Sequence[FileTable]) -> _JoinedFiles:
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


def _splits_of_texts(table: FileTable, splits: Sequence[Split]) -> list[Split]:
    """The split of each text of a repository. Equal texts are in one group."""
    return [splits[file] for file in table.first_file.tolist()]


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


def _find_components(build: BuildState, step: StepCounts, files: _JoinedFiles, threshold: float) -> NDArray[np.int64]:
    """For each file the number of the first file of its leak group, shape (files,)."""
    numbers = np.arange(len(files.text_of_file))
    links = [table.lineage_links + first for table, first in zip(files.tables, files.first_number, strict=False)]
    earlier, later = np.concatenate(links).T
    compared = [table.compared for table in files.tables]
    found = find_copies_in(compared, files.text_numbers, threshold, threads=build.engine.jobs)
    components = connect_components(
        numbers,
        np.concatenate((files.first_file[files.text_of_file], earlier, files.first_file[found.left])),
        np.concatenate((numbers, later, files.first_file[found.right])),
    )
    step.figures["equal_texts"] = len(numbers) - len(files.first_file)
    step.figures["lineage_links"] = len(earlier)
    for search, count in found.search_counts.items():
        step.figures[f"{search}_links"] = count
    if not found.is_exact:
        step.figures["near_duplicate_search"] = "partly estimated"
        build.progress.note(
            "split: too many files are half alike to compare all pairs; some were grouped by an estimate"
        )
    return components


def _name_groups(files: _JoinedFiles, components: NDArray[np.int64]) -> dict[int, str]:
    """The name of each leak group: a hash of the oldest path of all its files in its first repository."""
    oldest: dict[int, str] = {}
    home: dict[int, int] = {}
    numbers: list[int] = components.tolist()
    for index, table in enumerate(files.tables):
        for component, path in zip(files.of_table(numbers, index), table.oldest_paths, strict=True):
            if home.setdefault(component, index) == index:
                oldest[component] = min(path, oldest.get(component, path))
    return {
        component: content_id(dataset_path(files.tables[home[component]].name, path))
        for component, path in oldest.items()
    }


def _estimate_rows(files: _JoinedFiles, group_names: Sequence[str]) -> _ExpectedRows:
    """Estimate the rows of each group. `fsum` is exact, so no sum depends on the order of the files.

    Of equal texts one counts, because only one will stay.
    """
    home: dict[str, int] = {}
    file_rows: dict[str, list[float]] = defaultdict(list)
    change_rows: dict[str, list[float]] = defaultdict(list)
    deleted: list[float] = []
    for index, (table, numbers) in enumerate(zip(files.tables, files.text_numbers, strict=True)):
        names = files.of_table(group_names, index)
        for name in names:
            home.setdefault(name, index)
        texts = np.flatnonzero(numbers >= 0)
        for file, rows in zip(table.first_file[texts].tolist(), table.expected_rows[texts].tolist(), strict=True):
            file_rows[names[file]].append(rows)
        of_deleted: list[float] = []
        for file, rows in zip(table.file_of_change.tolist(), table.rows_of_change.tolist(), strict=True):
            (change_rows[names[file]] if file >= 0 else of_deleted).append(rows)
        deleted.append(UNGATED_SHARE * fsum(of_deleted))
    rows_of_changes = defaultdict(float, {name: fsum(rows) for name, rows in change_rows.items()})
    return _ExpectedRows(
        {name: fsum(rows) + rows_of_changes[name] for name, rows in file_rows.items()},
        {name: (1 - UNGATED_SHARE) * rows_of_changes[name] for name in file_rows},
        deleted,
        home,
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


def _expected_variations(build: BuildState, unit: Unit, variations: Mapping[str, recipes.AugmentationOptions]) -> int:
    """Approximate samples of a unit besides its own text: the augmentations drawn for it that can be made of it."""
    can_be_made = {"text": True, "tree": unit.parse_status == "clean", "imports": bool(unit.imports)}
    drawn = draw_variations(build, variations, unit)
    return sum(can_be_made.get(augmentations.input_kind(variation.key), False) for variation in drawn)


def _choose_splits(
    build: BuildState, options: recipes.SplitOptions, expected: _ExpectedRows, *, is_one: bool
) -> dict[str, Split]:
    """The split of each group, including that of deleted files.

    Shares are shares of the rows that will be written. These are the rows of all groups, and those of deleted files,
    less what the gate will drop: a share `train` of the gated rows, since only training changes are gated. Each
    repository fills its shares by itself.
    """
    groups: list[list[LeakGroup]] = [[] for _ in expected.of_deleted_files]
    for name, rows in expected.of_group.items():
        group = LeakGroup(name, round_to_three_bits(rows), *_group_draws(build, name))
        groups[expected.home[name]].append(group)
    splits: dict[str, Split] = {DELETED_FILES_GROUP: "train"}
    if options.holdout != "files":
        trained: dict[str, Split] = dict.fromkeys(expected.of_group, "train")
        return splits | trained
    for own_groups, of_deleted_files in zip(groups, expected.of_deleted_files, strict=True):
        gated = options.train * fsum(expected.gated[group.id] for group in own_groups)
        other_rows = round_to_three_bits(of_deleted_files) - round_to_three_bits(gated)
        splits |= assign_groups(own_groups, options, other_rows, needs_all=is_one)
    return splits


def _find_pinned_splits(units: Sequence[Unit], splits: Mapping[str, Split]) -> list[Split | None]:
    """The split that an earlier dataset gave each unit, under its path or the newest former path that it knew."""
    if not splits:
        return []
    paths_of_units = ([printable_path(path) for path in (unit.path, *unit.source.former_paths)] for unit in units)
    return [next((splits[path] for path in paths if path in splits), None) for paths in paths_of_units]


def _splits_of_pinned_groups(group_names: Sequence[str], pinned: Sequence[Split | None]) -> dict[str, Split]:
    """The split of each group that has a pinned file.

    New code may join groups of several splits. What was held out then stays held out.
    """
    found: dict[str, set[Split | None]] = defaultdict(set)
    for group, split in zip(group_names, pinned, strict=False):
        found[group].add(split)
    order: tuple[Split, ...] = ("test", "val", "train")
    return {
        group: next(split for split in order if split in splits) for group, splits in found.items() if splits - {None}
    }


def round_to_three_bits(rows: float) -> int:
    """Round to three binary digits, so that a small commit does not move other files to another split.

    For example, 37 is 100101 in binary and becomes 101000, which is 40.
    """
    whole = round(rows)
    spare_bits = max(0, whole.bit_length() - 3)
    return (whole + (1 << spare_bits >> 1)) >> spare_bits << spare_bits


def holdout_rank(build: BuildState, group: str) -> float:
    """The place of a group in the order in which groups are held out, 0 (first) to 1."""
    return _group_draws(build, group)[0]


def _group_draws(build: BuildState, group: str) -> tuple[float, float]:
    """The `holdout_rank` and the `test_preference` of a group."""
    random = build.rng("split", group)
    return random.random(), random.random()


def assign_groups(
    groups: Sequence[LeakGroup],
    options: recipes.SplitOptions,
    other_training_rows: float = 0.0,
    *,
    needs_all: bool = True,
) -> dict[str, Split]:
    """The split of each group. The order of `groups` does not matter.

    `other_training_rows` are rows that train besides those of the groups; negative for rows that will be dropped.

    The one repository of a dataset `needs_all` splits. One of many does not: there, a share that is smaller than a
    group is filled in some repositories only, by chance, so that it is right on average. For example, if each of ten
    equal groups has 10 % of the rows, a share of 5 % is filled in every second such repository.
    """
    order = sorted(groups, key=lambda group: (group.holdout_rank, group.id))
    splits: dict[str, Split] = {group.id: "train" for group in order}
    if needs_all and len(order) < len(SPLITS):
        for group in sorted(order, key=lambda group: group.expected_rows)[: len(order) - 1]:
            splits[group.id] = "val"
        return splits
    total = fsum(group.expected_rows for group in order) + other_training_rows
    room: dict[Split, float] = {"test": options.test * total, "val": options.val * total}
    test_share = options.test / (options.test + options.val)

    def offer(group: LeakGroup, split: Split) -> None:
        """Give a group to a split that has room, unless it would exceed its share by more than the tolerance."""
        tolerance = SPLIT_TOLERANCE * total
        if splits[group.id] == "train" and room[split] > tolerance >= group.expected_rows - room[split]:
            splits[group.id] = split
            room[split] -= group.expected_rows

    for group in order:
        offer(group, "test" if group.test_preference < test_share else "val")
    for group in order:  # what is still missing comes from groups that preferred the other split
        offer(group, "test")
        offer(group, "val")
    for split in room if not needs_all else ():
        fitting = (group for group in order if splits[group.id] == "train")
        group = next((group for group in fitting if group.expected_rows <= MAX_CHANCE_SHARE * total), None)
        if group and room[split] > SPLIT_TOLERANCE * total:
            chance = group.holdout_rank * CHANCE_SCALE % 1  # its later digits, which do not decide the order
            if chance < room[split] / max(1.0, group.expected_rows):
                splits[group.id] = split
    for split in SPLITS if needs_all else ():
        if split not in splits.values():  # it gets the smallest group of a split that has others
            sizes = Counter(splits.values())
            spare = (group for group in order if sizes[splits[group.id]] > 1)
            splits[min(spare, key=lambda group: group.expected_rows).id] = split
    return splits


def _find_near_copies(
    files: _JoinedFiles, components: NDArray[np.int64], order: NDArray[np.int64], threshold: float | None
) -> list[dict[int, tuple[str, float]]]:
    """For each repository the files that are near-duplicates of a preferred file of their group; see `keepers`."""
    keepers: list[dict[int, tuple[str, float]]] = [{} for _ in files.tables]
    if threshold is None:
        return keepers
    ordered = components[order]
    found = find_keepers(
        files.shingles_of_files().select(order),
        threshold,
        lambda left, right: ordered[left] != ordered[right],
    )
    repeats = np.flatnonzero(found.keeper >= 0)
    table_of_file = np.searchsorted(files.first_number, order[repeats], side="right") - 1
    rows = zip(
        table_of_file.tolist(), order[repeats].tolist(), order[found.keeper[repeats]].tolist(),
        found.similarity[repeats].tolist(), strict=True,
    )  # fmt: skip
    for index, file, keeper, similarity in rows:
        keepers[index][file - files.first_number[index]] = printable_path(files.path(keeper)), similarity
    return keepers


def _find_copied_files(
    files: _JoinedFiles, order: NDArray[np.int64], dropped: Sequence[Mapping[int, object]]
) -> list[dict[int, str]]:
    """For each repository the files with the text of a preferred file of another repository; see `copies`.

    Rows would not do: windows of one text in two repositories differ, because the headers before them do.
    """
    copies: list[dict[int, str]] = [{} for _ in files.tables]
    table_of_file = np.searchsorted(files.first_number, order, side="right") - 1
    first_of_text: dict[int, tuple[int, int]] = {}
    numbers: list[int] = order.tolist()
    indexes: list[int] = table_of_file.tolist()
    texts: list[int] = files.text_of_file[order].tolist()
    for file, index, text in zip(numbers, indexes, texts, strict=True):
        own_number = file - files.first_number[index]
        if own_number not in dropped[index]:
            keeper, keeper_index = first_of_text.setdefault(text, (file, index))
            if keeper_index != index:
                copies[index][own_number] = printable_path(files.path(keeper))
    return copies


def _join_preference_order(files: _JoinedFiles) -> NDArray[np.int64]:
    """The numbers of all files, those to be kept before those like them: by role, repository, newest first, path."""
    keys: list[tuple[int, int, int, str]] = []
    for index, table in enumerate(files.tables):
        columns = zip(table.roles.tolist(), table.changed_at.tolist(), table.paths, strict=True)
        keys += [(role, index, -changed_at, path) for role, changed_at, path in columns]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def _drop_same_meaning(
    build: BuildState, step: StepCounts, units: list[Unit], options: recipes.DedupOptions
) -> list[Unit]:
    """The units without those that an embedding model finds to mean the same as a preferred unit of their group."""
    if options.embedding is None:
        return units
    model = embed.load_embedding_model(options.embedding)
    group_sizes = Counter(unit.group for unit in units)
    ordered = [units[index] for index in _preference_order(units) if group_sizes[units[index].group] > 1]
    groups = np.unique([unit.group for unit in ordered], return_inverse=True)[1]
    vectors = model.vectors(build.texts.get(unit.source.text) for unit in ordered)
    found = embed.find_embedding_keepers(vectors, groups, options.embedded)
    dropped: set[str] = set()
    keepers: list[int] = found.keeper.tolist()
    for unit, keeper, similarity in zip(ordered, keepers, found.similarity.tolist(), strict=True):
        if keeper >= 0:
            dropped.add(unit.path)
            step.drop(unit.path, "near_meaning", f"{printable_path(ordered[keeper].path)}, similarity {similarity:.3f}")
    return [unit for unit in units if unit.path not in dropped]


def _preference_order(units: Sequence[Unit]) -> list[int]:
    """The indexes of units, those to be kept before those like them: by role, newest first, by path."""
    keys = [(ROLE_PREFERENCE.index(unit.role), -unit.changed_at, unit.path) for unit in units]
    return sorted(range(len(units)), key=keys.__getitem__)


def _report_shares(
    build: BuildState, step: StepCounts, recipe: recipes.Recipe, expected: _ExpectedRows, splits: dict[str, Split]
) -> None:
    """Figures for the manifest, and a note for the user if the splits are not what the recipe asks for."""
    rows = {split: fsum(n for name, n in expected.of_group.items() if splits[name] == split) for split in SPLITS}
    rows["train"] = fsum(expected.of_deleted_files) + fsum(
        n - expected.gated[name] for name, n in expected.of_group.items() if splits[name] == "train"
    )
    total = fsum(rows.values()) or 1.0
    for split in SPLITS:
        step.figures[f"expected_rows_{split}"] = round(rows[split])
    wanted = {"train": recipe.split.train, "val": recipe.split.val, "test": recipe.split.test}
    fallback, note = "none", ""
    if recipe.split.holdout != "files":
        pass  # all these files train, as the recipe asks
    elif len(expected.of_group) < 2:
        fallback, note = "all train", "all files are alike, so nothing can be held out: val and test are empty"
    elif len(expected.of_group) < len(SPLITS):
        fallback, note = "no test", "there are only two groups of different files: test is empty"
    elif any(abs(rows[split] / total - wanted[split]) > NOTE_TOLERANCE for split in SPLITS):
        shares = ", ".join(f"{split} {rows[split] / total:.1%}" for split in SPLITS)
        fallback = "uneven"
        note = f"the files cannot be split as the recipe asks without a leak; shares of the rows: {shares}"
    step.figures["fallback"] = fallback
    if note:
        build.progress.note(f"split: {note}")

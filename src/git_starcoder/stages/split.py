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

Files are never cut to make a split possible, since that would leak. One group all trains; two groups are train and val;
three or more always give all three splits, even if that misses their shares. The figure `fallback` says so in the
manifest. Readers of a dataset must cope with an empty val or test split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from math import ceil, fsum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder import augmentations
from git_starcoder.hashing.arrays import SHINGLE_TOKENS, connect_components, run_offsets
from git_starcoder.hashing.near_duplicates import find_copies, find_keepers
from git_starcoder.hashing.texts import TextShingles
from git_starcoder.memo import Memo
from git_starcoder.records import SPLITS, Split, content_id, printable_path
from git_starcoder.row_layout import window_stride
from git_starcoder.stages.augment import draw_variations
from git_starcoder.stages.dedup import ROLE_PREFERENCE
from git_starcoder.stages.history_gate import apply_gate, cached_lines
from git_starcoder.text import embed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.hashing.near_duplicates import Keepers
    from git_starcoder.hashing.texts import HashedLines
    from git_starcoder.records import Change, Span, Unit

TOKENS_PER_WORD = 1.33
"""Tokens per word or run of signs, to estimate the length of a text before there is a tokenizer. Learned tokenizers
need 1.2 to 1.5, depending on the repository."""
UNGATED_SHARE = 0.8
"""Expected share of the rows of training changes that pass the gate: 0.76 to 0.90, depending on the repository. Of
held-out changes nearly all pass."""
SPLIT_TOLERANCE = 0.001
"""Share of all rows by which val and test may miss their shares before more groups are tried."""
NOTE_TOLERANCE = 0.01
"""Share of all rows by which a split may miss its share before the user gets a note."""
DELETED_FILES_GROUP = "gone"
"""The group of changes to deleted files whose path no later file has; part of the dataset's bytes."""


class LeakGroup(NamedTuple):
    """Files that must share a split."""

    id: str
    expected_rows: float
    """Rows that the group is expected to give if it is held out."""
    holdout_rank: float
    """Its place in the order in which groups are offered to the held-out splits, 0 (first) to 1."""
    test_preference: float
    """Which split it is offered to first, 0 to 1: test if low, val if high."""


class _DistinctTexts(NamedTuple):
    """The different texts of the units, each once, and what they are compared by."""

    first_unit: list[int]
    """For each text the index of its first unit by path."""
    text_of_unit: list[int]
    """For each unit the index of its text."""
    shingles: TextShingles
    lines: HashedLines


class _ExpectedRows(NamedTuple):
    """Estimates of how many rows there will be."""

    of_group: dict[str, float]
    """For each group with files, all its rows."""
    gated: dict[str, float]
    """For each such group, the rows of changes that the gate will drop if the group trains."""
    of_deleted_files: float
    """Rows of the changes to deleted files, without those that the gate will drop."""


def assign_splits(
    build: BuildState, recipe: recipes.Recipe, units: Sequence[Unit], changes: Sequence[Change]
) -> tuple[list[Unit], list[Change]]:
    """Units and changes with their group and split, without near-duplicates and without edits that the gate blocks."""
    with build.count_step("split", len(units) + len(changes)) as step:
        texts = _find_distinct_texts(build, units)
        group_names = _find_groups(build, step, units, texts, recipe.split.near)
        change_groups = _groups_of_changes(changes, units, group_names)
        file_rows = _estimate_file_rows(build, recipe, units, texts, group_names)
        expected = _estimate_rows(recipe, file_rows, changes, change_groups)
        splits = _choose_splits(build, recipe.split, expected)
        step.figures["groups"] = len(expected.of_group)
        step.figures["largest_group"] = max(Counter(group_names).values(), default=0)
        _report_shares(build, step, recipe, expected, splits)
        units = [replace(unit, group=name, split=splits[name]) for unit, name in zip(units, group_names, strict=True)]
        changes = [
            change._replace(group=name, split=splits[name]) for change, name in zip(changes, change_groups, strict=True)
        ]
        kept = _drop_near_copies(step, units, texts.shingles.select(texts.text_of_unit), recipe.dedup.files)
        kept = _drop_same_meaning(build, step, kept, recipe.dedup)
        step.keep(len(kept))
        return kept, apply_gate(build, step, units, texts.lines.select(texts.text_of_unit), changes, recipe.read)


def _find_distinct_texts(build: BuildState, units: Sequence[Unit]) -> _DistinctTexts:
    digests = [_text_digest(build, unit) for unit in units]
    first_unit: dict[str, int] = {}
    for index in sorted(range(len(units)), key=lambda index: units[index].path):
        first_unit.setdefault(digests[index], index)
    spans = {digest: units[index].source.text for digest, index in first_unit.items()}
    text_index = {digest: index for index, digest in enumerate(first_unit)}
    return _DistinctTexts(
        list(first_unit.values()),
        [text_index[digest] for digest in digests],
        _cached_shingles(build, spans),
        cached_lines(build, list(spans), lambda digest: (digest,), lambda digest: [build.texts.get(spans[digest])]),
    )


def _text_digest(build: BuildState, unit: Unit) -> str:
    """A hash of the unit's text. Blank texts all differ: as copies they would connect files that share nothing."""
    text = build.texts.get(unit.source.text)
    return content_id(text) if text.strip() else content_id("blank", unit.source.path)


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


def _find_groups(
    build: BuildState, step: StepCounts, units: Sequence[Unit], texts: _DistinctTexts, threshold: float
) -> list[str]:
    """The name of each unit's leak group: a hash of the oldest path of all its files."""
    first_unit = np.array(texts.first_unit, dtype=np.int64)
    units_by_index = np.arange(len(units))
    unit_of_path: dict[str, int] = {}
    lineage_links = [
        (other, index)
        for index, unit in enumerate(units)
        for path in (unit.source.path, *unit.source.former_paths)
        if (other := unit_of_path.setdefault(path, index)) != index
    ]
    earlier, later = np.array(lineage_links, dtype=np.int64).reshape(-1, 2).T
    found = find_copies(texts.shingles, texts.lines, threshold, threads=build.engine.jobs)
    groups = connect_components(
        units_by_index,
        np.concatenate((first_unit[texts.text_of_unit], earlier, first_unit[found.left])),
        np.concatenate((units_by_index, later, first_unit[found.right])),
    ).tolist()
    oldest: dict[int, str] = {}
    for group, unit in zip(groups, units, strict=True):
        oldest[group] = min(oldest_path(unit), oldest.get(group, oldest_path(unit)))
    step.figures["equal_texts"] = len(units) - len(texts.first_unit)
    step.figures["lineage_links"] = len(lineage_links)
    for search, count in found.search_counts.items():
        step.figures[f"{search}_links"] = count
    if not found.is_exact:
        step.figures["near_duplicate_search"] = "partly estimated"
        build.progress.note(
            "split: too many files are half alike to compare all pairs; some were grouped by an estimate"
        )
    names = {group: content_id(path) for group, path in oldest.items()}
    return [names[group] for group in groups]


def _groups_of_changes(changes: Sequence[Change], units: Sequence[Unit], group_names: Sequence[str]) -> list[str]:
    """The group of each change: that of its file now, or else of the file that had its path before."""
    group_of_path = {
        path: name
        for unit, name in zip(units, group_names, strict=True)
        for path in (unit.path, *unit.source.former_paths)
    }
    return [
        group_of_path.get(change.current_path) or group_of_path.get(change.path, DELETED_FILES_GROUP)
        for change in changes
    ]


def _estimate_file_rows(
    build: BuildState, recipe: recipes.Recipe, units: Sequence[Unit], texts: _DistinctTexts, group_names: Sequence[str]
) -> dict[str, list[float]]:
    """The expected rows of the files of each group. Of equal texts one counts, because only one will stay."""
    token_counts = ((texts.shingles.shingle_counts() + SHINGLE_TOKENS - 1) * TOKENS_PER_WORD).tolist()
    file_rows: dict[str, list[float]] = defaultdict(list)
    for index, token_count in zip(texts.first_unit, token_counts, strict=True):
        variations = _expected_variations(build, units[index], recipe.augment)
        file_rows[group_names[index]].append(expected_row_count(token_count, recipe.window, variations))
    return file_rows


def _estimate_rows(
    recipe: recipes.Recipe, file_rows: dict[str, list[float]], changes: Sequence[Change], change_groups: Sequence[str]
) -> _ExpectedRows:
    """Estimate the rows of each group. `fsum` is exact, so no sum depends on the order of the files.

    A change has, with the share of each augmentation for changes, a row for each edit and one for each edit that
    follows another.
    """
    shares = fsum(option.share for key, option in recipe.augment.items() if augmentations.input_kind(key) == "change")
    change_rows: dict[str, list[float]] = defaultdict(list)
    for change, name in zip(changes, change_groups, strict=True):
        change_rows[name].append(shares * (2 * len(change.edits) - 1))
    rows_of_changes = defaultdict(float, {name: fsum(rows) for name, rows in change_rows.items()})
    deleted = rows_of_changes.pop(DELETED_FILES_GROUP, 0.0)
    return _ExpectedRows(
        {name: fsum(rows) + rows_of_changes[name] for name, rows in file_rows.items()},
        {name: (1 - UNGATED_SHARE) * rows_of_changes[name] for name in file_rows},
        UNGATED_SHARE * deleted,
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


def _choose_splits(build: BuildState, options: recipes.SplitOptions, expected: _ExpectedRows) -> dict[str, Split]:
    """The split of each group, including that of deleted files.

    Shares are shares of the rows that will be written. These are the rows of all groups, and those of deleted files,
    less what the gate will drop: a share `train` of the gated rows, since only training changes are gated.
    """
    groups = [
        LeakGroup(name, round_to_three_bits(rows), *_group_draws(build, name))
        for name, rows in expected.of_group.items()
    ]
    gated = options.train * fsum(expected.gated.values())
    other_rows = round_to_three_bits(expected.of_deleted_files) - round_to_three_bits(gated)
    return {**assign_groups(groups, options, other_rows), DELETED_FILES_GROUP: "train"}


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
    groups: Sequence[LeakGroup], options: recipes.SplitOptions, other_training_rows: float = 0.0
) -> dict[str, Split]:
    """The split of each group. The order of `groups` does not matter.

    `other_training_rows` are rows that train besides those of the groups; negative for rows that will be dropped.
    """
    order = sorted(groups, key=lambda group: (group.holdout_rank, group.id))
    splits: dict[str, Split] = {group.id: "train" for group in order}
    if len(order) < len(SPLITS):
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
    for split in SPLITS:
        if split not in splits.values():  # it gets the smallest group of a split that has others
            sizes = Counter(splits.values())
            spare = (group for group in order if sizes[splits[group.id]] > 1)
            splits[min(spare, key=lambda group: group.expected_rows).id] = split
    return splits


def _drop_near_copies(
    step: StepCounts, units: list[Unit], shingles: TextShingles, threshold: float | None
) -> list[Unit]:
    """The units without near-duplicates of a preferred unit of their group. `shingles` are those of the units."""
    if threshold is None:
        return units
    order = _preference_order(units)
    ordered = [units[index] for index in order]
    groups = np.array([int(unit.group[:8], 16) for unit in ordered], dtype=np.int64)
    found = find_keepers(shingles.select(order), threshold, lambda left, right: groups[left] != groups[right])
    return _drop_repeats(step, units, ordered, found, "near_copy")


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
    return _drop_repeats(step, units, ordered, found, "near_meaning")


def _drop_repeats(
    step: StepCounts, units: list[Unit], ordered: Sequence[Unit], found: Keepers | embed.EmbeddingKeepers, reason: str
) -> list[Unit]:
    """The units without those of `ordered` that have a keeper, which is one of `ordered`, too."""
    dropped: set[str] = set()
    keepers: list[int] = found.keeper.tolist()
    for unit, keeper, similarity in zip(ordered, keepers, found.similarity.tolist(), strict=True):
        if keeper >= 0:
            dropped.add(unit.path)
            step.drop(unit.path, reason, f"{printable_path(ordered[keeper].path)}, similarity {similarity:.3f}")
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
    rows["train"] = expected.of_deleted_files + fsum(
        n - expected.gated[name] for name, n in expected.of_group.items() if splits[name] == "train"
    )
    total = fsum(rows.values()) or 1.0
    for split in SPLITS:
        step.figures[f"expected_rows_{split}"] = round(rows[split])
    wanted = {"train": recipe.split.train, "val": recipe.split.val, "test": recipe.split.test}
    fallback, note = "none", ""
    if len(expected.of_group) < 2:
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

"""Decides which leak groups are held out, so that each split gets its share of the rows.

Groups are ordered by a hash of the seed and the group's oldest path. In this order they fill test and val up to their
shares of the rows; the rest trains. So a file keeps its split when it is edited or renamed, and a small commit moves
few groups: those at the edge of a share. A group that is too large for the room that is left trains.

Files are never cut to make a split possible, since that would leak. One group all trains; two groups are train and val;
three or more always give all three splits, even if that misses their shares. The figure `fallback` says so in the
manifest. Readers of a dataset must cope with an empty val or test split.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import fsum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.records import SPLITS, Split, printable_path
from git_starcoder.stages.file_table import DELETED_FILES_GROUP, JoinedFiles, round_to_three_bits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.records import Unit


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


class LeakGroup(NamedTuple):
    """Files that must share a split."""

    id: str
    expected_rows: float
    """Rows that the group is expected to give if it is held out."""
    holdout_rank: float
    """Its place in the order in which groups are offered to the held-out splits, 0 (first) to 1."""
    test_preference: float
    """Which split it is offered to first, 0 to 1: test if low, val if high."""


class ExpectedRows(NamedTuple):
    """Estimates of how many rows there will be."""

    of_group: dict[str, float]
    """For each group with files, all its rows."""
    gated: dict[str, float]
    """For each such group, the rows of changes that the gate will drop if the group trains."""
    of_deleted_files: list[float]
    """For each repository, rows of the changes to deleted files, without those that the gate will drop."""
    home: dict[str, int]
    """The repository whose shares the rows of each group fill: the first one that has a file of the group."""


def estimate_rows(files: JoinedFiles, group_names: Sequence[str]) -> ExpectedRows:
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
    return ExpectedRows(
        {name: fsum(rows) + rows_of_changes[name] for name, rows in file_rows.items()},
        {name: (1 - UNGATED_SHARE) * rows_of_changes[name] for name in file_rows},
        deleted,
        home,
    )


def choose_splits(
    build: BuildState, options: recipes.SplitOptions, expected: ExpectedRows, *, is_one: bool
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


def holdout_rank(build: BuildState, group: str) -> float:
    """The place of a group in the order in which groups are held out, 0 (first) to 1."""
    return _group_draws(build, group)[0]


def _group_draws(build: BuildState, group: str) -> tuple[float, float]:
    """The `holdout_rank` and the `test_preference` of a group."""
    random = build.rng("split", group)
    return random.random(), random.random()


def report_shares(
    build: BuildState, step: StepCounts, recipe: recipes.Recipe, expected: ExpectedRows, splits: dict[str, Split]
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


def find_pinned_splits(units: Sequence[Unit], splits: Mapping[str, Split]) -> list[Split | None]:
    """The split that an earlier dataset gave each unit, under its path or the newest former path that it knew."""
    if not splits:
        return []
    paths_of_units = ([printable_path(path) for path in (unit.path, *unit.source.former_paths)] for unit in units)
    return [next((splits[path] for path in paths if path in splits), None) for paths in paths_of_units]


def splits_of_pinned_groups(group_names: Sequence[str], pinned: Sequence[Split | None]) -> dict[str, Split]:
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

"""The split step: decides once, before anything multiplies, which files train and which are held out.

Files that share text form a leak group and get the same split: equal texts, near-duplicates, files that are mostly
contained in others, copies with something added to every line (`hashing.near_duplicates`), and the rename lineage of
each. All samples of a file inherit its split.

A change belongs to the group of the file that descends from it, or else of the file that had its path before, so that
no path is in two splits. Changes of files of which nothing is left train. Training history passes a gate
(`history_gate`): an edit with a line of held-out code is dropped, because code moves between files without a trace.

Which groups are held out is decided by `shares`, and which files repeat others by `copied_files`.

All this is about `holdout: files`. With `none`, everything trains; with `commits`, what the newest commits added is
held out (`newest_commits`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from git_starcoder.hashing.arrays import connect_components
from git_starcoder.hashing.near_duplicates import find_copies_in
from git_starcoder.records import Split, content_id, dataset_path
from git_starcoder.stages.copied_files import (
    drop_same_meaning,
    find_copied_files,
    find_near_copies,
    join_preference_order,
)
from git_starcoder.stages.file_table import FileTable, JoinedFiles, describe_files
from git_starcoder.stages.history_gate import GatedRepository, PassedEdits, apply_gate, gate_edits
from git_starcoder.stages.newest_commits import hold_out_newest
from git_starcoder.stages.shares import (
    choose_splits,
    estimate_rows,
    find_pinned_splits,
    report_shares,
    splits_of_pinned_groups,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.records import Change, Unit

T = TypeVar("T")


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


def assign_splits(
    build: BuildState, recipe: recipes.Recipe, units: Sequence[Unit], changes: Sequence[Change]
) -> tuple[list[Unit], list[Change]]:
    """Units and changes with their group and split, without near-duplicates and without edits that the gate blocks."""
    with build.count_step("split", len(units) + len(changes)) as step:
        later = [unit for unit in units if unit.source.added is not None]
        past = [unit for unit in units if unit.source.added is None]
        table = describe_files(build, recipe, past, changes)
        holds_out_commits = recipe.split.holdout == "commits"  # then all of the past trains
        pinned = [] if holds_out_commits else find_pinned_splits(past, build.pins.splits)
        [decisions] = join_files(build, step, recipe, [table], pinned)
        kept, kept_changes = apply_decisions(build, step, recipe, past, changes, decisions)
        if holds_out_commits:
            past = with_splits(past, decisions._replace(keepers={}, copies={}))
            kept += hold_out_newest(build, step, recipe, past, kept_changes, later)
        return kept, kept_changes


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
    files = JoinedFiles.from_tables(tables)
    components = _find_components(build, step, files, recipe.split.near)
    names = _name_groups(files, components)
    group_names = [names[component] for component in components.tolist()]
    expected = estimate_rows(files, group_names)
    splits = choose_splits(build, recipe.split, expected, is_one=not tables[0].name)
    splits |= splits_of_pinned_groups(group_names, pinned)
    step.figures["groups"] = len(expected.of_group)
    step.figures["largest_group"] = max(Counter(group_names).values(), default=0)
    report_shares(build, step, recipe, expected, splits)
    order = join_preference_order(files)
    keepers = find_near_copies(files, components, order, recipe.dedup.files)
    keeps_copies = not recipe.dedup.exact or not tables[0].name
    no_copies: list[dict[int, str]] = [{} for _ in tables]
    copies = no_copies if keeps_copies else find_copied_files(files, order, keepers)
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
    kept = drop_same_meaning(build, step, kept, recipe.dedup)
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


def _splits_of_texts(table: FileTable, splits: Sequence[Split]) -> list[Split]:
    """The split of each text of a repository. Equal texts are in one group."""
    return [splits[file] for file in table.first_file.tolist()]


def _find_components(build: BuildState, step: StepCounts, files: JoinedFiles, threshold: float) -> NDArray[np.int64]:
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


def _name_groups(files: JoinedFiles, components: NDArray[np.int64]) -> dict[int, str]:
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

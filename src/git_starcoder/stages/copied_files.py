"""Finds files that repeat another file of their leak group, which stays in their place."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.hashing.near_duplicates import find_keepers
from git_starcoder.records import printable_path
from git_starcoder.stages.row_table import ROLE_PREFERENCE
from git_starcoder.text import embed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.records import Unit
    from git_starcoder.stages.file_table import JoinedFiles


def find_near_copies(
    files: JoinedFiles, components: NDArray[np.int64], order: NDArray[np.int64], threshold: float | None
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


def find_copied_files(
    files: JoinedFiles, order: NDArray[np.int64], dropped: Sequence[Mapping[int, object]]
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


def join_preference_order(files: JoinedFiles) -> NDArray[np.int64]:
    """The numbers of all files, those to be kept before those like them: by role, repository, newest first, path."""
    keys: list[tuple[int, int, int, str]] = []
    for index, table in enumerate(files.tables):
        columns = zip(table.roles.tolist(), table.changed_at.tolist(), table.paths, strict=True)
        keys += [(role, index, -changed_at, path) for role, changed_at, path in columns]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def drop_same_meaning(
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

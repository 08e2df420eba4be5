"""No file, group of files or row is in two splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.checks import content, place
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.rows import Split

RUN = 32
"""Tokens of the runs that the figure counts."""
BITS = 24
"""Leading bits of a hash, in a table of 16 MB."""


def check(dataset: Dataset) -> Generator[Finding, None, str]:
    """A finding for each file, group or row that crosses; the figure is the held-out 32-token runs met in training.

    The runs are those of `base` rows, each distinct run counted once. Some occur in training in any honest split,
    because code repeats itself (licences, imports, boilerplate).
    """
    owners: dict[tuple[str, str | bytes], str] = {}
    told: set[tuple[str, str | bytes]] = set()
    held: list[NDArray[np.uint64]] = []
    held_out: tuple[Split, ...] = ("val", "test")
    for split in held_out:
        for row in dataset.rows(split):
            yield from _crossing(dataset, split, row, owners, told)
            if row.metadata["augmentation_type"] == "base":
                held.append(np.unique(runs(row)))
    wanted = np.unique(np.concatenate(held)) if held else np.empty(0, np.uint64)
    met = np.zeros(len(wanted), dtype=bool)
    likely = np.zeros(1 << BITS, dtype=bool)  # most runs of training are not, and need no search
    likely[wanted >> np.uint64(64 - BITS)] = True
    for row in dataset.rows("train"):
        yield from _crossing(dataset, "train", row, owners, told)
        found = runs(row)
        found = found[likely[found >> np.uint64(64 - BITS)]]
        if len(found):
            at = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
            met[at[wanted[at] == found]] = True
    share = float(met.mean()) if len(met) else 0.0
    return f"{share:.1%} of {len(met):,} held-out {RUN}-token runs are in training"


def _crossing(
    dataset: Dataset,
    split: Split,
    row: Row,
    owners: dict[tuple[str, str | bytes], str],
    told: set[tuple[str, str | bytes]],
) -> Generator[Finding]:
    for key in (
        ("file", row.metadata["source_file"]),
        ("group", row.metadata["group"]),
        ("row", content(row)),
    ):
        owner = owners.setdefault(key, split) if split != "train" else owners.get(key, split)
        if owner != split and key not in told:
            told.add(key)
            name = f" {key[1]}" if isinstance(key[1], str) else ""
            yield Finding("leak", place(dataset, split, row), f"{key[0]}{name} is in {owner} too")


def runs(row: Row) -> NDArray[Any]:
    """A hash of each run of 32 tokens of the row, padding left out; shape (max(0, length - 31),), uint64."""
    hashes = np.array(row.tokens[: row.metadata["length"]], dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    width = 1
    while width < RUN:  # two neighbouring runs of `width` tokens make one of twice as many
        hashes = hashes[:-width] * np.uint64(0xBF58476D1CE4E5B9) + hashes[width:]
        hashes ^= hashes >> np.uint64(31)
        width *= 2
    return hashes

"""No file, group of files or row is in two splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.checks import place
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.checks import Checked
    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split

SEEDS: tuple[str, ...] = ()
RUN = 32
"""Tokens of the runs that the figure counts."""
BITS = 24
"""Leading bits of a hash, in a table of 16 MB."""


class Check:
    """A finding for each file, group or row that crosses; the figure is the held-out 32-token runs met in training.

    The runs are those of `base` rows, each distinct run counted once. Some occur in training in any honest split,
    because code repeats itself (licences, imports, boilerplate).
    """

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:  # noqa: ARG002 - the shelf's signature
        self._dataset = dataset
        self._owners: dict[tuple[str, str | bytes], Split] = {}
        self._told: set[tuple[str, str | bytes]] = set()
        self._held: list[NDArray[np.uint64]] = []
        self._wanted: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._met = self._likely = np.empty(0, np.bool_)
        self.figure = ""

    def row(self, split: Split, number: int, row: Checked) -> Iterator[Finding]:  # noqa: ARG002
        """Held-out rows first, then those of training."""
        for key in (("file", row.metadata["source_file"]), ("group", row.metadata["group"]), ("row", row.content)):
            owner = self._owners.setdefault(key, split) if split != "train" else self._owners.get(key, split)
            if owner != split and key not in self._told:
                self._told.add(key)
                name = f" {key[1]}" if isinstance(key[1], str) else ""
                yield Finding("leak", place(self._dataset, split, row), f"{key[0]}{name} is in {owner} too")
        if split == "train":
            self._meet(row)
        elif row.metadata["augmentation_type"] == "base":
            self._held.append(np.unique(runs(row)))

    def _meet(self, row: Checked) -> None:
        if self._held:
            self._wanted = np.unique(np.concatenate(self._held))
            self._met = np.zeros(len(self._wanted), dtype=bool)
            self._likely = np.zeros(1 << BITS, dtype=bool)  # most runs of training are not, and need no search
            self._likely[self._wanted >> np.uint64(64 - BITS)] = True
            self._held = []
        if not len(self._wanted):
            return
        found = runs(row)
        found = found[self._likely[found >> np.uint64(64 - BITS)]]
        at = np.minimum(np.searchsorted(self._wanted, found), len(self._wanted) - 1)
        self._met[at[self._wanted[at] == found]] = True

    def end(self) -> Iterator[Finding]:
        """Nothing more."""
        share = float(self._met.mean()) if len(self._met) else 0.0
        self.figure = f"{share:.1%} of {len(self._met):,} held-out {RUN}-token runs are in training"
        yield from ()


def runs(row: Checked) -> NDArray[Any]:
    """A hash of each run of 32 tokens of the row, padding left out; shape (max(0, length - 31),), uint64."""
    hashes = row.ids[: row.metadata["length"]].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    width = 1
    while width < RUN:  # two neighbouring runs of `width` tokens make one of twice as many
        hashes = hashes[:-width] * np.uint64(0xBF58476D1CE4E5B9) + hashes[width:]
        hashes ^= hashes >> np.uint64(31)
        width *= 2
    return hashes

"""How many token runs of held-out files also occur in training, and how many would if files were held out at random.

Code repeats itself (licences, imports, boilerplate), so some runs of a held-out file occur in training after any honest
split. Holding out whole files at random shows how many are to be expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import find_sorted, sorted_unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class FileRuns(NamedTuple):
    """Run hashes of one text that belongs to a file."""

    file: int
    hashes: NDArray[np.uint64]
    is_measured: bool
    """Whether the overlap of these runs is measured when the file is held out. Runs of a variation are not: they only
    count as known when the file is in training."""


@dataclass(frozen=True, slots=True)
class RunIndex:
    """The measured runs, numbered, and the files that have them. The two arrays of a pair have the same shape."""

    hashes: NDArray[np.uint64]
    """Sorted and distinct; the index of a run is its number."""
    measured: tuple[NDArray[np.int64], NDArray[np.int32]]
    """Run numbers and files, where the run is measured in the file."""
    present: tuple[NDArray[np.int64], NDArray[np.int32]]
    """Run numbers and files, where the file or a variation of it has the run."""

    @classmethod
    def from_files(cls, file_runs: Sequence[FileRuns]) -> RunIndex:
        """Index the runs of some files."""
        measured, measured_files = _concatenate([runs for runs in file_runs if runs.is_measured])
        present, present_files = _concatenate(file_runs)
        hashes = sorted_unique(measured)
        number, is_measured = find_sorted(present, hashes)
        measured = np.searchsorted(hashes, measured)
        return cls(hashes, (measured, measured_files), (number[is_measured], present_files[is_measured]))

    def find_runs(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The numbers of the runs that are among these hashes; repetitions stay."""
        number, is_found = find_sorted(hashes, self.hashes)
        return number[is_found]

    def overlap_share(self, held_out: NDArray[np.bool_], *known_runs: NDArray[np.int64]) -> float:
        """The share of the runs of held-out files that other files have or that are in `known_runs`.

        Each distinct run counts once. The share is 0 where nothing is held out.

        Args:
            held_out: Which files are held out, shape (files,).
            known_runs: Numbers of runs that count as known in any case.
        """
        is_wanted, is_known = (np.zeros(len(self.hashes), dtype=bool) for _ in range(2))
        is_wanted[self.measured[0][held_out[self.measured[1]]]] = True
        is_known[self.present[0][~held_out[self.present[1]]]] = True
        for runs in known_runs:
            is_known[runs] = True
        return float(np.count_nonzero(is_wanted & is_known) / max(1, np.count_nonzero(is_wanted)))

    def random_overlap_shares(self, held_out: NDArray[np.bool_], draws: int, group: NDArray[np.int64]) -> list[float]:
        """The overlap shares of `draws` random choices of held-out files, with about as many runs as `held_out` has.

        Files of the same `group`, shape (files,), are held out together, since copies overlap by nature. The list is
        shorter where a draw could hold out nothing.
        """
        sizes = np.bincount(self.measured[1], minlength=len(held_out))
        budget = int(sizes[held_out].sum())
        members = [np.flatnonzero(group == number) for number in np.unique(group[sizes > 0])]
        weights = [int(sizes[files].sum()) for files in members]
        shares: list[float] = []
        for seed in range(draws):
            chosen, left = np.zeros(len(held_out), dtype=bool), budget
            order = list(range(len(members)))
            Random(seed).shuffle(order)  # noqa: S311 - not for secrets
            for number in order:
                if weights[number] <= left:
                    chosen[members[number]] = True
                    left -= weights[number]
            if chosen.any():
                shares.append(self.overlap_share(chosen))
        return shares


def sample_hashes(hashes: NDArray[np.uint64], rate: int) -> NDArray[np.uint64]:
    """About one hash in `rate` (a power of two), the same ones in every file. The result is sorted and distinct."""
    return sorted_unique(hashes[(hashes >> np.uint64(20)) & np.uint64(rate - 1) == 0])


def _concatenate(file_runs: Sequence[FileRuns]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """All runs, and the file of each."""
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(runs.hashes for runs in file_runs)])
    files = np.array([runs.file for runs in file_runs], dtype=np.int32)
    return hashes, np.repeat(files, [len(runs.hashes) for runs in file_runs])

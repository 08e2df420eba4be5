"""Held-out code repeats what is learned from no more than files do that are held out at random."""

from __future__ import annotations

from itertools import chain
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.checks import OfSamples, Skip
from git_starcoder.dataset.samples import known_runs
from git_starcoder.records import Finding
from git_starcoder.text.near import join_components
from git_starcoder.text.overlap import RUN, Piece, Runs, runs, sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from git_starcoder.dataset.samples import RebuiltSample, Tokens

SEEDS: tuple[str, ...] = ()
DRAWS = 20
"""Times that files are held out at random."""
MOST = 1 << 21
"""Runs that are looked at, about: of a larger dataset one in 2, 4, 8, …, chosen by its hash."""
BATCH = 1 << 16
"""Tokens that are hashed by a worker at a time, about."""
POINTS = 0.05
"""How far above all draws the overlap is no accident. Their standard deviation says less: what has leaked raises single
draws, too, those that hold out the file that it came from."""
CHANGES = ("git_diff", "temporal_context")
"""What shows history."""


class Texts(NamedTuple):
    """Texts whose runs are asked for."""

    parts: list[tuple[Tokens, Tokens]]
    """Of each the head and the tokens, `UNKNOWN` in gaps."""
    rate: int
    """One run in so many is wanted."""


class Check(OfSamples):
    """A finding if more is known than by chance; the figure is the share of held-out 32-token runs met in training.

    The runs are those of held-out texts as they are (`base`), each different run counted once, and in training those of
    all rows with their context. The floor is what files give that are held out at random, as many and without history;
    files that are alike, whatever their lines are wrapped in, are held out together.
    """

    beside = True

    def end(self) -> Iterator[Finding]:
        """Compare the runs."""
        samples = self._samples.by_id.values()
        total, rate = sum(sample.length for sample in samples), 1
        while total > rate * MOST:
            rate *= 2
        numbers: dict[str, int] = {}
        held: dict[int, bool] = {}
        pieces: list[Piece] = []
        history = [np.empty(0, dtype=np.uint64)]
        found_in = chain.from_iterable(self._given.answers(chosen, _texts(samples, rate)))
        for sample, found in zip(samples, found_in, strict=True):
            kind = sample.metadata["augmentation_type"]
            if kind in CHANGES:
                if sample.split == "train":
                    history.append(found)
                continue
            number = numbers.setdefault(sample.metadata["source_file"], len(numbers))
            held[number] = held.get(number, False) or sample.split != "train"
            pieces.append(Piece(number, found, kind == "base"))
        every = Runs.of(pieces)
        out = np.array([held[number] for number in range(len(numbers))], dtype=bool)
        if not out.any() or out.all():
            self.figure = Skip("nothing is held out" if not out.any() else "nothing is learned from")
            return
        # A file that is in two splits shows its runs to itself, so what is learned from is told by samples, too.
        own = (piece.hashes for piece, sample in zip(pieces, _plain(samples), strict=True) if sample.split == "train")
        learned = every.among(np.concatenate([np.empty(0, dtype=np.uint64), *own]))
        plain = every.overlap(out, learned)
        overlap = every.overlap(out, learned, every.among(np.concatenate(history)))
        floor = every.floor(out, DRAWS, self._units(numbers)) or [1.0]
        mean, deviation = fmean(floor), pstdev(floor)
        counted = int(np.count_nonzero(np.bincount(every.asked[0][out[every.asked[1]]])))
        self.certificate = {
            "run": RUN, "one_in": rate, "runs": counted, "overlap": overlap, "without_changes": plain, "floor": mean,
            "deviation": deviation, "draws": floor,
        }  # fmt: skip
        said = f"{overlap:.1%} of held-out {RUN}-token runs are in training; of files held out at random {mean:.1%}"
        self.figure = f"{said} ± {deviation:.1%} ({counted:,} runs, one in {rate})"
        if overlap > max(floor) + POINTS:
            first = next(sample for sample in samples if sample.split != "train")
            yield Finding("overlap", self._dataset.files(first.split)[0].name, said)

    def _units(self, numbers: dict[str, int]) -> NDArray[np.int64]:
        """For each file by its number the files that it is alike with, as one number; shape (files,)."""
        files, pairs = self._given.alike_files
        place = [numbers[one.metadata["source_file"]] for one in files]
        left, right = (
            np.array([place[at] for at in side.tolist()], dtype=np.int64) for side in (pairs.left, pairs.right)
        )
        return join_components(np.arange(len(numbers)), left, right)


def _plain(samples: Any) -> Iterator[RebuiltSample]:
    return (sample for sample in samples if sample.metadata["augmentation_type"] not in CHANGES)


def _texts(samples: Iterable[RebuiltSample], rate: int) -> Iterator[Texts]:
    """Samples, some at a time."""
    some: list[tuple[Tokens, Tokens]] = []
    size = 0
    for sample in samples:
        some.append((sample.context_prefix, sample.tokens[: sample.length]))
        size += len(sample.context_prefix) + sample.length
        if size >= BATCH:
            yield Texts(some, rate)
            some, size = [], 0
    if some:
        yield Texts(some, rate)


def chosen(texts: Texts) -> list[NDArray[np.uint64]]:
    """Some of the runs of each text, each once; those that begin in its head with them. For worker processes, too."""
    found: list[NDArray[np.uint64]] = []
    for head, tokens in texts.parts:
        parts = [runs(np.concatenate((head, run)) if start == 0 else run) for start, run in known_runs(tokens)]
        found.append(sampled(np.concatenate((np.empty(0, dtype=np.uint64), *parts)), texts.rate))
    return found

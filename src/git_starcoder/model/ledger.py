"""The ledger: where every token of a run goes. Counted twice, by different means, and wrong if the counts differ.

Tokens that are drawn come from rows; control tokens are added to them. A model reads both. Of what it reads, each token
is trained (it is a target) or only shown. All but the last of every row go through the network, with padding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.errors import StarcoderError
from git_starcoder.model.pack import MARKS, UNASKED, fills

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.pack import Packed
    from git_starcoder.model.plan import Plan, Step

SLACK = 1e-6
"""Of draws, for rounding."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What steps come to. All but `steps`, `draws` and `fills` are tokens."""

    steps: int
    draws: int
    """Of rows."""
    fills: int
    """Draws that are learned as prefix, suffix, middle."""
    drawn: int
    """Of the rows, as the dataset has them, as often as they are drawn."""
    control: int
    """Added: end-of-text before a text and behind a middle, and the marks of what is to be filled."""
    trained: int
    """Targets."""
    shown: int
    """Read and never a target: context, the first token of a row."""

    def as_values(self) -> dict[str, int]:
        """Plain values for JSON."""
        return asdict(self)

    def __sub__(self, before: Ledger) -> Ledger:
        """What comes after the steps of another ledger."""
        return Ledger(**{name: value - getattr(before, name) for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class Laid:
    """What went through a network."""

    ledger: Ledger
    pieces: int
    laid: int
    """Tokens of the pieces, with padding."""
    padded: int
    last: int
    """Last tokens of rows, which are only targets."""
    unasked: int
    """Tokens of rows of which nothing is asked, and which no piece holds."""

    def as_values(self) -> dict[str, int]:
        """Plain values for JSON."""
        values = asdict(self)
        return {**values.pop("ledger"), **values}


def of_lengths(plan: Plan, corpus: Corpus, stop: int | None = None) -> Ledger:
    """The ledger of the steps before `stop`, of all unless given, from the lengths of the rows alone.

    Raises:
        StarcoderError: it does not add up.

    """
    stop = plan.steps if stop is None else stop
    times = np.zeros(len(plan.keys), dtype=np.int64)
    for stage in plan.stages:
        if stop <= stage.begin:
            break
        until = stage.until(min(stop, stage.stop))
        if stop >= stage.stop:
            low, high = stage.weights * until.passes - 1, stage.weights * (until.passes + 1) + 1
            if np.any((until.drawn < low - SLACK) | (until.drawn > high + SLACK)):
                raise _wrong("a row was drawn more or less often than its weight says")
            reached, size = int(until.drawn @ stage.lengths), (stage.stop - stage.begin) * plan.size
            if not size <= reached < size + int(plan.lengths.max()):
                raise _wrong(f"a stage of {size} tokens has {reached}")
        times[stage.rows] += until.drawn
    filled = _filled(plan, corpus, times)
    plain = times - filled
    lengths, given, marks = corpus.lengths, corpus.given, MARKS + ~corpus.ends
    read = lengths + corpus.opens
    ledger = Ledger(
        steps=stop,
        draws=int(times.sum()),
        fills=int(filled.sum()),
        drawn=int(times @ lengths),
        control=int(plain @ corpus.opens.astype(np.int64) + filled @ marks),
        trained=int(plain @ np.maximum(read - given, 0) + filled @ (lengths + marks - 1)),
        shown=int(plain @ np.minimum(read, given) + filled.sum()),
    )
    _balance(ledger)
    return ledger


def _filled(plan: Plan, corpus: Corpus, times: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the first so many draws of each row are learned as prefix, suffix, middle, shape (rows,)."""
    filled = np.zeros(len(times), dtype=np.int64)
    if plan.fim and corpus.fim is not None:
        for draw in range(int(times.max(initial=0))):
            rows = np.flatnonzero(corpus.whole & (times > draw))
            filled[rows] += fills(corpus, plan, rows, np.full(len(rows), draw))
    return filled


@dataclass(slots=True)
class Counts:
    """What a tally has counted: numbers that a checkpoint can hold. See `Ledger` and `Laid`."""

    begin: int = 0
    """The step from which on it counts."""
    steps: int = 0
    draws: int = 0
    fills: int = 0
    drawn: int = 0
    control: int = 0
    trained: int = 0
    shown: int = 0
    pieces: int = 0
    laid: int = 0
    padded: int = 0
    last: int = 0
    unasked: int = 0


class Tally:
    """Counts the pieces that are trained on, token by token."""

    def __init__(self, plan: Plan, corpus: Corpus, counts: Counts | None = None) -> None:
        """Go on with counts, of the first step unless others are given."""
        self.plan = plan
        self.corpus = corpus
        self.counts = counts or Counts()

    def add(self, step: Step, pieces: Sequence[Packed]) -> None:
        """Count the pieces of the next step: every row of it must be there once, as the dataset has it.

        Raises:
            StarcoderError: another step, or a token that is lost, added, moved, or learned where it must not be.

        """
        corpus, counts = self.corpus, self.counts
        if step.number != counts.begin + counts.steps:
            raise _wrong(f"step {step.number} came instead of step {counts.begin + counts.steps}")
        seen = np.zeros(len(step.rows), dtype=np.int64)
        for piece in pieces:
            filled = len(piece.tokens) - piece.padded
            if np.any(piece.targets[filled:] != UNASKED):
                raise _wrong(f"step {step.number} learns padding")
            begins = np.flatnonzero(piece.positions[:filled] == 0).tolist()
            for place, begin, end in zip(piece.places.tolist(), begins, [*begins[1:], filled], strict=True):
                seen[place] += 1
                self._count(int(step.rows[place]), piece.tokens[begin:end], piece.targets[begin:end])
            counts.pieces += 1
            counts.laid += len(piece.tokens)
            counts.padded += piece.padded
        for row in step.rows[seen == 0].tolist():
            read = len(corpus.row(row))
            if read > corpus.given[row]:
                raise _wrong(f"step {step.number} leaves out row {row + 1}")
            counts.drawn += len(corpus.text(row))
            counts.control += int(corpus.opens[row])
            counts.shown += read
            counts.unasked += read
        if seen.max(initial=0) > 1:
            raise _wrong(f"step {step.number} has a row twice")
        counts.draws += len(step.rows)
        counts.steps += 1

    def _count(self, row: int, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Count a row as it was laid out."""
        corpus, counts = self.corpus, self.counts
        given = int(corpus.given[row])
        control = 0
        read = np.append(tokens, targets[-1])
        text = read
        if corpus.whole[row] and corpus.fim is not None and read[0] == corpus.fim[0]:
            text, control = self._unfilled(row, read, corpus.fim)
            given = 1
            counts.fills += 1
        elif corpus.opens[row] and read[0] == corpus.end:
            text, control = read[1:], 1
        shown = given - 1
        if not (
            np.array_equal(text, corpus.text(row))
            and np.array_equal(targets[shown:], read[given:])
            and np.all(targets[:shown] == UNASKED)
        ):
            raise _wrong(f"row {row + 1} is not what the dataset has, or not learned from where it counts")
        counts.drawn += len(text)
        counts.control += control
        counts.trained += int(np.count_nonzero(targets != UNASKED))
        counts.shown += int(np.count_nonzero(targets == UNASKED)) + 1
        counts.last += 1

    def _unfilled(self, row: int, read: NDArray[np.int64], fim: tuple[int, int, int]) -> tuple[NDArray[np.int64], int]:
        """The text of a row that is learned as prefix, suffix, middle, and how many tokens were added to it."""
        found = [np.flatnonzero(read == mark).tolist() for mark in fim]
        if [len(places) for places in found] != [1] * MARKS or read[-1] != self.corpus.end:
            raise _wrong(f"row {row + 1} is no prefix, suffix and middle")
        _, fill, last = (places[0] for places in found)
        before, after, rest = read[1:last], read[last + 1 : fill], read[fill + 1 :]
        # With the suffix first, `before` is empty, and the middle stands behind the prefix in the rest.
        if self.corpus.ends[row]:
            return np.concatenate((before, rest[:-1], after, rest[-1:])), MARKS
        return np.concatenate((before, rest[:-1], after)), MARKS + 1

    def close(self) -> Laid:
        """The ledger of the steps that were counted.

        Raises:
            StarcoderError: it is not the one that the lengths of the rows give.

        """
        counts = self.counts
        end = counts.begin + counts.steps
        expected = of_lengths(self.plan, self.corpus, end) - of_lengths(self.plan, self.corpus, counts.begin)
        ledger = Ledger(**{each.name: getattr(counts, each.name) for each in fields(Ledger)})
        if ledger != expected:
            raise _wrong(f"counted {ledger.as_values()}, not {expected.as_values()}")
        _balance(ledger)
        if ledger.drawn + ledger.control != counts.laid - counts.padded + counts.last + counts.unasked:
            raise _wrong(f"pieces of {counts.laid} tokens, {counts.padded} of them padding, do not hold what is read")
        return Laid(ledger, counts.pieces, counts.laid, counts.padded, counts.last, counts.unasked)


def _balance(ledger: Ledger) -> None:
    if ledger.drawn + ledger.control != ledger.trained + ledger.shown:
        raise _wrong(f"what is read is not what is trained and shown: {ledger.as_values()}")


def _wrong(what: str) -> StarcoderError:
    return StarcoderError(f"the ledger does not add up: {what}", where="train", hint="this is our bug")

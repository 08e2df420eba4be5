"""The ledger: where every token of a run goes. Counted twice, by different means, and wrong if the counts differ.

Tokens that are drawn come from rows; control tokens are added to them. A model reads both. Of what it reads, each token
is trained (it is a target) or only shown. All but the last of every row go through the network, with padding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
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


class Tally:
    """Counts the pieces that are trained on, token by token."""

    def __init__(self, plan: Plan, corpus: Corpus, begin: int = 0) -> None:
        """From a step on."""
        self.plan = plan
        self.corpus = corpus
        self.begin = self.number = begin
        self.draws = self.fills = self.drawn = self.control = self.trained = self.shown = 0
        self.pieces = self.laid = self.padded = self.last = self.unasked = 0

    def add(self, step: Step, pieces: Sequence[Packed]) -> None:
        """Count the pieces of the next step: every row of it must be there once, as the dataset has it.

        Raises:
            StarcoderError: another step, or a token that is lost, added, moved, or learned where it must not be.

        """
        if step.number != self.number:
            raise _wrong(f"step {step.number} came instead of step {self.number}")
        self.number += 1
        seen = np.zeros(len(step.rows), dtype=np.int64)
        for piece in pieces:
            filled = len(piece.tokens) - piece.padded
            if np.any(piece.targets[filled:] != UNASKED):
                raise _wrong(f"step {step.number} learns padding")
            begins = np.flatnonzero(piece.positions[:filled] == 0)
            for place, begin, end in zip(piece.places.tolist(), begins, [*begins[1:], filled], strict=True):
                seen[place] += 1
                self._count(int(step.rows[place]), piece.tokens[begin:end], piece.targets[begin:end])
            self.pieces += 1
            self.laid += len(piece.tokens)
            self.padded += piece.padded
        for place in np.flatnonzero(seen == 0).tolist():
            row = int(step.rows[place])
            if len(self.corpus.row(row)) > self.corpus.given[row]:
                raise _wrong(f"step {step.number} leaves out row {row + 1}")
            self.drawn += len(self.corpus.text(row))
            self.control += int(self.corpus.opens[row])
            self.shown += len(self.corpus.row(row))
            self.unasked += len(self.corpus.row(row))
        if seen.max(initial=0) > 1:
            raise _wrong(f"step {step.number} has a row twice")
        self.draws += len(step.rows)

    def _count(self, row: int, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Count a row as it was laid out."""
        corpus = self.corpus
        asked = targets != UNASKED
        if not (asked[-1] and np.array_equal(targets[:-1][asked[:-1]], tokens[1:][asked[:-1]])):
            raise _wrong(f"row {row + 1} has targets that are not its next tokens")
        read = np.append(tokens, targets[-1])
        text, given = read, int(corpus.given[row])
        if corpus.whole[row] and corpus.fim is not None and read[0] == corpus.fim[0]:
            text, given = self._unfilled(row, read, corpus.fim), 1
            self.fills += 1
            self.control += int(np.isin(read, corpus.fim).sum()) + int(not corpus.ends[row] and read[-1] == corpus.end)
        elif corpus.opens[row]:
            text = read[1:]
            self.control += int(read[0] == corpus.end)
        if (
            not np.array_equal(text, corpus.text(row))
            or np.count_nonzero(~asked) != given - 1
            or asked[: given - 1].any()
        ):
            raise _wrong(f"row {row + 1} is not what the dataset has, or not learned from where it counts")
        self.drawn += len(text)
        self.last += 1
        self.trained += int(np.count_nonzero(asked))
        self.shown += 1 + int(np.count_nonzero(~asked))

    def _unfilled(self, row: int, read: NDArray[np.int64], fim: tuple[int, int, int]) -> NDArray[np.int64]:
        """The text of a row that is learned as prefix, suffix, middle."""
        if np.isin(read, fim).sum() != MARKS or read[-1] != self.corpus.end:
            raise _wrong(f"row {row + 1} is no prefix, suffix and middle")
        _, fill, last = (int(np.flatnonzero(read == mark)[0]) for mark in fim)
        before, after, rest = read[1:last], read[last + 1 : fill], read[fill + 1 :]
        # With the suffix first, `before` is empty, and the middle stands behind the prefix in the rest.
        end = rest[-1:] if self.corpus.ends[row] else rest[:0]
        return np.concatenate((before, rest[:-1], after, end))

    def close(self) -> Laid:
        """The ledger of the steps that were counted.

        Raises:
            StarcoderError: it is not the one that the lengths of the rows give.

        """
        expected = of_lengths(self.plan, self.corpus, self.number) - of_lengths(self.plan, self.corpus, self.begin)
        names = ("draws", "fills", "drawn", "control", "trained", "shown")
        counted = replace(expected, **{name: getattr(self, name) for name in names})
        if counted != expected:
            raise _wrong(f"counted {counted.as_values()}, not {expected.as_values()}")
        _balance(counted)
        if self.drawn + self.control != self.laid - self.padded + self.last + self.unasked:
            raise _wrong(f"pieces of {self.laid} tokens, {self.padded} of them padding, do not hold what is read")
        return Laid(counted, self.pieces, self.laid, self.padded, self.last, self.unasked)


def _balance(ledger: Ledger) -> None:
    if ledger.drawn + ledger.control != ledger.trained + ledger.shown:
        raise _wrong(f"what is read is not what is trained and shown: {ledger.as_values()}")


def _wrong(what: str) -> StarcoderError:
    return StarcoderError(f"the ledger does not add up: {what}", where="train", hint="this is our bug")

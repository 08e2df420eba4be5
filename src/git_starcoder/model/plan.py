"""The plan: which rows every step of a run trains on. A function of the rows' contents, a seed and the number of steps.

A stage is a share of the steps: one, or the three of a curriculum, which follow the order of the file and are equally
long. Within a stage, rows are drawn pass after pass. A row of weight `w` is drawn `w` times per pass by systematic
resampling (Kitagawa, 1996), and its remainder is carried on to the next pass: after any number of passes it was drawn
as often as its weight says, rounded down or up, so none is starved and none is repeated beyond its share.

The draws of a stage lie behind one another on a line of tokens, and a deal of some steps takes those that begin on its
stretch of it. They are dealt to its steps so that these are equally long, nearly. Since the tokens of the first passes
are a sum over the rows, any step is found without walking through those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from heapq import heapreplace
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.errors import UsageError
from git_starcoder.hashing.rolling import mix_bits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus

SCHEMA = "git-starcoder/plan/1"
"""The number grows when the same rows give other steps."""
STAGES = 3
"""Of a curriculum."""
DEAL = 16
"""Steps among which rows are dealt to make them equally long."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: its multiples are far apart."""


class Step(NamedTuple):
    """What one step of the optimiser trains on. Arrays have shape (rows of the step,)."""

    number: int
    """Counted from 0."""
    stage: int
    rows: NDArray[np.int64]
    """Indices in the order of the file."""
    draws: NDArray[np.int64]
    """Which draw of its row this is in the whole run, from 0."""


class Until(NamedTuple):
    """What the first steps of a stage come to. Arrays have shape (rows of the stage,)."""

    passes: int
    """That ended."""
    drawn: NDArray[np.int64]
    """How often each row was drawn."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The order of the rows of a run. Arrays have shape (rows,), in the order of the file."""

    keys: NDArray[np.uint64]
    """Hash of the row's content."""
    lengths: NDArray[np.int64]
    """Tokens of the row."""
    weights: NDArray[np.float64]
    """How often the row is drawn per pass; above 0."""
    seed: int
    batch: int
    """Tokens of a step, or of the longest row where those are more, so that no step is empty."""
    steps: int
    """Of the whole run."""
    curriculum: bool = False
    fim: float = 0.0
    """Share of the draws of whole text that are learned as prefix, suffix, middle."""

    @classmethod
    def of(cls, corpus: Corpus, config: TrainConfig, steps: int, *, curriculum: bool) -> Plan:
        """The plan of a config for the rows of a corpus.

        Raises:
            UsageError: middles are to be filled, and the tokenizer has no tokens for that.

        """
        if config.fim and corpus.fim is None:
            raise UsageError("the tokenizer has no fill-in-the-middle tokens", where="fim", hint="fim: 0")
        columns = corpus.keys, corpus.lengths, corpus.weights
        return cls(*columns, config.seed, config.batch, steps, curriculum, config.fim)

    @property
    def sha(self) -> str:
        """Hash of everything that decides the plan."""
        digest = blake2b(SCHEMA.encode(), digest_size=16)
        for column in (self.keys, self.lengths, self.weights):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update(repr((self.seed, self.batch, self.steps, self.curriculum, self.fim)).encode())
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Tokens of a step, on average."""
        return max(self.batch, int(self.lengths.max()))

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the run. They carry equal weight in tokens, so equal times keep the shares of all rows."""
        count = STAGES if self.curriculum else 1
        mass = self.weights * self.lengths
        ends = np.cumsum(mass)  # not a sum, whose last digits depend on the machine
        begins, whole = ends - mass, ends[-1]
        found: list[Stage] = []
        drawn = np.zeros(len(self.keys), dtype=np.int64)
        for number in range(count):
            rows = np.flatnonzero(begins * count // whole == number)
            if not len(rows):  # one row spans the whole stage
                rows = np.flatnonzero(begins <= whole * number / count)[-1:]
            begin, stop = (-(-edge * self.steps // count) for edge in (number, number + 1))
            stage = Stage(self, number, begin, stop, rows, drawn)
            drawn = drawn.copy()
            drawn[stage.rows] += stage.until(stage.stop).drawn
            found.append(stage)
        return tuple(found)

    @cached_property
    def drawn(self) -> NDArray[np.int64]:
        """How often each row is drawn in the whole run, shape (rows,)."""
        drawn = np.zeros(len(self.keys), dtype=np.int64)
        for stage in self.stages:
            drawn[stage.rows] += stage.until(stage.stop).drawn
        return drawn

    @cached_property
    def by_content(self) -> NDArray[np.int64]:
        """All rows, ordered by their keys; the copies of one in the order of the file. Shape (rows,)."""
        return np.argsort(self.keys, kind="stable")

    @cached_property
    def ids(self) -> NDArray[np.uint64]:
        """A number of each row, from its key and from which of the rows with this key it is. Shape (rows,)."""
        keys = self.keys[self.by_content]
        copy = np.arange(len(keys), dtype=np.uint64) - np.searchsorted(keys, keys).astype(np.uint64)
        ids = np.empty(len(keys), dtype=np.uint64)
        ids[self.by_content] = mix_bits(keys + copy * GOLDEN)
        return ids

    def chance(self, rows: NDArray[np.int64], draws: NDArray[np.int64], what: str) -> NDArray[np.uint64]:
        """A random number for draws of rows: a hash of seed, content, draw, and what is decided by it."""
        return mix_bits(mix_bits(self.ids[rows] ^ _salt(self.seed, what)) + draws.astype(np.uint64) * GOLDEN)

    def share(self, rows: NDArray[np.int64], draws: NDArray[np.int64], what: str) -> NDArray[np.float64]:
        """The same as a number from 0 to below 1."""
        return (self.chance(rows, draws, what) >> np.uint64(11)).astype(np.float64) / 2.0**53

    def step(self, number: int) -> Step:
        """A step, from 0.

        Raises:
            IndexError: the run has no such step.

        """
        if not 0 <= number < self.steps:
            raise IndexError(number)
        return next(self.begin(number))

    def begin(self, number: int = 0) -> Iterator[Step]:
        """The steps from this one on. None before it is made, and a pass or two are in memory."""
        for stage in self.stages:
            if number < stage.stop:
                yield from stage.walk(max(number, stage.begin))


class Stage:
    """A stage of a run. Arrays have shape (rows of the stage,), in the order of the rows' contents."""

    def __init__(
        self, plan: Plan, number: int, begin: int, stop: int, rows: NDArray[np.int64], drawn: NDArray[np.int64]
    ) -> None:
        """Of these rows of the plan. `drawn` says how often stages before drew each row of the plan."""
        among = np.zeros(len(plan.keys), dtype=np.bool_)
        among[rows] = True
        self.plan = plan
        self.number = number
        self.begin = begin
        self.stop = stop
        """The steps of this stage are `begin` to `stop`."""
        self.rows = plan.by_content[among[plan.by_content]]
        self.former = drawn[self.rows]
        """How often earlier stages drew them: not at all, except a row that spans a whole stage."""
        self.weights = plan.weights[self.rows]
        self.lengths = plan.lengths[self.rows]
        start = float(_salt(plan.seed, f"phase {number}")) / 2.0**64
        self.phase = (np.cumsum(self.weights) - self.weights + start) % 1.0

    def times(self, passes: int) -> NDArray[np.int64]:
        """How often so many passes draw each row."""
        return np.floor(self.phase + self.weights * passes).astype(np.int64)

    def tokens(self, passes: int) -> int:
        """Of so many passes."""
        return int(self.times(passes) @ self.lengths)

    def order(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The draws of one pass, from 0, shuffled: which row of the plan, and which of its draws it is."""
        before = self.times(number)
        times = self.times(number + 1) - before
        first = before + self.former - np.cumsum(times) + times
        draws = np.repeat(first, times) + np.arange(int(times.sum()), dtype=np.int64)
        rows = np.repeat(self.rows, times)
        chance = self.plan.chance(rows, draws, "order")
        if times.max() > 1:  # the draws of a row come in their order
            chance = chance[np.lexsort((chance, np.repeat(np.arange(len(times)), times)))]
        order = np.argsort(chance, kind="stable")
        return rows[order], draws[order]

    def pass_of(self, place: int) -> int:
        """The pass on whose stretch of the line of tokens a place lies."""
        mass, slack = float(self.weights @ self.lengths), int(self.lengths.sum())
        low, high = max(0, int((place - slack) / mass) - 1), int((place + slack) / mass) + 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.tokens(middle) <= place else (low, middle)
        return low

    def until(self, step: int) -> Until:
        """What the steps of this stage before one come to."""
        dealt = (step - self.begin) % DEAL if step < self.stop else 0
        place = (step - dealt - self.begin) * self.plan.size
        number = self.pass_of(place)
        rows, _ = self.order(number)
        lengths = self.plan.lengths[rows]
        begun = rows[self.tokens(number) + np.cumsum(lengths) - lengths < place]
        last = [taken.rows for taken in islice(self.walk(step - dealt), dealt)]
        drawn = (
            self.times(number) + np.bincount(np.concatenate((begun, *last)), minlength=len(self.plan.keys))[self.rows]
        )
        return Until(number, drawn)

    def walk(self, step: int) -> Iterator[Step]:
        """The steps of this stage from one on."""
        size, lengths = self.plan.size, self.plan.lengths
        begin = step - (step - self.begin) % DEAL
        place = (begin - self.begin) * size
        number = self.pass_of(place)
        reached = self.tokens(number)
        rows = draws = places = np.zeros(0, dtype=np.int64)
        while begin < self.stop:
            count = min(DEAL, self.stop - begin)
            parts = [(rows, draws, places)]
            while reached < place + count * size:
                rows, draws = self.order(number)
                ends = reached + np.cumsum(lengths[rows])
                parts.append((rows, draws, ends - lengths[rows]))
                reached = int(ends[-1]) if len(ends) else reached
                number += 1
            rows, draws, places = (np.concatenate(part) for part in zip(*parts, strict=True))
            first, stop = np.searchsorted(places, (place, place + count * size))
            dealt = deal(lengths[rows[first:stop]], count)
            order = first + np.concatenate(dealt)
            some = np.empty_like(order)
            # The draws of a row stay in their order, to whatever steps they are dealt.
            some[np.argsort(rows[order], kind="stable")] = draws[first + np.argsort(rows[first:stop], kind="stable")]
            edges = np.cumsum([0, *map(len, dealt)])
            for at in range(max(0, step - begin), count):
                part = slice(edges[at], edges[at + 1])
                yield Step(begin + at, self.number, rows[order[part]], some[part])
            rows, draws, places = rows[stop:], draws[stop:], places[stop:]
            begin, place = begin + count, place + count * size


def deal(lengths: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Indices of lengths in so many groups of nearly one length, each in order.

    The longest goes first, each where least is yet (Graham, 1969), so groups differ by less than one of them.
    """
    groups: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, group) for group in range(count)]
    order = np.argsort(-lengths, kind="stable")
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        load, group = loads[0]
        heapreplace(loads, (load + length, group))
        groups[group].append(index)
    return [np.sort(np.array(group, dtype=np.int64)) for group in groups]


def steps_of(config: TrainConfig, corpus: Corpus) -> int | None:
    """The budget of a config in steps: whole ones that hold it. None for a budget of time.

    An epoch is a pass over the rows, each as often as its weight says.
    """
    if config.steps is not None:
        return config.steps
    tokens: float | None = config.tokens
    if config.epochs is not None:
        tokens = config.epochs * float(np.cumsum(corpus.weights * corpus.lengths)[-1])
    return None if tokens is None else ceil(tokens / max(config.batch, int(corpus.lengths.max())))


def _salt(seed: int, what: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(f"{seed} {what}".encode(), digest_size=8).digest(), "little"))

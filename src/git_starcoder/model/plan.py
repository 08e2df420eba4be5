"""Plans which rows every step trains on: a pure function of the rows' contents, a seed and the number of steps.

Stages: a curriculum has three stages, which follow the order of the file and have equally many steps. Any other run is
one stage.

Passes: within a stage, rows are drawn pass after pass. A row of weight 2 is drawn twice per pass. For a row of weight
0.7, systematic resampling (Kitagawa, 1996) carries the remainder over to the next pass: after any number of passes the
row was drawn as often as its weight says, rounded down or up. So no row is starved or repeated beyond its share.

Steps: all draws of a stage form one line of tokens. Each deal of 16 steps takes the draws that begin on its stretch of
that line and distributes them so that the steps have nearly the same number of tokens. The tokens of the first n passes
are a sum over the rows, so any step is found directly, without walking through the steps before it.
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
from git_starcoder.hashing.arrays import mix_bits
from git_starcoder.row_layout import CURRICULUM_STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus, Integers

PLAN_SCHEMA = "git-starcoder/plan/1"
"""Version of the planning algorithm. Increase the number when the same rows give other steps."""
STEPS_PER_DEAL = 16
"""Consecutive steps among which draws are distributed to make the steps equally long."""
GOLDEN_RATIO_64 = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio. Its multiples are far apart, which makes them good hash inputs."""


class PlannedStep(NamedTuple):
    """The rows that one optimizer step trains on. Arrays have shape (rows of the step,)."""

    number: int
    """Counted from 0."""
    stage: int
    rows: Integers
    """Indexes of rows in the corpus."""
    draw_numbers: Integers
    """How often the row was drawn before in the whole run."""


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """The steps of a run. Arrays have shape (rows,), in the order of the corpus."""

    content_hashes: NDArray[np.uint64]
    """Hash of the row's content."""
    lengths: Integers
    """Tokens of the row. With shifted windows they are means: those of a file are shorter and longer in turn."""
    weights: NDArray[np.float64]
    """How often the row is drawn per pass; above 0."""
    seed: int
    batch_tokens: int
    """Tokens that a step should have."""
    step_count: int
    """Steps of the whole run."""
    is_curriculum: bool = False
    fim_share: float = 0.0
    """Share of the draws of plain text that are learned as prefix, suffix, middle."""
    shifts_windows: bool = False
    """Whether windows that do not overlap begin at other places in every pass."""

    @classmethod
    def build(cls, corpus: Corpus, config: TrainConfig, step_count: int, *, is_curriculum: bool) -> TrainingPlan:
        """Build the plan of a config for the rows of a corpus."""
        if config.fim and corpus.fim_tokens is None:
            raise UsageError("the tokenizer has no fill-in-the-middle tokens", where="fim", hint="set fim: 0")
        columns = corpus.content_hashes, corpus.lengths, corpus.weights
        options = is_curriculum, config.fim or 0.0, config.shift_windows
        return cls(*columns, config.seed, config.batch, step_count, *options)

    @property
    def digest(self) -> str:
        """Hash of everything that determines the plan."""
        digest = blake2b(PLAN_SCHEMA.encode(), digest_size=16)
        for column in (self.content_hashes, self.lengths, self.weights):
            digest.update(np.ascontiguousarray(column).tobytes())
        values = (self.seed, self.batch_tokens, self.step_count, self.is_curriculum, self.fim_share)
        digest.update(repr((*values, self.shifts_windows)).encode())
        return digest.hexdigest()

    @property
    def step_tokens(self) -> int:
        """Mean tokens of a step: `batch_tokens`, or those of the longest row if it has more: no step is empty."""
        return max(self.batch_tokens, int(self.lengths.max()))

    @cached_property
    def stages(self) -> tuple[PlanStage, ...]:
        """The stages of the run. They have the same weight in tokens, so equally many steps keep all shares."""
        count = CURRICULUM_STAGES if self.is_curriculum else 1
        mass = self.weights * self.lengths
        ends = np.cumsum(mass)  # not np.sum, whose last digits depend on the machine
        begins, total = ends - mass, ends[-1]
        stages: list[PlanStage] = []
        draw_counts = np.zeros(len(self.content_hashes), dtype=np.int64)
        for number in range(count):
            rows = np.flatnonzero(begins * count // total == number)
            if not len(rows):  # one row spans the whole stage
                rows = np.flatnonzero(begins <= total * number / count)[-1:]
            # 3 stages of 10 steps: [0, 4), [4, 7), [7, 10)
            first, end = (-(-edge * self.step_count // count) for edge in (number, number + 1))
            stage = PlanStage(self, number, first, end, rows, draw_counts)
            draw_counts = draw_counts.copy()
            draw_counts[stage.rows] += stage.draws_before_step(end)
            stages.append(stage)
        return tuple(stages)

    @cached_property
    def draw_counts(self) -> Integers:
        """How often each row is drawn in the whole run, shape (rows,)."""
        return self.draws_before_step(self.step_count)

    def draws_before_step(self, step: int) -> Integers:
        """How often the steps before `step` draw each row, shape (rows,)."""
        counts = np.zeros(len(self.content_hashes), dtype=np.int64)
        for stage in self.stages:
            if step > stage.first_step:
                counts[stage.rows] += stage.draws_before_step(min(step, stage.end_step))
        return counts

    @cached_property
    def rows_by_content(self) -> Integers:
        """All rows, sorted by content hash; copies of a row stay in the order of the file. Shape (rows,)."""
        return np.argsort(self.content_hashes, kind="stable")

    @cached_property
    def row_hashes(self) -> NDArray[np.uint64]:
        """A hash that differs between all rows, also between copies of one row. Shape (rows,)."""
        hashes = self.content_hashes[self.rows_by_content]
        # hashes [5, 5, 8] -> first places [0, 0, 2] -> copy numbers [0, 1, 0]
        copy = np.arange(len(hashes), dtype=np.uint64) - np.searchsorted(hashes, hashes).astype(np.uint64)
        row_hashes = np.empty(len(hashes), dtype=np.uint64)
        row_hashes[self.rows_by_content] = mix_bits(hashes + copy * GOLDEN_RATIO_64)
        return row_hashes

    def random_hashes(self, rows: Integers, draw_numbers: Integers, purpose: str) -> NDArray[np.uint64]:
        """A pseudo-random number for each draw, from the seed, the row's content, the draw and the purpose."""
        hashes = mix_bits(self.row_hashes[rows] ^ _purpose_hash(self.seed, purpose))
        return mix_bits(hashes + draw_numbers.astype(np.uint64) * GOLDEN_RATIO_64)

    def random_shares(self, rows: Integers, draw_numbers: Integers, purpose: str) -> NDArray[np.float64]:
        """Like `random_hashes`, as numbers from 0 to below 1."""
        return (self.random_hashes(rows, draw_numbers, purpose) >> np.uint64(11)).astype(np.float64) / 2.0**53

    def step(self, number: int) -> PlannedStep:
        """Find one step, counted from 0."""
        if not 0 <= number < self.step_count:
            raise IndexError(number)
        return next(self.steps_from(number))

    def steps_from(self, number: int = 0) -> Iterator[PlannedStep]:
        """Yield all steps from this one on. At most two passes over the rows are in memory at a time."""
        for stage in self.stages:
            if number < stage.end_step:
                yield from stage.steps_from(max(number, stage.first_step))


class PlanStage:
    """One stage of a plan. Arrays have shape (rows of the stage,), sorted by the content of the rows."""

    def __init__(
        self,
        plan: TrainingPlan,
        number: int,
        first_step: int,
        end_step: int,
        rows: Integers,
        draw_counts: Integers,
    ) -> None:
        """Create the stage of steps `first_step` to `end_step` (exclusive) that draws `rows`.

        `number` counts from 0, and `draw_counts` says how often earlier stages draw each row of the plan.
        """
        is_in_stage = np.zeros(len(plan.content_hashes), dtype=np.bool_)
        is_in_stage[rows] = True
        self.plan = plan
        self.number = number
        self.first_step = first_step
        self.end_step = end_step
        self.rows = plan.rows_by_content[is_in_stage[plan.rows_by_content]]
        self.earlier_draws = draw_counts[self.rows]
        """Draws in earlier stages: 0, except for a row that spans a whole stage."""
        self.weights = plan.weights[self.rows]
        self.lengths = plan.lengths[self.rows]
        start = float(_purpose_hash(plan.seed, f"phase {number}")) / 2.0**64
        self.phase = (np.cumsum(self.weights) - self.weights + start) % 1.0

    def draws_after(self, passes: int) -> Integers:
        """How often the first `passes` passes draw each row.

        A row of weight 0.7 and phase 0.5 is drawn floor(0.5 + 0.7 n) times: 0, 1, 1, 2, 3, 4, 4, … times.
        """
        return np.floor(self.phase + self.weights * passes).astype(np.int64)

    def tokens_after(self, passes: int) -> int:
        """How many tokens the first `passes` passes draw."""
        return int(self.draws_after(passes) @ self.lengths)

    def shuffled_pass(self, number: int) -> tuple[Integers, Integers]:
        """The draws of one pass, counted from 0, in shuffled order: rows of the plan, and their draw numbers."""
        before = self.draws_after(number)
        times = self.draws_after(number + 1) - before
        # times [2, 0, 1] -> rows [a, a, c], draw numbers [before_a, before_a + 1, before_c]
        first = before + self.earlier_draws - np.cumsum(times) + times
        draw_numbers = np.repeat(first, times) + np.arange(int(times.sum()), dtype=np.int64)
        rows = np.repeat(self.rows, times)
        sort_keys = self.plan.random_hashes(rows, draw_numbers, "order")
        if times.max() > 1:  # sort the keys of each row, so that its draws come in their order
            sort_keys = sort_keys[np.lexsort((sort_keys, np.repeat(np.arange(len(times)), times)))]
        order = np.argsort(sort_keys, kind="stable")
        return rows[order], draw_numbers[order]

    def pass_at(self, token_offset: int) -> int:
        """The pass that contains a place on the stage's line of tokens, by binary search."""
        mass, slack = float(self.weights @ self.lengths), int(self.lengths.sum())
        low, high = max(0, int((token_offset - slack) / mass) - 1), int((token_offset + slack) / mass) + 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.tokens_after(middle) <= token_offset else (low, middle)
        return low

    def draws_before_step(self, step: int) -> Integers:
        """How often the steps of this stage before `step` draw each row, shape (rows of the stage,)."""
        # Whole deals are counted by their tokens; only the steps of the last, incomplete deal are generated.
        remainder = (step - self.first_step) % STEPS_PER_DEAL if step < self.end_step else 0
        token_offset = (step - remainder - self.first_step) * self.plan.step_tokens
        pass_number = self.pass_at(token_offset)
        rows, _ = self.shuffled_pass(pass_number)
        lengths = self.plan.lengths[rows]
        begun = rows[self.tokens_after(pass_number) + np.cumsum(lengths) - lengths < token_offset]
        last = [planned.rows for planned in islice(self.steps_from(step - remainder), remainder)]
        drawn = np.bincount(np.concatenate((begun, *last)), minlength=len(self.plan.content_hashes))
        return self.draws_after(pass_number) + drawn[self.rows]

    def steps_from(self, step: int) -> Iterator[PlannedStep]:
        """Yield the steps of this stage from `step` on."""
        step_tokens, lengths = self.plan.step_tokens, self.plan.lengths
        deal_step = step - (step - self.first_step) % STEPS_PER_DEAL
        deal_offset = (deal_step - self.first_step) * step_tokens
        pass_number = self.pass_at(deal_offset)
        tokens_drawn = self.tokens_after(pass_number)
        rows = draw_numbers = offsets = np.zeros(0, dtype=np.int64)
        while deal_step < self.end_step:
            count = min(STEPS_PER_DEAL, self.end_step - deal_step)
            deal_end = deal_offset + count * step_tokens
            parts = [(rows, draw_numbers, offsets)]
            while tokens_drawn < deal_end:
                rows, draw_numbers = self.shuffled_pass(pass_number)
                ends = tokens_drawn + np.cumsum(lengths[rows])
                parts.append((rows, draw_numbers, ends - lengths[rows]))
                tokens_drawn = int(ends[-1]) if len(ends) else tokens_drawn
                pass_number += 1
            rows, draw_numbers, offsets = (np.concatenate(part) for part in zip(*parts, strict=True))
            first, end = np.searchsorted(offsets, (deal_offset, deal_end))
            groups = balanced_groups(lengths[rows[first:end]], count)
            order = first + np.concatenate(groups)
            # The draws of a row stay in their order, whatever steps they are dealt to.
            dealt_draws = np.empty_like(order)
            dealt_draws[np.argsort(rows[order], kind="stable")] = draw_numbers[
                first + np.argsort(rows[first:end], kind="stable")
            ]
            edges = np.cumsum([0, *map(len, groups)])
            for index in range(max(0, step - deal_step), count):
                part = slice(edges[index], edges[index + 1])
                yield PlannedStep(deal_step + index, self.number, rows[order[part]], dealt_draws[part])
            rows, draw_numbers, offsets = rows[end:], draw_numbers[end:], offsets[end:]
            deal_step, deal_offset = deal_step + count, deal_end


def balanced_groups(lengths: Integers, count: int) -> list[Integers]:
    """Indexes of `lengths` in `count` groups of nearly the same total length, each group in ascending order.

    The longest goes first, each into the group with the smallest total (Graham, 1969). Totals of groups therefore
    differ by less than one length. Example: lengths [5, 4, 3, 3] in two groups give [0, 3] and [1, 2].
    """
    groups: list[list[int]] = [[] for _ in range(count)]
    totals = [(0, group) for group in range(count)]
    order = np.argsort(-lengths, kind="stable")
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        total, group = totals[0]
        heapreplace(totals, (total + length, group))
        groups[group].append(index)
    return [np.sort(np.array(group, dtype=np.int64)) for group in groups]


def budget_steps(config: TrainConfig, corpus: Corpus) -> int | None:
    """The number of steps that a budget of steps, tokens or epochs takes, rounded up; None for a budget of minutes."""
    if config.steps is not None:
        return config.steps
    if config.epochs is not None:
        return ceil(config.epochs * epoch_steps(config, corpus))
    return None if config.tokens is None else ceil(config.tokens / max(config.batch, int(corpus.lengths.max())))


def epoch_steps(config: TrainConfig, corpus: Corpus) -> float:
    """The steps of one pass over the rows, in which each row is drawn as often as its weight says."""
    # Not np.sum, whose last digits depend on the machine.
    tokens = float(np.cumsum(corpus.weights * corpus.lengths)[-1])
    return tokens / max(config.batch, int(corpus.lengths.max()))


def _purpose_hash(seed: int, purpose: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little"))

"""Accounts for every token of a run, twice: from the plan alone, and from the micro-batches that are trained on.

`planned_budget` computes the account from the lengths of the rows. `TokenCounter` takes every micro-batch apart again,
compares its rows with the dataset token by token, and counts. If anything differs, training ends with an error.

Tokens are drawn from rows, and control tokens are added to them. The model reads both: drawn + control = trained +
shown. All but the last token of every row go through the network, with padding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.errors import StarcoderError
from git_starcoder.model.data.packing import FIM_TOKEN_COUNT, IGNORED_TARGET, fim_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.model.data.corpus import Corpus
    from git_starcoder.model.data.packing import PackedRows
    from git_starcoder.model.data.plan import PlannedStep, TrainingPlan


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """What some steps train on. All but the first three are tokens. The names are keys of `training.json`."""

    steps: int
    draws: int
    """Draws of rows."""
    fills: int
    """Draws that are learned as prefix, suffix, middle."""
    drawn: int
    """Tokens of the drawn rows, as the dataset has them."""
    control: int
    """Control tokens that were added: end-of-text, and those of fill-in-the-middle."""
    trained: int
    """Tokens in the loss."""
    shown: int
    """Tokens that the model reads and that are not in the loss: context prefixes, and the first token of a row."""

    def as_values(self) -> dict[str, int]:
        """Plain values for JSON."""
        return asdict(self)

    def __sub__(self, earlier: TokenBudget) -> TokenBudget:
        """The budget of the steps that come after those of `earlier`."""
        return TokenBudget(**{name: value - getattr(earlier, name) for name, value in asdict(self).items()})


@dataclass(slots=True)
class TokenCounts:
    """What a `TokenCounter` has counted. The names are keys of checkpoints; see `TokenBudget` for the first of them."""

    begin: int = 0
    """The first step that is counted."""
    steps: int = 0
    draws: int = 0
    fills: int = 0
    drawn: int = 0
    control: int = 0
    trained: int = 0
    shown: int = 0
    pieces: int = 0
    """Micro-batches."""
    laid: int = 0
    """Tokens of the micro-batches, with padding."""
    padded: int = 0
    """Padding tokens."""
    last: int = 0
    """Last tokens of rows, which are targets and never inputs."""
    unasked: int = 0
    """Tokens of rows without any token in the loss, which are in no micro-batch."""

    @property
    def budget(self) -> TokenBudget:
        """The part that the plan determines."""
        return TokenBudget(**{field.name: getattr(self, field.name) for field in fields(TokenBudget)})

    def as_values(self) -> dict[str, int]:
        """Plain values for the `ledger` of `training.json`."""
        return {name: value for name, value in asdict(self).items() if name != "begin"}


def planned_budget(plan: TrainingPlan, corpus: Corpus, end_step: int | None = None) -> TokenBudget:
    """The budget of the steps before `end_step`, or of all, from the lengths of the rows alone."""
    end_step = plan.step_count if end_step is None else end_step
    draws = plan.draws_before_step(end_step)
    fim_draws = _count_fim_draws(plan, corpus, draws)
    plain_draws = draws - fim_draws
    input_lengths = corpus.lengths + corpus.starts_text
    fim_control = FIM_TOKEN_COUNT + ~corpus.ends_text  # 3, or 4 for a row without an end-of-text token of its own
    return TokenBudget(
        steps=end_step,
        draws=int(draws.sum()),
        fills=int(fim_draws.sum()),
        drawn=int(draws @ corpus.lengths),
        control=int(plain_draws @ corpus.starts_text.astype(np.int64) + fim_draws @ fim_control),
        trained=int(
            plain_draws @ np.maximum(input_lengths - corpus.loss_starts, 0)
            + fim_draws @ (corpus.lengths + fim_control - 1)
        ),
        shown=int(plain_draws @ np.minimum(input_lengths, corpus.loss_starts) + fim_draws.sum()),
    )


def _count_fim_draws(plan: TrainingPlan, corpus: Corpus, draws: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the first `draws` draws of each row are learned as prefix, suffix, middle, shape (rows,)."""
    counts = np.zeros(len(draws), dtype=np.int64)
    if plan.fim_share and corpus.fim_tokens is not None:
        for draw in range(int(draws.max(initial=0))):
            rows = np.flatnonzero(corpus.is_plain_text & (draws > draw))
            counts[rows] += fim_mask(corpus, plan, rows, np.full(len(rows), draw))
    return counts


class TokenCounter:
    """Checks and counts the micro-batches that are trained on, token by token."""

    def __init__(self, plan: TrainingPlan, corpus: Corpus, counts: TokenCounts | None = None) -> None:
        """Continue `counts`, or begin at the first step."""
        self.plan = plan
        self.corpus = corpus
        self.counts = counts or TokenCounts()

    def add(self, step: PlannedStep, micro_batches: Sequence[PackedRows]) -> None:
        """Count the micro-batches of the next step.

        Raises:
            StarcoderError: It is not the next step, a row is missing or there twice, or a token is lost, added, moved,
                or
                in the loss where it must not be.

        """
        corpus, counts = self.corpus, self.counts
        if step.number != counts.begin + counts.steps:
            raise _mismatch(f"step {step.number} came instead of step {counts.begin + counts.steps}")
        times_seen = np.zeros(len(step.rows), dtype=np.int64)
        for packed in micro_batches:
            filled = len(packed.tokens) - packed.padding_count
            if np.any(packed.targets[filled:] != IGNORED_TARGET):
                raise _mismatch(f"step {step.number} has padding in the loss")
            begins = np.flatnonzero(packed.positions[:filled] == 0).tolist()
            for index, begin, end in zip(packed.row_indices.tolist(), begins, [*begins[1:], filled], strict=True):
                times_seen[index] += 1
                self._count_row(int(step.rows[index]), packed.tokens[begin:end], packed.targets[begin:end])
            counts.pieces += 1
            counts.laid += len(packed.tokens)
            counts.padded += packed.padding_count
        for row in step.rows[times_seen == 0].tolist():
            length = len(corpus.input_tokens(row))
            if length > corpus.loss_starts[row]:
                raise _mismatch(f"step {step.number} leaves out row {row + 1}")
            counts.drawn += len(corpus.dataset_tokens(row))
            counts.control += int(corpus.starts_text[row])
            counts.shown += length
            counts.unasked += length
        if times_seen.max(initial=0) > 1:
            raise _mismatch(f"step {step.number} has a row twice")
        counts.draws += len(step.rows)
        counts.steps += 1

    def _count_row(self, row: int, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        """Compare one packed row with the dataset, and count it."""
        corpus, counts = self.corpus, self.counts
        inputs = np.append(tokens, targets[-1])
        original, loss_start = inputs, int(corpus.loss_starts[row])
        if corpus.is_plain_text[row] and corpus.fim_tokens is not None and inputs[0] == corpus.fim_tokens[0]:
            original, loss_start = self._undo_fim(row, inputs, corpus.fim_tokens), 1
            counts.fills += 1
        elif corpus.starts_text[row] and inputs[0] == corpus.end_token:
            original = inputs[1:]
        ignored = targets[: loss_start - 1]
        if not (
            np.array_equal(original, corpus.dataset_tokens(row))
            and np.array_equal(targets[loss_start - 1 :], inputs[loss_start:])
            and np.all(ignored == IGNORED_TARGET)
        ):
            raise _mismatch(f"row {row + 1} is not what the dataset has, or its loss begins elsewhere")
        counts.drawn += len(original)
        counts.control += len(inputs) - len(original)
        counts.trained += len(inputs) - loss_start
        counts.shown += loss_start
        counts.last += 1

    def _undo_fim(self, row: int, inputs: NDArray[np.int64], fim_tokens: tuple[int, int, int]) -> NDArray[np.int64]:
        """The text that was cut into prefix, suffix and middle."""
        places = [np.flatnonzero(inputs == token).tolist() for token in fim_tokens]
        if [len(found) for found in places] != [1] * FIM_TOKEN_COUNT or inputs[-1] != self.corpus.end_token:
            raise _mismatch(f"row {row + 1} does not consist of prefix, suffix and middle")
        _, fim_middle, fim_suffix = (found[0] for found in places)
        # PSM has the prefix before `fim_suffix`. SPM has nothing there; its prefix is the beginning of `middle`.
        prefix, suffix, middle = inputs[1:fim_suffix], inputs[fim_suffix + 1 : fim_middle], inputs[fim_middle + 1 : -1]
        end = inputs[-1:] if self.corpus.ends_text[row] else inputs[:0]
        return np.concatenate((prefix, middle, suffix, end))

    def close(self) -> TokenCounts:
        """Compare the counts with the plan.

        Raises:
            StarcoderError: They differ from what the lengths of the rows give.

        """
        counts = self.counts
        end_step = counts.begin + counts.steps
        planned = [planned_budget(self.plan, self.corpus, step) for step in (end_step, counts.begin)]
        budget, expected = counts.budget, planned[0] - planned[1]
        if budget != expected:
            raise _mismatch(f"counted {budget.as_values()}, not {expected.as_values()}")
        if budget.drawn + budget.control != counts.laid - counts.padded + counts.last + counts.unasked:
            raise _mismatch(f"micro-batches of {counts.laid} tokens, {counts.padded} of them padding, lack tokens")
        return counts


def _mismatch(what: str) -> StarcoderError:
    return StarcoderError(f"the token budget does not add up: {what}", where="train", hint="please report this bug")

"""Packs the rows of a step into micro-batches: rows one after another, none cropped, with hardly any padding.

Every token is accounted for twice. `planned_budget` computes the account from the lengths of the rows. `TokenCounter`
takes every micro-batch apart again, compares its rows with the dataset token by token, and counts. If anything differs,
training ends with an error.

Tokens are drawn from rows, and control tokens are added to them. The model reads both: drawn + control = trained +
shown. All but the last token of every row go through the network, with padding.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from git_starcoder.errors import StarcoderError
from git_starcoder.model.plan import STEPS_PER_DEAL
from git_starcoder.row_layout import IGNORED_LABEL, gap_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.model.corpus import Corpus, Integers
    from git_starcoder.model.plan import PlannedStep, TrainingPlan


STEP_SLACK_DIVISOR = 128
"""A micro-batch gets room for 1/128 of a step more than its share, because packing is not perfect."""
Attend: TypeAlias = Literal["row", "micro_batch"]
TILE_TOKENS = 64
"""Packed rows, rows in attention and tokens with logits are padded to whole tiles of this many tokens. Matrix units
work in tiles, and it keeps the number of shapes small: in bfloat16, oneDNN keeps half a megabyte of code on a processor
for each shape of each product, up to a thousand of them, and fragments the memory."""
INFERENCE_BATCH_TOKENS = 8192
"""Tokens that go through the network at once when nothing is trained, with padding."""
MAX_PADDING_TOKENS = 128
"""Padding in a batch of rows of different lengths; with more, two batches are faster on a CPU."""
SYNTAX_SHARE = 0.5
"""Share of the fill-in-the-middle rows whose middle is a node of the syntax tree, if there is a tree."""
FIM_TOKEN_COUNT = 3
"""Control tokens that a fill-in-the-middle row gets, apart from the end-of-text token."""


def padded_batches(
    lengths: Integers, limit: int = INFERENCE_BATCH_TOKENS, max_padding: int = MAX_PADDING_TOKENS
) -> Iterator[list[int]]:
    """Group rows by length, longest first, into batches that are padded to one length; yield the indices of each.

    A batch has at most `limit` tokens with padding, or one row that is longer, and at most `max_padding` of padding.
    """
    order = np.argsort(-lengths, kind="stable")
    begin = padding = 0
    for end in range(1, len(order) + 1):
        longest = lengths[order[begin]]
        if end < len(order):
            padding += int(longest - lengths[order[end]])
        if end == len(order) or longest * (end - begin + 1) > limit or padding > max_padding:
            yield order[begin:end].tolist()
            begin, padding = end, 0


class PackedRows(NamedTuple):
    """Rows one after another, as they go through the network at once: a micro-batch, when a model is trained.

    The last token of a row is only a target, so a row of n tokens takes n - 1 places. The rows [a b c] and [d e],
    padded to 4, are tokens [a b d 0], targets [b c e -100], positions [0 1 0 0] and segment bounds [0 2 3 4].
    """

    tokens: Integers
    """Shape (tokens,)."""
    positions: Integers
    """Position of each token in its segment, from 0, shape (tokens,)."""
    segment_bounds: NDArray[np.int32]
    """Segment i is `tokens[bounds[i]:bounds[i + 1]]`, and a token attends only to earlier ones in its segment. Each row
    is a segment, or all rows together are one; the padding is a segment of its own. Shape (segments + 1,)."""
    targets: Integers
    """The next token of the same row, or -100 where it is not in the loss, shape (tokens,)."""
    row_indices: Integers = np.zeros(0, dtype=np.int64)
    """Which rows of the step these are, in their order here, shape (rows,)."""
    padding_count: int = 0
    """Padding tokens, all at the end."""
    row_starts: Integers = np.zeros(0, dtype=np.int64)
    """Where each row begins, shape (rows,)."""

    @property
    def target_count(self) -> int:
        """How many tokens are predicted."""
        return int(np.count_nonzero(self.targets != IGNORED_LABEL))


def pack_step(
    corpus: Corpus, plan: TrainingPlan, step: PlannedStep, limit: int, multiple: int = 1, attend: Attend = "row"
) -> list[PackedRows]:
    """Pack the rows of a step into micro-batches of at most `limit` tokens without padding, the longest rows first.

    A row that is longer than `limit` is a micro-batch of its own. Rows without any token in the loss are left out.
    `multiple` and `attend` are those of `pack_rows`.
    """
    rows = input_rows(corpus, plan, step)
    is_fim = fim_mask(corpus, plan, step.rows, step.draw_numbers)
    loss_starts = np.where(is_fim, corpus.fim_loss_starts[step.rows], corpus.loss_starts[step.rows])
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    with_loss = np.flatnonzero(lengths > loss_starts)
    micro_batches: list[PackedRows] = []
    for group in best_fit_bins(lengths[with_loss] - 1, limit):
        indices = with_loss[group]
        group_rows: list[NDArray[Any]] = [rows[index] for index in indices.tolist()]
        packed = pack_rows(group_rows, loss_starts[indices], multiple, attend)
        micro_batches.append(packed._replace(row_indices=indices))
    return micro_batches


def pack_rows(
    rows: Sequence[NDArray[Any]], loss_starts: Integers | None = None, multiple: int = 1, attend: Attend = "row"
) -> PackedRows:
    """Pack rows of at least two tokens each.

    `loss_starts` has the index of the first token of each row that is in the loss; 1 unless given. The length is padded
    to a multiple of `multiple`. Each row is a segment, or all rows are one with `attend="micro_batch"`.
    """
    loss_starts = np.ones(len(rows), dtype=np.int64) if loss_starts is None else loss_starts
    lengths = np.array([len(row) - 1 for row in rows], dtype=np.int64)
    ends = np.cumsum(lengths)
    filled = int(ends[-1])
    padding = -filled % multiple
    tokens = np.zeros(filled + padding, dtype=np.int64)
    targets = np.full(filled + padding, IGNORED_LABEL, dtype=np.int64)
    positions = np.zeros(filled + padding, dtype=np.int64)
    tokens[:filled] = np.concatenate([row[:-1] for row in rows])
    # lengths [2, 1] -> ends [2, 3] -> places [0, 1, 2] - [0, 0, 2] = [0, 1, 0]
    row_starts = ends - lengths
    row_places = np.arange(filled) - np.repeat(row_starts, lengths)
    # Positions that begin anew with each row would give tokens of different rows in one segment the same place.
    positions[:filled] = row_places if attend == "row" else np.arange(filled)
    in_loss = row_places + 1 >= np.repeat(loss_starts, lengths)
    targets[:filled][in_loss] = np.concatenate([row[1:] for row in rows])[in_loss]
    segment_ends = ends.tolist() if attend == "row" else [filled]
    bounds = np.array([0, *segment_ends, *([filled + padding] if padding else [])], dtype=np.int32)
    return PackedRows(tokens, positions, bounds, targets, np.arange(len(rows), dtype=np.int64), padding, row_starts)


def max_row_tokens(corpus: Corpus, fim_share: float) -> int:
    """The most tokens that a row takes in a micro-batch if this share of rows is learned as fill-in-the-middle."""
    first_token = int(corpus.begin_token is not None)
    return int(corpus.lengths.max()) + first_token + (FIM_TOKEN_COUNT if fim_share else 0)


def micro_batch_size(corpus: Corpus, plan: TrainingPlan, count: int) -> int:
    """The size in tokens at which nearly every step fits into `count` micro-batches, and the longest row into one.

    It is larger than the mean: steps are not quite equally long and bins not quite full, and one more micro-batch would
    be mostly padding where all have one size.
    """
    longest = max_row_tokens(corpus, plan.fim_share)
    return max(longest, tokens_of_share(plan.step_tokens, int(plan.lengths.max()), count))


def tokens_of_share(step_tokens: int, longest: int, count: int) -> int:
    """The tokens, in whole tiles, at which nearly every step fits into `count` micro-batches."""
    slack = longest // STEPS_PER_DEAL + step_tokens // STEP_SLACK_DIVISOR
    return -(-(step_tokens + slack) // (count * TILE_TOKENS)) * TILE_TOKENS


def best_fit_bins(lengths: Integers, limit: int) -> list[Integers]:
    """Indexes of `lengths` in groups whose total is at most `limit`; a longer one is a group of its own.

    Best-fit decreasing: each length, the longest first, goes into the group with the least room that still holds it.
    With many groups that is at most 22 % more of them than the best packing needs (Johnson, 1973). Example: lengths
    [3, 6, 4, 5] with limit 9 give [1, 0] and [3, 2].
    """
    groups: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, group), sorted
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        place = bisect_left(room, (length, 0))
        if place < len(room):
            left, group = room.pop(place)
        else:
            left, group = max(limit, length), len(groups)
            groups.append([])
        groups[group].append(index)
        insort(room, (left - length, group))
    return [np.array(group, dtype=np.int64) for group in groups]


def fim_mask(corpus: Corpus, plan: TrainingPlan, rows: Integers, draw_numbers: Integers) -> NDArray[np.bool_]:
    """Whether each draw of a row is learned as prefix, suffix, middle, shape (draws,)."""
    if corpus.fim_tokens is None or not plan.fim_share:
        return np.zeros(len(rows), dtype=np.bool_)
    return corpus.is_plain_text[rows] & (plan.random_shares(rows, draw_numbers, "fill") < plan.fim_share)


def window_shifts(corpus: Corpus, plan: TrainingPlan, rows: Integers, draw_numbers: Integers) -> Integers:
    """The shift of the window of each draw towards the start of its file, in tokens, shape (draws,).

    All windows of a file have the same shift in a pass.
    """
    if not plan.shifts_windows:
        return np.zeros(len(rows), dtype=np.int64)
    shares = plan.random_shares(corpus.first_windows[rows], draw_numbers, "shift")
    return (shares * (corpus.max_shifts[rows] + 1)).astype(np.int64)


def spm_mask(plan: TrainingPlan, rows: Integers, draw_numbers: Integers) -> NDArray[np.bool_]:
    """Whether a fill-in-the-middle draw has the suffix before the prefix (SPM), as half of them do, shape (draws,)."""
    return plan.random_shares(rows, draw_numbers, "suffix first") < 0.5


def input_rows(corpus: Corpus, plan: TrainingPlan, step: PlannedStep) -> list[NDArray[Any]]:
    """The tokens that a model reads of each row of a step.

    A fill-in-the-middle row is cut at two places that a hash of its content decides: in half of the rows that have a
    syntax tree they are the ends of a node. All its tokens stay, with three control tokens around them, the end-of-text
    token after the middle (Bavarian et al., 2022), and the header before everything but the beginning-of-text token:

    - PSM: `<fim_prefix> prefix <fim_suffix> suffix <fim_middle> middle <|endoftext|>`, as in masked rows and prompts;
    - SPM: `<fim_prefix> <fim_suffix> suffix <fim_middle> prefix middle <|endoftext|>`, as StarCoder has it.
    """
    is_fim = fim_mask(corpus, plan, step.rows, step.draw_numbers)
    is_spm = spm_mask(plan, step.rows, step.draw_numbers)
    shifts = window_shifts(corpus, plan, step.rows, step.draw_numbers).tolist()
    rows = [corpus.input_tokens(row, shift) for row, shift in zip(step.rows.tolist(), shifts, strict=True)]
    places = np.flatnonzero(is_fim)
    if corpus.fim_tokens is None or not len(places):
        return rows
    texts: list[NDArray[Any]] = []
    for place in places.tolist():
        row = int(step.rows[place])
        text = corpus.dataset_tokens(row, shifts[place])[corpus.context_lengths[row] :]
        texts.append(text[:-1] if text[-1] == corpus.end_token else text)
    fim_prefix, fim_middle, fim_suffix, end = (
        np.array([token], dtype=corpus.tokens.dtype) for token in (*corpus.fim_tokens, corpus.end_token)
    )
    begin = np.array([] if corpus.begin_token is None else [corpus.begin_token], dtype=corpus.tokens.dtype)
    for place, text, cut in zip(places.tolist(), texts, _fim_cuts(corpus, plan, step, places, texts), strict=True):
        row = int(step.rows[place])
        header = corpus.dataset_tokens(row)[: corpus.context_lengths[row]]
        prefix, middle, suffix = np.split(text, cut)
        parts = gap_prompt(prefix, suffix, (fim_prefix, fim_suffix, fim_middle), suffix_first=bool(is_spm[place]))
        rows[place] = np.concatenate((begin, header, *parts, middle, end))
    return rows


def _fim_cuts(
    corpus: Corpus, plan: TrainingPlan, step: PlannedStep, places: Integers, texts: Sequence[NDArray[Any]]
) -> list[tuple[int, int]]:
    """Where the middle of each text starts and stops. `places` are those of the texts in the step."""
    rows, draws = step.rows[places], step.draw_numbers[places]
    shares = np.stack([plan.random_shares(rows, draws, f"cut {i}") for i in (1, 2)], axis=1)
    ends = np.array([len(text) + 1 for text in texts])[:, None]
    cuts: list[tuple[int, int]] = [tuple(cut) for cut in np.sort((shares * ends).astype(np.int64)).tolist()]
    if corpus.syntax_spans is not None:
        wanted = np.flatnonzero(plan.random_shares(rows, draws, "syntax") < SYNTAX_SHARE).tolist()
        parsed = [(texts[index], corpus.languages[int(rows[index])]) for index in wanted]
        for index, span in zip(wanted, corpus.syntax_spans.find(parsed, shares[wanted]), strict=True):
            cuts[index] = span or cuts[index]
    return cuts


def replace_inputs(packed: PackedRows, share: float, text_tokens: NDArray[Any], seed: int) -> PackedRows:
    """Replace a share of the tokens that a model reads by random ones. What it is to predict stays the same.

    Control tokens stay, and none is put in.
    """
    random = np.random.default_rng(seed)
    is_replaced = (random.random(len(packed.tokens)) < share) & np.isin(packed.tokens, text_tokens)
    return packed._replace(tokens=np.where(is_replaced, random.choice(text_tokens, len(packed.tokens)), packed.tokens))


@dataclass(slots=True)
class TokenBudget:
    """What some steps train on. All but the first three are tokens. The names are keys of `training.json`."""

    steps: int = 0
    draws: int = 0
    """Draws of rows."""
    fills: int = 0
    """Draws that are learned as prefix, suffix, middle."""
    drawn: int = 0
    """Tokens of the drawn rows, as the dataset has them."""
    control: int = 0
    """Control tokens that were added: end-of-text or beginning-of-text, and those of fill-in-the-middle."""
    trained: int = 0
    """Tokens in the loss."""
    shown: int = 0
    """Tokens that the model reads and that are not in the loss: context prefixes, and the first token of a row."""

    def as_values(self) -> dict[str, int]:
        """Plain values for the `ledger` of `training.json`."""
        return {name: value for name, value in asdict(self).items() if name != "begin"}


@dataclass(slots=True)
class TokenCounts(TokenBudget):
    """What a `TokenCounter` has counted. The names are keys of checkpoints."""

    begin: int = 0
    """The first step that is counted."""
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


def planned_budget(plan: TrainingPlan, corpus: Corpus, end_step: int | None = None) -> TokenBudget:
    """The budget of the steps before `end_step`, or of all, from the lengths of the rows alone."""
    end_step = plan.step_count if end_step is None else end_step
    draws = plan.draws_before_step(end_step)
    fim_draws = np.zeros(len(draws), dtype=np.int64)
    if plan.fim_share and corpus.fim_tokens is not None:
        for draw in range(int(draws.max(initial=0))):
            rows = np.flatnonzero(corpus.is_plain_text & (draws > draw))
            fim_draws[rows] += fim_mask(corpus, plan, rows, np.full(len(rows), draw))
    moved = _moved_tokens(plan, corpus, draws)
    plain_draws = draws - fim_draws
    input_lengths = corpus.input_lengths
    plain_losses = np.maximum(input_lengths - corpus.loss_starts, 0)
    # 3, one more for a row without an end-of-text token of its own, and one for a beginning-of-text token.
    fim_control = FIM_TOKEN_COUNT + ~corpus.ends_text + (corpus.begin_token is not None)
    fim_losses = corpus.lengths + fim_control - corpus.fim_loss_starts
    return TokenBudget(
        steps=end_step,
        draws=int(draws.sum()),
        fills=int(fim_draws.sum()),
        drawn=int(draws @ corpus.lengths) + moved,
        control=int(plain_draws @ corpus.has_first_token.astype(np.int64) + fim_draws @ fim_control),
        trained=int(plain_draws @ plain_losses + fim_draws @ fim_losses) + moved,
        shown=int(plain_draws @ np.minimum(input_lengths, corpus.loss_starts) + fim_draws @ corpus.fim_loss_starts),
    )


def _moved_tokens(plan: TrainingPlan, corpus: Corpus, draws: Integers) -> int:
    """How many more tokens than the rows have the draws show, because shifted windows are longer or shorter.

    It is 0 for whole passes: what the first window of a file lacks, the last one has.
    """
    edges = np.flatnonzero((corpus.max_shifts > 0) & ((corpus.previous < 0) | corpus.is_last_window))
    moved = 0
    for draw in range(int(draws[edges].max(initial=0)) if plan.shifts_windows else 0):
        rows = edges[draws[edges] > draw]
        shifts = window_shifts(corpus, plan, rows, np.full(len(rows), draw))
        moved += int(shifts @ np.where(corpus.is_last_window[rows], 1, -1))
    return moved


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
                or in the loss where it must not be.
        """
        corpus, counts = self.corpus, self.counts
        if step.number != counts.begin + counts.steps:
            raise _mismatch(f"step {step.number} came instead of step {counts.begin + counts.steps}")
        times_seen = np.zeros(len(step.rows), dtype=np.int64)
        shifts = window_shifts(corpus, self.plan, step.rows, step.draw_numbers)
        for packed in micro_batches:
            filled = len(packed.tokens) - packed.padding_count
            if np.any(packed.targets[filled:] != IGNORED_LABEL):
                raise _mismatch(f"step {step.number} has padding in the loss")
            begins = packed.row_starts.tolist()
            for index, begin, end in zip(packed.row_indices.tolist(), begins, [*begins[1:], filled], strict=True):
                times_seen[index] += 1
                row, tokens, targets = int(step.rows[index]), packed.tokens[begin:end], packed.targets[begin:end]
                self._count_row(row, int(shifts[index]), tokens, targets)
            counts.pieces += 1
            counts.laid += len(packed.tokens)
            counts.padded += packed.padding_count
        for row in step.rows[times_seen == 0].tolist():
            length = len(corpus.input_tokens(row))
            if length > corpus.loss_starts[row]:
                raise _mismatch(f"step {step.number} leaves out row {row + 1}")
            counts.drawn += len(corpus.dataset_tokens(row))
            counts.control += int(corpus.has_first_token[row])
            counts.shown += length
            counts.unasked += length
        if times_seen.max(initial=0) > 1:
            raise _mismatch(f"step {step.number} has a row twice")
        counts.draws += len(step.rows)
        counts.steps += 1

    def _count_row(self, row: int, shift: int, tokens: Integers, targets: Integers) -> None:
        """Compare one packed row with the dataset, and count it."""
        corpus, counts = self.corpus, self.counts
        inputs = np.append(tokens, targets[-1])
        first = corpus.first_tokens(row)
        original, loss_start = inputs[len(first) :], int(corpus.loss_starts[row])
        begin = int(corpus.begin_token is not None)
        header = begin + int(corpus.context_lengths[row])
        if corpus.is_plain_text[row] and corpus.fim_tokens is not None and inputs[header] == corpus.fim_tokens[0]:
            text = self._undo_fim(row, inputs[header:], corpus.fim_tokens)
            first = first[:begin]
            original, loss_start = np.concatenate((inputs[begin:header], text)), 1 + header
            counts.fills += 1
        ignored = targets[: loss_start - 1]
        if not (
            inputs[: len(first)].tolist() == first
            and np.array_equal(original, corpus.dataset_tokens(row, shift))
            and np.array_equal(targets[loss_start - 1 :], inputs[loss_start:])
            and np.all(ignored == IGNORED_LABEL)
        ):
            raise _mismatch(f"row {row + 1} is not what the dataset has, or its loss begins elsewhere")
        counts.drawn += len(original)
        counts.control += len(inputs) - len(original)
        counts.trained += len(inputs) - loss_start
        counts.shown += loss_start
        counts.last += 1

    def _undo_fim(self, row: int, inputs: Integers, fim_tokens: tuple[int, int, int]) -> Integers:
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
        """Compare the counts with the plan."""
        counts = self.counts
        edges = (counts.begin, counts.begin + counts.steps)
        begin, end = (planned_budget(self.plan, self.corpus, step).as_values() for step in edges)
        expected = {name: end[name] - begin[name] for name in end}
        counted = {name: getattr(counts, name) for name in end}
        if counted != expected:
            raise _mismatch(f"counted {counted}, not {expected}")
        if counts.drawn + counts.control != counts.laid - counts.padded + counts.last + counts.unasked:
            raise _mismatch(f"micro-batches of {counts.laid} tokens, {counts.padded} of them padding, lack tokens")
        return counts


def _mismatch(what: str) -> StarcoderError:
    return StarcoderError(f"the token budget does not add up: {what}", where="train", hint="please report this bug")

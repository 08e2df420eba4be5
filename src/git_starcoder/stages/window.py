"""Window: texts become tokens, and tokens become windows that overlap.

Every text is encoded once, into one array on disk; a window is a place in it. The plan for a text of n tokens, windows
of W and an overlap o: they begin at 0, S, 2S, … with S = W·(1 - o), and end with the first that reaches the text's end.
A window begins earlier than that, by half a stride at most, where an item of the syntax tree begins there, and never so
early that a token would be in no window.

With several sizes each text is laid out at each, but for the sizes above the one that holds it whole. A text with a
head has it in every window, at the sizes of which it is no more than half; what a change made is one row, at the
smallest size that holds it. A masked text needs four places of each window for control tokens; of its holes that lie
wholly in a window, the one nearest to the middle is masked there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder import machine
from git_starcoder.records import WINDOW_COLUMNS, Change, Unit, Windows
from git_starcoder.stages import anchor
from git_starcoder.text import embed
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.encode import encode
from git_starcoder.text.hashes import hashes, mixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Sample
    from git_starcoder.text.encode import Encoded
    from git_starcoder.text.tokenizer import Tokenizer

SENTINELS = 4
"""Control tokens of a masked row: prefix, suffix, middle, end."""
SHORTEST = 8
"""A row with fewer tokens of text, control tokens apart, teaches nothing and is dropped."""
PROVED = 64, 2048
"""Texts, and characters of each, on which the encoder is compared with the saved tokenizer."""


def resolve(recipe: recipes.Recipe) -> recipes.Recipe:
    """The recipe with numbers for its windows: those that fit this machine's device."""
    size = recipe.window.size
    if size == "auto":
        size = machine.recommended_window(machine.detect_device())
    elif size == "scales":
        size = machine.recommended_scales(machine.detect_device())
    return replace(recipe, window=replace(recipe.window, size=size))


def inputs(recipe: recipes.Recipe) -> tuple[str, ...]:
    """Digests of what a build takes from outside the repository and the recipe: a tokenizer, an embedding model."""
    name, model = recipe.window.tokenizer, recipe.dedup.embedding
    learned = () if name == "learn" else (tokenizers.load(name).digest,)
    return learned if model is None else (*learned, embed.load(model).digest)


def cut_windows(build: BuildState, recipe: recipes.Recipe, repo: Repo, samples: Sequence[Sample]) -> Windows:
    """Samples in, windows over their tokens out; the tokenizer is saved beside."""
    options = recipe.window
    with build.count_step("window") as step:
        tokenizer = _tokenizer(build, recipe, repo, samples)
        tokenizer.save(build.folder / "tokenizer")
        skipped = [tokenizer.fim is None and bool(sample.masked_spans) for sample in samples]
        encoded = encode(build, samples, skipped, tokenizer, repr(recipe.read))
        step.figures |= {
            "tokenizer": tokenizer.digest,
            "vocab_size": tokenizer.vocab_size,
            "encoder": tokenizer.encoder,
            "lossless": "yes" if tokenizer.lossless else "no",
            "tokens": len(encoded.tokens),
        }
        planned, unplanned = plan(samples, encoded, options.sizes, options.overlap)
        for index in unplanned:
            reason = "too_long" if isinstance(samples[index].origin, Change) else "head_too_long"
            step.drop(f"{samples[index].origin.path}#{samples[index].id}", reason)
        return _keep(planned, np.array(skipped, dtype=bool), step)


def plan(
    samples: Sequence[Sample], encoded: Encoded, sizes: Sequence[int], overlap: float
) -> tuple[Windows, list[int]]:
    """Windows over the tokens of each sample, every token in at least one; and the samples that no size can hold."""
    masked = np.array([bool(sample.masked_spans) for sample in samples], dtype=bool)
    entire = np.array([isinstance(sample.origin, Change) for sample in samples], dtype=bool)
    head = encoded.bounds[:, 0] - encoded.heads
    extra = head + SENTINELS * masked
    whole = extra + encoded.bounds[:, 1] - encoded.bounds[:, 0]
    placed = np.zeros(len(samples), dtype=bool)
    done = placed.copy()
    parts: list[Windows] = []
    for size in sorted(sizes):
        chosen = ~done & np.where(entire, whole <= size, extra <= size // 2)
        placed |= chosen
        done |= chosen & (whole <= size)
        parts.append(_lay(samples, encoded, np.flatnonzero(chosen), size, overlap, size - extra, head))
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in WINDOW_COLUMNS}
    return replace(parts[0], **columns), np.flatnonzero(~placed).tolist()


def _lay(
    samples: Sequence[Sample],
    encoded: Encoded,
    chosen: NDArray[np.int64],
    size: int,
    overlap: float,
    room: NDArray[np.int64],
    head: NDArray[np.int64],
) -> Windows:
    """The windows of one size over some samples. `room` and `head` are tokens of every sample."""
    begin, end = encoded.bounds[chosen, 0], encoded.bounds[chosen, 1]
    # Without overlap, windows with something besides the text would leave gaps.
    stride = np.minimum(max(1, round(size * (1 - overlap))), room[chosen])
    total = 1 + np.maximum(0, -((room[chosen] - (end - begin)) // stride))
    which = np.repeat(np.arange(len(chosen)), total)
    index = np.arange(len(which)) - np.repeat(np.cumsum(total) - total, total)
    begin, end, stride, total, sample = begin[which], end[which], stride[which], total[which], chosen[which]
    first = begin + index * stride
    latest = np.where(index + 1 == total, end - room[sample], 0)  # the last window must reach the end
    earliest = np.maximum(first - np.minimum(stride // 2, room[sample] - stride), latest)
    first = np.where(index > 0, _snapped(first, earliest, encoded.starts), first)
    length = np.minimum(room[sample], end - first)
    hole = _middle_holes(encoded.holes, first, first + length)
    difficulty = np.array([sample.origin.difficulty for sample in samples], dtype=np.float64)
    return Windows(
        samples=samples,
        tokens=encoded.tokens,
        prefix_starts=encoded.heads,
        sample_index=sample.astype(np.int32),
        token_start=first,
        sample_offset=(first - begin).astype(np.int32),
        length=length.astype(np.int32),
        size=np.full(len(sample), size, dtype=np.int32),
        prefix_length=head[sample].astype(np.int32),
        mask_start=hole[0],
        mask_stop=hole[1],
        window_index=index.astype(np.int32),
        window_count=total.astype(np.int32),
        content_key=np.zeros(len(sample), dtype=np.uint64),
        difficulty=difficulty[sample],
        weight=np.ones(len(sample), dtype=np.float64),
        stage=np.zeros(len(sample), dtype=np.int8),
    )


def _snapped(first: NDArray[np.int64], earliest: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last of the `starts` from `earliest` to `first`, or `first` where there is none."""
    if not len(starts):
        return first
    found = starts[np.maximum(0, np.searchsorted(starts, first, side="right") - 1)]
    return np.where((found >= earliest) & (found <= first), found, first)


class Layout:
    """Lays out rows: the tokens of a window as a model sees them."""

    def __init__(self, windows: Windows, tokenizer: Tokenizer) -> None:
        self.windows = windows
        self.tokenizer = tokenizer

    def spans(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where what rows show lies in `windows.tokens`: three spans of each, in its order, shape (rows, 3, 2).

        A plain row is its head, its text, and an empty span. A masked one is in the order prefix, suffix, middle
        (Bavarian et al., 2022), each behind its control token: `<fim_prefix> P <fim_suffix> S <fim_middle> M
        <|endoftext|>`; those are `marks`.
        """
        windows = self.windows
        first, length = windows.token_start[rows], windows.length[rows].astype(np.int64)
        head, stop = windows.prefix_starts[windows.sample_index[rows]], first + length
        begin, end = first + windows.mask_start[rows], first + windows.mask_stop[rows]
        plain = [head, head + windows.prefix_length[rows], first, stop, stop, stop]
        masked = np.where(self.masked(rows), [first, begin, end, stop, begin, end], plain)
        return np.ascontiguousarray(masked.T).reshape(-1, 3, 2)

    def masked(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows ask for what is masked in them, shape (rows,)."""
        return (self.windows.mask_start[rows] >= 0) & (self.tokenizer.fim is not None)

    @property
    def marks(self) -> tuple[int, ...]:
        """The control tokens of a masked row: one before each of its spans, and the last."""
        if self.tokenizer.fim is None:
            return ()
        prefix, middle, suffix = self.tokenizer.fim
        return prefix, suffix, middle, self.tokenizer.end


def keys(windows: Windows) -> NDArray[np.uint64]:
    """A hash of the content of each row, shape (windows,): equal rows have equal keys."""
    heads = windows.prefix_starts[windows.sample_index]
    key = hashes(windows.tokens, windows.token_start, windows.length)
    shown = np.flatnonzero(windows.prefix_length)
    key[shown] += mixed(hashes(windows.tokens, heads[shown], windows.prefix_length[shown]))
    for column in (windows.length, windows.mask_start, windows.mask_stop):
        key = mixed(key + column.astype(np.uint64))
    return key


def _tokenizer(build: BuildState, recipe: recipes.Recipe, repo: Repo, samples: Sequence[Sample]) -> Tokenizer:
    """The tokenizer of the recipe, its encoder compared with what is saved on texts of this run."""
    units = [sample.origin for sample in samples if sample.technique == "base" and isinstance(sample.origin, Unit)]
    learned = recipe.window.tokenizer == "learn"
    tokenizer = anchor.learn(build, recipe, repo, units) if learned else tokenizers.load(recipe.window.tokenizer)
    texts, characters = PROVED
    some = units[:: max(1, len(units) // texts)][:texts]
    tokenizer.verify([build.texts.get(unit.source.text).decode()[:characters].encode() for unit in some])
    return tokenizer


def _middle_holes(
    holes: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each window the hole nearest to its middle of those wholly inside, from its start; -1 without one.

    Holes and windows are places in the tokens of all samples: a hole inside a window is one of its sample.
    """
    none = np.full(len(begin), -1, dtype=np.int32)
    if not len(holes):
        return none, none.copy()
    low = np.searchsorted(holes[:, 0], begin)
    high = np.searchsorted(holes[:, 1], end, side="right") - 1
    centre, middle = holes.sum(axis=1), begin + end
    after = np.clip(np.searchsorted(centre, middle), low, np.maximum(low, high))
    before = np.maximum(after - 1, low)
    after, before = np.minimum(after, len(holes) - 1), np.minimum(before, len(holes) - 1)
    best = np.where(np.abs(centre[before] - middle) <= np.abs(centre[after] - middle), before, after)
    found = low <= high
    start, stop = (np.where(found, holes[best, side] - begin, -1).astype(np.int32) for side in (0, 1))
    return start, stop


def _keep(planned: Windows, skipped: NDArray[np.bool_], step: StepCounts) -> Windows:
    """The windows that can be rows, with their keys; the others are dropped with a reason."""
    masked = np.array([bool(sample.masked_spans) for sample in planned.samples], dtype=bool)[planned.sample_index]
    text = planned.length - (
        (planned.window_index + 1 == planned.window_count) & ~masked
    )  # the end-of-text token is no text
    reasons = np.select(
        [skipped[planned.sample_index], text < SHORTEST, masked & (planned.mask_start < 0)],
        ["no_fim_tokens", "too_short", "no_hole"],
        default="",
    )
    for row in np.flatnonzero(reasons != "").tolist():
        sample = planned.samples[int(planned.sample_index[row])]
        because = f"window {planned.window_index[row] + 1} of {planned.window_count[row]}, {planned.length[row]} tokens"
        step.drop(f"{sample.origin.path}#{sample.id}", str(reasons[row]), because)
    kept = planned.take(reasons == "")
    step.keep(len(kept))
    return kept.with_columns(content_key=keys(kept))

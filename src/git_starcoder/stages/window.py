"""Window: texts become tokens, and tokens become windows that overlap.

Every text is encoded once, into one array on disk; a window is a place in it. The plan for a text of n tokens, windows
of W and an overlap o: they begin at 0, S, 2S, … with S = W·(1 - o), and end with the first that reaches the text's end.
A masked text needs four places of each window for control tokens; of its holes that lie wholly in a window, the one
nearest to the middle is masked there.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder import device
from git_starcoder.rows import Span, Windows
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder import recipe as recipes
    from git_starcoder.rows import Sample
    from git_starcoder.run import Run, Step, TextStore
    from git_starcoder.text.tokenizer import Tokenizer

BATCH = 4 << 20
"""Bytes of text encoded at a time."""
SENTINELS = 4
"""Control tokens of a masked row: prefix, suffix, middle, end."""
SHORTEST = 8
"""A row with fewer tokens of text, control tokens apart, teaches nothing and is dropped."""
PROVED = 64, 2048
"""Texts, and characters of each, on which the encoder is compared with the saved tokenizer."""


class Hole(NamedTuple):
    """Tokens `start` to `stop`, counted from the window's start, that a masked row asks for."""

    start: int
    stop: int


class Encoded(NamedTuple):
    """Tokens of samples behind one another."""

    tokens: NDArray[Any]
    """Shape (tokens,)."""
    bounds: NDArray[np.int64]
    """Where each sample begins, and the end of the last, shape (samples + 1,)."""
    holes: NDArray[np.int64]
    """Where each hole begins and ends in `tokens`, in order, shape (holes, 2)."""


def resolve(recipe: recipes.Recipe) -> recipes.Recipe:
    """The recipe with a number for an `auto` window: the one that fits this machine's device."""
    if recipe.window.size != "auto":
        return recipe
    return replace(recipe, window=replace(recipe.window, size=device.window(device.detect())))


def inputs(recipe: recipes.Recipe) -> tuple[str, ...]:
    """Digests of what a build takes from outside the repository and the recipe: a tokenizer that is not learned."""
    name = recipe.window.tokenizer
    return () if name == "learn" else (tokenizers.load(name).digest,)


def run(run: Run, options: recipes.Window, samples: Sequence[Sample]) -> Windows:
    """Samples in, windows over their tokens out; the tokenizer is saved beside."""
    if options.size == "auto":
        raise ValueError("the window has no size: resolve the recipe first")
    with run.step("window") as step:
        tokenizer = _tokenizer(run, options, samples)
        tokenizer.save(run.folder / "tokenizer")
        skipped = [tokenizer.fim is None and bool(sample.holes) for sample in samples]
        encoded = encode(run.texts, samples, skipped, tokenizer, run.scratch / "tokens")
        step.figures |= {
            "tokenizer": tokenizer.digest,
            "vocab_size": tokenizer.vocab_size,
            "encoder": tokenizer.encoder,
            "lossless": "yes" if tokenizer.lossless else "no",
            "tokens": len(encoded.tokens),
        }
        planned = plan(samples, encoded, options.size, options.overlap)
        return _keep(planned, np.array(skipped, dtype=bool), step)


def encode(
    texts: TextStore, samples: Sequence[Sample], skipped: Sequence[bool], tokenizer: Tokenizer, path: Path
) -> Encoded:
    """Encode samples into a file, and end each with the end-of-text token unless it is masked (its rows get their own).

    The text of a masked sample is encoded in pieces between the edges of its holes, so that a hole is whole tokens.
    A skipped sample has no tokens.
    """
    bounds = np.zeros(len(samples) + 1, dtype=np.int64)
    holes: list[NDArray[np.int64]] = [np.empty((0, 2), dtype=np.int64)]
    end = np.array([tokenizer.end], dtype=tokenizer.dtype)
    done = 0
    with path.open("wb") as file:
        for batch in _batches(samples):
            parts = [[] if skipped[index] else pieces(samples[index]) for index in batch]
            data = [texts.get(span) for spans in parts for span in spans]
            flat, offsets = tokenizer.encode(data)
            first = 0
            for index, spans in zip(batch, parts, strict=True):
                edges = offsets[first : first + len(spans) + 1] - offsets[first]
                first += len(spans)
                begin, stop = offsets[first - len(spans)], offsets[first]
                file.write(flat[begin:stop].tobytes())
                if samples[index].holes:
                    holes.append(done + np.stack([edges[1:-1:2], edges[2::2]], axis=1) if spans else holes[0])
                else:
                    file.write(end.tobytes())
                    stop += 1
                done += int(stop - begin)
                bounds[index + 1] = done
    tokens = np.asarray(np.memmap(path, dtype=tokenizer.dtype, mode="r")) if done else np.empty(0, tokenizer.dtype)
    found = np.concatenate(holes)
    return Encoded(tokens, bounds, found[found[:, 0] < found[:, 1]])


def pieces(sample: Sample) -> list[Span]:
    """The spans of a text between the edges of its holes: every second one is a hole."""
    edges = [0, *(edge for hole in sample.holes for edge in hole), sample.text.stop - sample.text.start]
    start = sample.text.start
    return [Span(start + left, start + right) for left, right in pairwise(edges)]


def plan(samples: Sequence[Sample], encoded: Encoded, size: int, overlap: float) -> Windows:
    """Windows over the tokens of each sample, at least one each, every token in at least one."""
    masked = np.array([bool(sample.holes) for sample in samples], dtype=bool)
    tokens = np.diff(encoded.bounds)
    room = np.where(masked, size - SENTINELS, size)
    stride = np.minimum(max(1, round(size * (1 - overlap))), room)  # without overlap, masked windows would leave gaps
    total = 1 + np.maximum(0, -((room - tokens) // stride))
    sample = np.repeat(np.arange(len(samples), dtype=np.int32), total)
    index = np.arange(len(sample)) - np.repeat(np.cumsum(total) - total, total)
    start = index * stride[sample]
    first = encoded.bounds[:-1][sample] + start
    length = np.minimum(room[sample], tokens[sample] - start)
    hole = _middle_holes(encoded.holes, first, first + length)
    difficulty = np.array([sample.unit.difficulty for sample in samples], dtype=np.float64)
    return Windows(
        samples=samples,
        tokens=encoded.tokens,
        sample=sample,
        first=first,
        start=start.astype(np.int32),
        length=length.astype(np.int32),
        size=np.full(len(sample), size, dtype=np.int32),
        hole_start=hole[0],
        hole_stop=hole[1],
        index=index.astype(np.int32),
        total=total[sample].astype(np.int32),
        key=np.zeros(len(sample), dtype=np.uint64),
        difficulty=difficulty[sample],
        weight=np.ones(len(sample), dtype=np.float64),
        rank=np.zeros(len(sample), dtype=np.int64),
    )


class Layout:
    """Lays out rows: the tokens of a window as a model sees them."""

    def __init__(self, windows: Windows, tokenizer: Tokenizer) -> None:
        self.windows = windows
        self.tokenizer = tokenizer

    def row(self, row: int) -> tuple[NDArray[Any], int, Hole | None]:
        """Tokens of a row, shape (size,), how many they are before padding, and what is masked.

        A plain row is its tokens. A masked one is in the order prefix, suffix, middle (Bavarian et al., 2022):
        `<fim_prefix> P <fim_suffix> S <fim_middle> M <|endoftext|>`.
        """
        windows, tokenizer = self.windows, self.tokenizer
        first, length, begin = int(windows.first[row]), int(windows.length[row]), int(windows.hole_start[row])
        text = windows.tokens[first : first + length]
        tokens = np.full(int(windows.size[row]), tokenizer.pad, dtype=tokenizer.dtype)
        if begin < 0 or tokenizer.fim is None:
            tokens[:length] = text
            return tokens, length, None
        hole = Hole(begin, int(windows.hole_stop[row]))
        prefix, middle, suffix = tokenizer.fim
        asked = hole.stop - hole.start
        tokens[0] = prefix
        tokens[1 : begin + 1] = text[:begin]
        tokens[begin + 1] = suffix
        tokens[begin + 2 : length - asked + 2] = text[hole.stop :]
        tokens[length - asked + 2] = middle
        tokens[length - asked + 3 : length + 3] = text[begin : hole.stop]
        tokens[length + 3] = tokenizer.end
        return tokens, length + SENTINELS, hole

    def total_tokens(self) -> int:
        """Tokens of all rows before padding."""
        return int(self.windows.length.sum() + SENTINELS * np.count_nonzero(self.windows.hole_start >= 0))


def keys(windows: Windows) -> NDArray[np.uint64]:
    """A hash of the content of each row, shape (windows,): equal rows have equal keys."""
    data = windows.tokens.view(np.uint8).data
    width = windows.tokens.itemsize
    begins, ends = (windows.first * width).tolist(), ((windows.first + windows.length) * width).tolist()
    holes = np.stack([windows.hole_start, windows.hole_stop], axis=1).tobytes()
    found = bytearray()
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        digest = blake2b(data[begin:end], digest_size=8)
        digest.update(holes[8 * row : 8 * row + 8])
        found += digest.digest()
    return np.frombuffer(found, dtype="<u8").astype(np.uint64)


def _tokenizer(run: Run, options: recipes.Window, samples: Sequence[Sample]) -> Tokenizer:
    """The tokenizer of the recipe, its encoder compared with what is saved on texts of this run."""
    base = [sample for sample in samples if sample.made_by == "base"]
    if options.tokenizer == "learn":
        train = [run.texts.get(sample.text) for sample in base if sample.unit.split == "train"]
        tokenizer = tokenizers.learn(train, options.vocab_size)
    else:
        tokenizer = tokenizers.load(options.tokenizer)
    texts, characters = PROVED
    some = base[:: max(1, len(base) // texts)][:texts]
    tokenizer.verify([run.texts.get(sample.text).decode()[:characters].encode() for sample in some])
    return tokenizer


def _batches(samples: Sequence[Sample]) -> Iterator[range]:
    """Ranges of samples with about `BATCH` bytes of text each."""
    begin = size = 0
    for index, sample in enumerate(samples):
        size += sample.text.stop - sample.text.start
        if size >= BATCH:
            yield range(begin, index + 1)
            begin, size = index + 1, 0
    yield range(begin, len(samples))


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


def _keep(planned: Windows, skipped: NDArray[np.bool_], step: Step) -> Windows:
    """The windows that can be rows, with their keys; the others are dropped with a reason."""
    masked = np.array([bool(sample.holes) for sample in planned.samples], dtype=bool)[planned.sample]
    text = planned.length - ((planned.index + 1 == planned.total) & ~masked)  # the end-of-text token is no text
    reasons = np.select(
        [skipped[planned.sample], text < SHORTEST, masked & (planned.hole_start < 0)],
        ["no_fim_tokens", "too_short", "no_hole"],
        default="",
    )
    for row in np.flatnonzero(reasons != "").tolist():
        sample = planned.samples[int(planned.sample[row])]
        because = f"window {planned.index[row] + 1} of {planned.total[row]}, {planned.length[row]} tokens"
        step.drop(f"{sample.unit.source.path}#{sample.id}", str(reasons[row]), because)
    kept = planned.take(reasons == "")
    step.keep(len(kept))
    return kept.with_columns(key=keys(kept))

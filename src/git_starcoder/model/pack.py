"""The rows of a step as flat pieces for a network: rows behind one another, none cropped, as few pieces as will do."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from git_starcoder.model.plan import DEAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.plan import Plan, Step

UNASKED = -100
"""The target where none is."""
SLACK = 128
"""A piece has room for one part in so many more than its share of a step."""
TILE = 64
"""What goes through a network has whole tiles of so many tokens: pieces, rows in attention, and what logits are made
of. Matrix units work in tiles, and there are few shapes: in bfloat16 a processor's library (oneDNN) keeps half a
megabyte of code for each shape of each product, up to a thousand of them, between which memory falls to pieces."""
MARKS = 3
"""Control tokens of a row that is learned as prefix, suffix, middle; and the end-of-text token, where it had none."""


class Packed(NamedTuple):
    """Rows behind one another, as they go through the network at once.

    Of every row its last token is only a target, so a row of n tokens takes n - 1.
    """

    tokens: NDArray[np.int64]
    """Shape (tokens,)."""
    positions: NDArray[np.int64]
    """Of each token in its row, from 0, shape (tokens,)."""
    bounds: NDArray[np.int32]
    """A token attends to those before it in its segment: `tokens[bounds[i]:bounds[i + 1]]`, shape (segments + 1,). A
    row is a segment, or all rows of the piece are one; padding is one of its own."""
    targets: NDArray[np.int64]
    """The next token of the same row, or -100 where it is not asked for, shape (tokens,)."""
    places: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    """Which rows of the step these are, in their order here, shape (rows,)."""
    padded: int = 0
    """Tokens of padding, behind all rows."""

    @property
    def asked(self) -> int:
        """How many targets there are."""
        return int(np.count_nonzero(self.targets != UNASKED))


def packed(
    corpus: Corpus,
    plan: Plan,
    step: Step,
    limit: int,
    size: int | None = None,
    attend: Literal["row", "piece"] = "row",
) -> list[Packed]:
    """The rows of a step as pieces of at most `limit` tokens, the longest rows first.

    A row that is longer than `limit` is a piece of its own. With `size`, every piece is padded to it, or to a multiple
    of it where it holds more. Rows of which nothing is asked are left out.
    """
    rows = laid(corpus, plan, step)
    given = np.where(fills(corpus, plan, step.rows, step.draws), 1, corpus.given[step.rows])
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    asked = np.flatnonzero(lengths > given)
    pieces: list[Packed] = []
    for chosen in bins(lengths[asked] - 1, limit):
        places = asked[chosen]
        some: list[NDArray[Any]] = [rows[place] for place in places.tolist()]
        pieces.append(flat(some, given[places], size, attend)._replace(places=places))
    return pieces


def longest(corpus: Corpus, fim: float) -> int:
    """Tokens that no row exceeds in a piece, where this share is learned as prefix, suffix, middle."""
    return int(corpus.lengths.max()) + (MARKS if fim else 0)


def room(corpus: Corpus, plan: Plan, count: int) -> int:
    """Tokens of a piece of which so many hold any step, but for rare ones; or one holds the longest row.

    Steps are not quite equally long, and pieces not quite full. Pieces of the mean size would often be one more, which
    is mostly padding where all have one size.
    """
    slack = int(plan.lengths.max()) // DEAL + plan.size // SLACK
    return max(longest(corpus, plan.fim), -(-(plan.size + slack) // (count * TILE)) * TILE)


def bins(lengths: NDArray[np.int64], limit: int) -> list[NDArray[np.int64]]:
    """Indices of lengths, grouped so that each group holds `limit` at most, or one that is longer.

    Best-fit decreasing: each, the longest first, goes where the least room is left that it fits in (Johnson, 1973: at
    most 22 % more groups than the best packing has, for many groups).
    """
    groups: list[list[int]] = []
    room: list[tuple[int, int]] = []  # of each group, sorted
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        found = bisect_left(room, (length, 0))
        if found < len(room):
            left, group = room.pop(found)
        else:
            left, group = max(limit, length), len(groups)
            groups.append([])
        groups[group].append(index)
        insort(room, (left - length, group))
    return [np.array(group, dtype=np.int64) for group in groups]


def fills(corpus: Corpus, plan: Plan, rows: NDArray[np.int64], draws: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which draws of rows are learned as prefix, suffix, middle, shape (draws,)."""
    if corpus.fim is None or not plan.fim:
        return np.zeros(len(rows), dtype=np.bool_)
    return corpus.whole[rows] & (plan.share(rows, draws, "fill") < plan.fim)


def suffix_first(plan: Plan, rows: NDArray[np.int64], draws: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the draws that `fills` names show the suffix before the prefix, half of them, shape (draws,)."""
    return plan.share(rows, draws, "suffix first") < 0.5


def laid(corpus: Corpus, plan: Plan, step: Step) -> list[NDArray[Any]]:
    """What a model reads of each row of a step: with the end-of-text token before one that opens a text.

    A row that `fills` names is split instead, at two places that a hash of its content decides. All its tokens are
    kept, with three control tokens around them and the end-of-text token behind the middle (Bavarian et al., 2022):
    prefix, suffix, middle (PSM) as `<fim_prefix> P <fim_suffix> S <fim_middle> M <|endoftext|>`, which is how masked
    rows and prompts are written, too; or suffix, prefix, middle (SPM) as `<fim_prefix> <fim_suffix> S <fim_middle> P M
    <|endoftext|>`, as StarCoder has it.
    """
    chosen = fills(corpus, plan, step.rows, step.draws)
    spm = suffix_first(plan, step.rows, step.draws)
    cuts = np.sort([plan.share(step.rows, step.draws, f"cut {number}") for number in (1, 2)], axis=0).T
    found: list[NDArray[Any]] = []
    for row, split, suffix, cut in zip(step.rows.tolist(), chosen.tolist(), spm.tolist(), cuts, strict=True):
        if not split or corpus.fim is None:
            found.append(corpus.row(row))
            continue
        text = corpus.text(row)
        text = text[:-1] if text[-1] == corpus.end else text
        before, middle, after = np.split(text, (cut * (len(text) + 1)).astype(np.int64))
        first, fill, last, end = (np.array([mark], dtype=text.dtype) for mark in (*corpus.fim, corpus.end))
        parts = (last, after, fill, before) if suffix else (before, last, after, fill)
        found.append(np.concatenate((first, *parts, middle, end)))
    return found


def flat(
    rows: Sequence[NDArray[Any]],
    given: NDArray[np.int64] | None = None,
    size: int | None = None,
    attend: Literal["row", "piece"] = "row",
) -> Packed:
    """Rows of at least two tokens as one piece; the first tokens of a row are only shown, as `given` says, or one."""
    given = np.ones(len(rows), dtype=np.int64) if given is None else given
    lengths = np.array([len(row) - 1 for row in rows], dtype=np.int64)
    ends = np.cumsum(lengths)
    filled = int(ends[-1])
    padded = -filled % size if size else 0
    tokens = np.zeros(filled + padded, dtype=np.int64)
    targets = np.full(filled + padded, UNASKED, dtype=np.int64)
    positions = np.zeros(filled + padded, dtype=np.int64)
    tokens[:filled] = np.concatenate([row[:-1] for row in rows])
    positions[:filled] = np.arange(filled) - np.repeat(ends - lengths, lengths)
    asked = positions[:filled] + 1 >= np.repeat(given, lengths)
    targets[:filled][asked] = np.concatenate([row[1:] for row in rows])[asked]
    bounds = [0, *(ends.tolist() if attend == "row" else [filled]), *([filled + padded] if padded else [])]
    places = np.arange(len(rows), dtype=np.int64)
    return Packed(tokens, positions, np.array(bounds, dtype=np.int32), targets, places, padded)

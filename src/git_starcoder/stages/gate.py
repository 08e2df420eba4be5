"""The gate of the split step: no edit passes code between what is learned from and what is held out.

An edit to learn from has no line that only held-out files have, and a held-out one asks for no text of which nearly all
lines stand in files to learn from. Code moves between files without a trace, so the lineage of files is not enough.
Lines are compared by their words, whatever wraps them (`hashing.lines`); lines that files of the training split
have too are no secret. Of what a held-out edit asks for they are some, as code is reused everywhere; where they are
nearly all, its text has moved.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.hashing.arrays import find_sorted, run_offsets
from git_starcoder.hashing.lines import MIN_QUOTED_SHARE, HashedLines, LineIndex, split_quotes
from git_starcoder.memo import Memo
from git_starcoder.records import EMPTY_SPAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.memo import Inputs
    from git_starcoder.records import Change, Span, Unit


SEVERAL = 3
"""Lines from which a text says where it comes from."""
NEARLY_ALL = 0.9
"""Share of them by which a text is that of files to learn from, if these have them."""
BECAUSE = {
    "held_out_code": "every edit has a line that only held-out code has",
    "learned_code": "nearly all lines that every edit asks for stand in files that are learned from",
}


def behind_gate(
    build: BuildState, step: StepCounts, units: Sequence[Unit], lines: HashedLines, changes: Sequence[Change], how: str
) -> list[Change]:
    """The changes, less the edits that do not pass.

    A message to learn from that quotes a line of held-out code is left out. `lines` are those of the units' texts;
    `how` says how texts were read, for the cache.
    """
    if not changes:
        return []
    held = lines.select([at for at, unit in enumerate(units) if unit.split != "train"])
    known = lines.select([at for at, unit in enumerate(units) if unit.split == "train"])
    was = _lines_of_changes(build, [change for change in changes if change.split != "train"], how)
    secret = LineIndex.from_lines(HashedLines.concatenate([held, was]))
    secret = secret.without(secret.find_in(known).entry)
    learned = [change for change in changes if change.split == "train"]
    sides = _lines_of_changes(build, learned, how)
    telling = iter((sides.count_per_text(secret.find_in(sides).line).reshape(-1, 2).sum(axis=1) > 0).tolist())
    told = iter(_learned_elsewhere(was, known))
    messages = {change.message: split_quotes(build.texts.get(change.message)) for change in learned}
    quotes = HashedLines.from_texts(messages.values())
    quoted = quotes.count_per_text(secret.find_in(quotes, MIN_QUOTED_SHARE).line) > 0
    quoting: dict[Span, bool] = dict(zip(messages, quoted.tolist(), strict=True))
    kept: list[Change] = []
    held_back: Counter[str] = Counter()
    withheld = 0
    for change in changes:
        learns = change.split == "train"
        flags = telling if learns else told
        edits = tuple(edit for edit in change.edits if not next(flags))
        reason = "held_out_code" if learns else "learned_code"
        held_back[reason] += len(change.edits) - len(edits)
        message = change.message
        if learns and quoting[message]:
            message = EMPTY_SPAN
            withheld += 1
        if edits:
            same = len(edits) == len(change.edits) and message == change.message
            kept.append(change if same else change._replace(edits=edits, message=message))
            step.keep()
        else:
            step.drop(f"{change.path}@{change.commit}", reason, BECAUSE[reason])
    step.figures["edits_held_back"] = held_back["held_out_code"]
    step.figures["edits_learned_elsewhere"] = held_back["learned_code"]
    step.figures["messages_held_back"] = withheld
    return kept


def recall_lines(build: BuildState, inputs: Sequence[Inputs], texts: Callable[[int], Sequence[bytes]]) -> HashedLines:
    """The lines of the texts of some things, as an earlier build hashed them or as `texts` gives them now."""
    memo: Memo[tuple[bytes, bytes, bytes, bytes]] = Memo(build.cache, "lines", tuple[bytes, bytes, bytes, bytes])
    known = memo.get(inputs)
    unknown = [at for at, answer in enumerate(known) if answer is None]
    counts: list[int] = []

    def read() -> Iterator[bytes]:
        for at in unknown:
            mine = texts(at)
            counts.append(len(mine))
            yield from mine

    made = HashedLines.from_texts(read())
    text_ends = np.cumsum([0, *counts])
    line_ends = run_offsets(made.line_counts.astype(np.int64))
    word_ends = run_offsets(made.word_counts.astype(np.int64))
    for at, begin, end in zip(unknown, text_ends[:-1].tolist(), text_ends[1:].tolist(), strict=True):
        first, last = line_ends[begin], line_ends[end]
        known[at] = (
            made.word_hashes[word_ends[first] : word_ends[last]].tobytes(),
            made.word_counts[first:last].tobytes(),
            made.byte_counts[first:last].tobytes(),
            made.line_counts[begin:end].tobytes(),
        )
    memo.put([(inputs[at], answer) for at in unknown if (answer := known[at]) is not None])
    words, lengths, sizes, per_text = (
        b"".join(answer[column] for answer in known if answer is not None) for column in range(4)
    )
    return HashedLines(
        np.frombuffer(words, np.uint32),
        np.frombuffer(lengths, np.int32),
        np.frombuffer(sizes, np.uint8),
        np.frombuffer(per_text, np.int32),
    )


def _lines_of_changes(build: BuildState, changes: Sequence[Change], how: str) -> HashedLines:
    """The lines of each edit: what was there and what came instead, one behind the other."""
    commits = [list(group) for _, group in groupby(changes, key=lambda change: change.commit)]
    inputs = [
        (how, *(part for one in group for part in (one.path, one.blob_before, one.blob_after))) for group in commits
    ]
    return recall_lines(build, inputs, lambda at: [
        build.texts.get(side) for one in commits[at] for edit in one.edits for side in (edit.before, edit.after)
    ])  # fmt: skip


def _learned_elsewhere(sides: HashedLines, known: HashedLines) -> list[bool]:
    """For each edit of held-out changes, whether nearly all lines that it asks for stand among the known ones."""
    compared = sides.long_lines()
    phrases = LineIndex.from_lines(compared)
    found = np.unique(phrases.find_in(known).entry)
    stands = find_sorted(compared.line_hashes(), phrases.line_hashes[found])[1]
    there = compared.count_per_text(np.flatnonzero(stands))[1::2]
    count = compared.line_counts[1::2]
    return ((count >= SEVERAL) & (there >= NEARLY_ALL * count)).tolist()

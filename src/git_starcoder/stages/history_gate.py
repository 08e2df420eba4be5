"""The gate of the split step: keeps edits from carrying code between the training split and the held-out splits.

- A training edit must not contain a line that only held-out files have.
- A held-out edit must not ask for a text of which nearly all lines are in training files.

The lineage of files is not enough for this, because code moves between files without a trace. Lines are compared by
their words, so that whatever surrounds them does not matter (`hashing.texts`). Lines that training files have too are
not secret. A held-out edit usually asks for a few of those, because code is reused everywhere; if they are nearly all
of it, its text has moved.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from git_starcoder.hashing.arrays import find_sorted, run_offsets
from git_starcoder.hashing.texts import MIN_QUOTED_SHARE, HashedLines, LineIndex, split_quotes
from git_starcoder.memo import Memo
from git_starcoder.records import EMPTY_SPAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.memo import Inputs
    from git_starcoder.recipe import ReadOptions
    from git_starcoder.records import Change, Span, Unit

T = TypeVar("T")

MIN_ORIGIN_LINES = 3
"""Lines from which on the answer of an edit is long enough to tell where it comes from."""
MOVED_SHARE = 0.9
"""Share of an answer's lines that must be in training files for its text to count as moved from there."""
DROP_DETAILS = {
    "held_out_code": "every edit has a line that only held-out code has",
    "learned_code": "nearly all lines that every edit asks for stand in files that are learned from",
}
"""Details of dropped changes by their reason; part of the dataset's bytes."""

LineColumns = tuple[bytes, bytes, bytes, bytes]
"""The columns of some `Lines`, as the cache stores them: words, lengths, sizes, counts."""


def apply_gate(
    build: BuildState,
    step: StepCounts,
    units: Sequence[Unit],
    unit_lines: HashedLines,
    changes: Sequence[Change],
    reading: ReadOptions,
) -> list[Change]:
    """The changes without the edits that do not pass.

    A training message that quotes a line of held-out code is left out, too. `unit_lines` are the lines of the units'
    texts. `reading` says how texts were read, which the cached lines of changes depend on.
    """
    if not changes:
        return []
    held_out_lines = unit_lines.select([index for index, unit in enumerate(units) if unit.split != "train"])
    training_lines = unit_lines.select([index for index, unit in enumerate(units) if unit.split == "train"])
    training_changes = [change for change in changes if change.split == "train"]
    held_out_edits = _edit_lines(build, [change for change in changes if change.split != "train"], reading)
    training_edits = _edit_lines(build, training_changes, reading)
    secret = LineIndex.from_lines(HashedLines.concatenate([held_out_lines, held_out_edits]))
    secret = secret.without(secret.find_in(training_lines).entry)
    # Each edit has two texts, before and after: counts of secret lines [0, 2, 1, 0] -> edits [2, 1] -> both blocked.
    secret_counts = training_edits.count_per_text(secret.find_in(training_edits).line).reshape(-1, 2).sum(axis=1)
    is_secret = iter((secret_counts > 0).tolist())
    is_known = iter(_are_answers_known(held_out_edits, training_lines))
    quoting = _quoting_messages(build, training_changes, secret)
    passed: list[Change] = []
    blocked_edits: Counter[str] = Counter()
    withheld_messages = 0
    for change in changes:
        is_training = change.split == "train"
        reason, is_blocked = ("held_out_code", is_secret) if is_training else ("learned_code", is_known)
        edits = tuple(edit for edit in change.edits if not next(is_blocked))
        blocked_edits[reason] += len(change.edits) - len(edits)
        message = change.message
        if is_training and message in quoting:
            message = EMPTY_SPAN
            withheld_messages += 1
        if edits:
            passed.append(change._replace(edits=edits, message=message))
            step.keep()
        else:
            step.drop(f"{change.path}@{change.commit}", reason, DROP_DETAILS[reason])
    step.figures["edits_held_back"] = blocked_edits["held_out_code"]
    step.figures["edits_learned_elsewhere"] = blocked_edits["learned_code"]
    step.figures["messages_held_back"] = withheld_messages
    return passed


def _quoting_messages(build: BuildState, changes: Sequence[Change], secret: LineIndex) -> set[Span]:
    """The messages of changes that quote a secret line."""
    messages = {change.message: split_quotes(build.texts.get(change.message)) for change in changes}
    quotes = HashedLines.from_texts(messages.values())
    secret_counts = quotes.count_per_text(secret.find_in(quotes, MIN_QUOTED_SHARE).line).tolist()
    return {message for message, count in zip(messages, secret_counts, strict=True) if count}


def _are_answers_known(held_out_edits: HashedLines, training_lines: HashedLines) -> list[bool]:
    """For each edit, whether nearly all lines of its text after are among the lines of training files."""
    compared = held_out_edits.long_lines()
    phrases = LineIndex.from_lines(compared)
    known = np.unique(phrases.find_in(training_lines).entry)
    is_known = find_sorted(compared.line_hashes(), phrases.line_hashes[known])[1]
    # Texts alternate before, after, before, after …: [1::2] takes those after.
    known_counts = compared.count_per_text(np.flatnonzero(is_known))[1::2]
    counts = compared.line_counts[1::2]
    return ((counts >= MIN_ORIGIN_LINES) & (known_counts >= MOVED_SHARE * counts)).tolist()


def _edit_lines(build: BuildState, changes: Sequence[Change], reading: ReadOptions) -> HashedLines:
    """The lines of all edits: of each its text before and its text after. Those of a commit are cached together."""
    commits = [list(group) for _, group in groupby(changes, key=lambda change: change.commit)]

    def key(commit: list[Change]) -> Inputs:
        blobs = (part for change in commit for part in (change.path, change.blob_before, change.blob_after))
        return (repr(reading), *blobs)

    def texts(commit: list[Change]) -> list[bytes]:
        edits = (edit for change in commit for edit in change.edits)
        return [build.texts.get(side) for edit in edits for side in (edit.before, edit.after)]

    return cached_lines(build, commits, key, texts)


def cached_lines(
    build: BuildState, items: Sequence[T], key: Callable[[T], Inputs], texts: Callable[[T], Sequence[bytes]]
) -> HashedLines:
    """The lines of the texts of all items. Those of items that are in the cache are not computed again."""

    def compute(missing: list[T]) -> Iterator[LineColumns]:
        text_counts: list[int] = []

        def all_texts() -> Iterator[bytes]:
            for item in missing:
                texts_of_item = texts(item)
                text_counts.append(len(texts_of_item))
                yield from texts_of_item

        lines = HashedLines.from_texts(all_texts())
        # Items with 1 and 2 texts, which have [2, 3, 1] lines: text_ends [0, 1, 3], line_ends [0, 2, 5, 6].
        text_ends = np.cumsum([0, *text_counts]).tolist()
        line_ends = run_offsets(lines.line_counts.astype(np.int64))
        word_ends = run_offsets(lines.word_counts.astype(np.int64))
        for begin, end in pairwise(text_ends):
            first, last = line_ends[begin], line_ends[end]
            yield (
                lines.word_hashes[word_ends[first] : word_ends[last]].tobytes(),
                lines.word_counts[first:last].tobytes(),
                lines.byte_counts[first:last].tobytes(),
                lines.line_counts[begin:end].tobytes(),
            )

    memo: Memo[LineColumns] = Memo(build.cache, "lines", LineColumns)
    results = list(memo.map(items, key, compute))
    words, lengths, sizes, counts = (b"".join(columns[index] for columns in results) for index in range(4))
    return HashedLines(
        np.frombuffer(words, np.uint32),
        np.frombuffer(lengths, np.int32),
        np.frombuffer(sizes, np.uint8),
        np.frombuffer(counts, np.int32),
    )

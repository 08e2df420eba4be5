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
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from git_starcoder.hashing.arrays import find_sorted, run_offsets, run_positions
from git_starcoder.hashing.known_lines import MIN_ORIGIN_LINES
from git_starcoder.hashing.texts import MIN_QUOTED_SHARE, HashedLines, LineIndex, split_quotes
from git_starcoder.memo import Memo
from git_starcoder.records import EMPTY_SPAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.memo import Inputs
    from git_starcoder.recipe import ReadOptions
    from git_starcoder.records import Change, Split

T = TypeVar("T")

MOVED_SHARE = 0.9
"""Share of an answer's lines that must be in training files for its text to count as moved from there."""
DROP_DETAILS = {
    "held_out_code": "every edit has a line that only held-out code has",
    "learned_code": "nearly all lines that every edit asks for stand in files that are learned from",
}
"""Details of dropped changes by their reason; part of the dataset's bytes."""

LineColumns = tuple[bytes, bytes, bytes, bytes]
"""The columns of some `Lines`, as the cache stores them: words, lengths, sizes, counts."""


class ComparableChanges(NamedTuple):
    """What the gate compares the changes of a repository by."""

    edits: HashedLines
    """The lines of all edits, of each its text before and its text after."""
    edit_counts: NDArray[np.int64]
    """The number of edits of each change."""
    quotes: HashedLines
    """The lines of each different message and what it quotes."""
    message_of_change: NDArray[np.int64]
    """For each change the index of its message."""


class GatedRepository(NamedTuple):
    """A repository whose edits are to be gated, and whose files count for those of others."""

    lines: HashedLines
    """The lines of each text."""
    splits: Sequence[Split]
    """The split of each text."""
    changes: ComparableChanges
    change_splits: Sequence[Split]


class PassedEdits(NamedTuple):
    """The result of the gate for the changes of a repository."""

    is_blocked: list[bool]
    """For each edit of each change whether it does not pass."""
    has_quote: list[bool]
    """For each change whether its message quotes a line that training must not show."""


def describe_changes(build: BuildState, changes: Sequence[Change], reading: ReadOptions) -> ComparableChanges:
    """What the gate compares changes by. `reading` says how texts were read, which cached lines depend on."""
    messages = list(dict.fromkeys(change.message for change in changes))
    numbers = {message: number for number, message in enumerate(messages)}
    return ComparableChanges(
        _edit_lines(build, changes, reading),
        np.array([len(change.edits) for change in changes], dtype=np.int64),
        HashedLines.from_texts(split_quotes(build.texts.get(message)) for message in messages),
        np.array([numbers[change.message] for change in changes], dtype=np.int64),
    )


def gate_edits(repositories: Sequence[GatedRepository]) -> list[PassedEdits]:
    """Which edits of each repository pass. Lines count whichever of the repositories has them."""
    if not any(len(repository.changes.edit_counts) for repository in repositories):
        return [PassedEdits([], [])] * len(repositories)
    secret, phrases, answers = _index_held_out(repositories)
    is_public, is_known = np.zeros(len(secret), dtype=bool), np.zeros(len(phrases), dtype=bool)
    for repository in repositories:
        training = repository.lines.select(_indexes(repository.splits, is_training=True))
        is_public[secret.find_in(training).entry] = True
        is_known[phrases.find_in(training).entry] = True
    secret = secret.without(np.flatnonzero(is_public))
    known_lines = phrases.line_hashes[is_known]
    passed: list[PassedEdits] = []
    for repository, answers_of_repository in zip(repositories, answers, strict=True):
        changes = repository.changes
        is_training = np.array([split == "train" for split in repository.change_splits], dtype=bool)
        is_training_edit = np.repeat(is_training, changes.edit_counts)
        is_blocked = np.zeros(len(is_training_edit), dtype=bool)
        edits = _edits_of_changes(repository, is_training=True)
        # Each edit has two texts, before and after: secret lines [0, 2, 1, 0] -> edits [2, 1] -> both blocked.
        secret_counts = edits.count_per_text(secret.find_in(edits).line).reshape(-1, 2).sum(axis=1)
        is_blocked[is_training_edit] = secret_counts > 0
        is_blocked[~is_training_edit] = _are_answers_known(answers_of_repository, known_lines)
        quote_counts = changes.quotes.count_per_text(secret.find_in(changes.quotes, MIN_QUOTED_SHARE).line)
        has_quote = is_training & (quote_counts[changes.message_of_change] > 0)
        passed.append(PassedEdits(is_blocked.tolist(), has_quote.tolist()))
    return passed


def _index_held_out(repositories: Sequence[GatedRepository]) -> tuple[LineIndex, LineIndex, list[HashedLines]]:
    """All lines that are held out, those that held-out edits may be known by, and the latter for each repository."""
    held_out: list[HashedLines] = []
    answers: list[HashedLines] = []
    for repository in repositories:
        edits = _edits_of_changes(repository, is_training=False)
        held_out += repository.lines.select(_indexes(repository.splits, is_training=False)), edits
        answers.append(edits.long_lines())
    return (
        LineIndex.from_lines(HashedLines.concatenate(held_out)),
        LineIndex.from_lines(HashedLines.concatenate(answers)),
        answers,
    )


def _indexes(splits: Sequence[Split], *, is_training: bool) -> list[int]:
    return [index for index, split in enumerate(splits) if (split == "train") == is_training]


def _edits_of_changes(repository: GatedRepository, *, is_training: bool) -> HashedLines:
    """The lines of the edits of all changes of the training split, or of all others."""
    changes = np.array(_indexes(repository.change_splits, is_training=is_training), dtype=np.int64)
    counts = 2 * repository.changes.edit_counts  # of each edit a text before and a text after
    texts = run_positions(run_offsets(counts)[changes], run_offsets(counts[changes]))
    return repository.changes.edits.select(texts.tolist())


def _are_answers_known(answers: HashedLines, known_lines: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For each edit, whether nearly all lines of its text after are known."""
    is_known = find_sorted(answers.line_hashes(), known_lines)[1]
    # Texts alternate before, after, before, after …: [1::2] takes those after.
    known_counts = answers.count_per_text(np.flatnonzero(is_known))[1::2]
    counts = answers.line_counts[1::2]
    return (counts >= MIN_ORIGIN_LINES) & (known_counts >= MOVED_SHARE * counts)


def apply_gate(step: StepCounts, changes: Sequence[Change], passed_edits: PassedEdits) -> list[Change]:
    """The changes without the edits that do not pass, and without training messages that quote held-out code."""
    if not changes:
        return []
    is_blocked = iter(passed_edits.is_blocked)
    passed: list[Change] = []
    blocked_edits: Counter[str] = Counter()
    withheld_messages = 0
    for change, has_quote in zip(changes, passed_edits.has_quote, strict=True):
        reason = "held_out_code" if change.split == "train" else "learned_code"
        edits = tuple(edit for edit in change.edits if not next(is_blocked))
        blocked_edits[reason] += len(change.edits) - len(edits)
        withheld_messages += has_quote
        if edits:
            passed.append(change._replace(edits=edits, message=EMPTY_SPAN if has_quote else change.message))
            step.keep()
        else:
            step.drop(f"{change.path}@{change.commit}", reason, DROP_DETAILS[reason])
    step.figures["edits_held_back"] = blocked_edits["held_out_code"]
    step.figures["edits_learned_elsewhere"] = blocked_edits["learned_code"]
    step.figures["messages_held_back"] = withheld_messages
    return passed


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

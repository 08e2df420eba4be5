"""Lets a model write missing lines, and compares them with the author's: the next line, and holes in the middle.

Baselines answer the same tasks: the most frequent next line, and a copy of the lines above.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.dataset.held_out import DRAW_SEED
from git_starcoder.evals import (
    EDIT_SIMILARITY,
    EXACT_MATCH,
    FILL_IN_THE_MIDDLE,
    NEXT_LINE,
    Score,
    evaluation,
    mean_over_groups,
)
from git_starcoder.records import content_id
from git_starcoder.row_layout import gap_prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.evals import EvalInput
    from git_starcoder.text.tokenizer import Tokenizer

MIN_LINE_CONTEXT = 64
"""Tokens that must stand before the line in its file; with fewer, nobody could know it."""
MAX_LINE_TOKENS = 48
"""The longest line that is asked for, and the longest answer, in tokens."""
NO_LONG_FILE = "no held-out file is long enough"
MIN_HOLE_CONTEXT = 32
"""Tokens that must stand before a hole in its file."""
MAX_HOLE_TOKENS = 64
"""The longest hole, and the longest answer, in tokens."""
HOLE_LINE_COUNTS = (1, 1, 1, 2, 3, 4)
"""The numbers of lines that holes have, equally likely: half of the holes are single lines."""
NO_FIM_TOKENS = "the tokenizer has no fill-in-the-middle tokens"
PROMPT_CONTROL_TOKENS = 3
"""Prefix, suffix and middle token."""


class CompletionTask(NamedTuple):
    """A text that a model is to write."""

    document: Document
    before: NDArray[Any]
    """All tokens of the document before it."""
    after: NDArray[Any]
    """All tokens of the document after it that may be shown."""
    lines_above: bytes
    """The lines before the answer, as many as the answer has, without white space at both ends."""
    answer: bytes
    """What the author wrote, without white space at both ends."""


@evaluation("next_line")
def score_next_lines(inputs: EvalInput) -> list[Score] | str:
    """Next line: each model writes a held-out line, given the text before it. Exact match and edit similarity.

    Each model writes each line greedily. White space at both ends does not count.
    """
    tasks = next_line_tasks(inputs)
    if not tasks:
        return NO_LONG_FILE
    scores: list[Score] = []
    for subject, model in inputs.writers.items():
        prompts = [next_line_prompt(task, inputs.tokenizer.end_id, model.context) for task in tasks]
        written = model.generate(prompts, MAX_LINE_TOKENS, stop=newline_mask(inputs.tokenizer))
        answers = [inputs.decode(tokens).partition(b"\n")[0].strip() for tokens in written]
        scores += grade_answers("next_line", NEXT_LINE, subject, tasks, answers, inputs.seed)
    return scores


def next_line_prompt(task: CompletionTask, end: int, context: int) -> NDArray[np.int64]:
    """Return the text before a line, as far as it fits, behind the header.

    The beginning of a file follows the end-of-text token `end` and the header, as in training.
    """
    header = task.document.header
    room = max(context - MAX_LINE_TOKENS - len(header), context // 2)
    first = [end] * (task.document.start == 0 and len(task.before) < room)
    return np.concatenate((first, header, task.before[-room:])).astype(np.int64)


def next_line_tasks(inputs: EvalInput) -> list[CompletionTask]:
    """Draw lines of the held-out documents: not blank, not too long, and with enough text before them."""
    newline = newline_mask(inputs.tokenizer)
    places: list[tuple[int, int, int]] = []  # document, and where a line starts and stops, in tokens
    for index, document in enumerate(inputs.held_out):
        breaks = np.flatnonzero(newline[document.tokens])
        for before, after in zip(breaks[:-1].tolist(), breaks[1:].tolist(), strict=True):
            if before + 1 >= max(MIN_LINE_CONTEXT, document.context_length) and 1 < after - before <= MAX_LINE_TOKENS:
                places.append((index, before + 1, after + 1))
    tasks: list[CompletionTask] = []
    order: list[int] = np.random.default_rng(DRAW_SEED).permutation(len(places)).tolist()
    for place in order:
        index, start, stop = places[place]
        document = inputs.held_out[index]
        tokens = document.tokens
        above, _, indentation = inputs.decode(tokens[max(0, start - 4 * MAX_LINE_TOKENS) : start]).rpartition(b"\n")
        answer = inputs.decode(tokens[start:stop]).partition(b"\n")[0].strip()
        if answer and not indentation.strip():
            line_above = above.rpartition(b"\n")[2].strip()
            tasks.append(CompletionTask(document, tokens[:start], tokens[stop:], line_above, answer))
        if len(tasks) == inputs.line_count:
            break
    return tasks


@evaluation("frequent_line")
def score_frequent_lines(inputs: EvalInput) -> list[Score] | str:
    """Baseline for the next line: the line that most often follows the previous line in the training text.

    If the previous line is not in the training text, it is the most frequent line of all.
    """
    tasks = next_line_tasks(inputs)
    if not tasks:
        return NO_LONG_FILE
    counts: Counter[bytes] = Counter()
    counts_after: defaultdict[bytes, Counter[bytes]] = defaultdict(Counter)
    for document in inputs.training:
        above = b""
        for line in map(bytes.strip, inputs.decode(document.tokens).split(b"\n")):
            if line:
                counts[line] += 1
                counts_after[above][line] += 1
            above = line
    best = _most_frequent(counts)
    answers = [_most_frequent(counts_after.get(task.lines_above, Counter())) or best for task in tasks]
    return grade_answers("frequent_line", NEXT_LINE, "most frequent next line", tasks, answers, inputs.seed)


def _most_frequent(counts: Counter[bytes]) -> bytes:
    """Return the most frequent line, or the first in byte order of several; empty if there is none."""
    return min(counts, key=lambda line: (-counts[line], line), default=b"")


@evaluation("fill_in_the_middle")
def score_filled_holes(inputs: EvalInput) -> list[Score] | str:
    """Fill in the middle: each model fills a hole of one to four lines. Exact match and edit similarity.

    As many lines as are missing are compared with the author's.
    """
    fim = inputs.tokenizer.fim_ids
    if inputs.no_fim_reason or fim is None:
        return inputs.no_fim_reason or NO_FIM_TOKENS
    tasks = fill_in_tasks(inputs)
    if not tasks:
        return NO_LONG_FILE
    # A single line stops at its line break; several lines stop where the model ends the text.
    is_single = np.array([b"\n" not in task.answer for task in tasks])
    end = np.zeros(inputs.tokenizer.vocab_size, dtype=np.bool_)
    end[inputs.tokenizer.end_id] = True
    scores: list[Score] = []
    for subject, model in inputs.writers.items():
        prompts = [fim_prompt(task, fim, model.context, suffix_first=inputs.suffix_first) for task in tasks]
        answers = [b""] * len(tasks)
        for group, stop in ((is_single, newline_mask(inputs.tokenizer)), (~is_single, end)):
            members = np.flatnonzero(group).tolist()
            group_prompts = [prompts[index] for index in members]
            written = model.generate(group_prompts, MAX_HOLE_TOKENS, stop=stop) if members else []
            for index, tokens in zip(members, written, strict=True):
                answers[index] = first_lines(inputs.decode(tokens), tasks[index].answer.count(b"\n") + 1)
        scores += grade_answers("fill_in_the_middle", FILL_IN_THE_MIDDLE, subject, tasks, answers, inputs.seed)
    return scores


def fim_prompt(
    task: CompletionTask, fim: tuple[int, int, int], context: int, *, suffix_first: bool = False
) -> NDArray[np.int64]:
    """Return header and `gap_prompt`, as in training.

    If the text does not fit into the context, the suffix keeps half of the room at most.
    """
    prefix, middle, suffix = (np.array([token]) for token in fim)
    header = task.document.header
    room = max(context - MAX_HOLE_TOKENS - len(header), context // 2) - PROMPT_CONTROL_TOKENS
    after = task.after[: room // 2]
    before = task.before[max(0, len(task.before) - (room - len(after))) :]
    parts = gap_prompt(before, after, (prefix, suffix, middle), suffix_first=suffix_first)
    return np.concatenate((header, *parts)).astype(np.int64)


def first_lines(text: bytes, count: int) -> bytes:
    """Return the first lines of a text from the first that is not blank, without white space at both ends."""
    return b"\n".join(text.lstrip().split(b"\n")[:count]).strip()


def fill_in_tasks(inputs: EvalInput) -> list[CompletionTask]:
    """Draw holes in the held-out documents by content: whole lines, as training masks them, with text around them.

    A hole begins after the indentation and ends before the line break, so the line break is the first text that
    follows. There are no tasks if the model cannot fill in the middle.
    """
    if inputs.no_fim_reason or inputs.tokenizer.fim_ids is None:
        return []
    newline = newline_mask(inputs.tokenizer)
    places: list[tuple[str, Document, int, int]] = []
    for document in inputs.held_out:
        breaks = np.flatnonzero(newline[document.tokens]).tolist()
        for index, before in enumerate(breaks):
            drawn = content_id(DRAW_SEED, document.path, document.start + before)
            last = index + HOLE_LINE_COUNTS[int(drawn[-8:], 16) % len(HOLE_LINE_COUNTS)]
            fits = last < len(breaks) - 1 and 1 < breaks[last] - before <= MAX_HOLE_TOKENS
            if fits and before + 1 >= max(MIN_HOLE_CONTEXT, document.context_length):
                places.append((drawn, document, before + 1, breaks[last]))
    tasks: list[CompletionTask] = []
    for _, document, start, stop in sorted(places, key=lambda place: place[0]):
        if len(tasks) == inputs.hole_count:
            break
        tokens = document.tokens
        above, _, indentation = inputs.decode(tokens[max(0, start - 4 * MAX_HOLE_TOKENS) : start]).rpartition(b"\n")
        missing = inputs.decode(tokens[start:stop]).split(b"\n")
        if missing[0].strip() and missing[-1].strip() and not indentation.strip():
            answer = b"\n".join(missing).strip()
            lines = [line for line in above.split(b"\n") if line.strip()]
            lines_above = b"\n".join(lines[-answer.count(b"\n") - 1 :]).strip()
            after = tokens[stop : len(tokens) - int(tokens[-1] == inputs.tokenizer.end_id)]
            tasks.append(CompletionTask(document, tokens[:start], after, lines_above, answer))
    return tasks


@evaluation("lines_above")
def score_lines_above(inputs: EvalInput) -> list[Score] | str:
    """Baseline for the next line and for filling in the middle: a copy of the lines above, as many as are missing."""
    scores: list[Score] = []
    for name, tasks in ((NEXT_LINE, next_line_tasks(inputs)), (FILL_IN_THE_MIDDLE, fill_in_tasks(inputs))):
        if tasks:
            answers = [task.lines_above for task in tasks]
            scores += grade_answers("lines_above", name, "the lines above", tasks, answers, inputs.seed)
    return scores or NO_LONG_FILE


def grade_answers(
    key: str, name: str, subject: str, tasks: Sequence[CompletionTask], answers: Sequence[bytes], seed: int
) -> list[Score]:
    """Return which share of the answers equals the author's text, and the mean edit similarity.

    The edit similarity of two texts is 1 less their Levenshtein distance over the length of the longer one, in
    characters.
    """
    from rapidfuzz.distance import Levenshtein

    pairs = [(answer, task.answer) for answer, task in zip(answers, tasks, strict=True)]
    texts = [(answer.decode("utf-8", "replace"), wanted.decode("utf-8", "replace")) for answer, wanted in pairs]
    marks = {
        EXACT_MATCH: [float(answer == wanted) for answer, wanted in pairs],
        EDIT_SIMILARITY: [Levenshtein.normalized_similarity(answer, wanted) for answer, wanted in texts],
    }
    groups, files = [task.document.group for task in tasks], len({task.document.path for task in tasks})
    return [
        Score(
            key, name + measure, subject, *mean_over_groups(groups, values, [1] * len(tasks), seed), files, len(tasks)
        )
        for measure, values in marks.items()
    ]


@lru_cache(maxsize=2)
def newline_mask(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return which tokens contain a line break or end the text, shape (vocab_size,)."""
    mask = np.array([b"\n" in tokenizer.decode([token]) for token in range(tokenizer.vocab_size)])
    mask[tokenizer.end_id] = True
    return mask

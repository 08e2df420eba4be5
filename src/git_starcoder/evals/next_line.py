"""Next line: held-out lines that the model writes exactly, given the text before, and how similar the others are.

Other evals share the form of a task and the grading of answers with this one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.evals import EDIT_SIMILARITY, EXACT_MATCH, NEXT_LINE, TRAINED_MODEL, Score
from git_starcoder.scoring import mean_over_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.evals import EvalInput
    from git_starcoder.text.tokenizer import Tokenizer

MIN_LINE_CONTEXT = 64
"""Tokens that must stand before the line in its file; with fewer, nobody could know it."""
MAX_LINE_TOKENS = 48
"""The longest line that is asked for, and the longest answer, in tokens."""
NO_LONG_FILE = "no held-out file is long enough"


class CompletionTask(NamedTuple):
    """A text that a model is to write."""

    path: str
    before: NDArray[Any]
    """All tokens of the document before it."""
    after: NDArray[Any]
    """All tokens of the document after it that may be shown."""
    lines_above: bytes
    """As many lines before it as it has itself, without white space at both ends."""
    answer: bytes
    """What the author wrote, without white space at both ends."""


def evaluate(inputs: EvalInput) -> list[Score] | str:
    """Let the model write each line greedily, and compare it with the author's, without white space at both ends."""
    tasks = next_line_tasks(inputs)
    if not tasks:
        return NO_LONG_FILE
    room = max(inputs.model.context - MAX_LINE_TOKENS, inputs.model.context // 2)
    prompts = [task.before[-room:] for task in tasks]
    written = inputs.model.generate(prompts, MAX_LINE_TOKENS, stop=newline_mask(inputs.tokenizer))
    answers = [inputs.decode(tokens).partition(b"\n")[0].strip() for tokens in written]
    return grade_answers("next_line", NEXT_LINE, TRAINED_MODEL, tasks, answers, inputs.seed)


def next_line_tasks(inputs: EvalInput) -> list[CompletionTask]:
    """Draw lines of the held-out documents: not blank, not too long, and with enough text before them."""
    newline = newline_mask(inputs.tokenizer)
    places: list[tuple[int, int, int]] = []  # document, and where a line starts and stops, in tokens
    for index, document in enumerate(inputs.held_out):
        breaks = np.flatnonzero(newline[document.tokens])
        for before, after in zip(breaks[:-1].tolist(), breaks[1:].tolist(), strict=True):
            if before + 1 >= MIN_LINE_CONTEXT and 1 < after - before <= MAX_LINE_TOKENS:
                places.append((index, before + 1, after + 1))
    tasks: list[CompletionTask] = []
    order: list[int] = np.random.default_rng(inputs.seed).permutation(len(places)).tolist()
    for place in order:
        index, start, stop = places[place]
        path, tokens = inputs.held_out[index].path, inputs.held_out[index].tokens
        above, _, indentation = inputs.decode(tokens[max(0, start - 4 * MAX_LINE_TOKENS) : start]).rpartition(b"\n")
        answer = inputs.decode(tokens[start:stop]).partition(b"\n")[0].strip()
        if answer and not indentation.strip():
            line_above = above.rpartition(b"\n")[2].strip()
            tasks.append(CompletionTask(path, tokens[:start], tokens[stop:], line_above, answer))
        if len(tasks) == inputs.line_count:
            break
    return tasks


def grade_answers(
    key: str, name: str, subject: str, tasks: Sequence[CompletionTask], answers: Sequence[bytes], seed: int
) -> list[Score]:
    """Return which share of the answers equals the author's text, and the mean edit similarity.

    The edit similarity of two texts is 1 less their Levenshtein distance over the length of the longer one, in
    characters.
    """
    from rapidfuzz.distance import Levenshtein

    pairs = [(answer, task.answer) for answer, task in zip(answers, tasks, strict=True)]
    marks = {
        EXACT_MATCH: [float(answer == wanted) for answer, wanted in pairs],
        EDIT_SIMILARITY: [
            Levenshtein.normalized_similarity(answer.decode("utf-8", "replace"), wanted.decode("utf-8", "replace"))
            for answer, wanted in pairs
        ],
    }
    paths = [task.path for task in tasks]
    return [
        Score(key, name + measure, subject, *mean_over_files(paths, values, [1] * len(tasks), seed), len(tasks))
        for measure, values in marks.items()
    ]


@lru_cache(maxsize=2)
def newline_mask(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return which tokens contain a line break or end the text, shape (vocab_size,)."""
    mask = np.array([b"\n" in tokenizer.decode([token]) for token in range(tokenizer.vocab_size)])
    mask[tokenizer.end_id] = True
    return mask

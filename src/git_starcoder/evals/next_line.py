"""Next line: held-out lines that the model writes exactly, given what stands before, and how similar the others are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import LINE, MODEL, Question, graded, newlines

if TYPE_CHECKING:
    from git_starcoder.evals import Exam, Score

CONTEXT = 64
"""Tokens that must stand before the line in its file."""
LENGTH = 48
"""Tokens that an answer may have; the author's line has no more."""
NONE = "no held-out file is long enough"


def evaluate(exam: Exam) -> list[Score] | str:
    """Let the model write each line greedily and compare, without the blanks at both ends."""
    asked = questions(exam)
    if not asked:
        return NONE
    room = max(exam.model.context - LENGTH, exam.model.context // 2)
    stop = newlines(exam.tokenizer)
    written = exam.model.generate([question.before[-room:] for question in asked], LENGTH, stop=stop)
    answers = [exam.text(tokens).partition(b"\n")[0].strip() for tokens in written]
    return graded("next_line", LINE, MODEL, asked, answers, exam.seed)


def questions(exam: Exam) -> list[Question]:
    """Lines of the held-out documents, drawn evenly: not blank, with context, and not longer than an answer."""
    newline = newlines(exam.tokenizer)
    places: list[tuple[int, int, int]] = []
    for number, document in enumerate(exam.heldout):
        breaks = np.flatnonzero(newline[document.tokens])
        for here, there in zip(breaks[:-1].tolist(), breaks[1:].tolist(), strict=True):
            if here + 1 >= CONTEXT and 1 < there - here <= LENGTH:
                places.append((number, here + 1, there + 1))
    random = np.random.default_rng(exam.seed)
    asked: list[Question] = []
    order: list[int] = random.permutation(len(places)).tolist()
    for place in order:
        number, start, stop = places[place]
        path, tokens = exam.heldout[number].path, exam.heldout[number].tokens
        above, _, begun = exam.text(tokens[max(0, start - 4 * LENGTH) : start]).rpartition(b"\n")
        answer = exam.text(tokens[start:stop]).partition(b"\n")[0].strip()
        if answer and not begun.strip():
            above = above.rpartition(b"\n")[2].strip()
            asked.append(Question(path, tokens[:start], tokens[stop:], above, answer))
        if len(asked) == exam.lines:
            break
    return asked

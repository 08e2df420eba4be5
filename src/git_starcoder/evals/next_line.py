"""Next line: the share of held-out lines that the model writes exactly, given what stands before. Higher is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.evals import Score, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.evals import Exam

MEASURE = "next line"
CONTEXT = 64
"""Tokens that must stand before the line in its file."""
LENGTH = 48
"""Tokens that an answer may have; the author's line has no more."""


class Question(NamedTuple):
    """A place in a held-out file where a line begins."""

    document: int
    """Index into the held-out documents."""
    before: NDArray[np.int32]
    """All tokens of the document up to there; the last one ends with the line break, and maybe indentation."""
    above: bytes
    """The line above, stripped."""
    answer: bytes
    """What the author wrote, stripped."""


def evaluate(exam: Exam) -> Score:
    """Let the model write each line greedily and compare, without the blanks at both ends."""
    asked = questions(exam)
    newline = newlines(exam)
    room = max(exam.model.context - LENGTH, exam.model.context // 2)
    written = exam.model.write([question.before[-room:] for question in asked], LENGTH, stop=newline)
    answers = [exam.text(tokens).partition(b"\n")[0].strip() for tokens in written]
    return score(exam, asked, answers, "next_line", "trained model")


def score(exam: Exam, asked: Sequence[Question], answers: Sequence[bytes], key: str, subject: str) -> Score:
    """The share of answers that are right."""
    if not asked:
        return Score(key, MEASURE, subject, 0.0, 0.0, 0.0, 0, "no held-out file is long enough")
    right = np.zeros(len(exam.heldout))
    count = np.zeros(len(exam.heldout))
    for question, answer in zip(asked, answers, strict=True):
        right[question.document] += answer == question.answer
        count[question.document] += 1
    return Score(key, MEASURE, subject, *ratio(right[count > 0], count[count > 0], exam.seed), len(asked))


def questions(exam: Exam) -> list[Question]:
    """Lines of the held-out documents, drawn evenly: not blank, with context, and not longer than an answer."""
    newline = newlines(exam)
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
        tokens = exam.heldout[number].tokens
        above, _, begun = exam.text(tokens[max(0, start - 4 * LENGTH) : start]).rpartition(b"\n")
        answer = exam.text(tokens[start:stop]).partition(b"\n")[0].strip()
        if answer and not begun.strip():
            asked.append(Question(number, tokens[:start], above.rpartition(b"\n")[2].strip(), answer))
        if len(asked) == exam.lines:
            break
    return asked


def newlines(exam: Exam) -> NDArray[Any]:
    """Which tokens hold a line break or end the text, shape (vocabulary,)."""
    size = exam.tokenizer.vocab_size
    found = np.array([b"\n" in exam.text(np.array([token])) for token in range(size)])
    found[exam.tokenizer.end] = True
    return found

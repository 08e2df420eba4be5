"""Fill in the middle: held-out holes of one line or a few that a model fills in exactly, and how similar others are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import MIDDLE, MODEL, Question, graded, newlines
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.evals import Document, Exam, Score

CONTEXT = 32
"""Tokens that must stand before a hole in its file."""
LENGTH = 64
"""Tokens that an answer may have; the author's lines have no more."""
LINES = (1, 1, 1, 2, 3, 4)
"""How many lines a hole has: half of them are single ones."""
UNTOLD = "the tokenizer has no fill-in-the-middle tokens"
NONE = "no held-out file is long enough"
MARKS = 3
"""Control tokens of a prompt."""


def evaluate(exam: Exam) -> list[Score] | str:
    """Let the model write what stood in each hole, and compare as many lines of it as are missing."""
    fim = exam.tokenizer.fim_ids
    if exam.untaught or fim is None:
        return exam.untaught or UNTOLD
    asked = questions(exam)
    if not asked:
        return NONE
    prompts = [prompt(question, fim, exam.model.context) for question in asked]
    # A single line ends with its line; several end where the model says so.
    single = np.array([b"\n" not in question.answer for question in asked])
    end = np.zeros(exam.tokenizer.vocab_size, dtype=np.bool_)
    end[exam.tokenizer.end_id] = True
    answers = [b""] * len(asked)
    for of, stop in ((single, newlines(exam.tokenizer)), (~single, end)):
        places = np.flatnonzero(of).tolist()
        written = exam.model.generate([prompts[place] for place in places], LENGTH, stop=stop) if places else []
        for place, tokens in zip(places, written, strict=True):
            answers[place] = first(exam.text(tokens), asked[place].answer.count(b"\n") + 1)
    return graded("fill_in_the_middle", MIDDLE, MODEL, asked, answers, exam.seed)


def prompt(question: Question, fim: tuple[int, int, int], context: int) -> NDArray[np.int64]:
    """Prefix, suffix, and the token after which the middle is written (Bavarian et al., 2022, PSM), as in training."""
    prefix, middle, suffix = fim
    room = max(context - LENGTH, context // 2) - MARKS
    after = question.after[: room // 2]
    before = question.before[max(0, len(question.before) - (room - len(after))) :]
    return np.concatenate(([prefix], before, [suffix], after, [middle])).astype(np.int64)


def first(text: bytes, lines: int) -> bytes:
    """The first lines of a text, from the first that is not blank, without the blanks at both ends."""
    return b"\n".join(text.lstrip().split(b"\n")[:lines]).strip()


def questions(exam: Exam) -> list[Question]:
    """Holes in the held-out documents, drawn by content: whole lines, as training hides them, with text around them.

    There are none if the model cannot be asked.

    A hole begins behind the indentation and ends before the line break, so that the break is the first that follows.
    """
    if exam.untaught or exam.tokenizer.fim_ids is None:
        return []
    newline = newlines(exam.tokenizer)
    places: list[tuple[str, Document, int, int]] = []
    for document in exam.heldout:
        breaks = np.flatnonzero(newline[document.tokens]).tolist()
        for index, here in enumerate(breaks):
            drawn = content_id(exam.seed, document.path, document.start + here)
            there = index + LINES[int(drawn[-8:], 16) % len(LINES)]
            if here + 1 >= CONTEXT and there < len(breaks) - 1 and 1 < breaks[there] - here <= LENGTH:
                places.append((drawn, document, here + 1, breaks[there]))
    asked: list[Question] = []
    for _, document, start, stop in sorted(places, key=lambda place: place[0]):
        if len(asked) == exam.holes:
            break
        above, _, begun = exam.text(document.tokens[max(0, start - 4 * LENGTH) : start]).rpartition(b"\n")
        missing = exam.text(document.tokens[start:stop]).split(b"\n")
        if missing[0].strip() and missing[-1].strip() and not begun.strip():
            answer = b"\n".join(missing).strip()
            lines = [line for line in above.split(b"\n") if line.strip()]
            shown = b"\n".join(lines[-answer.count(b"\n") - 1 :]).strip()
            asked.append(Question(document.path, document.tokens[:start], document.tokens[stop:], shown, answer))
    return asked

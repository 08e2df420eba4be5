"""Next line and middle by copying: the lines that stand above, as many as are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.evals import LINE, MIDDLE, fill_in_the_middle, graded, next_line

if TYPE_CHECKING:
    from git_starcoder.evals import Exam, Score


def evaluate(exam: Exam) -> list[Score] | str:
    """Answer the same questions as the model does."""
    scores: list[Score] = []
    for task, asked in ((LINE, next_line.questions(exam)), (MIDDLE, fill_in_the_middle.questions(exam))):
        if asked:
            answers = [question.above for question in asked]
            scores += graded("lines_above", task, "the lines above", asked, answers, exam.seed)
    return scores or next_line.NONE

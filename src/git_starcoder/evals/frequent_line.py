"""Next line by counting: the line that most often follows this one in the training text, else the most frequent one."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from git_starcoder.evals import LINE, graded, next_line

if TYPE_CHECKING:
    from git_starcoder.evals import Exam, Score


def evaluate(exam: Exam) -> list[Score] | str:
    """Answer the same questions as the model does."""
    asked = next_line.questions(exam)
    if not asked:
        return next_line.NONE
    every: Counter[bytes] = Counter()
    after: defaultdict[bytes, Counter[bytes]] = defaultdict(Counter)
    for document in exam.training:
        above = b""
        for line in map(bytes.strip, exam.text(document.tokens).split(b"\n")):
            if line:
                every[line] += 1
                after[above][line] += 1
            above = line
    best = _most(every)
    answers = [_most(after[question.above]) if question.above in after else best for question in asked]
    return graded("frequent_line", LINE, "most frequent next line", asked, answers, exam.seed)


def _most(counts: Counter[bytes]) -> bytes:
    """The most frequent line, of equally frequent ones the first in order; empty if there is none."""
    return min(counts, key=lambda line: (-counts[line], line), default=b"")

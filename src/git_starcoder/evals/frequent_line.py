"""Next line by counting: the line that most often follows this one in the training text, or else the most frequent."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from git_starcoder.evals import NEXT_LINE
from git_starcoder.evals.next_line import NO_LONG_FILE, grade_answers, next_line_tasks

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput, Score


def evaluate(inputs: EvalInput) -> list[Score] | str:
    """Answer the same tasks as the model."""
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
    answers = [
        _most_frequent(counts_after[task.lines_above]) if task.lines_above in counts_after else best for task in tasks
    ]
    return grade_answers("frequent_line", NEXT_LINE, "most frequent next line", tasks, answers, inputs.seed)


def _most_frequent(counts: Counter[bytes]) -> bytes:
    """Return the most frequent line, or the first in byte order of several; empty if there is none."""
    return min(counts, key=lambda line: (-counts[line], line), default=b"")

"""Next line and middle by copying the lines that stand above, as many as are missing: a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.evals import FILL_IN_THE_MIDDLE, NEXT_LINE
from git_starcoder.evals.fill_in_the_middle import fill_in_tasks
from git_starcoder.evals.next_line import NO_LONG_FILE, grade_answers, next_line_tasks

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput, Score


def evaluate(inputs: EvalInput) -> list[Score] | str:
    """Answer the tasks of both evals of the model."""
    scores: list[Score] = []
    for name, tasks in ((NEXT_LINE, next_line_tasks(inputs)), (FILL_IN_THE_MIDDLE, fill_in_tasks(inputs))):
        if tasks:
            answers = [task.lines_above for task in tasks]
            scores += grade_answers("lines_above", name, "the lines above", tasks, answers, inputs.seed)
    return scores or NO_LONG_FILE

"""Fill in the middle: held-out holes of one to four lines that a model fills in exactly, and how similar others are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import FILL_IN_THE_MIDDLE, TRAINED_MODEL
from git_starcoder.evals.next_line import NO_LONG_FILE, CompletionTask, grade_answers, newline_mask
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.evals import EvalInput, Score

MIN_HOLE_CONTEXT = 32
"""Tokens that must stand before a hole in its file."""
MAX_HOLE_TOKENS = 64
"""The longest hole, and the longest answer, in tokens."""
HOLE_LINE_COUNTS = (1, 1, 1, 2, 3, 4)
"""The numbers of lines that holes have, equally likely: half of the holes are single lines."""
NO_FIM_TOKENS = "the tokenizer has no fill-in-the-middle tokens"
PROMPT_CONTROL_TOKENS = 3
"""Prefix, suffix and middle token."""


def evaluate(inputs: EvalInput) -> list[Score] | str:
    """Let the model fill in each hole, and compare as many lines as are missing with the author's."""
    fim = inputs.tokenizer.fim_ids
    if inputs.no_fim_reason or fim is None:
        return inputs.no_fim_reason or NO_FIM_TOKENS
    tasks = fill_in_tasks(inputs)
    if not tasks:
        return NO_LONG_FILE
    prompts = [fim_prompt(task, fim, inputs.model.context) for task in tasks]
    # A single line stops at its line break; several lines stop where the model ends the text.
    is_single = np.array([b"\n" not in task.answer for task in tasks])
    end = np.zeros(inputs.tokenizer.vocab_size, dtype=np.bool_)
    end[inputs.tokenizer.end_id] = True
    answers = [b""] * len(tasks)
    for group, stop in ((is_single, newline_mask(inputs.tokenizer)), (~is_single, end)):
        members = np.flatnonzero(group).tolist()
        group_prompts = [prompts[index] for index in members]
        written = inputs.model.generate(group_prompts, MAX_HOLE_TOKENS, stop=stop) if members else []
        for index, tokens in zip(members, written, strict=True):
            answers[index] = first_lines(inputs.decode(tokens), tasks[index].answer.count(b"\n") + 1)
    return grade_answers("fill_in_the_middle", FILL_IN_THE_MIDDLE, TRAINED_MODEL, tasks, answers, inputs.seed)


def fim_prompt(task: CompletionTask, fim: tuple[int, int, int], context: int) -> NDArray[np.int64]:
    """Return prefix, suffix, and the token after which the model writes the middle, as in training.

    Bavarian et al. (2022) call this order PSM. If the text does not fit into the context, the suffix keeps half of the
    room at most.
    """
    prefix, middle, suffix = fim
    room = max(context - MAX_HOLE_TOKENS, context // 2) - PROMPT_CONTROL_TOKENS
    after = task.after[: room // 2]
    before = task.before[max(0, len(task.before) - (room - len(after))) :]
    return np.concatenate(([prefix], before, [suffix], after, [middle])).astype(np.int64)


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
            drawn = content_id(inputs.seed, document.path, document.start + before)
            last = index + HOLE_LINE_COUNTS[int(drawn[-8:], 16) % len(HOLE_LINE_COUNTS)]
            if (
                before + 1 >= MIN_HOLE_CONTEXT
                and last < len(breaks) - 1
                and 1 < breaks[last] - before <= MAX_HOLE_TOKENS
            ):
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
            tasks.append(CompletionTask(document.path, tokens[:start], tokens[stop:], lines_above, answer))
    return tasks

"""Finds where a text that is being written repeats itself: `Flask, Flask, Flask, …`."""

from __future__ import annotations

import re

WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")
COPIES = 3
"""So many equal sequences of words and signs after one another are a circle."""
COPIES_OF_NUMBERS = 4
"""The same for a sequence whose words are numbers: `f(0, 0, 0)` and `0.0.0.0` are usual."""
SEPARATORS = re.compile(r"[^\w)\]}\"'`]+$")
"""What stands between two copies, and does not belong to the first one."""


def first_copy_end(line: str, before: str, *, is_complete: bool) -> int | None:
    """Return the place in a line after the first copy of what it repeats; None if it does not repeat itself.

    Signs alone may be repeated (`# ----`, `}}}`), and so may be what the text before already has, such as the rows of a
    table. A word at the end of a line that is not complete may go on, so it does not count.

    >>> first_copy_end("from flask import Flask, Flask, Flask, Fla", "", is_complete=False)
    23
    >>> first_copy_end("# ---------", "", is_complete=True)
    """
    found = list(WORD_OR_SIGN.finditer(line))
    if not is_complete and found and found[-1].end() == len(line):
        found = found[:-1]
    texts = [each.group() for each in found]
    circles: list[tuple[int, int]] = []
    for period in range(1, len(texts) // COPIES + 1):
        equal = 0
        for place in range(period, len(texts)):
            equal = equal + 1 if texts[place] == texts[place - period] else 0
            if equal and equal == (_circle_copies(texts[place - period : place]) - 1) * period:
                start = place + 1 - equal - period
                if line[found[start].start() : found[place].end()] not in before:
                    circles.append((place, found[start + period - 1].end()))
                    break
    if not circles:
        return None
    return len(SEPARATORS.sub("", line[: min(circles)[1]]))


def _circle_copies(sequence: list[str]) -> int:
    """How many copies of a sequence are a circle; 0 if any number is fine."""
    if any(text[0].isalpha() or text[0] == "_" for text in sequence):
        return COPIES
    return COPIES_OF_NUMBERS if any(text[0].isalnum() for text in sequence) else 0

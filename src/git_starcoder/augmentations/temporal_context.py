"""What changed in a file of late, before what it is now: lines that are gone, and why.

A row reads `<commit_before>GONE<commit_msg>SUBJECT … <commit_after><file_sep>PATH⏎TEXT`: the latest commits of the
file, the newest last, so that it stands nearest to the text, which is what came after all of them. Only TEXT counts
for the loss.

What a commit wrote is not in the head, though a diff would show it: it stands in the text, and a model that sees it
there learns to copy lines from above. So of each hunk only the lines are shown that it took away, and of these none
that stands in the file all the same (moved, indented, brought back). A line with less than `TELLING` characters gives
nothing away (`}`, `else {`), but says nothing alone either. For the same reason a subject that the file quotes, as a
list of changes does, is left out with its commit. Of a message only the subject is shown: why, in a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.augmentations import Frame, Part
from git_starcoder.records import printable_path
from git_starcoder.text.diff import diff_lines
from git_starcoder.text.encoding import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.augmentations import Around, Shown

NEEDS = "history"

TELLING = 20
"""Characters, without the space around, from which a line must not be in the head and in the text."""
BUDGET = 2_400
"""Bytes of what is gone and of subjects."""
MOST = 8
"""Commits."""
LARGEST = 24_000
"""Bytes of a hunk, before or after; of what is larger no run would fit, or hardly one."""


class _Entry(NamedTuple):
    """What a commit took away."""

    gone: bytes
    subject: bytes


def frame(around: Around) -> list[Frame] | str:
    """The file behind its latest changes: those of the newest commits that the budget has room for.

    What a commit took away is shown a run of lines at a time, whole or not at all, and once. Reasons: `no_history`,
    `only_new` (no commit took away a line that is gone now).
    """
    if not around.changes:
        return "no_history"
    standing = _telling(around.text)
    room = BUDGET
    entries: list[_Entry] = []
    for change in around.changes[:MOST]:
        subject = _subject(change)
        if len(subject) > room or _quotes(around.text, subject):
            continue
        room -= len(subject)
        gone: list[bytes] = []
        for run in _gone(change, standing):
            if len(run) <= room and run not in gone:
                gone.append(run)
                room -= len(run)
        entries.append(_Entry(b"".join(gone), subject))
    if not any(entry.gone for entry in entries):
        return "only_new"
    head: list[Part] = []
    for entry in reversed(entries):
        head += (Part("<commit_before>", entry.gone), Part("<commit_msg>", entry.subject))
    head += (Part("<commit_after>", b""), Part("<file_sep>", _path(around)))
    return [Frame(tuple(head), around.text)]


def _gone(change: Shown, standing: set[bytes]) -> Iterator[bytes]:
    """Runs of lines that a change took away and that stand nowhere in the file."""
    for before, after in change.edits:
        if max(len(before), len(after)) > LARGEST:
            continue
        old = split_lines(before)
        for start, stop, _, _ in diff_lines(old, split_lines(after)) or ():
            run: list[bytes] = []
            for line in [*old[start:stop], None]:
                if line is not None and line.strip() not in standing:
                    run.append(line)
                    continue
                if any(len(one.strip()) >= TELLING for one in run):
                    yield b"".join(run) if run[-1].endswith(b"\n") else b"".join(run) + b"\n"
                run = []


def _telling(text: bytes) -> set[bytes]:
    """The lines of a text that are long enough to be told from others, without the space around."""
    return {line for line in map(bytes.strip, split_lines(text)) if len(line) >= TELLING}


def _subject(change: Shown) -> bytes:
    return change.message.strip().partition(b"\n")[0].rstrip()


def _quotes(text: bytes, subject: bytes) -> bool:
    return len(subject) >= TELLING and subject in text


def _path(around: Around) -> bytes:
    return printable_path(around.path).encode() + b"\n"


def verify(around: Around, frame: Frame) -> str:
    """The text is the file; the head has subjects of its changes and lines that they took away, none of the file's."""
    if frame.text != around.text:
        return "the text is another"
    marks = [part.mark for part in frame.head]
    count = len(marks) // 2 - 1
    if count < 1 or marks != [*("<commit_before>", "<commit_msg>") * count, "<commit_after>", "<file_sep>"]:
        return "the head has other parts"
    texts = [part.text for part in frame.head]
    if texts[-2:] != [b"", _path(around)]:
        return "the path is another"
    if _telling(b"\n".join(texts[:-1])) & _telling(around.text) or any(
        _quotes(around.text, subject) for subject in texts[1:-2:2]
    ):
        return "the head gives lines of the text away"
    if sum(map(len, texts[:-1])) > BUDGET:
        return "the head is too long"
    changes = iter(around.changes[MOST - 1 :: -1])
    for gone, subject in zip(texts[:-2:2], texts[1:-2:2], strict=True):
        if not any(_subject(change) == subject and _took(change, gone) for change in changes):
            return "no change took this away, or not in this order"
    return "" if any(texts[:-2:2]) else "nothing is gone"


def _took(change: Shown, gone: bytes) -> bool:
    """Whether these are lines, in this order, that stood in the hunks of a change before it."""
    lines = iter(b"\n".join(before for before, _ in change.edits).split(b"\n"))
    return all(line.removesuffix(b"\n") in lines for line in split_lines(gone))

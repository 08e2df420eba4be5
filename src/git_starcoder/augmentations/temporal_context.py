"""A file after the lines that recent commits removed from it, with their commit messages.

A row reads `<commit_before>REMOVED<commit_msg>SUBJECT … <commit_after><file_sep>PATH⏎TEXT`: the latest commits of the
file, the newest last and so nearest to the text, which is the result of them all. Only TEXT is in the loss.

Lines that a commit added are not in the prefix, although a diff would show them: they stand in the text, and the model
would learn to copy them from above. So of each hunk only removed lines are shown, and only those that are nowhere in
the file now (a line may have been moved, indented or restored). Lines shorter than `MIN_REVEALING_CHARACTERS`, such as
`}` or `else {`, reveal nothing, but are not shown without a longer one. A commit whose subject the file quotes, as a
changelog does, is left out for the same reason. Of a message only the subject is shown: the reason in one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.augmentations import FramedText, PrefixPart, path_line
from git_starcoder.text.diff import diff_lines
from git_starcoder.text.encoding import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.augmentations import ChangeTexts, FrameInput

NEEDS = "history"

MIN_REVEALING_CHARACTERS = 20
"""Characters, without surrounding space, from which on a line must not be in both the prefix and the text."""
MAX_PREFIX_BYTES = 2_400
"""Bytes of removed lines and subjects: about 600 tokens, so that a window keeps room for the text."""
MAX_COMMITS = 8
"""Commits in a prefix."""
MAX_HUNK_BYTES = 24_000
"""Bytes of a hunk, before or after. Removed lines of larger hunks would hardly fit into the prefix."""


def frame(inputs: FrameInput) -> list[FramedText] | str:
    """The file with its latest changes before it: those of the newest commits for which there is room.

    Each run of consecutive removed lines is shown whole or not at all, and once. Reasons: `no_history`, `only_new` (no
    commit removed a line that is still absent).
    """
    if not inputs.changes:
        return "no_history"
    present = _revealing_lines(inputs.text)
    room = MAX_PREFIX_BYTES
    entries: list[tuple[bytes, bytes]] = []  # removed lines and subject, the newest commit first
    for change in inputs.changes[:MAX_COMMITS]:
        subject = _subject(change)
        if len(subject) > room or _is_quoted(subject, inputs.text):
            continue
        room -= len(subject)
        removed: list[bytes] = []
        for run in _removed_runs(change, present):
            if len(run) <= room and run not in removed:
                removed.append(run)
                room -= len(run)
        entries.append((b"".join(removed), subject))
    if not any(removed for removed, _ in entries):
        return "only_new"
    prefix: list[PrefixPart] = []
    for removed_lines, subject in reversed(entries):
        prefix += (PrefixPart("<commit_before>", removed_lines), PrefixPart("<commit_msg>", subject))
    prefix += (PrefixPart("<commit_after>", b""), PrefixPart("<file_sep>", path_line(inputs.path)))
    return [FramedText(tuple(prefix), inputs.text)]


def _removed_runs(change: ChangeTexts, present: set[bytes]) -> Iterator[bytes]:
    """Runs of consecutive lines that a change removed and that are not among the file's `present` lines."""
    for before, after in change.edits:
        if max(len(before), len(after)) > MAX_HUNK_BYTES:
            continue
        old = split_lines(before)
        for start, stop, _, _ in diff_lines(old, split_lines(after)) or ():
            run: list[bytes] = []
            for line in [*old[start:stop], None]:
                if line is not None and line.strip() not in present:
                    run.append(line)
                    continue
                if any(len(removed.strip()) >= MIN_REVEALING_CHARACTERS for removed in run):
                    yield b"".join(run) if run[-1].endswith(b"\n") else b"".join(run) + b"\n"
                run = []


def _revealing_lines(text: bytes) -> set[bytes]:
    """The lines of a text that are long enough to be recognised, without surrounding space."""
    return {line for line in map(bytes.strip, split_lines(text)) if len(line) >= MIN_REVEALING_CHARACTERS}


def _subject(change: ChangeTexts) -> bytes:
    return change.message.strip().partition(b"\n")[0].rstrip()


def _is_quoted(subject: bytes, text: bytes) -> bool:
    return len(subject) >= MIN_REVEALING_CHARACTERS and subject in text


def verify(inputs: FrameInput, frame: FramedText) -> str:
    """Check that the text is the file, and that the prefix shows subjects and removed lines of its changes only."""
    if frame.text != inputs.text:
        return "the text is another"
    control_tokens = [part.control_token for part in frame.prefix]
    count = len(control_tokens) // 2 - 1
    if count < 1 or control_tokens != [*("<commit_before>", "<commit_msg>") * count, "<commit_after>", "<file_sep>"]:
        return "the prefix has other parts"
    *texts, after, path = (part.text for part in frame.prefix)
    if (after, path) != (b"", path_line(inputs.path)):
        return "the path is another"
    subjects = texts[1::2]
    reveals_lines = _revealing_lines(b"\n".join(texts)) & _revealing_lines(inputs.text)
    if reveals_lines or any(_is_quoted(subject, inputs.text) for subject in subjects):
        return "the prefix reveals lines of the text"
    if sum(map(len, texts)) > MAX_PREFIX_BYTES:
        return "the prefix is too long"
    changes = iter(inputs.changes[MAX_COMMITS - 1 :: -1])  # from the oldest, as in the prefix
    for removed, subject in zip(texts[::2], subjects, strict=True):
        if not any(_subject(change) == subject and _has_lines_before(change, removed) for change in changes):
            return "no change removed this, or not in this order"
    return "" if any(texts[::2]) else "nothing was removed"


def _has_lines_before(change: ChangeTexts, text: bytes) -> bool:
    """Whether the lines of a text stood, in this order, in the hunks of a change before it."""
    lines = iter(b"\n".join(before for before, _ in change.edits).split(b"\n"))
    return all(line.removesuffix(b"\n") in lines for line in split_lines(text))

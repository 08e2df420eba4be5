"""What a commit did to a file: what was there, why, and what came instead (hunks and small files).

A row reads `<file_sep>PATH⏎<commit_before>BEFORE<commit_msg>MESSAGE<commit_after>AFTER<|endoftext|>`, and only AFTER
and the end count for the loss. So a model is prompted with everything up to `<commit_after>` and answers with what
should stand there. Kinds:

- `file`: BEFORE and AFTER are the whole file;
- `hunk`: they are one hunk of it, with the lines around;
- `next_edit`: hunks that the same commit changed just before stand in front, each in this form, the oldest first; the
  message is behind the first BEFORE, and those of the others are empty.

The order before, message, after and its tokens are those of StarCoder (Li et al., 2023) and of CommitPack (Muennighoff
et al., 2023, arXiv 2308.07124), so that any model of that family knows them; the path in front is StarCoder2's. With
hunks in the place of files a row has room for its answer, as in StarCoder, which cut most changes down to the lines
around them. That the next edit follows from the edits before it is from Next Edit Prediction (Lu et al., 2025, arXiv
2508.10074) and the models of editors (Zeta, Instinct), which show those edits as a unified diff and have the cursor's
region written anew. Here they are in the form that the answer has: nothing counts lines, and no further syntax is to
be learned. There is no cursor: a commit does not tell where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.augmentations import Frame, Part
from git_starcoder.records import printable_path

if TYPE_CHECKING:
    from git_starcoder.augmentations import Around, Shown

NEEDS = "change"

LONGEST = 24_000
"""Bytes of a row. Those with more than 4,096 tokens fit no window, which says so: this only spares it the giants."""
EARLIER = 3
"""Hunks before the next edit, at most, …"""
EARLIER_BYTES = 2_400
"""… and their bytes."""


def frame(around: Around) -> list[Frame] | str:
    """Every hunk of the one change, alone and behind those before it; or the file, where it is small.

    There is no frame with an answer that is blank. Reasons: `no_change`, `blank` (nothing comes instead of what was
    there), `too_long`.
    """
    if not around.changes or not any(before != after for before, after in around.changes[0].edits):
        return "no_change"
    change = around.changes[0]
    frames: list[Frame] = []
    blank = True
    for index, (before, after) in enumerate(change.edits):
        if not after.strip() or before == after:
            continue
        blank = False
        frames.append(_frame(change, index, index, "file" if change.whole else "hunk"))
        if (first := _earlier(change, index)) < index:
            frames.append(_frame(change, first, index, "next_edit"))
    fitting = [one for one in frames if sum(len(part.text) for part in one.head) + len(one.text) <= LONGEST]
    return fitting or ("blank" if blank else "too_long")


def _earlier(change: Shown, index: int) -> int:
    """The first of the hunks that are shown before a hunk: those nearest to it, without a gap."""
    first, room = index, EARLIER_BYTES
    while first and index - first < EARLIER:
        room -= sum(map(len, change.edits[first - 1]))
        if room < 0:
            break
        first -= 1
    return first


def _frame(change: Shown, first: int, last: int, kind: str) -> Frame:
    head = [Part("<file_sep>", _path(change))]
    for index in range(first, last + 1):
        before, after = change.edits[index]
        head += (
            Part("<commit_before>", before),
            Part("<commit_msg>", change.message if index == first else b""),
            Part("<commit_after>", after if index < last else b""),
        )
    return Frame(tuple(head), change.edits[last][1], kind)


def _path(change: Shown) -> bytes:
    return printable_path(change.path).encode() + b"\n"


def verify(around: Around, frame: Frame) -> str:
    """The head is the path, then triples; these are consecutive edits of the change, and the text ends the last."""
    change = around.changes[0]
    marks = [part.mark for part in frame.head]
    triples = len(marks) // 3
    if triples < 1 or marks != ["<file_sep>", *("<commit_before>", "<commit_msg>", "<commit_after>") * triples]:
        return "the head has other parts"
    path, *texts = (part.text for part in frame.head)
    if path != _path(change):
        return "the path is another"
    befores, messages, afters = texts[0::3], texts[1::3], texts[2::3]
    if messages != [change.message, *[b""] * (triples - 1)]:
        return "the message is another"
    if afters[-1]:
        return "the head holds the answer"
    shown = [*zip(befores, [*afters[:-1], frame.text], strict=True)]
    if not any(shown == [*change.edits[at : at + triples]] for at in range(len(change.edits))):
        return "the change is another"
    if befores[-1] == frame.text:
        return "nothing changes"
    if not frame.text.strip():
        return "the answer is blank"
    kinds = {"next_edit"} if triples > 1 else {"file"} if change.whole else {"hunk"}
    return "" if frame.kind in kinds else "the kind is another"

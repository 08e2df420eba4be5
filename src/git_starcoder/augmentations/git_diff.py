"""A change by a commit: the old text, the commit message and the new text (hunks and small files).

A row reads `<file_sep>PATH⏎<commit_before>BEFORE<commit_msg>MESSAGE<commit_after>AFTER<|endoftext|>`. Only AFTER and
the end-of-text token are in the loss: the model is prompted with everything up to `<commit_after>` and writes what
should stand there. There are three kinds:

- `file`: BEFORE and AFTER are the whole file;
- `hunk`: they are one hunk with the lines around it;
- `next_edit`: hunks that the same commit changed just before come first, each in the same form, the oldest first. The
  message follows the first BEFORE; the other messages are empty.

The order before, message, after and its control tokens are those of StarCoder (Li et al., 2023) and CommitPack
(Muennighoff et al., 2023, arXiv 2308.07124), so models of that family know them; the path in front is StarCoder2's.
Hunks instead of files leave room for the answer, as in StarCoder, which cut most changes down to the lines around them.
Predicting an edit from the edits before it is from Next Edit Prediction (Lu et al., 2025, arXiv 2508.10074) and the
models of editors (Zeta, Instinct). Those show earlier edits as a unified diff and mark the cursor. Here they have the
form of the answer, so the model need not count lines or learn another syntax; and a commit does not tell where the
cursor was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.augmentations import FramedText, PrefixPart, path_line

if TYPE_CHECKING:
    from git_starcoder.augmentations import ChangeTexts, FrameInput

NEEDS = "change"

MAX_ROW_BYTES = 24_000
"""Bytes of a row. The window step drops rows of more than 4,096 tokens; this only spares it the giants."""
MAX_EARLIER_HUNKS = 3
"""Hunks that are shown before the one to predict, in a `next_edit`."""
MAX_EARLIER_BYTES = 2_400
"""Bytes of those hunks, before and after: about 600 tokens, which leaves most of a window to the answer."""


def frame(inputs: FrameInput) -> list[FramedText] | str:
    """Every hunk of the change, alone and with the hunks before it; or the file, where it is small.

    Reasons: `no_change`, `blank` (every answer would be blank), `too_long`.
    """
    if not inputs.changes or not any(before != after for before, after in inputs.changes[0].edits):
        return "no_change"
    change = inputs.changes[0]
    frames: list[FramedText] = []
    for index, (before, after) in enumerate(change.edits):
        if not after.strip() or before == after:
            continue
        frames.append(_frame_hunks(change, index, index, "file" if change.is_whole_file else "hunk"))
        if (first := _first_earlier_hunk(change, index)) < index:
            frames.append(_frame_hunks(change, first, index, "next_edit"))
    fitting = [one for one in frames if sum(len(part.text) for part in one.prefix) + len(one.text) <= MAX_ROW_BYTES]
    return fitting or ("too_long" if frames else "blank")


def _first_earlier_hunk(change: ChangeTexts, index: int) -> int:
    """The first of the consecutive hunks that are shown before hunk `index`; `index` itself if none fits."""
    first, room = index, MAX_EARLIER_BYTES
    while first and index - first < MAX_EARLIER_HUNKS:
        room -= sum(map(len, change.edits[first - 1]))
        if room < 0:
            break
        first -= 1
    return first


def _frame_hunks(change: ChangeTexts, first: int, last: int, kind: str) -> FramedText:
    """Hunk `last` as the answer, with the hunks from `first` on before it."""
    prefix = [PrefixPart("<file_sep>", path_line(change.path))]
    for index in range(first, last + 1):
        before, after = change.edits[index]
        prefix += (
            PrefixPart("<commit_before>", before),
            PrefixPart("<commit_msg>", change.message if index == first else b""),
            PrefixPart("<commit_after>", after if index < last else b""),
        )
    return FramedText(tuple(prefix), change.edits[last][1], kind)


def verify(inputs: FrameInput, frame: FramedText) -> str:
    """Check that the prefix is the path and then consecutive edits of the change, of which the text ends the last."""
    change = inputs.changes[0]
    control_tokens = [part.control_token for part in frame.prefix]
    count = len(control_tokens) // 3
    if count < 1 or control_tokens != ["<file_sep>", *("<commit_before>", "<commit_msg>", "<commit_after>") * count]:
        return "the prefix has other parts"
    path, *texts = (part.text for part in frame.prefix)
    if path != path_line(change.path):
        return "the path is another"
    befores, messages, afters = texts[0::3], texts[1::3], texts[2::3]
    if messages != [change.message, *[b""] * (count - 1)]:
        return "the message is another"
    if afters[-1]:
        return "the prefix holds the answer"
    edits = [*zip(befores, [*afters[:-1], frame.text], strict=True)]
    if not any(edits == [*change.edits[first : first + count]] for first in range(len(change.edits))):
        return "the change is another"
    if befores[-1] == frame.text:
        return "nothing changes"
    if not frame.text.strip():
        return "the answer is blank"
    kind = "next_edit" if count > 1 else "file" if change.is_whole_file else "hunk"
    return "" if frame.kind == kind else "the kind is another"

"""The gate of the split step: no edit to learn from has a line of code that only held-out files have.

Code moves between files without a trace, so the lineage of files is not enough. A line counts from 20 characters on
(`text.lines`); lines that files of the training split have too are no secret.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.memo import Memo
from git_starcoder.rows import NOWHERE, identity
from git_starcoder.text.lines import Lines, only_in
from git_starcoder.text.shingles import offsets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_starcoder.memo import Inputs
    from git_starcoder.rows import Change, Unit
    from git_starcoder.run import Run, Step


def behind_gate(run: Run, step: Step, units: Sequence[Unit], changes: Sequence[Change], how: str) -> list[Change]:
    """The changes, less the edits to learn from that have a line which only held-out code has.

    A message that quotes such a line is left out. `how` says how texts were read, for the cache.
    """
    if not changes:
        return []
    held = _of_units(run, [unit for unit in units if unit.split != "train"])
    was = _of_changes(run, [change for change in changes if change.split != "train"], how)
    known = _of_units(run, [unit for unit in units if unit.split == "train"])
    secret = only_in(np.concatenate((held.flat, was.flat)), known.flat)
    learned = [change for change in changes if change.split == "train"]
    hit: list[bool] = _of_changes(run, learned, how).stand_in(secret).tolist()
    # What a message quotes stands in lines or between backticks.
    messages = {change.message: run.texts.get(change.message).replace(b"`", b"\n") for change in learned}
    quoting = dict(zip(messages, Lines.of(messages.values()).stand_in(secret).tolist(), strict=True))
    kept: list[Change] = []
    at = gated = withheld = 0
    for change in changes:
        edits, message = change.edits, change.message
        if change.split == "train":
            edits = tuple(edit for edit, behind in zip(edits, hit[at : at + len(edits)], strict=True) if not behind)
            at += len(change.edits)
            gated += len(change.edits) - len(edits)
            if quoting[message]:
                message = NOWHERE
                withheld += 1
        if edits:
            same = len(edits) == len(change.edits) and message == change.message
            kept.append(change if same else change._replace(edits=edits, message=message))
            step.keep()
        else:
            because = "every edit has a line that only held-out code has"
            step.drop(f"{change.path}@{change.commit}", "held_out_code", because)
    step.figures["edits_held_back"] = gated
    step.figures["messages_held_back"] = withheld
    return kept


def _of_units(run: Run, units: Sequence[Unit]) -> Lines:
    inputs = [(identity(run.texts.get(unit.source.text)),) for unit in units]
    return _lines(run, inputs, lambda at: [run.texts.get(units[at].source.text)])


def _of_changes(run: Run, changes: Sequence[Change], how: str) -> Lines:
    """The lines of each edit, both sides."""
    commits = [list(group) for _, group in groupby(changes, key=lambda change: change.commit)]
    inputs = [(how, *(part for one in group for part in (one.path, one.before, one.after))) for group in commits]
    return _lines(run, inputs, lambda at: [
        run.texts.get(edit.before) + b"\n" + run.texts.get(edit.after) for one in commits[at] for edit in one.edits
    ])  # fmt: skip


def _lines(run: Run, inputs: Sequence[Inputs], texts: Callable[[int], Sequence[bytes]]) -> Lines:
    """The lines of the texts of some things, as an earlier build hashed them or as `texts` gives them now."""
    memo: Memo[tuple[bytes, bytes]] = Memo(run.cache, "lines", tuple[bytes, bytes])
    known = memo.get(inputs)
    unknown = [at for at, answer in enumerate(known) if answer is None]
    counts: list[int] = []

    def hashed() -> Iterator[bytes]:
        for at in unknown:
            mine = texts(at)
            counts.append(len(mine))
            yield from mine

    made = Lines.of(hashed())
    ends = np.cumsum([0, *counts]).tolist()
    for at, begin, end in zip(unknown, ends[:-1], ends[1:], strict=True):
        bounds = made.offsets[begin : end + 1]
        known[at] = (made.flat[bounds[0] : bounds[-1]].tobytes(), np.diff(bounds).tobytes())
    memo.put([(inputs[at], answer) for at in unknown if (answer := known[at]) is not None])
    flat, sizes = (b"".join(answer[side] for answer in known if answer is not None) for side in (0, 1))
    return Lines(np.frombuffer(flat, dtype=np.uint64), offsets_of(np.frombuffer(sizes, dtype=np.int64)))

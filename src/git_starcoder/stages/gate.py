"""The gate of the split step: no edit passes code between what is learned from and what is held out.

An edit to learn from has no line that only held-out files have, and a held-out one asks for no text of which nearly all
lines stand in files to learn from. Code moves between files without a trace, so the lineage of files is not enough. A
line counts from 20 characters on (`text.lines`); lines that files of the training split have too are no secret. Of what
a held-out edit asks for they are some, as code is reused everywhere; where they are nearly all, its text has moved.
"""

from __future__ import annotations

from collections import Counter
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


SEVERAL = 3
"""Lines from which a text says where it comes from."""
NEARLY_ALL = 0.9
"""Share of them by which a text is that of files to learn from, if these have them."""
BECAUSE = {
    "held_out_code": "every edit has a line that only held-out code has",
    "learned_code": "nearly all lines that every edit asks for stand in files that are learned from",
}


def behind_gate(run: Run, step: Step, units: Sequence[Unit], changes: Sequence[Change], how: str) -> list[Change]:
    """The changes, less the edits that do not pass.

    A message to learn from that quotes a line of held-out code is left out. `how` says how texts were read, for the
    cache.
    """
    if not changes:
        return []
    held = _of_units(run, [unit for unit in units if unit.split != "train"])
    was = _of_changes(run, [change for change in changes if change.split != "train"], how)
    known = np.sort(_of_units(run, [unit for unit in units if unit.split == "train"]).flat)
    secret = only_in(np.concatenate((held.flat, was.flat)), known)
    learned = [change for change in changes if change.split == "train"]
    telling = iter((_of_changes(run, learned, how).stand_in(secret).reshape(-1, 2).sum(axis=1) > 0).tolist())
    asked, there = was.sizes()[1::2], was.stand_in(known)[1::2]
    told = iter(((asked >= SEVERAL) & (there >= NEARLY_ALL * asked)).tolist())
    # What a message quotes stands in lines or between backticks.
    messages = {change.message: run.texts.get(change.message).replace(b"`", b"\n") for change in learned}
    quoting = dict(zip(messages, (Lines.of(messages.values()).stand_in(secret) > 0).tolist(), strict=True))
    kept: list[Change] = []
    held_back: Counter[str] = Counter()
    withheld = 0
    for change in changes:
        learns = change.split == "train"
        flags = telling if learns else told
        edits = tuple(edit for edit in change.edits if not next(flags))
        reason = "held_out_code" if learns else "learned_code"
        held_back[reason] += len(change.edits) - len(edits)
        message = change.message
        if learns and quoting[message]:
            message = NOWHERE
            withheld += 1
        if edits:
            same = len(edits) == len(change.edits) and message == change.message
            kept.append(change if same else change._replace(edits=edits, message=message))
            step.keep()
        else:
            step.drop(f"{change.path}@{change.commit}", reason, BECAUSE[reason])
    step.figures["edits_held_back"] = held_back["held_out_code"]
    step.figures["edits_learned_elsewhere"] = held_back["learned_code"]
    step.figures["messages_held_back"] = withheld
    return kept


def _of_units(run: Run, units: Sequence[Unit]) -> Lines:
    inputs = [(identity(run.texts.get(unit.source.text)),) for unit in units]
    return _lines(run, inputs, lambda at: [run.texts.get(units[at].source.text)])


def _of_changes(run: Run, changes: Sequence[Change], how: str) -> Lines:
    """The lines of each edit: what was there and what came instead, one behind the other."""
    commits = [list(group) for _, group in groupby(changes, key=lambda change: change.commit)]
    inputs = [(how, *(part for one in group for part in (one.path, one.before, one.after))) for group in commits]
    return _lines(run, inputs, lambda at: [
        run.texts.get(side) for one in commits[at] for edit in one.edits for side in (edit.before, edit.after)
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

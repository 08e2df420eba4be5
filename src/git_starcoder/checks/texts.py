"""Rows of one text agree with each other, and decode to text."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from git_starcoder.checks import OfSamples, place
from git_starcoder.dataset.samples import TextRun
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import BulkRow
    from git_starcoder.records import Split

SEEDS: tuple[str, ...] = ()
CUT = 3
"""Bytes of a character that a window may cut off, at most."""


class Check(OfSamples):
    """A finding for each row that shows other tokens than a row of its sample does, and for each text that is none.

    Windows overlap, so a token that is shifted or another stands in rows that disagree. Text is UTF-8 without NUL;
    where a window cuts a character its rest is no fault. The figure is how much text there is, each token once.
    """

    def row(self, split: Split, row: BulkRow) -> Iterator[Finding]:
        """Whether it could be taken to its sample."""
        if wrong := row.added.problem:
            yield Finding("texts", place(self._dataset, split, row), wrong)

    def end(self) -> Iterator[Finding]:
        """Decode all."""
        size = 0
        for sample in self._samples.by_id.values():
            head, runs = self._samples.prefix_and_runs(sample)
            for run in (TextRun(0, head, has_end=True), *runs):
                size += len(run.text)
                if wrong := _wrong(run):
                    yield self._found(sample, wrong)
        self.figure = f"{len(self._samples.by_id):,} texts of {size / 1e6:,.1f} MB"


def _wrong(run: TextRun) -> str:
    text, start = run.text, 0
    if b"\0" in text:
        return "its text has a NUL"
    while run.start and start < min(CUT, len(text)) and text[start] & 0xC0 == 0x80:
        start += 1
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text[start:], run.has_end)
    except UnicodeDecodeError as error:
        return f"its text is not UTF-8: {error.reason}"
    return ""

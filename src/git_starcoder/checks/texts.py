"""Rows of one text agree with each other, and decode to text."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from git_starcoder.checks import place
from git_starcoder.folder.samples import Samples
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Checked, Skip
    from git_starcoder.dataset import Dataset
    from git_starcoder.folder.samples import Sample
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split

SEEDS: tuple[str, ...] = ()
CUT = 3
"""Bytes of a character that a window may cut off, at most."""


class Check:
    """A finding for each row that shows other tokens than a row of its sample does, and for each text that is none.

    Windows overlap, so a token that is shifted or another stands in rows that disagree. Text is UTF-8 without NUL;
    where a window cuts a character its rest is no fault. The figure is how much text there is, each token once.
    """

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:  # noqa: ARG002 - the shelf's signature
        self.figure: str | Skip = ""
        self._dataset = dataset
        self._samples = Samples.shared(dataset)

    def row(self, split: Split, number: int, row: Checked) -> Iterator[Finding]:
        """Take the row to its sample."""
        if wrong := self._samples.add(split, number, row.metadata, row.ids).wrong:
            yield Finding("texts", place(self._dataset, split, row), wrong)

    def end(self) -> Iterator[Finding]:
        """Decode all."""
        size = 0
        for sample in self._samples.of.values():
            for text, begins, ends in self._parts(sample):
                size += len(text)
                if wrong := _wrong(text, begins=begins, ends=ends):
                    yield Finding("texts", self._dataset.place(sample.split, sample.number), wrong)
        self.figure = f"{len(self._samples.of):,} texts of {size / 1e6:,.1f} MB"

    def _parts(self, sample: Sample) -> Iterator[tuple[bytes, bool, bool]]:
        """Head and runs of a sample, each with whether it begins and ends where a text does."""
        yield self._samples.tokenizer.decode(sample.head), True, True
        for start, run in sample.runs():
            yield self._samples.text(run), start == 0, int(run[-1]) == self._samples.tokenizer.end


def _wrong(text: bytes, *, begins: bool, ends: bool) -> str:
    if b"\0" in text:
        return "its text has a NUL"
    start = 0
    while not begins and start < min(CUT, len(text)) and text[start] & 0xC0 == 0x80:
        start += 1
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text[start:], ends)
    except UnicodeDecodeError as error:
        return f"its text is not UTF-8: {error.reason}"
    return ""

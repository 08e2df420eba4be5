"""Changes and contexts that are learned from show no line that only held-out code has."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.checks import OfSamples, Skip
from git_starcoder.git.objects import FILE, FOLDER, KIND
from git_starcoder.records import Finding, printable_path
from git_starcoder.text.clean import Clean, clean, most_bytes
from git_starcoder.text.lines import LEAST, QUOTED, Lines, Phrases, quotes_of
from git_starcoder.text.shingles import batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given
    from git_starcoder.dataset.samples import RebuiltSample

SEEDS: tuple[str, ...] = ()
CHANGES = ("git_diff", "temporal_context")
"""What shows history."""
MOST = 3
"""Such lines in a row that are a finding where only the dataset is at hand."""


class Check(OfSamples):
    """A finding for each row that shows such a line, or a held-out file in its context; the figure is how many do.

    Lines are compared by their words, whatever they are wrapped in; those count that span 16 bytes or more from their
    first to their last word. What training files have, too, is no secret; with the repository at hand those are all
    its files that are not held out. Without it the dataset lacks what was dropped as a copy, whose lines look as if
    only held-out code had them: then a row is found from three such lines on.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._whole = self._source is not None
        """Whether all files of the repository are at hand."""

    def end(self) -> Iterator[Finding]:
        """Look at the lines of all rows that show history, and at the paths of all contexts."""
        held = [one for one in self._samples.by_id.values() if one.split != "train"]
        learned = [one for one in self._samples.by_id.values() if one.split == "train"]
        if not held:
            self.figure = Skip("nothing is held out")
            return
        changes = [one for one in learned if _kind(one) in CHANGES]
        plain = (text for one in learned if _kind(one) not in CHANGES for text in self._samples.run_texts(one))
        texts = (text for one in held if _kind(one) in {"base", *CHANGES} for text in self._code(one))
        secret = Phrases.of(Lines.of(texts))
        known = [secret.find_in(Lines.of(texts)).phrase for texts in batches(chain(plain, self._files(held)))]
        secret = secret.without(np.concatenate(known))
        shown, quotes = Lines.of(map(self._learned, changes)), Lines.of(map(self._quotes, changes))
        in_code = shown.per_text(secret.find_in(shown).line)
        counts: list[int] = (in_code + quotes.per_text(secret.find_in(quotes, QUOTED).line)).tolist()
        for one, count in zip(changes, counts, strict=True):
            if count >= (1 if self._whole else MOST):
                what = "a line" if count == 1 else f"{count} lines"
                yield self._found(one, f"{what} that only held-out code has")
        contexts = [one for one in learned if _kind(one) == "cross_file_context"]
        paths = {str(one.metadata["source_file"]): one.split for one in held}
        broken = [path for path in paths if "\n" in path]
        for one in contexts:
            for path in sorted(paths.keys() & set(self._paths(one, broken))):
                what = f"its context shows {path}, which is in {paths[path]}"
                yield self._found(one, what)
        some = sum(count > 0 for count in counts)
        self.certificate = {
            "lines": len(secret), "changes": len(changes), "changes_with_a_line": some, "contexts": len(contexts),
            "with_repository": self._whole,
        }  # fmt: skip
        what = f"{some:,} of {len(changes):,} changes have one of {len(secret):,} such lines"
        if self._source and not self._whole:
            what += ", files of the repository being missing"
        self.figure = f"{what} (from {LEAST} bytes); {len(contexts):,} contexts"

    def _code(self, sample: RebuiltSample) -> list[bytes]:
        """What a sample shows of files."""
        return [
            *_behind(self._samples.context_parts(sample), "<commit_before>", "<commit_after>"),
            *self._samples.run_texts(sample),
        ]

    def _learned(self, sample: RebuiltSample) -> bytes:
        """The code of changes that a sample shows. The text behind a temporal context is a file as it is."""
        parts = self._samples.context_parts(sample)
        shown = _behind(parts, "<commit_before>")
        if _kind(sample) == "git_diff":
            shown += [*_behind(parts, "<commit_after>"), *self._samples.run_texts(sample)]
        return b"\n".join(shown)

    def _quotes(self, sample: RebuiltSample) -> bytes:
        """What the messages of changes quote that a sample shows."""
        return b"\n".join(map(quotes_of, _behind(self._samples.context_parts(sample), "<commit_msg>")))

    def _paths(self, sample: RebuiltSample, broken: list[str]) -> Iterator[str]:
        """The paths that a context shows; those of `broken` have line ends of their own."""
        for _, text in self._samples.context_parts(sample):
            yield text.partition(b"\n")[0].decode("utf-8", "replace")
            yield from (path for path in broken if text.startswith(f"{path}\n".encode()))

    def _files(self, held: list[RebuiltSample]) -> Iterator[bytes]:
        """The files of the repository that are not held out."""
        if self._source is None:
            return
        options = self._recipe.read
        paths = {one.metadata["source_file"] for one in held}
        entries = [one for one in self._source.entries() if printable_path(one.path) not in paths]
        self._whole = not any(one.size is None and one.mode & KIND in {FILE, FOLDER} for one in entries)
        blobs = {one.blob for one in entries if one.size is not None and one.size <= most_bytes(one.path, options)}
        for _, data in self._source.read(sorted(blobs)):
            text = clean(data, options) if isinstance(data, bytes) else None
            if isinstance(text, Clean):
                yield text.text


def _kind(sample: RebuiltSample) -> str:
    return sample.metadata["augmentation_type"]


def _behind(parts: list[tuple[str, bytes]], *marks: str) -> list[bytes]:
    return [text for mark, text in parts if mark in marks]

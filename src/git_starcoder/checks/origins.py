"""What rows say of their file follows from it: language and role, and with the repository blob and last commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import OfSamples
from git_starcoder.parse.language import language_of
from git_starcoder.parse.role import role_of
from git_starcoder.rows import Finding, path_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.folder.samples import Sample

SEEDS = ("test_smart_weighting",)
UNSEEN = ("generated", "vendored")
"""Roles that the head of a file may say, and not its path alone."""


class Check(OfSamples):
    """A finding for each text that says otherwise; the figure is how many were looked at, and against what.

    The weight of a row follows from its role, which follows from its path and language; so with `weights` and `ages` it
    is worked out from the repository up.
    """

    def end(self) -> Iterator[Finding]:
        """Work it out again."""
        samples = self._samples.of.values()
        blobs: dict[str, str] = {}
        commits: dict[str, str] = {}
        if self._source:
            blobs = {printable(entry.path): entry.blob for entry in self._source.entries()}
            commits = {printable(path): last.commit for path, last in self._given.last.items()}
        for sample in samples:
            wrong = self._wrong(sample)
            if self._source and not wrong and not sample.about.get("is_evolution"):
                path = str(sample.about["source_file"])
                if path in blobs or not path.startswith(self._given.unopened):
                    wrong = _not("blob", sample, blobs.get(path, "none"))
                if not wrong and not self._given.partial:
                    wrong = _not("commit", sample, commits.get(path, ""))
            if wrong:
                yield self._found(sample, wrong)
        against = "their files and the history" if self._source else "their paths"
        if self._source and self._given.partial:
            against = f"their files; not against the history: {self._given.partial}"
        elif self._given.unread:
            against += f": {self._given.unread}"
        self.figure = f"{len(samples):,} texts against {against}"

    def _wrong(self, sample: Sample) -> str:
        about = sample.about
        path, language = path_of(str(about["source_file"])), str(about["language"])
        if about["augmentation_type"] == "base" and (text := self._samples.complete(sample)) is not None:
            language = language_of(path, text)
        said = about["role"]
        role = said if said in UNSEEN else role_of(path, language, b"")
        return _not("language", sample, language) or _not("role", sample, role)


def _not(key: str, sample: Sample, value: str) -> str:
    said = sample.about.get(key)
    return "" if said == value else f"{key} {said!r}, not {value!r}"

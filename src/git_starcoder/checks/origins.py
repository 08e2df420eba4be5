"""What rows say of their file follows from it: language and role, and with the repository blob and last commit."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from git_starcoder.checks import OfSamples
from git_starcoder.git.attributes import NAME, attributes_of
from git_starcoder.parse.language import language_of
from git_starcoder.parse.role import role_of
from git_starcoder.records import (
    FOREIGN_ROLES,
    NO_DECLARED_ROLES,
    DeclaredRoles,
    Finding,
    parse_printable_path,
    printable_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.objects import Repo

SEEDS = ("test_smart_weighting",)
ANYHOW = [
    DeclaredRoles(vendored, generated, documentation)
    for vendored, generated, documentation in product((None, True, False), repeat=3)
]
"""All that a repository may say of a file."""


class Check(OfSamples):
    """A finding for each text that says otherwise; the figure is how many were looked at, and against what.

    The weight of a row follows from its role, which follows from its path and language; so with `weights` and `ages` it
    is worked out from the repository up.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        steps: list[dict[str, Any]] = self._dataset.manifest.get("steps", [])
        marked = any(step["figures"].get("marked") or step["figures"].get("changes_marked") for step in steps)
        self._sayings = ANYHOW if marked else [NO_DECLARED_ROLES]
        """What the repository may say of a file, where it is not at hand."""
        self._attributes = attributes_of(self._source) if self._source and self._has_attributes(self._source) else None

    def end(self) -> Iterator[Finding]:
        """Work it out again."""
        samples = self._samples.by_id.values()
        blobs: dict[str, str] = {}
        commits: dict[str, str] = {}
        if self._source:
            blobs = {printable_path(entry.path): entry.blob for entry in self._source.entries()}
            commits = {printable_path(path): last.commit for path, last in self._given.last.items()}
        for sample in samples:
            wrong = self._wrong(sample)
            if self._source and not wrong and not sample.metadata.get("is_evolution"):
                path = str(sample.metadata["source_file"])
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

    def _has_attributes(self, source: Repo) -> bool:
        """Whether every `.gitattributes` of the commit can be read."""
        names = (entry for entry in source.entries() if entry.path.rpartition("/")[2] == NAME)
        return not self._given.unopened and all(entry.size is not None for entry in names)

    def _wrong(self, sample: RebuiltSample) -> str:
        about = sample.metadata
        path, language = parse_printable_path(str(about["source_file"])), str(about["language"])
        if about["augmentation_type"] == "base" and (text := self._samples.full_text(sample)) is not None:
            language = language_of(path, text)
        said = about["role"]
        some = [self._attributes.said(path)] if self._attributes else self._sayings
        roles = [role_of(path, language, b"", one) for one in some]
        # The text may say that a file is generated or vendored, and not its path alone.
        role = said if said in {*FOREIGN_ROLES, *roles} else roles[0]
        return _not("language", sample, language) or _not("role", sample, role)


def _not(key: str, sample: RebuiltSample, value: str) -> str:
    said = sample.metadata.get(key)
    return "" if said == value else f"{key} {said!r}, not {value!r}"

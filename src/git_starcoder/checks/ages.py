"""Every row is as old as the commit that changed it, counted from the newest commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import place
from git_starcoder.git.history import DAY, committed_at
from git_starcoder.layout import OLD_DAYS, RECENT_DAYS
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Split

SEEDS = ("test_temporal_weighting",)


class Check:
    """A finding for each row of another age than its commit; the figure is how many rows are recent, and how many old.

    Without the repository, rows of one commit must be of one age; with it, of the commit's.
    """

    def __init__(self, given: Given) -> None:
        self._given, self._dataset, self._source = given, given.dataset, given.source
        self._unknown = 0
        self._days: dict[str, tuple[int, str]] = {}
        self._recent = self._old = self._rows = 0
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Their ages, against those of other rows of their commits."""
        self._rows += len(block.rows)
        for row, said in zip(block.rows, block.metadata, strict=True):
            days, commit = said["age_days"], said.get("commit", "")
            self._recent += days < RECENT_DAYS
            self._old += days >= OLD_DAYS
            if days < 0:
                yield Finding("ages", place(self._dataset, split, row), f"{days} days old")
            if not commit:
                continue
            if commit not in self._days:
                self._days[commit] = days, place(self._dataset, split, row)
            elif self._days[commit][0] != days:
                what = f"{days} days old, but {self._days[commit][1]}, of the same commit, {self._days[commit][0]}"
                yield Finding("ages", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """The commits themselves."""
        if self._source:
            yield from self._of_commits(self._source)
        old, recent = self._old / max(1, self._rows), self._recent / max(1, self._rows)
        self.figure = f"{recent:.0%} of the rows are younger than {RECENT_DAYS} days, {old:.0%} are {OLD_DAYS} or older"
        if self._unknown:
            self.figure += f"; {self._unknown:,} commits not looked at: {self._given.partial}"

    def _of_commits(self, source: Repo) -> Iterator[Finding]:
        found = dict(source.commits(sorted(self._days)))
        partial = self._given.partial and source.partial
        for commit, (days, where) in sorted(self._days.items()):
            data = found.get(commit)
            if not isinstance(data, bytes):
                if partial:
                    self._unknown += 1
                    continue
                yield Finding("ages", where, f"commit {commit} is not in the repository")
                continue
            if (age := max(0, source.committed_at - committed_at(data)) // DAY) != days:
                yield Finding("ages", where, f"{days} days old, but commit {commit[:12]} is {age}")

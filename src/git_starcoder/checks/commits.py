"""Commits that rows name are commits of the history that was read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from git_starcoder.checks import Skip, place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Split

SEEDS = ("test_git_history_integration",)
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class Check:
    """A finding for each commit that cannot be; the figure is how many were read, and how many of them rows show."""

    def __init__(self, given: Given) -> None:
        self._given, self._dataset, self._source = given, given.dataset, given.source
        self._unknown = 0
        self._commits: dict[str, str] = {}
        self._message: dict[str, str] = {}
        self.figure: str | Skip = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Their commits."""
        for row, said in zip(block.rows, block.metadata, strict=True):
            commit = said.get("commit", "")
            if not commit:  # a shallow history does not say
                continue
            if commit not in self._commits:
                here = self._commits[commit] = place(self._dataset, split, row)
                if not COMMIT.fullmatch(commit):
                    yield Finding("commits", here, f"commit is {commit!r}")
            message = said.get("commit_message")
            # Rows to learn from have no message where it quotes held-out code.
            if message and self._message.setdefault(commit, message) != message:
                what = f"another message of commit {commit[:12]} than {self._commits[commit]} or a row behind it has"
                yield Finding("commits", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """Compare with the manifest, and with the history itself."""
        said: int = self._dataset.metadata.get("git_commits_analyzed", 0)
        steps: dict[str, dict[str, Any]] = {step["step"]: step for step in self._dataset.manifest["steps"]}
        counted = steps.get("read", {}).get("figures", {}).get("commits")
        if counted is not None and counted != said:
            what = f"git_commits_analyzed is {said}, but {counted} in manifest.json"
            yield Finding("commits", "dataset_metadata.json", what)
        if len(self._commits) > said:
            what = f"git_commits_analyzed is {said}, but rows name {len(self._commits)} commits"
            yield Finding("commits", "dataset_metadata.json", what)
        if self._source:
            yield from self._of_source(self._source, counted)
        self.figure = f"{said:,} commits read, {len(self._commits):,} of them in rows"
        if self._unknown:
            self.figure += f"; {self._unknown:,} of these not looked at: {self._given.partial}"
        if not self._commits:
            self.figure = Skip("no row names a commit: the history is shallow or none")

    def _of_source(self, source: Repo, counted: int | None) -> Iterator[Finding]:
        partial = self._given.partial
        with source.git("rev-list", source.commit) as answer:
            known = {line.decode() for line in iter(answer.line, None)}
        for commit, where in sorted(self._commits.items()):
            if commit not in known and source.partial:
                self._unknown += 1
            elif commit not in known:
                yield Finding("commits", where, f"commit {commit} is not in the history of {source.commit[:12]}")
        if counted is not None and counted != len(known) and not partial:
            yield Finding("commits", "manifest.json, read", f"{counted} commits, but the history has {len(known)}")

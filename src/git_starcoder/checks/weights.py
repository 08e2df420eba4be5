"""Checks of the weights of rows, and of the ages that weights depend on."""

from __future__ import annotations

from math import ceil, floor
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from git_starcoder.checks.contract import Check
from git_starcoder.git.history import committer_time
from git_starcoder.layout import OLD_DAYS, RECENT_DAYS, age_factor, age_in_days

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_starcoder.checks.contract import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Finding, Split

PRIORITY_OF_ROLE = {"core": "high", "test": "low"}
"""All other roles have the priority `medium`."""
WEIGHT_TOLERANCE = 5e-5
"""Weights are written with four decimals."""

weight_inputs = itemgetter("role", "age_days", "augmentation_type", "weight", "priority", "is_core", "is_test")
"""The metadata that the check `weights` compares with each other."""


class WeightsCheck(Check):
    """Reports each row whose weight, priority or flags do not follow from its metadata. The figure is the weights.

    Where training rows are copied by their weight, each copy has weight 1.
    """

    name = "weights"
    promise = "The weight of every row follows from its role, its age and its technique."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._weigh, self._has_copies = context.recipe.weigh, context.recipe.write.copies
        self._weight_of_role = {"core": self._weigh.core, "test": self._weigh.test}
        self._seen_weights: set[float] = set()
        self._valid_inputs: set[tuple[Any, ...]] = set()

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compute the weights again, but once for rows of the same metadata."""
        has_copies = split == "train" and self._has_copies
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            inputs = weight_inputs(metadata)
            if inputs not in self._valid_inputs or has_copies:
                problems = list(self._problems(metadata, has_copies=has_copies))
                if not problems:
                    self._valid_inputs.add(inputs)
                for problem in problems:
                    yield self.row_finding(split, row, problem)

    def finish(self) -> Iterable[Finding]:
        """Set the figure."""
        self.figure = f"weights {', '.join(f'{weight:g}' for weight in sorted(self._seen_weights))}"
        return ()

    def _problems(self, metadata: Mapping[str, Any], *, has_copies: bool) -> Iterator[str]:
        weigh, role = self._weigh, metadata["role"]
        expected = self._weight_of_role.get(role, weigh.utility)
        expected *= age_factor(metadata["age_days"], weigh.recent, weigh.old)
        expected *= weigh.evolution if metadata["augmentation_type"] == "git_diff" else 1.0
        weight = metadata["weight"]
        if has_copies:
            if weight != 1:
                yield f"a copy of weight {weight}"
            weight = metadata.get("weight_of_row", 0)
            if metadata.get("copies", 0) not in {floor(weight), ceil(weight)}:
                yield f"{metadata.get('copies')} copies for {expected:g}"
        self._seen_weights.add(weight)
        if abs(weight - expected) > WEIGHT_TOLERANCE:
            yield f"weight {weight}, not {expected:g}"
        if metadata["priority"] != PRIORITY_OF_ROLE.get(role, "medium"):
            yield f"priority {metadata['priority']} for {role}"
        if (metadata["is_core"], metadata["is_test"]) != (role == "core", role == "test"):
            yield f"is_core or is_test does not say {role}"


class AgesCheck(Check):
    """Reports each row whose age is not that of its commit. The figure is the shares of recent and of old rows.

    Without the repository, all rows of one commit must have the same age; with it, the age of the commit.
    """

    name = "ages"
    promise = "Every row is as old as the commit that changed it, counted from the newest commit."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._age_of_commit: dict[str, tuple[int, str]] = {}
        """Commit → days and place of its first row."""
        self._recent_count = self._old_count = self._row_count = self._unknown_count = 0

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compare the age of each row with that of earlier rows of its commit."""
        self._row_count += len(block.rows)
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            days, commit = metadata["age_days"], metadata.get("commit", "")
            self._recent_count += days < RECENT_DAYS
            self._old_count += days >= OLD_DAYS
            if days < 0:
                yield self.row_finding(split, row, f"{days} days old")
            if not commit:
                continue
            if commit not in self._age_of_commit:
                self._age_of_commit[commit] = days, self.dataset.row_location(split, row.index)
            elif self._age_of_commit[commit][0] != days:
                first_days, first_place = self._age_of_commit[commit]
                yield self.row_finding(
                    split, row, f"{days} days old, but {first_place}, of the same commit, {first_days}"
                )

    def finish(self) -> Iterator[Finding]:
        """Compare with the commits of the repository."""
        if self.context.repository:
            yield from self._compare_commits(self.context.repository)
        old, recent = self._old_count / max(1, self._row_count), self._recent_count / max(1, self._row_count)
        self.figure = f"{recent:.0%} of the rows are younger than {RECENT_DAYS} days, {old:.0%} are {OLD_DAYS} or older"
        if self._unknown_count:
            self.figure += f"; {self._unknown_count:,} commits not looked at: {self.context.history_problem}"

    def _compare_commits(self, repository: Repo) -> Iterator[Finding]:
        commits = dict(repository.read_commits(sorted(self._age_of_commit)))
        may_lack_commits = self.context.history_problem and repository.incomplete_reason
        for commit, (days, place) in sorted(self._age_of_commit.items()):
            data = commits.get(commit)
            if isinstance(data, bytes):
                age = age_in_days(committer_time(data), repository.committed_at)
                if age != days:
                    yield self.finding(place, f"{days} days old, but commit {commit[:12]} is {age}")
            elif may_lack_commits:
                self._unknown_count += 1
            else:
                yield self.finding(place, f"commit {commit} is not in the repository")

"""Checks of windows: their sizes, places, weights and ages, and the order of the curriculum."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from math import ceil, floor
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from git_starcoder.checks.base import Check
from git_starcoder.dataset.folder import REPOSITORIES_FILE
from git_starcoder.git.history import committer_time
from git_starcoder.row_layout import CURRICULUM_STAGES, FIM_SENTINELS, window_stride
from git_starcoder.weight_rules import OLD_DAYS, RECENT_DAYS, age_factor, age_in_days, repository_factor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Finding, Split

OPENING_ROWS = 100
"""The first rows of training, which a person sees who opens the file."""
COMMON_SIZE_SHARE = 0.1
"""A window size with this share of the first stage's rows must be among the opening rows: by chance 100 rows miss it
once in 40,000 datasets."""
COMPLEXITY_TOLERANCE = 1e-4
"""Complexities are written with four decimals."""
PRIORITY_OF_ROLE = {"core": "high", "test": "low"}
"""All other roles have the priority `medium`."""
WEIGHT_TOLERANCE = 5e-5
"""Weights are written with four decimals."""

FACTOR_TOLERANCE = 1e-6
"""Share by which the factor of a repository may differ: sums are rounded in another order."""
weight_inputs = itemgetter("role", "age_days", "augmentation_type", "weight", "priority", "is_core", "is_test")
"""The metadata that the check `weights` compares with each other."""


class ContextWindowCheck(Check):
    """Reports each window of a wrong size or place. The figure is the primary window and its overlap.

    Window i begins at i strides, or up to half a stride earlier (at an item of the syntax tree, or at the text's end).
    """

    name = "context_window"
    promise = "Windows have the sizes and the overlap that the recipe sets."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        window = context.recipe.window
        self._strides = {size: window_stride(size, window.overlap) for size in window.sizes}

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Check the size and the start of each window."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            size, index, start = metadata["window_size"], metadata["chunk_index"], metadata["token_start"]
            if size not in self._strides:
                yield self.row_finding(split, row, f"window_size {size} is not one of {sorted(self._strides)}")
                continue
            if index == start == 0:
                continue
            text_size = size - row.context_length - (FIM_SENTINELS if "hole" in metadata else 0)
            stride = min(self._strides[size], text_size)
            latest = index * stride
            earliest = latest - min(stride // 2, max(0, text_size - stride)) if index else 0
            if not earliest <= start <= latest:
                problem = f"window {index} begins at token {start}, not from {earliest} to {latest}"
                yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compare the metadata with the recipe."""
        window = self.context.recipe.window
        overlap = round(window.primary * window.overlap)
        yield from self.metadata_findings({
            "context_windows": list(window.sizes), "primary_window": window.primary,
            "max_tokens_per_sequence": max(window.sizes), "overlap_tokens": overlap,
        })  # fmt: skip
        self.figure = f"{window.primary:,} tokens, {overlap:,} of them overlap"


class ScalesCheck(Check):
    """Reports each window size that is missing although texts are longer. The figure is the rows of each size."""

    name = "scales"
    promise = "Every window size of the recipe has rows, and the first 100 training rows mix several sizes."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._sizes = context.recipe.window.sizes
        if len(self._sizes) == 1:
            self.skip_reason = "the recipe has one window size"
        self._rows: Counter[int] = Counter()
        self._opening_sizes: set[int] = set()
        self._first_stage_rows: Counter[int] = Counter()
        self._place_of_long_text: dict[int, str] = {}
        """For each window size where a row stands whose text needs several windows."""

    def check_block(self, split: Split, block: RowBlock) -> None:
        """Count rows by window size."""
        sizes: list[int] = list(map(itemgetter("window_size"), block.metadata))
        self._rows.update(sizes)
        for row, size in zip(block.rows, sizes, strict=True):
            if size not in self._place_of_long_text and row.metadata["total_chunks"] > 1:
                self._place_of_long_text[size] = self.dataset.row_location(split, row.index)
        if split == "train":
            self._opening_sizes.update(sizes[: max(0, OPENING_ROWS - block.rows[0].index)])
            stages = (metadata.get("stage", 1) for metadata in block.metadata)
            self._first_stage_rows.update(size for size, stage in zip(sizes, stages, strict=True) if stage == 1)

    def finish(self) -> Iterator[Finding]:
        """Report missing sizes."""
        for smaller, size in pairwise(self._sizes):
            if smaller in self._place_of_long_text and not self._rows[size]:
                problem = f"a text of more than {smaller} tokens, but no row of {size} is anywhere"
                yield self.finding(self._place_of_long_text[smaller], problem)
        total = self._first_stage_rows.total()
        common_sizes = [size for size, count in self._first_stage_rows.items() if count >= COMMON_SIZE_SHARE * total]
        if total >= 2 * OPENING_ROWS and len(self._opening_sizes) == 1 and len(common_sizes) > 1:
            problem = f"the first {OPENING_ROWS} rows are all of {min(self._opening_sizes)} tokens"
            yield self.finding(self.dataset.files("train")[0].name, problem)
        self.figure = ", ".join(f"{size}: {self._rows[size]:,}" for size in self._sizes)


class CurriculumCheck(Check):
    """Reports each row that follows rows of a later stage, or is simpler than a row of its size in an earlier stage.

    The figure is the range of complexity of each stage of training.
    """

    name = "curriculum"
    promise = "Rows are in three stages: simple files and small windows first, complex files and large ones last."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        if context.recipe.order.by != "curriculum":
            self.skip_reason = "the recipe wants a random order"
        sizes: list[int] = context.dataset.metadata["context_windows"]
        self._highest_so_far = defaultdict[str, dict[int, list[float]]](
            lambda: {size: [0.0] * (CURRICULUM_STAGES + 1) for size in sizes}
        )
        """Shard → window size → by stage, from 0, the highest complexity in it or an earlier one. A shard is a split,
        or the rows that one of many repositories has in it."""
        self._latest_stage = defaultdict[str, int](lambda: 1)
        self._lowest: list[float] = [1.0] * CURRICULUM_STAGES
        self._highest: list[float] = [0.0] * CURRICULUM_STAGES

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compare the stage and the complexity of each row with those of the rows before it."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            stage, size, complexity = metadata.get("stage", 0), metadata["window_size"], metadata["complexity"]
            shard = f"{split} {metadata.get('repository', '')}"
            highest = self._highest_so_far[shard].get(size)
            if not 1 <= stage <= CURRICULUM_STAGES or highest is None:
                yield self.row_finding(split, row, f"stage {stage} of windows of {size}")
                continue
            if stage < self._latest_stage[shard]:
                yield self.row_finding(split, row, f"stage {stage} behind rows of stage {self._latest_stage[shard]}")
            else:
                self._latest_stage[shard] = stage
            if complexity < highest[stage - 1] - COMPLEXITY_TOLERANCE:
                problem = f"complexity {complexity} in stage {stage}, after {highest[stage - 1]} in an earlier one"
                yield self.row_finding(split, row, problem)
            if complexity > highest[stage]:
                highest[stage:] = [max(complexity, other) for other in highest[stage:]]
            if split == "train":
                if complexity < self._lowest[stage - 1]:
                    self._lowest[stage - 1] = complexity
                if complexity > self._highest[stage - 1]:
                    self._highest[stage - 1] = complexity

    def finish(self) -> None:
        """Set the figure."""
        ranges = (f"{low:.2f}-{high:.2f}" for low, high in zip(self._lowest, self._highest, strict=True))
        self.figure = f"complexity of training {', '.join(ranges)}"


class WeightsCheck(Check):
    """Reports each row whose weight, priority or flags do not follow from its metadata. The figure is the weights.

    Where training rows are copied by their weight, each copy has weight 1.
    """

    name = "weights"
    promise = "The weight of a row is the product of the recipe's factors for its role, age and technique."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._weigh = context.recipe.weigh
        self._weight_of_role = {"core": self._weigh.core, "test": self._weigh.test}
        self._seen_weights: set[float] = set()
        self._valid_inputs: set[tuple[Any, ...]] = set()
        self._factors = context.dataset.repository_factors()
        """The factor of each of many repositories, by its name."""
        self._training_weights = defaultdict[str, float](float)
        """The sum of the weights of the training rows of each repository, without this factor."""

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compute the weights again, but once for rows of the same metadata."""
        has_copies = split == "train" and self.context.recipe.write.copies
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            repository = metadata.get("repository", "")
            if split == "train":
                self._training_weights[repository] += self._expected_weight(metadata)
            inputs = *weight_inputs(metadata), repository
            if inputs not in self._valid_inputs or has_copies:
                problems = list(self._problems(metadata, has_copies=has_copies))
                if not problems:
                    self._valid_inputs.add(inputs)
                for problem in problems:
                    yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compute the factors of repositories again, unless rows without copies are missing."""
        options = self.context.recipe.repos
        for name, factor in self._factors.items() if not self.context.recipe.write.copies else ():
            expected = repository_factor(options.weights, options.temperature, self._training_weights[name])
            if abs(factor - expected) > FACTOR_TOLERANCE * expected:
                yield self.finding(REPOSITORIES_FILE, f"the weight of {name} is {factor:g}, not {expected:g}")
        self.figure = f"weights {', '.join(f'{weight:g}' for weight in sorted(self._seen_weights))}"

    def _expected_weight(self, metadata: Mapping[str, Any]) -> float:
        weigh = self._weigh
        weight = self._weight_of_role.get(metadata["role"], weigh.utility)
        weight *= age_factor(metadata["age_days"], weigh.recent, weigh.old)
        return weight * (weigh.evolution if metadata["augmentation_type"] == "git_diff" else 1.0)

    def _problems(self, metadata: Mapping[str, Any], *, has_copies: bool) -> Iterator[str]:
        role, weight = metadata["role"], metadata["weight"]
        expected = self._expected_weight(metadata) * self._factors.get(metadata.get("repository", ""), 1.0)
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

    Without the repository, all rows of one commit must have the same age; with it, the age of the commit. If commits
    are held out, the newest commit is the newest one that training sees, and the held-out text is 0 days old.
    """

    name = "ages"
    promise = "The age of a row is the number of days from its commit to the newest commit."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._age_of_commit: dict[tuple[str, str], tuple[int, str]] = {}
        """Repository, if there are many, and commit → days and place of its first row."""
        self._recent_count = self._old_count = self._unknown_count = 0

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compare the age of each row with that of earlier rows of its commit."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            days, commit = metadata["age_days"], metadata.get("commit", "")
            self._recent_count += days < RECENT_DAYS
            self._old_count += days >= OLD_DAYS
            if days < 0:
                yield self.row_finding(split, row, f"{days} days old")
            if not commit:
                continue
            key = metadata.get("repository", ""), commit
            if key not in self._age_of_commit:
                self._age_of_commit[key] = days, self.dataset.row_location(split, row.index)
            first_days, first_place = self._age_of_commit[key]
            if first_days != days:
                problem = f"{days} days old, but {first_place}, of the same commit, {first_days}"
                yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compare with the commits of the repository."""
        if self.context.training_repository:
            yield from self._compare_commits(self.context.training_repository)
        row_count = max(1, self.context.row_counts.total())
        old, recent = self._old_count / row_count, self._recent_count / row_count
        self.figure = f"{recent:.0%} of the rows are younger than {RECENT_DAYS} days, {old:.0%} are {OLD_DAYS} or older"
        if self._unknown_count:
            self.figure += f"; {self._unknown_count:,} commits not looked at: {self.context.history_problem}"

    def _compare_commits(self, repository: Repo) -> Iterator[Finding]:
        commits = dict(repository.read_commits(sorted(commit for _, commit in self._age_of_commit)))
        may_lack_commits = self.context.history_problem and repository.incomplete_reason
        for (_, commit), (days, place) in sorted(self._age_of_commit.items()):
            data = commits.get(commit)
            if isinstance(data, bytes):
                age = age_in_days(committer_time(data), repository.committed_at)
                if age != days:
                    yield self.finding(place, f"{days} days old, but commit {commit[:12]} is {age}")
            elif may_lack_commits:
                self._unknown_count += 1
            else:
                yield self.finding(place, f"commit {commit} is not in the repository")

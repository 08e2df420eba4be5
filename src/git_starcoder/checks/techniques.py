"""Checks of what made the rows: techniques, variations and diffs."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from math import sqrt
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.checks.base import Check
from git_starcoder.row_layout import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset.read_blocks import BulkRow, RowBlock
    from git_starcoder.records import Finding, Split

MAX_DEVIATIONS = 5
"""Standard deviations by which more files may be varied than the recipe's share: by chance one dataset in three million
exceeds it."""
GIT_DIFF = "git_diff"
DIFF_KINDS = ("file", "hunk", "next_edit")
DIFF_ONLY_KEYS = ("is_evolution", "commit_message")
"""Metadata keys that only rows of diffs have."""
COMMIT_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
"""SHA-1 or SHA-256 in hexadecimal digits."""


class TechniquesCheck(Check):
    """Reports each technique that is unknown, miscounted or lost. The figure is the rows of each technique."""

    name = "techniques"
    promise = "Every row was made by a technique of the recipe, and the metadata count these rows correctly."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._known = (BASE, *context.recipe.augment)
        self._rows: Counter[str] = Counter()

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Count rows by technique."""
        techniques: list[str] = list(map(itemgetter("augmentation_type"), block.metadata))
        self._rows.update(techniques)
        for row, technique in zip(block.rows, techniques, strict=True):
            if technique not in self._known:
                yield self.row_finding(split, row, f"augmentation_type '{technique}' is not in the recipe")

    def finish(self) -> Iterator[Finding]:
        """Compare with the metadata."""
        listed = self.dataset.metadata["augmentation_techniques"]
        for name in sorted({*self._known, *listed}):
            if listed.get(name) != self._rows[name]:
                problem = f"{name} is {listed.get(name)}, but it made {self._rows[name]} rows"
                yield self.finding("dataset_metadata.json", f"augmentation_techniques: {problem}")
        enabled = [name for name, technique in self.context.recipe.augment.items() if technique.share > 0]
        without_rows = [name for name in enabled if not self._rows[name]]
        self.figure = ", ".join(f"{name} {self._rows[name]:,}" for name in self._known if self._rows[name])
        if without_rows:
            self.figure += f"; nothing to do for {', '.join(without_rows)}"
        if without_rows == enabled:
            reason = "found nothing to work on" if enabled else "are not in the recipe"
            self.skip_reason = f"techniques {reason}: {self.figure}"


class DiversityCheck(Check):
    """Reports each technique that varies too many files, and each file with two contents.

    The figure is the number of base rows and of other rows. Rows of changes do not vary a file, nor do those of
    files that held-out commits changed, which training knows in another version. The base rows of a file may be
    missing, if all of them repeat others.
    """

    name = "diversity"
    promise = "All rows of a file come from one version of it, and no technique varies more files than its share."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._files_of_technique: dict[str, set[str]] = defaultdict(set)
        self._blob_of_file: dict[str, str] = {}
        self._base_count = 0

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Count rows, and compare the blob of each with that of other rows of its file."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            technique, path = metadata["augmentation_type"], metadata["source_file"]
            self._base_count += technique == BASE
            if metadata.get("is_evolution") or "scored" in metadata:
                continue
            self._files_of_technique[technique].add(path)
            blob = metadata.get("blob", "")
            first_blob = self._blob_of_file.setdefault(path, blob)
            if first_blob != blob:
                problem = f"made from {blob[:12]}, but other rows of its file from {first_blob[:12]}"
                yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compare with the metadata and with the shares of the recipe."""
        varied_count = self.context.row_counts.total() - self._base_count
        counts = {"base_sequences": self._base_count, "augmented_sequences": varied_count}
        yield from self.metadata_findings(counts)
        options, file_count = self.context.recipe.augment, len(self._blob_of_file)
        for technique, files in sorted(self._files_of_technique.items()):
            share = options[technique].share if technique in options else 1.0
            max_files = file_count * share + MAX_DEVIATIONS * sqrt(file_count * share * (1 - share))
            if len(files) > max_files:
                problem = f"{technique} varies {len(files)} of {file_count} files, more than a share of {share:g} draws"
                yield self.finding("recipe.yaml", problem)
        varied_files = set[str]().union(*(files for key, files in self._files_of_technique.items() if key != BASE))
        rows = f"{self._base_count:,} rows as they are, {varied_count:,} made"
        self.figure = f"{rows}; {len(varied_files):,} of {file_count:,} files varied"
        if not options:
            self.skip_reason = f"the recipe has no augmentation: {self.figure}"


class DiffsCheck(Check):
    """Reports each row of a change that is incomplete. The figure is the number of rows and of their commits."""

    name = "diffs"
    promise = "Every row made from a commit has kind and commit_message, and shows the old and the new text."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        tokenizer = context.samples.tokenizer
        marks = [tokenizer.control_token_ids(mark) for mark in ("<commit_before>", "<commit_msg>", "<commit_after>")]
        self._control_tokens = [mark[0] for mark in marks if len(mark) == 1]
        self._row_count = 0
        self._commits: set[str] = set()

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Check the metadata of each row, and the order of the parts of a diff."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            technique = metadata["augmentation_type"]
            if technique == GIT_DIFF:
                self._row_count += 1
                self._commits.add(metadata.get("commit", ""))
                problems = list(self._diff_problems(row))
            else:
                problems = [f"{key} in a row of {technique}" for key in DIFF_ONLY_KEYS if key in metadata]
            for problem in problems:
                yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compare with the metadata."""
        yield from self.metadata_findings({"git_diffs": self._row_count}, "{key} is {actual}, but there are {expected}")
        self.figure = f"{self._row_count:,} rows of {len(self._commits):,} commits"
        if not self._row_count:
            recipe = self.context.recipe
            is_enabled = recipe.read.changes and GIT_DIFF in recipe.augment and recipe.augment[GIT_DIFF].share
            reason = "the history has no change to learn from" if is_enabled else "the recipe wants none"
            self.skip_reason = f"no rows from changes: {reason}"

    def _diff_problems(self, row: BulkRow) -> Iterator[str]:
        metadata = row.metadata
        if metadata.get("is_evolution") is not True:
            yield "a diff that is no evolution"
        if not COMMIT_HASH.fullmatch(metadata.get("commit", "")):
            yield f"a diff of commit {metadata.get('commit')!r}"
        if "commit_message" not in metadata:
            yield "a diff without a commit_message"
        if metadata.get("kind") not in DIFF_KINDS:
            yield f"a diff of kind {metadata.get('kind')!r}"
        if not 0 < row.context_length < metadata["length"]:
            yield f"a diff with {row.context_length} of {metadata['length']} tokens before what it made"
            return
        if len(self._control_tokens) == 3:
            prefix = row.token_ids[: row.context_length]
            places = (np.flatnonzero(prefix == token) for token in self._control_tokens)
            before, message, after = (int(found[-1]) if len(found) else -1 for found in places)
            if not 0 <= before < message < after == row.context_length - 1:
                yield "before, message and after are not in their order"

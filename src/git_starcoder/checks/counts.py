"""Checks of what the metadata and the manifest say of the whole dataset: counts, settings and the shares of splits."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from math import sqrt
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from git_starcoder.checks.contract import Check, manifest_row_count, read_json_lines
from git_starcoder.dataset import MANIFEST_FILE, METADATA_FILE
from git_starcoder.layout import STEPS
from git_starcoder.records import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_starcoder.checks.contract import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Finding, Split

INTEGER_METADATA_KEYS = (
    "total_sequences", "train_sequences", "val_sequences", "test_sequences", "source_files", "source_files_scanned",
    "base_sequences", "augmented_sequences", "git_diffs", "git_commits_analyzed", "function_signatures",
    "dependency_graph_nodes", "vocab_size", "max_tokens_per_sequence", "overlap_tokens", "primary_window",
    "total_tokens",
)  # fmt: skip
"""Keys of `dataset_metadata.json` whose values are whole numbers. Other checks verify the numbers."""
MIN_SHARE_TOLERANCE = 0.01
"""A split may always miss its share of the rows by one percentage point."""
SHARE_TOLERANCE_FACTOR = 0.4
"""A split may miss its share by this over the square root of the number of groups: 1 point at 1,600 groups.

It is three standard deviations of a share if the rows of each group are known to within a third, as they are before
texts are varied and compared. A few large groups among small ones count as few: what counts is the number of equal
groups with as much spread (Kish, 1965)."""


class CountsCheck(Check):
    """Reports each count that differs from another one. The figure is what was seen, written and dropped."""

    name = "counts"
    promise = "Counts add up at every step and in every file."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def check_block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Count the rows."""
        self._rows[split] += len(block.rows)
        return ()

    def finish(self) -> Iterator[Finding]:
        """Compare all counts."""
        steps = {step["step"]: step for step in self.dataset.manifest["steps"]}
        if tuple(steps) != STEPS:
            self.figure = "the steps are not the nine"
            yield self.finding(MANIFEST_FILE, f"the steps are {', '.join(steps)}")
            return
        for name, step in steps.items():
            dropped = sum(step["dropped"].values())
            if step["seen"] != step["kept"] + dropped:
                problem = f"{step['seen']} seen, but {step['kept']} kept and {dropped} dropped"
                yield self.finding(f"{MANIFEST_FILE}, {name}", problem)
        yield from self._compare_steps(steps)
        yield from self._compare_drops()
        for split, count in self._rows.items():
            for expected, source in (
                (manifest_row_count(self.dataset, split), MANIFEST_FILE),
                (self.dataset.metadata[f"{split}_sequences"], METADATA_FILE),
            ):
                if count != expected:
                    yield self.finding(self.dataset.files(split)[0].name, f"{count} rows, but {expected} in {source}")
        total = sum(self._rows.values())
        for expected, source in (
            (steps["write"]["kept"] + steps["write"]["figures"].get("copies", 0), MANIFEST_FILE),
            (self.dataset.metadata["total_sequences"], METADATA_FILE),
        ):
            if total != expected:
                yield self.finding(source, f"{expected} rows in all, but the files hold {total}")
        drops = sum(sum(step["dropped"].values()) for step in steps.values())
        self.figure = f"{steps['read']['seen']:,} files seen, {total:,} rows written, {drops:,} drops with a reason"

    def _compare_steps(self, steps: Mapping[str, dict[str, Any]]) -> Iterator[Finding]:
        """Compare what a step keeps with what the next one sees."""
        changes = steps["read"]["figures"].get("changes", 0)  # changes go from read to split, past analyse
        for name, expected in (
            ("analyse", steps["read"]["kept"] - changes),
            ("split", steps["analyse"]["kept"] + changes),
        ):
            if steps[name]["seen"] != expected:
                yield self.finding(MANIFEST_FILE, f"{name} saw {steps[name]['seen']}, but was handed {expected}")
        for before, after in pairwise(STEPS[STEPS.index("window") :]):  # from here on all steps count windows
            if steps[before]["kept"] != steps[after]["seen"]:
                problem = f"{before} kept {steps[before]['kept']}, but {after} saw {steps[after]['seen']}"
                yield self.finding(MANIFEST_FILE, problem)

    def _compare_drops(self) -> Iterator[Finding]:
        """Compare the drops that each step counts with the lines of `drops.jsonl`."""
        listed: Counter[tuple[str, str]] = Counter()
        for number, drop in read_json_lines(self.dataset, "drops.jsonl", ("step", "reason")):
            if isinstance(drop, str):
                yield self.finding(f"drops.jsonl:{number}", f"not a drop: {drop}")
            else:
                listed[str(drop["step"]), str(drop["reason"])] += int(drop.get("things", 1))
        counted = Counter({
            (step["step"], reason): count
            for step in self.dataset.manifest["steps"]
            for reason, count in step["dropped"].items()
        })  # fmt: skip
        for step, reason in sorted(listed.keys() | counted.keys()):
            if listed[step, reason] != counted[step, reason]:
                problem = f"{counted[step, reason]} dropped as '{reason}', but drops.jsonl has {listed[step, reason]}"
                yield self.finding(f"{MANIFEST_FILE}, {step}", problem)


class MetadataCheck(Check):
    """Reports each key of the metadata that is missing or wrong. The figure is where the dataset comes from."""

    name = "metadata"
    promise = "The metadata agree with the recipe and the manifest on settings and origin."

    def finish(self) -> Iterator[Finding]:
        """Compare all keys."""
        metadata, recipe, repository = self.dataset.metadata, self.context.recipe, self.context.repository
        for key in INTEGER_METADATA_KEYS:
            if type(metadata.get(key)) is not int:
                yield self.finding(METADATA_FILE, f"{key} is {metadata.get(key)!r}, not a whole number")
        for key, value in _expected_metadata(recipe, self.dataset.manifest).items():
            if metadata.get(key) != value:
                yield self.finding(METADATA_FILE, f"{key} is {metadata.get(key)!r}, not {value!r}")
        if not metadata.get(f"{recipe.name}_version"):
            yield self.finding(METADATA_FILE, f"no {recipe.name}_version")
        row_file_count = len(self.context.first_sample_of_file)
        if row_file_count > (file_count := metadata.get("source_files") or 0):
            yield self.finding(METADATA_FILE, f"{file_count} source_files, but rows come from {row_file_count}")
        try:
            created = datetime.fromisoformat(str(metadata.get("creation_date")))
        except ValueError:
            yield self.finding(METADATA_FILE, f"creation_date is {metadata.get('creation_date')!r}, not a date")
        else:
            if repository and created != datetime.fromtimestamp(repository.committed_at, UTC):
                yield self.finding(
                    METADATA_FILE, f"creation_date is {metadata['creation_date']}, not that of the commit"
                )
        self.figure = f"{metadata.get('source_repo')}, recipe {recipe.name}"


class SplitRatioCheck(Check):
    """Reports each split whose share of the rows is off. A fallback that the build states skips the check.

    The figure is the shares. Groups of files are never cut, and their rows are only estimated when they are assigned to
    splits, so a few groups may miss the shares by more than many do. Rows that are copied by their weight count once.
    """

    name = "split_ratio"
    promise = "The splits have their shares of the rows."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._group_rows: Counter[str] = Counter()

    def check_block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Count rows by split, without copies, and by group."""
        self._rows[split] += sum(metadata.get("copy", 0) == 0 for metadata in block.metadata)
        self._group_rows.update(map(itemgetter("group"), block.metadata))
        return ()

    def finish(self) -> Iterator[Finding]:
        """Compare the shares with those of the recipe."""
        steps: dict[str, dict[str, Any]] = {step["step"]: step for step in self.dataset.manifest["steps"]}
        # Rows of weights that round to no copy at all are not in the files, but belong to the share.
        self._rows["train"] += steps.get("write", {"dropped": {}})["dropped"].get("weight", 0)
        total = sum(self._rows.values())
        shares: dict[Split, float] = {split: count / max(1, total) for split, count in self._rows.items()}
        self.figure = " / ".join(f"{share:.1%}" for share in shares.values())
        fallback = steps.get("split", {"figures": {}})["figures"].get("fallback", "none")
        if fallback != "none":
            self.skip_reason = f"{self.figure}; the build said: {fallback}"
            return
        square_sum = sum(rows**2 for rows in self._group_rows.values())
        effective_group_count = self._group_rows.total() ** 2 / max(1, square_sum)
        tolerance = max(MIN_SHARE_TOLERANCE, SHARE_TOLERANCE_FACTOR / sqrt(max(1.0, effective_group_count)))
        for split, share in shares.items():
            expected = getattr(self.context.recipe.split, split)
            if abs(share - expected) > tolerance:
                yield self.finding(self.dataset.files(split)[0].name, f"{share:.1%} of the rows, not {expected:.0%}")


def _expected_metadata(recipe: Recipe, manifest: dict[str, Any]) -> dict[str, Any]:
    """The values that follow from the recipe and the manifest."""
    steps = {step["step"]: step for step in manifest["steps"]}
    weigh = recipe.weigh
    return {
        "source_repo": f"git:{manifest.get('commit')}",
        "source_files_scanned": steps.get("read", {}).get("figures", {}).get("entries"),
        "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
        "weighting_strategy": {
            "high_priority": weigh.core, "medium_priority": weigh.utility, "low_priority": weigh.test,
            "core": weigh.core, "medium": weigh.utility, "test": weigh.test, "recent_boost": weigh.recent,
            "old_boost": weigh.old, "evolution_boost": weigh.evolution, "copies": recipe.write.copies,
        },
        "learning_strategy": recipe.order.by,
        "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
        "format": recipe.write.format,
    }  # fmt: skip

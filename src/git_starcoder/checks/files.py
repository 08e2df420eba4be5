"""Checks of the dataset's files, and of what its metadata and manifest say of the whole: counts, settings, shares."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from itertools import chain, pairwise
from math import sqrt
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from git_starcoder.checks.base import Check, manifest_row_count, read_json_lines
from git_starcoder.dataset import FIXED_FILES, MANIFEST_FILE, METADATA_FILE
from git_starcoder.dataset.folder import REPOSITORIES_FILE
from git_starcoder.dataset.write_metadata import learning_strategy
from git_starcoder.output.contents import GITIGNORE_NAME
from git_starcoder.records import SPLITS
from git_starcoder.row_layout import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.records import Finding, Split

READ_BYTES = 4 << 20
"""Bytes that are read and hashed at a time. Large, because a thread waits for the others each time it comes back."""
EMPTY_JSONL_ROW = '{"tokens":[],"metadata":}\n'
"""What a line has besides its token ids and its metadata."""
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


class FilesCheck(Check):
    """Reports each file that is missing or is a symbolic link. The figure is the number of files and their size."""

    name = "files"
    promise = "All files of the dataset exist, and none is a symbolic link."
    needs_rows = False

    def finish(self) -> Iterator[Finding]:
        """Look at each file."""
        folder = self.dataset.folder
        names = (*FIXED_FILES, REPOSITORIES_FILE) if self.dataset.is_of_many else FIXED_FILES
        paths = [*(folder / name for name in names), *chain.from_iterable(map(self.dataset.files, SPLITS))]
        for path in paths:
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield self.finding(name, "is a link: the folder cannot be moved without what it points to")
            elif not path.is_file():
                yield self.finding(name, "is missing")
        size = sum(path.stat().st_size for path in paths if path.is_file())
        self.figure = f"{len(paths)} files, {size / 1e6:,.1f} MB"


class DigestsCheck(Check):
    """Reports each file that is missing, altered or not in the manifest. The figure is the digest of all files."""

    name = "digests"
    promise = "No file was added, removed or changed after the build."
    needs_rows = False
    in_background = True

    def finish(self) -> Iterator[Finding]:
        """Hash every byte of the folder."""
        manifest, folder = self.dataset.manifest, self.dataset.folder
        listed_files = manifest["files"]
        existing_names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        for name in sorted(existing_names - listed_files.keys() - {MANIFEST_FILE, GITIGNORE_NAME}):
            yield self.finding(name, "is not in the manifest")
        for name, listed in sorted(listed_files.items()):
            if name not in existing_names:
                yield self.finding(name, "is missing")
                continue
            size, digest = _size_and_sha256(folder / name)
            if (size, digest) != (listed["bytes"], listed["sha256"]):
                yield self.finding(name, f"has other bytes than the manifest says ({size:,}, {digest[:12]})")
        digest_of_all = hashlib.sha256(orjson.dumps(listed_files, option=orjson.OPT_SORT_KEYS)).hexdigest()
        if digest_of_all != manifest.get("digest"):
            yield self.finding(MANIFEST_FILE, "its digest is not that of its files")
        self.figure = str(manifest.get("digest"))[:12]


class FileSizesCheck(Check):
    """Reports each split file that is larger or smaller than its rows need. The figure is the size of each."""

    name = "file_sizes"
    promise = "The files of the splits contain one row per line, as JSON without extra spaces."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        if self.dataset.metadata.get("format", "jsonl") != "jsonl":
            self.skip_reason = "Parquet is compressed: `digests` knows its bytes"
        self._needed_bytes: dict[Split, int] = dict.fromkeys(SPLITS, 0)

    def check_block(self, split: Split, block: RowBlock) -> None:
        """Add up the bytes of the rows as JSON lines."""
        needed = _digit_count(block.token_ids) + block.metadata_bytes
        for row in block.rows:
            needed += len(EMPTY_JSONL_ROW) + max(0, len(row.token_ids) - 1)  # a comma between each two token ids
            needed += sum(len(orjson.dumps({name: values})) - 1 for name, values in row.labels.items())
        self._needed_bytes[split] += needed

    def finish(self) -> Iterator[Finding]:
        """Compare with the sizes of the files."""
        figures: list[str] = []
        for split in SPLITS:
            paths = self.dataset.files(split)
            size = sum(path.stat().st_size for path in paths if path.exists())
            if size != (needed := self._needed_bytes[split]):
                where = paths[0].name if paths else split
                yield self.finding(where, f"{size:,} bytes, but its rows need {needed:,}")
            figures.append(f"{split} {size / 1e6:,.1f} MB")
        self.figure = ", ".join(figures)


class CountsCheck(Check):
    """Reports each count that differs from another one. The figure is what was seen, written and dropped."""

    name = "counts"
    promise = "At every step, seen = kept + dropped, and every file has as many rows as the manifest states."

    def finish(self) -> Iterator[Finding]:
        """Compare all counts."""
        steps, metadata, row_counts = self.context.steps, self.dataset.metadata, self.context.row_counts
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
        for split in SPLITS:
            listed = manifest_row_count(self.dataset, split), metadata[f"{split}_sequences"]
            for expected, source in zip(listed, (MANIFEST_FILE, METADATA_FILE), strict=True):
                if (count := row_counts[split]) != expected:
                    yield self.finding(self.dataset.files(split)[0].name, f"{count} rows, but {expected} in {source}")
        total, written = row_counts.total(), steps["write"]["kept"] + steps["write"]["figures"].get("copies", 0)
        for expected, source in ((written, MANIFEST_FILE), (metadata["total_sequences"], METADATA_FILE)):
            if total != expected:
                yield self.finding(source, f"{expected} rows in all, but the files hold {total}")
        drops = sum(sum(step["dropped"].values()) for step in steps.values())
        self.figure = f"{steps['read']['seen']:,} files seen, {total:,} rows written, {drops:,} drops with a reason"

    def _compare_steps(self, steps: Mapping[str, dict[str, Any]]) -> Iterator[Finding]:
        """Compare what a step keeps with what the next one sees."""
        changes = steps["read"]["figures"].get("changes", 0)  # changes go from read to split, past analyse
        handed = {"analyse": steps["read"]["kept"] - changes, "split": steps["analyse"]["kept"] + changes}
        for name, expected in handed.items():
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
        steps = self.context.steps.items()
        counted = Counter({(name, reason): n for name, step in steps for reason, n in step["dropped"].items()})
        for step, reason in sorted(listed.keys() | counted.keys()):
            if listed[step, reason] != counted[step, reason]:
                problem = f"{counted[step, reason]} dropped as '{reason}', but drops.jsonl has {listed[step, reason]}"
                yield self.finding(f"{MANIFEST_FILE}, {step}", problem)


class MetadataCheck(Check):
    """Reports each key of the metadata that is missing or wrong. The figure is where the dataset comes from."""

    name = "metadata"
    promise = "dataset_metadata.json states the same settings and commit as the recipe and the manifest."

    def finish(self) -> Iterator[Finding]:
        """Compare all keys."""
        metadata, recipe, repository = self.dataset.metadata, self.context.recipe, self.context.repository
        weigh = recipe.weigh
        expected = {
            "source_repo": f"git:{self.dataset.manifest.get('commit')}",
            "source_files_scanned": self.context.steps.get("read", {}).get("figures", {}).get("entries"),
            "tokenizer": "tokenizer/" if recipe.window.tokenizer == "learn" else recipe.window.tokenizer,
            "weighting_strategy": {
                "high_priority": weigh.core, "medium_priority": weigh.utility, "low_priority": weigh.test,
                "core": weigh.core, "medium": weigh.utility, "test": weigh.test, "recent_boost": weigh.recent,
                "old_boost": weigh.old, "evolution_boost": weigh.evolution, "copies": recipe.write.copies,
            },
            "learning_strategy": learning_strategy(recipe, is_of_many=self.dataset.is_of_many),
            "deduplication": {"exact": recipe.dedup.exact, "near": recipe.dedup.near},
            "format": recipe.write.format,
        }  # fmt: skip
        for key in INTEGER_METADATA_KEYS:
            if type(metadata.get(key)) is not int:
                yield self.finding(METADATA_FILE, f"{key} is {metadata.get(key)!r}, not a whole number")
        yield from self.metadata_findings(expected, "{key} is {actual!r}, not {expected!r}")
        if not metadata.get(f"{recipe.name}_version"):
            yield self.finding(METADATA_FILE, f"no {recipe.name}_version")
        row_file_count = len(self.context.first_sample_of_file)
        if row_file_count > (file_count := metadata.get("source_files") or 0):
            yield self.finding(METADATA_FILE, f"{file_count} source_files, but rows come from {row_file_count}")
        creation_date = metadata.get("creation_date")
        try:
            created = datetime.fromisoformat(str(creation_date))
        except ValueError:
            yield self.finding(METADATA_FILE, f"creation_date is {creation_date!r}, not a date")
        else:
            if repository and created != datetime.fromtimestamp(repository.committed_at, UTC):
                yield self.finding(METADATA_FILE, f"creation_date is {creation_date}, not that of the commit")
        self.figure = f"{metadata.get('source_repo')}, recipe {recipe.name}"


class SplitRatioCheck(Check):
    """Reports each split whose share of the rows is off. A fallback that the build states skips the check.

    The figure is the shares. Groups of files are never cut, and their rows are only estimated when they are assigned to
    splits, so a few groups may miss the shares by more than many do. Rows that are copied by their weight count once.
    """

    name = "split_ratio"
    promise = "Each split has about the share of the rows that the recipe sets."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self._group_rows: Counter[str] = Counter()

    def check_block(self, split: Split, block: RowBlock) -> None:
        """Count rows by split, without copies, and by group."""
        self._rows[split] += sum(metadata.get("copy", 0) == 0 for metadata in block.metadata)
        self._group_rows.update(map(itemgetter("group"), block.metadata))

    def finish(self) -> Iterator[Finding]:
        """Compare the shares with those of the recipe."""
        steps = self.context.steps
        # Rows of weights that round to no copy at all are not in the files, but belong to the share.
        self._rows["train"] += steps.get("write", {"dropped": {}})["dropped"].get("weight", 0)
        total = sum(self._rows.values())
        shares: dict[Split, float] = {split: count / max(1, total) for split, count in self._rows.items()}
        self.figure = " / ".join(f"{share:.1%}" for share in shares.values())
        holdout = self.context.recipe.split.holdout
        if holdout == "none":
            for split in SPLITS[1:]:
                if count := self._rows[split]:
                    problem = f"{count:,} rows, but the recipe holds out nothing"
                    yield self.finding(self.dataset.files(split)[0].name, problem)
            return
        if holdout == "commits":
            self.skip_reason = f"{self.figure}; the recipe holds out commits, and not a share of the rows"
            return
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


def _size_and_sha256(path: Path) -> tuple[int, str]:
    digest, buffer, size = hashlib.sha256(), bytearray(READ_BYTES), 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            size += count
    return size, digest.hexdigest()


def _digit_count(token_ids: np.ndarray[tuple[int], np.dtype[np.uint32]]) -> int:
    """Count the decimal digits of all token ids: [7, 42, 310] has 6."""
    power, count = 10, len(token_ids)
    while len(token_ids) and (longer := int(np.count_nonzero(token_ids >= power))):
        count += longer
        power *= 10
    return count

"""Checks of windows: their sizes and places, and the order of the curriculum."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING

from git_starcoder.checks.contract import READING_ORDER, Check
from git_starcoder.layout import FIM_SENTINELS, window_stride

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_starcoder.checks.contract import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.records import Finding, Split

OPENING_ROWS = 100
"""The first rows of training, which a person sees who opens the file."""
COMMON_SIZE_SHARE = 0.1
"""A window size with this share of the first stage's rows must be among the opening rows: by chance 100 rows miss it
once in 40,000 datasets."""
STAGE_COUNT = 3
COMPLEXITY_TOLERANCE = 1e-4
"""Complexities are written with four decimals."""


class ContextWindowCheck(Check):
    """Reports each window of a wrong size or place. The figure is the primary window and its overlap.

    Window i begins at i strides, or up to half a stride earlier (at an item of the syntax tree, or at the text's end).
    """

    name = "context_window"
    promise = "Windows have the recipe's sizes and overlap, and begin where their number says."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._window = context.recipe.window
        self._strides = {size: window_stride(size, self._window.overlap) for size in self._window.sizes}

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
        window = self._window
        overlap = round(window.primary * window.overlap)
        yield from self.metadata_findings({
            "context_windows": list(window.sizes),
            "primary_window": window.primary,
            "max_tokens_per_sequence": max(window.sizes),
            "overlap_tokens": overlap,
        })  # fmt: skip
        self.figure = f"{window.primary:,} tokens, {overlap:,} of them overlap"


class ScalesCheck(Check):
    """Reports each window size that is missing although texts are longer. The figure is the rows of each size."""

    name = "scales"
    promise = "Every window size has rows where texts are long enough, and the first rows of training show several."

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

    def check_block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
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
        return ()

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
    promise = "Rows go from simple to complex, and from small to large windows, in three stages."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        if context.recipe.order.by != "curriculum":
            self.skip_reason = "the recipe wants a random order"
        sizes: list[int] = context.dataset.metadata["context_windows"]
        self._highest_so_far = {split: {size: [0.0] * (STAGE_COUNT + 1) for size in sizes} for split in READING_ORDER}
        """Split → window size → by stage, from 0, the highest complexity in it or an earlier one."""
        self._latest_stage = dict.fromkeys(READING_ORDER, 1)
        self._lowest: list[float] = [1.0] * STAGE_COUNT
        self._highest: list[float] = [0.0] * STAGE_COUNT

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compare the stage and the complexity of each row with those of the rows before it."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            stage, size, complexity = metadata.get("stage", 0), metadata["window_size"], metadata["complexity"]
            highest = self._highest_so_far[split].get(size)
            if not 1 <= stage <= STAGE_COUNT or highest is None:
                yield self.row_finding(split, row, f"stage {stage} of windows of {size}")
                continue
            if stage < self._latest_stage[split]:
                yield self.row_finding(split, row, f"stage {stage} behind rows of stage {self._latest_stage[split]}")
            elif stage > self._latest_stage[split]:
                self._latest_stage[split] = stage
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

    def finish(self) -> Iterable[Finding]:
        """Set the figure."""
        ranges = (f"{low:.2f}-{high:.2f}" for low, high in zip(self._lowest, self._highest, strict=True))
        self.figure = f"complexity of training {', '.join(ranges)}"
        return ()

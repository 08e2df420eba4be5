"""Windows have the recipe's sizes and overlap, and begin where their number says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.checks import place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_context_window_size",)
SENTINELS = 4
"""Control tokens of a masked row."""


class Check:
    """A finding for each window of another size or place; the figure is the primary window and its overlap.

    Window i begins at i strides, or up to half a stride earlier (at an item of the syntax tree, or at the text's end).
    """

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._window = given.recipe.window
        self._sizes = frozenset(self._window.sizes)
        self._strides = {size: max(1, round(size * (1 - self._window.overlap))) for size in self._sizes}
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Their sizes and where they begin."""
        for row, said in zip(block.rows, block.metadata, strict=True):
            size, index, start = said["window_size"], said["chunk_index"], said["token_start"]
            if size not in self._sizes:
                what = f"window_size {size} is not one of {sorted(self._sizes)}"
                yield Finding("context_window", place(self._dataset, split, row), what)
                continue
            if index == start == 0:
                continue
            room = size - row.context_length - (SENTINELS if "hole" in said else 0)
            stride = min(self._strides[size], room)
            latest = index * stride
            earliest = latest - min(stride // 2, max(0, room - stride)) if index else 0
            if not earliest <= start <= latest:
                what = f"window {index} begins at token {start}, not from {earliest} to {latest}"
                yield Finding("context_window", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """The settings."""
        window = self._window
        overlap = round(window.primary * window.overlap)
        for key, value in (
            ("context_windows", list(window.sizes)),
            ("primary_window", window.primary),
            ("max_tokens_per_sequence", max(window.sizes)),
            ("overlap_tokens", overlap),
        ):
            if self._dataset.metadata.get(key) != value:
                what = f"{key} is {self._dataset.metadata.get(key)}, not {value}"
                yield Finding("context_window", "dataset_metadata.json", what)
        self.figure = f"{window.primary:,} tokens, {overlap:,} of them overlap"

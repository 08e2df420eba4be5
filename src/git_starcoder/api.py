"""The part of the public Python API that is not simply re-exported: `show` and `Model`.

Everything here is thin: it calls the functions behind `git starcoder show` and `git starcoder complete`, and returns
typed objects instead of printing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from git_starcoder.records import SPLITS

if TYPE_CHECKING:
    from git_starcoder.cli.lookup import Gone
    from git_starcoder.cli.row import Shown
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.network import Network
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer


class RowCount(NamedTuple):
    """A number of rows that have something in common."""

    path: str
    """The file that they come from; empty where all files are counted together."""
    split: Split
    technique: str
    """What made them: `base` or the name of an augmentation."""
    window_size: int
    """Tokens of each row."""
    rows: int


class DropCount(NamedTuple):
    """A number of things that a step saw and did not pass on, for one reason."""

    step: str
    reason: str
    drops: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What is in a dataset: the answer of `show(dataset)`."""

    splits: dict[Split, int]
    """Rows of each split."""
    rows: tuple[RowCount, ...]
    """Rows by split, technique and window size."""
    drops: tuple[DropCount, ...]
    """What was dropped, by step and reason."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What became of a file or of a commit: the answer of `show(dataset, path)` and of `show(dataset, commit)`."""

    path: str
    """The file; empty where a commit was asked for."""
    commit: str
    """The commit; empty where a file was asked for."""
    rows: tuple[RowCount, ...]
    """Its rows in the dataset."""
    drops: tuple[Gone, ...]
    """What was dropped of it, with step and reason."""


def show(dataset: Dataset | str | Path, what: str | None = None) -> Overview | Origin | Shown:
    """Show what is in a dataset, a row, or what became of a file or commit.

    Args:
        dataset: A dataset or its folder.
        what: Nothing for an overview; `train:17` or the beginning of a row id for a row; else a path or a commit.

    Returns:
        An `Overview`, an `Origin`, or for a row its text and where it comes from.

    Raises:
        DatasetError: the folder is not a dataset, or it is damaged.
        UsageError: nothing in the dataset has this name.

    """
    from git_starcoder.cli import lookup, row
    from git_starcoder.dataset import Dataset

    if not isinstance(dataset, Dataset):
        dataset = Dataset.open(dataset)
    if what is None:
        counts = lookup.table(dataset)
        rows = tuple(
            RowCount("", cast("Split", split), technique, size, count)
            for (split, technique, size), count in sorted(counts.items())
        )
        splits: dict[Split, int] = {split: sum(each.rows for each in rows if each.split == split) for split in SPLITS}
        drops = Counter[tuple[str, str]]()
        for drop in lookup.drops(dataset):
            drops[drop.step, drop.reason] += drop.things
        return Overview(splits, rows, tuple(DropCount(*key, count) for key, count in sorted(drops.items())))
    found = lookup.find(dataset, what)
    if not isinstance(found, lookup.Found):
        return row.describe(dataset, found)
    matching = found.of_path if found.path else found.of_commit
    counted = tuple(
        RowCount(path, cast("Split", split), technique, size, count)
        for (path, split, technique, size), count in sorted(matching.by.items())
    )
    return Origin(found.path, "" if found.path else min(found.commits), counted, tuple(found.drops))


class Model:
    """A trained model, loaded once."""

    def __init__(self, folder: Path, network: Network, tokenizer: Tokenizer) -> None:
        self.folder = folder
        """The folder that the model was loaded from."""
        self._network = network
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Load the model in a folder. Only safetensors are read, and no code of the folder is run.

        Raises:
            DatasetError: it is not a model folder, or it is damaged.
            MissingExtraError: the extra `train` is not installed.

        """
        from git_starcoder.model.load import load

        return cls(Path(folder), *load(folder))

    def complete(
        self,
        text: str | bytes,
        *,
        suffix: str | bytes | None = None,
        max_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        """The text that the model writes after `text`, or between it and `suffix`.

        Args:
            text: The beginning; if it is too long for the context, its start is cut.
            suffix: The end, where a gap is to be filled.
            max_tokens: Largest number of tokens to write.
            temperature: 0 takes the likeliest token every time; above 0 tokens are sampled.
            seed: Seed of the sampling.

        Raises:
            UsageError: a number is out of range, the text is not text, or the tokenizer has no fill-in-the-middle
                tokens for a suffix.

        """
        from git_starcoder.model.complete import write_completion

        return write_completion(
            self._network, self._tokenizer, text, suffix=suffix, max_tokens=max_tokens, temperature=temperature,
            seed=seed,
        )  # fmt: skip

    def bits_per_byte(self, text: str | bytes) -> float:
        """The bits that the model needs to predict a byte of a text: lower is better; 8 is no knowledge at all.

        To score held-out files of a dataset, with baselines and confidence intervals, use `evaluate`.

        Raises:
            UsageError: the text is empty, or not text.

        """
        import numpy as np

        from git_starcoder.errors import UsageError
        from git_starcoder.evals import Document, surprise
        from git_starcoder.model.complete import text_of

        data = text_of(text, "the text")
        if not data:
            raise UsageError("an empty text has no bits per byte", where="bits_per_byte")
        tokens = self._tokenizer.encode([data])[0].astype(np.int32)
        bits = surprise(self._network, [Document("", "text", "", 0, tokens)], self._tokenizer.end_id)
        return float(bits[0]) / len(data)

"""A shelf: every other file here is one of the checks, each a promise that a dataset keeps or breaks.

A check is `check(dataset) -> Generator[Finding, None, str | Skip]`: it yields what is wrong and returns a figure
for the table, or why the dataset cannot have what it looks for. Checks stream: memory grows with the number of rows at
most, never with their tokens.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder import shelf
from git_starcoder.errors import DatasetError
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.rows import Split

SHOWN = 20
"""Findings of one check that are kept; all are counted."""
FIRST = "rows"
"""The check that all others rest upon: they read keys that it has seen."""


class Skip(NamedTuple):
    """What a check returns where a dataset cannot have what it looks for."""

    reason: str


@dataclass(slots=True)
class Outcome:
    """What a check came to."""

    check: str
    promise: str
    """First line of the check's docstring."""
    found: int = 0
    """How many findings there are."""
    findings: list[Finding] = field(default_factory=list[Finding])
    """The first of them."""
    figure: str = ""
    skipped: bool = False
    """The figure is then the reason."""


def check(dataset: Dataset) -> Iterator[Outcome]:
    """Run every check of the shelf, one after another; if rows are not formed as promised, the others are skipped.

    Raises:
        DatasetError: the manifest or the metadata does not say what it must.

    """
    _require(dataset)
    formed = True
    for key in names():
        outcome = Outcome(key, shelf.describe("checks", key))
        if formed:
            _collect(shelf.load("checks", key).check(dataset), outcome)
        else:
            outcome.figure, outcome.skipped = f"'{FIRST}' is broken", True
        formed = formed and not (key == FIRST and outcome.found)
        yield outcome


def names() -> list[str]:
    """The checks in the order in which they run."""
    return sorted(shelf.names("checks"), key=lambda key: (key != FIRST, key))


def content(row: Row) -> bytes:
    """A hash of the row's tokens: equal rows have equal hashes."""
    return blake2b(array("I", row.tokens), digest_size=16).digest()


def place(dataset: Dataset, split: Split, row: Row) -> str:
    """Where a row lies, for a finding."""
    return dataset.place(split, row.metadata["seq_id"])


def written(dataset: Dataset, split: Split) -> int:
    """How many rows of a split the manifest says that the build wrote."""
    names = [path.relative_to(dataset.folder).as_posix() for path in dataset.files(split)]
    return sum(dataset.manifest["files"][name]["rows"] for name in names)


def _collect(findings: Generator[Finding, None, str | Skip], outcome: Outcome) -> None:
    while True:
        try:
            finding = next(findings)
        except StopIteration as end:
            outcome.skipped = isinstance(end.value, Skip)
            outcome.figure = end.value.reason if isinstance(end.value, Skip) else end.value
            return
        outcome.found += 1
        if len(outcome.findings) < SHOWN:
            outcome.findings.append(finding)


def _require(dataset: Dataset) -> None:
    """What every check reads must be there: someone may have edited the files."""
    try:
        for step in dataset.manifest["steps"]:
            _ = step["step"], step["seen"] + step["kept"] + sum(step["dropped"].values()), step["figures"].get
        for file in dataset.manifest["files"].values():
            _ = file["bytes"] + 0, file["sha256"] + ""
        for split in SPLITS:
            _ = written(dataset, split) + 0
            _ = dataset.metadata[f"{split}_sequences"] + 0
        _ = dataset.metadata["total_sequences"] + dataset.metadata["vocab_size"]
        _ = [*dataset.metadata["context_windows"], *dataset.metadata["augmentation_techniques"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"'{dataset.folder}' is damaged: {error}", where="manifest.json, dataset_metadata.json"
        ) from error

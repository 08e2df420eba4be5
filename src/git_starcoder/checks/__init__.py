"""A shelf: every other file here is one of the checks, each a promise that a dataset keeps or breaks.

A check is a module with `SEEDS`, the names of the seeds' tests that it answers for, and a class `Check` (see below).
All rows are read once and handed to all checks. What a check remembers may grow with the number of rows, never with
their tokens.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
import orjson

from git_starcoder import shelf
from git_starcoder.dataset import Row
from git_starcoder.errors import DatasetError
from git_starcoder.rows import Finding
from git_starcoder.seams import SILENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split
    from git_starcoder.seams import Watch

SHOWN = 20
"""Findings of one check that are kept; all are counted."""
FIRST = "rows"
"""The check that sees each row first: the others rest upon the keys and types that it has seen."""
ORDER: tuple[Split, ...] = ("val", "test", "train")
"""Splits as they are read: what is held out comes first, so that training can be compared with it."""

_FORMATS = (
    "test_dataset_directory_exists", "test_metadata_file_exists", "test_metadata_content", "test_train_file_exists",
    "test_val_file_exists", "test_train_file_format", "test_val_file_format", "test_sequence_token_count",
    "test_sequence_metadata", "test_dataset_split_ratio", "test_augmentation_diversity",
)  # fmt: skip
SEEDED: dict[str, tuple[str, ...]] = {
    "effectiveness": (
        *_FORMATS, "test_context_window_size", "test_weighting_strategy", "test_curriculum_learning",
        "test_no_duplicate_sequences", "test_file_sizes", "test_augmentation_types_present",
    ),
    "elite": (
        *_FORMATS, "test_git_history_integration", "test_function_signatures_extracted", "test_dependency_graph_built",
        "test_multi_scale_contexts", "test_elite_augmentation_types", "test_git_diff_sequences", "test_smart_weighting",
        "test_temporal_weighting", "test_evolution_weighting", "test_semantic_deduplication",
        "test_curriculum_learning", "test_no_duplicate_sequences", "test_file_sizes",
    ),
}  # fmt: skip
"""Names of the seeds' tests: the 17 of the first; the 12 that the second names, and 12 that its features ask for."""


class Skip(NamedTuple):
    """The figure of a check where the dataset cannot have what it looks for."""

    reason: str


class Checked(Row):
    """A row on its way past the checks, with what several of them ask of it worked out once."""

    labels: dict[str, Any]
    """Its `input_ids`, `attention_mask` and `labels`, if it has them."""

    @cached_property
    def ids(self) -> NDArray[np.uint32]:
        """The tokens, padding included, shape (window_size,).

        Raises:
            TypeError, OverflowError: they are no token ids.
        """
        return np.frombuffer(array("I", self.tokens), dtype=np.uint32)

    @cached_property
    def content(self) -> bytes:
        """A hash of the tokens: equal rows have equal hashes."""
        return blake2b(self.ids.data, digest_size=16).digest()


class Check(Protocol):
    """One check over one dataset: `row` for every row, then `end`.

    `row(split, number, row) -> Iterator[Finding]` gets a `Checked` row and its number in its split, from 0; splits come
    in `ORDER`, rows in the order of the file. A check that needs no rows does not have it.
    """

    figure: str | Skip
    """For the table; valid after `end`. A `Skip` that is there from the start ends the check before any row."""

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:
        """Begin. `source` is the repository that the dataset is said to be made from, if it is at hand."""
        ...

    def end(self) -> Iterator[Finding]:
        """What is wrong with all of it."""
        ...


@dataclass(slots=True)
class Outcome:
    """What a check came to."""

    check: str
    promise: str
    """First line of the check's docstring."""
    seeds: tuple[str, ...] = ()
    """Names of the seeds' tests that it answers for."""
    found: int = 0
    """How many findings there are."""
    findings: list[Finding] = field(default_factory=list[Finding])
    """The first of them."""
    figure: str = ""
    skipped: bool = False
    """The figure is then the reason."""
    certificate: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the check has for the leak certificate: see `leak.certificate`."""

    def collect(self, findings: Iterator[Finding]) -> None:
        """Count findings, keep the first."""
        for finding in findings:
            self.found += 1
            if len(self.findings) < SHOWN:
                self.findings.append(finding)

    def end(self, check: Check) -> None:
        """The last findings; a file of the folder that cannot be read is one."""
        try:
            self.collect(check.end())
        except DatasetError as error:
            self.collect(iter([Finding(self.check, error.where, error.what)]))

    def skip(self, reason: str) -> None:
        """Say why there is neither a pass nor a finding."""
        self.figure, self.skipped, self.found, self.findings = reason, True, 0, []


def check(dataset: Dataset, source: Repo | None = None, watch: Watch = SILENT) -> Iterator[Outcome]:
    """Run every check of the shelf over one reading of the rows.

    If rows are not formed as promised, the checks that would read their keys are skipped.

    Raises:
        DatasetError: the manifest or the metadata does not say what it must.

    """
    _require(dataset)
    watch.begin("check", sum(int(dataset.metadata[f"{split}_sequences"]) for split in ORDER))
    outcomes: list[Outcome] = []
    checks: list[Check] = []
    for key in names():
        outcomes.append(Outcome(key, shelf.describe("checks", key), shelf.load("checks", key).SEEDS))
        checks.append(shelf.load("checks", key).Check(dataset, source))
    readers = [
        (outcome, cast("Any", each).row)
        for outcome, each in zip(outcomes, checks, strict=True)
        if hasattr(each, "row") and not isinstance(getattr(each, "figure", None), Skip)
    ]
    _read(dataset, readers, watch)
    first = outcomes[0]
    for outcome, each in zip(outcomes, checks, strict=True):
        if first.found and outcome is not first and hasattr(each, "row"):
            outcome.skip(f"'{FIRST}' is broken")
        elif isinstance(figure := getattr(each, "figure", None), Skip):
            outcome.skip(figure.reason)
        else:
            outcome.end(each)
            outcome.certificate = getattr(each, "certificate", {})
            if isinstance(each.figure, Skip) and not outcome.found:
                outcome.skip(each.figure.reason)
            else:
                outcome.figure = each.figure.reason if isinstance(each.figure, Skip) else each.figure
        yield outcome


def _read(
    dataset: Dataset, readers: list[tuple[Outcome, Callable[[Split, int, Checked], Iterator[Finding]]]], watch: Watch
) -> None:
    """Hand every row to all that want it; to the first alone once it has found something."""
    first, first_row = readers[0]
    others = readers[1:]
    for split in ORDER:
        try:
            for number, (plain, labels) in enumerate(dataset.labelled(split)):
                row = Checked(*plain)
                row.labels = labels
                first.collect(first_row(split, number, row))
                if not first.found:
                    for outcome, function in others:
                        outcome.collect(function(split, number, row))
                watch.advance(1)
        except DatasetError as error:
            first.collect(iter([Finding(FIRST, error.where, error.what)]))


def names() -> list[str]:
    """The checks in the order in which they run."""
    return sorted(shelf.names("checks"), key=lambda key: (key != FIRST, key))


def place(dataset: Dataset, split: Split, row: Row) -> str:
    """Where a row lies, for a finding."""
    return dataset.place(split, row.metadata["seq_id"])


def written(dataset: Dataset, split: Split) -> int:
    """How many rows of a split the manifest says that the build wrote."""
    names = [path.relative_to(dataset.folder).as_posix() for path in dataset.files(split)]
    return sum(dataset.manifest["files"][name]["rows"] for name in names)


def objects(dataset: Dataset, name: str, keys: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The lines of a JSONL file of the folder by their number, from 1: objects with those keys, or what is wrong.

    A file that is not there has what is wrong on line 0.
    """
    try:
        with (dataset.folder / name).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    values = orjson.loads(line)
                    missing = [key for key in keys if key not in values]
                except (orjson.JSONDecodeError, TypeError) as error:
                    yield number, str(error)
                else:
                    wrong = f"no {missing[0]}" if missing else "not an object"
                    yield number, cast("dict[str, Any]", values) if isinstance(values, dict) and not missing else wrong
    except OSError as error:
        yield 0, str(error.strerror).lower()


def _require(dataset: Dataset) -> None:
    """What every check reads must be there: someone may have edited the files."""
    try:
        for step in dataset.manifest["steps"]:
            _ = step["step"], step["seen"] + step["kept"] + sum(step["dropped"].values()), step["figures"].get
        for file in dataset.manifest["files"].values():
            _ = file["bytes"] + 0, file["sha256"] + ""
        for split in ORDER:
            _ = written(dataset, split) + 0
            _ = dataset.metadata[f"{split}_sequences"] + 0
        _ = dataset.metadata["total_sequences"] + dataset.metadata["vocab_size"]
        _ = [*dataset.metadata["context_windows"], *dataset.metadata["augmentation_techniques"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"'{dataset.folder}' is damaged: {error}", where="manifest.json, dataset_metadata.json"
        ) from error

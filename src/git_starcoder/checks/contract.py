"""What a check is: the base class `Check`, and `CheckContext`, which computes once what several checks need."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import orjson

from git_starcoder.dataset import METADATA_FILE
from git_starcoder.dataset.samples import RebuiltSamples
from git_starcoder.git.objects import FOLDER_MODE
from git_starcoder.hashing.lines import HashedLines
from git_starcoder.hashing.near_duplicates import CopyPairs, find_copies
from git_starcoder.hashing.shingles import TextShingles
from git_starcoder.layout import BASE
from git_starcoder.protocols import Failure
from git_starcoder.recipe import Recipe
from git_starcoder.records import Finding, printable_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.read_blocks import BulkRow, RowBlock
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.history import LastChange
    from git_starcoder.git.objects import Repo
    from git_starcoder.protocols import Engine
    from git_starcoder.records import Split

Input = TypeVar("Input")
Output = TypeVar("Output")

READING_ORDER: tuple[Split, ...] = ("val", "test", "train")
"""The order in which splits are read: held-out splits first, so that training rows can be compared with them."""
CHECK_TASK_TIMEOUT_SECONDS = 60.0
"""A worker that needs more processor time for one task is considered hung; usual tasks take less than a second."""
TOKENS_PER_TASK = 1 << 16
"""Tokens of samples that a worker hashes at a time, about: enough that sending them costs little."""


class SimilarFiles(NamedTuple):
    """The files of a dataset and which of them are alike. The numbers in `pairs` are indices into `files`."""

    files: list[RebuiltSample]
    pairs: CopyPairs


@dataclass(frozen=True)
class CheckContext:
    """What is checked, and results that several checks share; each is computed at its first use."""

    dataset: Dataset
    repository: Repo | None = None
    """The repository at the commit that the dataset was built from, if the user gave it and it can be read."""
    repository_problem: str = ""
    """Why the repository that the user gave cannot be used; empty if it can, or if there is none."""
    engine: Engine | None = None
    """Worker processes that read rows ahead and run tasks of checks; without it this process does everything."""
    _lock: Lock = field(default_factory=Lock)

    def run_tasks(self, function: Callable[[Input], Output], tasks: Iterable[Input]) -> Iterator[Output | Failure]:
        """Apply an importable function to each task in worker processes, results in order; one check at a time."""
        with self._lock:
            if self.engine:
                yield from self.engine.map(function, tasks, limit=CHECK_TASK_TIMEOUT_SECONDS)
            else:
                yield from map(function, tasks)

    def run_safe_tasks(self, function: Callable[[Input], Output], tasks: Iterable[Input]) -> Iterator[Output]:
        """Do the same with a function that can neither crash nor hang: this process repeats what a worker failed at."""
        pending: deque[Input] = deque()

        def remembered_tasks() -> Iterator[Input]:
            for task in tasks:
                pending.append(task)
                yield task

        for result in self.run_tasks(function, remembered_tasks()):
            task = pending.popleft()
            yield function(task) if isinstance(result, Failure) else result

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the dataset was built with."""
        return Recipe.load(self.dataset.folder / "recipe.yaml")

    @cached_property
    def samples(self) -> RebuiltSamples:
        """The samples that the rows were cut from, put together again; complete once all rows are read."""
        return RebuiltSamples(self.dataset)

    @cached_property
    def first_sample_of_file(self) -> Mapping[str, RebuiltSample]:
        """For each file its first sample that no change made; complete once all rows are read."""
        samples: dict[str, RebuiltSample] = {}
        for sample in self.samples.by_id.values():
            if not sample.metadata.get("is_evolution"):
                samples.setdefault(sample.metadata["source_file"], sample)
        return samples

    @cached_property
    def similar_files(self) -> SimilarFiles:
        """The files that rows show in full, and which of them are alike by the recipe's threshold (`split.near`)."""
        base_samples = (
            sample for sample in self.samples.by_id.values() if sample.metadata["augmentation_type"] == BASE
        )
        texts = ((sample, self.samples.full_text(sample)) for sample in base_samples)
        files = [(sample, text) for sample, text in texts if text is not None and text.strip()]
        shingles, lines = (
            TextShingles.from_texts(text for _, text in files),
            HashedLines.from_texts(text for _, text in files),
        )
        return SimilarFiles([sample for sample, _ in files], find_copies(shingles, lines, self.recipe.split.near))

    @cached_property
    def last_changes(self) -> Mapping[str, LastChange]:
        """For each path of the repository the last commit that changed it; empty without a repository."""
        return self.repository.last_changes() if self.repository else {}

    @cached_property
    def history_problem(self) -> str:
        """Why the history may differ from the one that the dataset was built from; empty if it is the same."""
        if self.repository:
            _ = self.last_changes  # walks the history, which sets `partial`
            if self.repository.incomplete_reason:
                return self.repository.incomplete_reason
        return "the dataset was made from a part of the history" if self.dataset.manifest.get("shallow") else ""

    @cached_property
    def has_unsure_renames(self) -> bool:
        """Whether a file that is a rename here may be a new file in the dataset, or the other way round."""
        _ = self.last_changes  # walks the history, which sets `unsure_renames`
        is_unsure_here = self.repository is not None and self.repository.has_uncertain_renames
        return is_unsure_here or bool(self.dataset.manifest.get("unsure_renames"))

    @cached_property
    def unreadable_folders(self) -> tuple[str, ...]:
        """Folders of the repository that cannot be read, each ending with a slash: what is in them is unknown."""
        entries = self.repository.entries() if self.repository else []
        return tuple(printable_path(entry.path) for entry in entries if entry.mode == FOLDER_MODE and entry.unreadable)


class Check:
    """One promise about a dataset. A subclass sets `name` and `promise` and overrides the hooks that it needs.

    All rows are read once, in blocks and in `READING_ORDER`. Each block goes to `check_block` of every check, and after
    the last one `finish` is called. Whole texts are in `self.samples`, which is complete in `finish`.
    What a check remembers may grow with the number of rows, but not with the number of their tokens.

    A check with `in_background` finishes in a second thread, while others finish in the first. It may ask for tokens,
    texts, files and workers, but not for the repository, which is read by one thread only.
    """

    name: ClassVar[str]
    """The key that users see, and the first field of each finding."""
    promise: ClassVar[str]
    """One sentence for users: what is true of a dataset that passes."""
    needs_rows: ClassVar[bool] = True
    """Whether the check reads rows or samples. If so, it is skipped where the check `rows` finds malformed rows."""
    in_background: ClassVar[bool] = False
    """Whether `finish` runs in a second thread; if the check needs no rows, from the start."""

    def __init__(self, context: CheckContext) -> None:
        self.context = context
        self.dataset = context.dataset
        self.figure = ""
        """A short result for the table, such as "12 of 340 rows"; valid after `finish`."""
        self.skip_reason = ""
        """Why the dataset cannot have what the check looks for. If set in `__init__`, no hook is called; if set in
        `finish`, the check is skipped unless it has found something."""
        self.certificate: dict[str, Any] = {}
        """What the check contributes to the leak certificate: see `Outcome.certificate`."""

    @property
    def samples(self) -> RebuiltSamples:
        """The samples that the rows were cut from."""
        return self.context.samples

    def check_block(self, split: Split, block: RowBlock) -> Iterable[Finding]:  # noqa: ARG002
        """Return findings for some consecutive rows of a split."""
        return ()

    def finish(self) -> Iterable[Finding]:
        """Return findings that need all rows, and set `figure`. A `DatasetError` becomes a finding."""
        return ()

    def finding(self, where: str, problem: str) -> Finding:
        """A finding in a file, or in a line of it (`drops.jsonl:7`)."""
        return Finding(self.name, where, problem)

    def row_finding(self, split: Split, row: BulkRow, problem: str) -> Finding:
        """A finding in a row."""
        return Finding(self.name, self.dataset.row_location(split, row.index), problem)

    def sample_finding(self, sample: RebuiltSample, problem: str) -> Finding:
        """A finding in a sample, which is reported at its first row."""
        return Finding(self.name, self.dataset.row_location(sample.split, sample.first_row), problem)

    def metadata_findings(self, expected: Mapping[str, Any]) -> Iterator[Finding]:
        """A finding for each key whose value in `dataset_metadata.json` is not the expected one."""
        for key, value in expected.items():
            actual = self.dataset.metadata.get(key)
            if actual != value:
                yield self.finding(METADATA_FILE, f"{key} is {actual}, not {value}")


def sample_batches(samples: Iterable[RebuiltSample]) -> Iterator[list[RebuiltSample]]:
    """Samples in lists of about `TOKENS_PER_TASK` tokens."""
    batch: list[RebuiltSample] = []
    token_count = 0
    for sample in samples:
        batch.append(sample)
        token_count += len(sample.context_prefix) + sample.length
        if token_count >= TOKENS_PER_TASK:
            yield batch
            batch, token_count = [], 0
    if batch:
        yield batch


def manifest_row_count(dataset: Dataset, split: Split) -> int:
    """How many rows of a split the build wrote, as the manifest says."""
    paths = [path.relative_to(dataset.folder).as_posix() for path in dataset.files(split)]
    return sum(dataset.manifest["files"][path]["rows"] for path in paths)


def read_json_lines(
    dataset: Dataset, file_name: str, required_keys: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Read a JSONL file of the dataset's folder.

    Returns:
        Line numbers from 1, each with the object of the line, or with a text that says what is wrong with it. A file
        that cannot be opened gives line 0 with the reason.
    """
    try:
        with (dataset.folder / file_name).open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    values = orjson.loads(line)
                    missing_keys = [key for key in required_keys if key not in values]
                except (orjson.JSONDecodeError, TypeError) as error:
                    yield number, str(error)
                    continue
                if missing_keys:
                    yield number, f"no {missing_keys[0]}"
                elif isinstance(values, dict):
                    yield number, cast("dict[str, Any]", values)
                else:
                    yield number, "not an object"
    except OSError as error:
        yield 0, str(error.strerror).lower()

"""What a check is (`Check`), and what checks share (`CheckContext`)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from itertools import tee
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import orjson

from git_starcoder.dataset import MANIFEST_FILE, METADATA_FILE
from git_starcoder.dataset.samples import RebuiltSamples
from git_starcoder.errors import DatasetError, RevisionError
from git_starcoder.git.objects import FOLDER_MODE, Repo
from git_starcoder.hashing.near_duplicates import CopyPairs, find_copies
from git_starcoder.hashing.texts import HashedLines, TextShingles
from git_starcoder.protocols import Failure
from git_starcoder.records import Finding, printable_path
from git_starcoder.row_layout import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.read_blocks import BulkRow, RowBlock
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.history import LastChange
    from git_starcoder.protocols import Engine
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Split

Input = TypeVar("Input")
Output = TypeVar("Output")

READING_ORDER: tuple[Split, ...] = ("val", "test", "train")
"""The order in which splits are read: held-out splits first, so that training rows can be compared with them."""
CHECK_TASK_TIMEOUT_SECONDS = 60.0
"""A worker that needs more processor time for one task is considered hung; usual tasks take less than a second."""
TOKENS_PER_TASK = 1 << 16
"""Tokens of samples that a worker hashes at a time, about: enough that sending them costs little."""
SIMILARITY_TOLERANCE = 0.02
"""How much more similar than the recipe's threshold files must be to count as alike. Boilerplate is what many files
have, and a build counts files that it drops later. So it may find a pair slightly less similar."""


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
    row_counts: Counter[Split] = field(default_factory=Counter["Split"])
    """Rows of each split that have been read."""
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
        tasks, repeatable_tasks = tee(tasks)
        for result, task in zip(self.run_tasks(function, tasks), repeatable_tasks, strict=True):
            yield function(task) if isinstance(result, Failure) else result

    @cached_property
    def training_repository(self) -> Repo | None:
        """The repository at the commit that training sees: that of the dataset, or a past one if commits are held out.

        None without a repository.
        """
        past = self.dataset.manifest.get("past_commit")
        if self.repository is None or past is None:
            return self.repository
        try:
            return Repo.open(self.repository.path, str(past))
        except RevisionError as error:
            raise DatasetError(f"the repository lacks the past commit: {error.what}", where=MANIFEST_FILE) from error

    def repository_of(self, sample: RebuiltSample) -> Repo | None:
        """The repository at the commit that a sample is from."""
        return self.training_repository if sample.split == "train" else self.repository

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that the dataset was built with."""
        recipe = self.dataset.load_recipe()
        if isinstance(recipe.window.size, str):
            what = f"'{self.dataset.folder}' is damaged: the recipe has no window size"
            raise DatasetError(what, where="recipe.yaml", hint="build the dataset again")
        return recipe

    @cached_property
    def steps(self) -> Mapping[str, dict[str, Any]]:
        """The steps of the build by name, as the manifest has them."""
        return {step["step"]: step for step in self.dataset.manifest["steps"]}

    @cached_property
    def samples(self) -> RebuiltSamples:
        """The samples that the rows were cut from, put together again; complete once all rows are read."""
        return RebuiltSamples(self.dataset)

    @cached_property
    def first_sample_of_file(self) -> Mapping[str, RebuiltSample]:
        """For each file its first sample that no change made; complete once all rows are read.

        Samples of which only a part is held out do not count: training has another version of their file.
        """
        samples: dict[str, RebuiltSample] = {}
        for sample in self.samples.by_id.values():
            if not sample.metadata.get("is_evolution") and sample.scored is None:
                samples.setdefault(sample.metadata["source_file"], sample)
        return samples

    @cached_property
    def similar_files(self) -> SimilarFiles:
        """The files that rows show in full, and which of them are alike by the recipe's threshold (`split.near`)."""
        texts: dict[str, bytes] = {}
        for sample in self.samples.by_id.values():
            if sample.metadata["augmentation_type"] == BASE and (text := self.samples.full_text(sample) or b"").strip():
                texts[sample.id] = text
        shingles, lines = TextShingles.from_texts(texts.values()), HashedLines.from_texts(texts.values())
        pairs = find_copies(shingles, lines, self.recipe.split.near, SIMILARITY_TOLERANCE)
        return SimilarFiles([self.samples.by_id[sample_id] for sample_id in texts], pairs)

    @cached_property
    def last_changes(self) -> Mapping[str, LastChange]:
        """For each path of the repository the last commit that changed it; empty without a repository."""
        return self.repository.last_changes() if self.repository else {}

    @cached_property
    def history_problem(self) -> str:
        """Why the history may differ from the one that the dataset was built from; empty if it is the same."""
        if self.repository:
            _ = self.last_changes  # walks the history, which sets `incomplete_reason`
            if self.repository.incomplete_reason:
                return self.repository.incomplete_reason
        return "the dataset was made from a part of the history" if self.dataset.manifest.get("shallow") else ""

    @cached_property
    def has_unsure_renames(self) -> bool:
        """Whether a file that is a rename here may be a new file in the dataset, or the other way round."""
        _ = self.last_changes  # walks the history, which sets `has_uncertain_renames`
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

    def check_block(self, split: Split, block: RowBlock) -> Iterable[Finding] | None:
        """Return findings for some consecutive rows of a split."""

    def finish(self) -> Iterable[Finding] | None:
        """Return findings that need all rows, and set `figure`.

        An error becomes a finding here and everywhere else in a check: a `DatasetError`, if it can say what is
        damaged, and else what Python raises at missing keys and wrong types or values.
        """

    def finding(self, where: str, problem: str) -> Finding:
        """A finding in a file, or in a line of it (`drops.jsonl:7`)."""
        return Finding(self.name, where, problem)

    def row_finding(self, split: Split, row: BulkRow, problem: str) -> Finding:
        """A finding in a row."""
        return Finding(self.name, self.dataset.row_location(split, row.index), problem)

    def sample_finding(self, sample: RebuiltSample, problem: str) -> Finding:
        """A finding in a sample, which is reported at its first row."""
        return Finding(self.name, self.dataset.row_location(sample.split, sample.first_row), problem)

    def metadata_findings(
        self, expected: Mapping[str, Any], problem: str = "{key} is {actual}, not {expected}"
    ) -> Iterator[Finding]:
        """A finding for each key whose value in `dataset_metadata.json` is not the expected one."""
        for key, value in expected.items():
            if (actual := self.dataset.metadata.get(key)) != value:
                yield self.finding(METADATA_FILE, problem.format(key=key, actual=actual, expected=value))


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
    files = dataset.manifest["files"]
    return sum(files[path.relative_to(dataset.folder).as_posix()]["rows"] for path in dataset.files(split))


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
                else:
                    yield number, cast("dict[str, Any]", values) if isinstance(values, dict) else "not an object"
    except OSError as error:
        yield 0, str(error.strerror).lower()

"""A shelf: every other file here is one of the checks, each a promise that a dataset keeps or breaks.

A check is a module with `SEEDS`, the names of the seeds' tests that it answers for, and a class `Check` (see below).
All rows are read once and handed to all checks. What a check remembers may grow with the number of rows, never with
their tokens.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

import orjson

from git_starcoder import registry
from git_starcoder.build_state import pause_garbage_collection
from git_starcoder.dataset.read_blocks import BulkRow, RowBlock, read_blocks
from git_starcoder.dataset.samples import RebuiltSamples
from git_starcoder.errors import DatasetError, RepositoryError, RevisionError
from git_starcoder.git.objects import FOLDER, Repo
from git_starcoder.protocols import NO_PROGRESS, Failure
from git_starcoder.recipe import Recipe
from git_starcoder.records import Finding, printable_path
from git_starcoder.text.alike import Alike, alike
from git_starcoder.text.lines import Lines
from git_starcoder.text.shingles import TextShingles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.history import LastChange
    from git_starcoder.protocols import Engine, Progress
    from git_starcoder.records import Split

T = TypeVar("T")
R = TypeVar("R")

SHOWN = 20
"""Findings of one check that are kept; all are counted."""
SECONDS = 60.0
"""For one question to a worker: one that takes longer hangs."""
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


class AlikeFiles(NamedTuple):
    """Files of a dataset, and which are alike: two numbers of `pairs` are places in `files`."""

    files: list[RebuiltSample]
    pairs: Alike


@dataclass(frozen=True)
class Given:
    """What is checked, and what several checks ask of it."""

    dataset: Dataset
    source: Repo | None = None
    """The repository that the dataset is said to be made from, at its commit, if it is at hand."""
    unread: str = ""
    """Why it is not, where it was given."""
    engine: Engine | None = None
    """What reads ahead, and what checks may ask when all is read, if it is not this process alone."""
    _turn: Lock = field(default_factory=Lock)

    def ask(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R | Failure]:
        """What a function gives for each task, in order. Workers, if there are any, answer one check at a time."""
        with self._turn:
            yield from self.engine.map(function, tasks, limit=SECONDS) if self.engine else map(function, tasks)

    def answers(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """The same of a function that can neither crash nor hang: what a worker fails at is done here."""
        asked: deque[T] = deque()

        def noted() -> Iterator[T]:
            for task in tasks:
                asked.append(task)
                yield task

        for answer in self.ask(function, noted()):
            task = asked.popleft()
            yield function(task) if isinstance(answer, Failure) else answer

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that it was made by."""
        return Recipe.load(self.dataset.folder / "recipe.yaml")

    @cached_property
    def alike_files(self) -> AlikeFiles:
        """The files that rows show in full, and which of them are alike by the recipe's threshold (`split.near`)."""
        base = (one for one in self.samples.by_id.values() if one.metadata["augmentation_type"] == "base")
        texts = ((one, self.samples.full_text(one)) for one in base)
        files = [(one, text) for one, text in texts if text is not None and text.strip()]
        shingles, lines = TextShingles.of(text for _, text in files), Lines.of(text for _, text in files)
        return AlikeFiles([one for one, _ in files], alike(shingles, lines, self.recipe.split.near))

    @cached_property
    def last(self) -> Mapping[str, LastChange]:
        """For each path of the repository the last commit that changed it; empty without a repository."""
        return self.source.last_changes() if self.source else {}

    @cached_property
    def partial(self) -> str:
        """Why the history need not be the one that the dataset was made from; "" if it is."""
        if self.source:
            _ = self.last  # which walks the history
            if self.source.partial:
                return self.source.partial
        return "the dataset was made from a part of the history" if self.dataset.manifest.get("shallow") else ""

    @cached_property
    def unsure_renames(self) -> bool:
        """Whether some files may be told as renamed here and as new in the dataset, or the other way round."""
        _ = self.last
        here = self.source is not None and self.source.unsure_renames
        return here or bool(self.dataset.manifest.get("unsure_renames"))

    @cached_property
    def unopened(self) -> tuple[str, ...]:
        """Folders of the repository that could not be opened, with a slash behind: nobody knows what is in them."""
        entries = self.source.entries() if self.source else []
        return tuple(printable_path(entry.path) for entry in entries if entry.mode == FOLDER and entry.fault)

    @cached_property
    def samples(self) -> RebuiltSamples:
        """What its rows were cut from: whole once all rows are read."""
        return RebuiltSamples(self.dataset)


class Check(Protocol):
    """One check over one dataset: `row` for every row, then `end`.

    `row(split, row) -> Iterable[Finding]` gets a `Checked` row; splits come in `ORDER`, rows in the order of the file.
    In place of it a check may have `block(split, block)`, for what is faster asked of many rows at once, or be one of
    samples (`OfSamples`), or need no rows. One with the attribute `beside` ends in a thread beside the others: it
    may ask for tokens, texts, files and workers, but not for the repository.
    """

    figure: str | Skip
    """For the table; valid after `end`. A `Skip` that is there from the start ends the check before any row."""

    def __init__(self, given: Given) -> None:
        """Begin."""
        ...

    def end(self) -> Iterator[Finding]:
        """What is wrong with all of it."""
        ...


class OfSamples:
    """A check of the samples that rows were cut from, which are whole when it ends."""

    def __init__(self, given: Given) -> None:
        self.figure: str | Skip = ""
        self.certificate: dict[str, Any] = {}
        self._given, self._dataset, self._recipe, self._samples = given, given.dataset, given.recipe, given.samples
        self._source: Repo | None = given.source

    def _found(self, sample: RebuiltSample, what: str) -> Finding:
        """A finding at the first row of a sample."""
        return Finding(type(self).__module__.rpartition(".")[2], self._place(sample), what)

    def _place(self, sample: RebuiltSample) -> str:
        return self._dataset.row_location(sample.split, sample.first_row)


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
    """What the check has for the leak certificate, empty if it has nothing to look for.

    - `leak`: for `files`, `groups`, `rows` and `canaries` how many are `held_out`, and `crossing` into another split.
    - `near_files`: `files`; those that could be `compared`; the `threshold` from which two are alike; pairs `crossing`.
    - `overlap`: `runs` (one `one_in` of the different held-out runs of `run` tokens), the share of them in training
      (`overlap`; `without_changes`), its mean where files are held out at random (`floor`, `deviation`, `draws`).
    - `held_out_lines`: `lines` that only held-out code has; `changes` learned from, and `changes_with_a_line` of these;
      `contexts` that show other files; whether `with_repository`.
    """

    def collect(self, findings: Iterable[Finding]) -> None:
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
            self.collect([Finding(self.check, error.where, error.what)])

    def skip(self, reason: str) -> None:
        """Say why there is neither a pass nor a finding."""
        self.figure, self.skipped, self.found, self.findings = reason, True, 0, []


def source_of(dataset: Dataset, path: Path) -> Repo | str:
    """A repository at the commit that a dataset was made from; or, where it does not have that, why not.

    Raises:
        RepositoryError: there is no repository at that path.
    """
    commit = str(dataset.manifest.get("commit"))
    try:
        return Repo.open(path, commit)
    except RevisionError as error:
        return f"the repository does not have commit {commit[:12]} of the dataset: {error.what}"


def check(
    dataset: Dataset, source: Repo | str | None = None, progress: Progress = NO_PROGRESS, engine: Engine | None = None
) -> Iterator[Outcome]:
    """Run every check of the shelf over one reading of the rows.

    The source may be a reason why there is none: what goes back to it is then skipped for that.

    With an engine of two workers or more, rows are read ahead. If rows are not formed as promised, the checks that
    would read their keys are skipped.

    Raises:
        DatasetError: the manifest or the metadata does not say what it must.

    """
    _require(dataset)
    progress.begin("check", sum(int(dataset.metadata[f"{split}_sequences"]) for split in ORDER))
    given = _given(dataset, source, engine)
    outcomes = [Outcome(key, registry.summary("checks", key), registry.load("checks", key).SEEDS) for key in names()]
    checks: list[Check] = [registry.load("checks", outcome.check).Check(given) for outcome in outcomes]
    every = deque(zip(outcomes, checks, strict=True))
    del checks
    beside = ThreadPoolExecutor(1)
    try:
        with pause_garbage_collection():
            ends = [beside.submit(_end, *one) for one in every if _is_beside(one[1]) and not _rests(one[1])]
            _read(given, every, progress)
            broken = outcomes[0].found > 0
            ends += [beside.submit(_end, *one, broken=broken) for one in every if _is_beside(one[1]) and _rests(one[1])]
            while every:  # what a check remembers goes with it
                outcome, each = every.popleft()
                if not _is_beside(each):
                    _end(outcome, each, broken=broken)
            for end in ends:
                end.result()
    finally:
        beside.shutdown(cancel_futures=True)
    yield from outcomes


def _given(dataset: Dataset, source: Repo | str | None, engine: Engine | None) -> Given:
    """What is checked; a repository in which nothing can be compared is left out, for a reason."""
    if source is None or isinstance(source, str):
        return Given(dataset, None, source or "", engine)
    if source.commit != dataset.manifest.get("commit"):
        why = f"the repository is read at {source.commit[:12]}, not where the dataset was made"
        return Given(dataset, None, why, engine)
    try:
        source.entries()
    except RepositoryError as error:
        return Given(dataset, None, f"the repository does not have the files of the commit: {error.what}", engine)
    return Given(dataset, source, "", engine)


def _is_beside(check: Check) -> bool:
    return hasattr(check, "beside")


def _rests(check: Check) -> bool:
    return rests_on_rows(type(check))


def _end(outcome: Outcome, each: Check, *, broken: bool = False) -> None:
    """What a check came to; if `FIRST` is broken, that it says nothing."""
    if broken and outcome.check != FIRST and rests_on_rows(type(each)):
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


def rests_on_rows(kind: type[Check]) -> bool:
    """Whether a check can say nothing where rows are not formed as promised."""
    return issubclass(kind, OfSamples) or hasattr(kind, "row") or hasattr(kind, "block")


def _read(given: Given, checks: Iterable[tuple[Outcome, Check]], watch: Progress) -> None:
    """Hand every row to all that want it; to the first alone once it has found something."""
    (first, look), *others = [(outcome, _looking(each)) for outcome, each in checks if rests_on_rows(type(each))]
    for split in ORDER:
        try:
            for block in read_blocks(given.dataset, split, given.engine):
                first.collect(look(split, block))
                if not first.found:
                    for row in block.rows:
                        row.added = given.samples.add(split, row.index, row.metadata, row.token_ids, row.max_token)
                    for outcome, look_too in others:
                        outcome.collect(look_too(split, block))
                watch.advance(len(block.rows))
        except DatasetError as error:
            first.collect([Finding(FIRST, error.where, error.what)])


def _looking(check: Any) -> Callable[[Split, RowBlock], Iterable[Finding]]:
    """How a check looks at the rows of a block."""
    skipped = isinstance(getattr(check, "figure", None), Skip)
    if hasattr(check, "block") and not skipped:
        return check.block
    if hasattr(check, "row") and not skipped:
        row: Callable[[Split, BulkRow], Iterable[Finding]] = check.row
        return lambda split, block: (found for each in block.rows for found in row(split, each))
    return lambda split, block: ()  # noqa: ARG005


def names() -> list[str]:
    """The checks in the order in which they run."""
    return sorted(registry.names("checks"), key=lambda key: (key != FIRST, key))


def place(dataset: Dataset, split: Split, row: BulkRow) -> str:
    """Where a row lies, for a finding."""
    return dataset.row_location(split, row.index)


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

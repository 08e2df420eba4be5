"""What a check is (`Check`), what checks share (`CheckContext`), and how all of them run over one reading of the rows.

Checks are found, not registered: every subclass of `Check` in a module of this package is one. `rows` runs first, and
where it finds malformed rows, checks that need rows are skipped.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from inspect import getmembers, isclass
from itertools import tee
from pkgutil import iter_modules
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

import orjson

from git_starcoder.build_state import pause_garbage_collection
from git_starcoder.dataset import MANIFEST_FILE, METADATA_FILE
from git_starcoder.dataset.read_blocks import read_blocks
from git_starcoder.dataset.samples import RebuiltSamples
from git_starcoder.errors import DatasetError, RepositoryError, RevisionError
from git_starcoder.git.objects import FOLDER_MODE, Repo
from git_starcoder.hashing.near_duplicates import CopyPairs, find_copies
from git_starcoder.hashing.texts import HashedLines, TextShingles
from git_starcoder.protocols import NO_PROGRESS, Failure
from git_starcoder.records import Finding, printable_path
from git_starcoder.row_layout import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.read_blocks import BulkRow, RowBlock
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.history import LastChange
    from git_starcoder.protocols import Engine, Progress
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
FIRST_CHECK = "rows"
"""The check that sees each block first: the others rely on the keys and types that it has verified."""
SIMILARITY_TOLERANCE = 0.02
"""How much more similar than the recipe's threshold files must be to count as alike. Boilerplate is what many files
have, and a build counts files that it drops later. So it may find a pair slightly less similar."""
MAX_KEPT_FINDINGS = 20
"""Findings that are kept and printed for each check; all are counted."""

_IN_BOTH: dict[str, tuple[str, ...]] = {
    "test_dataset_directory_exists": ("files",), "test_metadata_file_exists": ("files",),
    "test_metadata_content": ("metadata",), "test_train_file_exists": ("files",),
    "test_val_file_exists": ("files",), "test_train_file_format": ("rows",), "test_val_file_format": ("rows",),
    "test_sequence_token_count": ("lengths",), "test_sequence_metadata": ("rows",),
    "test_dataset_split_ratio": ("split_ratio",), "test_augmentation_diversity": ("diversity",),
}  # fmt: skip
SEED_SUITES: dict[str, dict[str, tuple[str, ...]]] = {
    "effectiveness": {
        **_IN_BOTH,
        "test_context_window_size": ("context_window",), "test_weighting_strategy": ("weights",),
        "test_curriculum_learning": ("curriculum",), "test_no_duplicate_sequences": ("duplicates",),
        "test_file_sizes": ("file_sizes",), "test_augmentation_types_present": ("techniques",),
    },
    "elite": {
        **_IN_BOTH,
        "test_git_history_integration": ("commits",), "test_function_signatures_extracted": ("signatures",),
        "test_dependency_graph_built": ("dependency_graph",), "test_multi_scale_contexts": ("scales",),
        "test_elite_augmentation_types": ("techniques",), "test_git_diff_sequences": ("diffs",),
        "test_smart_weighting": ("origins", "weights"), "test_temporal_weighting": ("ages", "weights"),
        "test_evolution_weighting": ("diffs", "weights"), "test_semantic_deduplication": ("near_duplicates",),
        "test_curriculum_learning": ("curriculum",), "test_no_duplicate_sequences": ("duplicates",),
        "test_file_sizes": ("file_sizes",),
    },
}  # fmt: skip
"""Suite of the seed documents → its tests in the order of the document → the checks that answer for a test.

The first suite has 17 tests. The second names 12 of its 24 itself; the others follow from its features.
"""


def answering_checks() -> dict[str, tuple[str, ...]]:
    """The checks that answer for each test of any suite."""
    return {test: checks for suite in SEED_SUITES.values() for test, checks in suite.items()}


def answered_tests(check: str) -> tuple[str, ...]:
    """The tests that a check answers for."""
    return tuple(test for test, checks in answering_checks().items() if check in checks)


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
        """Return findings that need all rows, and set `figure`. A `DatasetError` becomes a finding."""

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


@dataclass(slots=True)
class Outcome:
    """The result of one check."""

    check: str
    promise: str
    """One sentence: what is true of a dataset that passes."""
    seed_tests: tuple[str, ...] = ()
    """Names of the tests in the seed documents that the check covers."""
    finding_count: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])
    """The first `MAX_KEPT_FINDINGS` findings."""
    figure: str = ""
    """A short result for the table. If the check was skipped, the reason."""
    skipped: bool = False
    certificate: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the check contributes to the leak certificate; empty if there is nothing to look for.

    - `leak`: the number of `files`, `groups`, `rows` and `canaries` that are `held_out`, and how many of them are also
      in another split (`crossing`).
    - `near_files`: the number of `files`, how many were `compared`, the similarity `threshold`, and the number of
      similar pairs in two splits (`crossing`).
    - `overlap`: the number of held-out `runs` of `run` tokens, of which one in `one_in` is used; the share of these
      runs in training (`overlap`, and `without_changes`); and this share in the random splits `draws`, with the mean
      `floor` and the standard `deviation`.
    - `held_out_lines`: the number of `lines` that only held-out files have, of training `changes`, of
      `changes_with_a_line` of these, and of `contexts`; and whether the repository was used (`with_repository`). If
      commits are held out: the number of `lines` that they added, how many of them training knows (`known`), and how
      many of these in a row (`in_runs`).
    """

    def add_findings(self, findings: Iterable[Finding] | None) -> None:
        """Count findings and keep the first ones."""
        for finding in findings or ():
            self.finding_count += 1
            if len(self.findings) < MAX_KEPT_FINDINGS:
                self.findings.append(finding)

    def skip(self, reason: str) -> None:
        """Record that the check could neither pass nor fail."""
        self.figure, self.skipped, self.finding_count, self.findings = reason, True, 0, []


@cache
def check_classes() -> dict[str, type[Check]]:
    """All checks by name, in the order in which they run: `rows`, then by name."""
    package = __name__.rpartition(".")[0]
    modules = [import_module(f"{package}.{module.name}") for module in iter_modules(import_module(package).__path__)]
    classes = [
        value
        for module in modules
        for _, value in getmembers(module, isclass)
        if issubclass(value, Check) and value.__module__ == module.__name__ and value is not Check
    ]
    return {each.name: each for each in sorted(classes, key=lambda each: (each.name != FIRST_CHECK, each.name))}


def check_names() -> list[str]:
    """The names of all checks in the order in which they run."""
    return list(check_classes())


def open_source_repository(dataset: Dataset, path: Path) -> Repo | str:
    """Open a repository at the commit that a dataset was built from; a text says that it does not have the commit."""
    if dataset.is_of_many:
        return "the dataset is made from many repositories"
    commit = str(dataset.manifest.get("commit"))
    try:
        return Repo.open(path, commit)
    except RevisionError as error:
        return f"the repository does not have commit {commit[:12]} of the dataset: {error.what}"


def check(
    dataset: Dataset, source: Repo | str | None = None, progress: Progress = NO_PROGRESS, engine: Engine | None = None
) -> Iterator[Outcome]:
    """Run every check.

    Args:
        dataset: The dataset.
        source: The repository that the dataset was built from. If it is None, checks that need the repository are
            skipped. If it is a text, they are skipped with this text as the reason.
        progress: Receives the number of rows that have been read.
        engine: Worker processes. Two or more of them also read rows ahead.

    Raises:
        DatasetError: The manifest or the metadata lacks what every check reads.
    """
    _require_manifest_keys(dataset)
    progress.begin("check", sum(int(dataset.metadata[f"{split}_sequences"]) for split in READING_ORDER))
    context = _create_context(dataset, source, engine)
    running = deque(
        (Outcome(name, check_class.promise, answered_tests(name)), check_class(context))
        for name, check_class in check_classes().items()
    )
    outcomes = [outcome for outcome, _ in running]
    background = ThreadPoolExecutor(1)

    def finish_in_background(*, needs_rows: bool, are_rows_broken: bool = False) -> list[Future[None]]:
        return [
            background.submit(_finish, outcome, each, are_rows_broken=are_rows_broken)
            for outcome, each in running
            if each.in_background and each.needs_rows == needs_rows
        ]

    try:
        with pause_garbage_collection():
            futures = finish_in_background(needs_rows=False)
            _read_rows(context, [(outcome, each) for outcome, each in running if each.needs_rows], progress)
            are_rows_broken = outcomes[0].finding_count > 0
            futures += finish_in_background(needs_rows=True, are_rows_broken=are_rows_broken)
            while running:  # each check is released as soon as it has finished, with all that it remembers
                outcome, each = running.popleft()
                if not each.in_background:
                    _finish(outcome, each, are_rows_broken=are_rows_broken)
            for future in futures:
                future.result()
    finally:
        background.shutdown(cancel_futures=True)
    yield from outcomes


def _create_context(dataset: Dataset, source: Repo | str | None, engine: Engine | None) -> CheckContext:
    """Leave the repository out, with a reason, if the dataset cannot be compared with it."""
    problem = source if isinstance(source, str) else ""
    if isinstance(source, Repo):
        if source.commit != dataset.manifest.get("commit"):
            problem = f"the repository is read at {source.commit[:12]}, not where the dataset was made"
        else:
            try:
                source.entries()
            except RepositoryError as error:
                problem = f"the repository does not have the files of the commit: {error.what}"
    return CheckContext(dataset, source if isinstance(source, Repo) and not problem else None, problem, engine)


def _read_rows(context: CheckContext, running: list[tuple[Outcome, Check]], progress: Progress) -> None:
    """Pass every block of rows to all checks that need rows; after a malformed row only to the first check."""
    (first_outcome, first_check), *others = [(outcome, each) for outcome, each in running if not each.skip_reason]
    for split in READING_ORDER:
        try:
            for block in read_blocks(context.dataset, split, context.engine):
                context.row_counts[split] += len(block.rows)
                first_outcome.add_findings(first_check.check_block(split, block))
                if not first_outcome.finding_count:
                    for row in block.rows:
                        row.added = context.samples.add(split, row.index, row.metadata, row.token_ids, row.max_token)
                    for outcome, each in others:
                        outcome.add_findings(each.check_block(split, block))
                progress.advance(len(block.rows))
        except DatasetError as error:
            first_outcome.add_findings([first_check.finding(error.where, error.what)])


def _finish(outcome: Outcome, each: Check, *, are_rows_broken: bool = False) -> None:
    """Finish a check and complete its outcome."""
    if are_rows_broken and each.needs_rows and each.name != FIRST_CHECK:
        outcome.skip(f"'{FIRST_CHECK}' is broken")
    elif each.skip_reason:
        outcome.skip(each.skip_reason)
    else:
        try:
            outcome.add_findings(each.finish())
        except DatasetError as error:
            outcome.add_findings([each.finding(error.where, error.what)])
        outcome.certificate = each.certificate
        if each.skip_reason and not outcome.finding_count:
            outcome.skip(each.skip_reason)
        else:
            outcome.figure = each.skip_reason or each.figure


def _require_manifest_keys(dataset: Dataset) -> None:
    """Fail if somebody edited the manifest or the metadata so that checks cannot read them.

    The sums and concatenations below also verify the types.
    """
    try:
        _ = dataset.steps
        for file in dataset.manifest["files"].values():
            _ = file["bytes"] + 0, file["sha256"] + ""
        for split in READING_ORDER:
            _ = manifest_row_count(dataset, split) + dataset.metadata[f"{split}_sequences"]
        _ = dataset.metadata["total_sequences"] + dataset.metadata["vocab_size"]
        _ = [*dataset.metadata["context_windows"], *dataset.metadata["augmentation_techniques"]]
    except (KeyError, TypeError, AttributeError) as error:
        where = "manifest.json, dataset_metadata.json"
        raise DatasetError(f"'{dataset.folder}' is damaged: {error}", where=where) from error

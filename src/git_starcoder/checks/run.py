"""Runs all checks over one reading of the rows.

Checks are found, not registered: every subclass of `Check` in a module of this package is one. `rows` runs first, and
where it finds malformed rows, checks that need rows are skipped.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import getmembers, isclass
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from git_starcoder.build_state import pause_garbage_collection
from git_starcoder.checks.base import READING_ORDER, Check, CheckContext, manifest_row_count
from git_starcoder.checks.seed_suites import answered_tests
from git_starcoder.dataset.read_blocks import read_blocks
from git_starcoder.errors import DAMAGE_ERRORS, DatasetError, RepositoryError, RevisionError
from git_starcoder.git.objects import Repo
from git_starcoder.protocols import NO_PROGRESS
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from git_starcoder.dataset import Dataset
    from git_starcoder.protocols import Engine, Progress

FIRST_CHECK = "rows"
"""The check that sees each block first: the others rely on the keys and types that it has verified."""
MAX_KEPT_FINDINGS = 20
"""Findings that are kept and printed for each check; all are counted."""


MAX_ERROR_CHARACTERS = 200
"""The length at which the text of an error is cut, because it may contain what was read."""


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
    stopped: bool = False
    """Whether the check could not go on, because the dataset is damaged. The last finding says why."""
    certificate: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the check contributes to the leak certificate; empty if there is nothing to look for, or if the
    check has stopped.

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

    def stop(self, where: str, problem: str) -> None:
        """Record that the check could not go on."""
        self.add_findings([Finding(self.check, where, problem)])
        self.figure, self.stopped = "not finished", True

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
        RecipeError: The recipe cannot be read.
        UsageError: The tokenizer cannot be read.
    """
    _require_manifest_keys(dataset)
    progress.begin("check", sum(int(dataset.metadata[f"{split}_sequences"]) for split in READING_ORDER))
    context = _create_context(dataset, source, engine)
    _ = context.recipe, context.samples  # an error in them is one of the whole dataset
    outcomes = [Outcome(name, each.promise, answered_tests(name)) for name, each in check_classes().items()]
    running = deque[tuple[Outcome, Check]]()
    for outcome, check_class in zip(outcomes, check_classes().values(), strict=True):
        with _stop_at_damage(outcome):
            running.append((outcome, check_class(context)))
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
        with _stop_at_damage(first_outcome):
            for block in read_blocks(context.dataset, split, context.engine):
                context.row_counts[split] += len(block.rows)
                first_outcome.add_findings(first_check.check_block(split, block))
                if not first_outcome.finding_count:
                    for row in block.rows:
                        row.added = context.samples.add(split, row.index, row.metadata, row.token_ids, row.max_token)
                    where = f"from {context.dataset.row_location(split, block.rows[0].index)} on"
                    for outcome, each in others:
                        if not outcome.stopped:
                            with _stop_at_damage(outcome, where):
                                outcome.add_findings(each.check_block(split, block))
                progress.advance(len(block.rows))


def _finish(outcome: Outcome, each: Check, *, are_rows_broken: bool = False) -> None:
    """Finish a check and complete its outcome."""
    if are_rows_broken and each.needs_rows and each.name != FIRST_CHECK:
        outcome.skip(f"'{FIRST_CHECK}' is broken")
    elif each.skip_reason:
        outcome.skip(each.skip_reason)
    elif not outcome.stopped:
        with _stop_at_damage(outcome):
            outcome.add_findings(each.finish())
        if outcome.stopped:
            return
        outcome.certificate = each.certificate
        if each.skip_reason and not outcome.finding_count:
            outcome.skip(each.skip_reason)
        else:
            outcome.figure = each.skip_reason or each.figure


@contextmanager
def _stop_at_damage(outcome: Outcome, where: str = "the dataset") -> Generator[None]:
    """Turn an error of a check into its last finding. An error of our own is one, too: the check has not passed."""
    try:
        yield
    except DatasetError as error:
        outcome.stop(error.where, error.what)
    except DAMAGE_ERRORS as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        outcome.stop(where, f"damaged: {text[:MAX_ERROR_CHARACTERS]}")


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

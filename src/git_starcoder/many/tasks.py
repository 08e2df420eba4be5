"""The three parts of a build that see one repository. Each is a function of small values and paths, for any engine.

A part whose folder exists is not run again. A part never raises because of its repository: what is wrong is its result.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.build_state import TEXTS_FILE, BuildState
from git_starcoder.dataset.write_metadata import IMPORTS_FILE, SIGNATURES_FILE
from git_starcoder.engine.cache import SqliteCache
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import RepositoryError, StarcoderError, as_machine_error
from git_starcoder.git.objects import FOLDER_MODE, MODE_TYPE_MASK, Repo
from git_starcoder.many import storage
from git_starcoder.many.storage import HistoryFacts, ReadRecords, RowRecords, ShardRecords
from git_starcoder.protocols import NO_CACHE, NO_PROGRESS
from git_starcoder.stages import analyse, augment, dedup, order, read, split, weigh, window, write
from git_starcoder.stages.file_table import describe_files
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.licences import LICENCE_FILE, recognise_licence
from git_starcoder.user_paths import offer_temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from git_starcoder.protocols import Cache
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import RepositoryLabel

TASK_SECONDS = 86_400.0
"""Processor seconds that a part may take. All its work is limited by counts; this is for hangs."""
MAX_LICENCE_BYTES = 1 << 16
"""Licence files with more bytes are not read."""
PART_ERRORS = (StarcoderError, OSError, MemoryError, RuntimeError)
"""What the repository or the machine may make a part raise. Anything else is a bug of ours."""
DROPS_FILE = "drops.jsonl"
JOINED_FILES = (DROPS_FILE, IMPORTS_FILE, SIGNATURES_FILE)
"""Files of a shard that become one file of the dataset."""


class CacheFolder(NamedTuple):
    """Where the cache is, and how many bytes it may have."""

    path: Path
    limit: int


class RepositorySource(NamedTuple):
    """A repository that the user gave."""

    path: Path
    revision: str = "HEAD"
    name: str = ""
    """The name that it should have in the dataset; empty for the last part of the URL of `origin`."""


class Problem(NamedTuple):
    """Why a repository, or the machine, made a part fail."""

    what: str
    where: str = ""
    hint: str = ""
    is_of_machine: bool = False


class RepositoryFacts(NamedTuple):
    """What is known about a repository before it is read."""

    path: Path
    commit: str
    name: str
    """The name that the user gave, or the last part of the URL of `origin`."""
    licences: tuple[str, ...]
    shallow_boundary: tuple[str, ...]


class ReadTask(NamedTuple):
    """Input of `read_part`."""

    folder: Path
    """The folder to fill."""
    path: Path
    commit: str
    recipe: Recipe
    cache: CacheFolder | None
    retries: bool
    """Whether a folder with faults is filled again."""


class RowsTask(NamedTuple):
    """Input of `rows_part`."""

    folder: Path
    read_folder: Path
    decisions: Path
    """The file with the `FileDecisions` about the repository."""
    tokenizer: Path
    recipe: Recipe
    """Its header is the name of the repository, or null."""
    cache: CacheFolder | None
    retries: bool
    """Whether a folder with faults is filled again."""


class ShardTask(NamedTuple):
    """Input of `shard_part`."""

    folder: Path
    read_folder: Path
    rows_folder: Path
    decisions: Path
    """The file with the `RowDecisions` about the repository."""
    tokenizer: Path
    path: Path
    commit: str
    label: RepositoryLabel
    recipe: Recipe


_engines: list[LocalEngine] = []
"""The workers of this process, which outlive a task: starting them takes as long as a small repository."""


def _workers() -> LocalEngine:
    if not _engines:
        _engines.append(LocalEngine(1))
    return _engines[0]


def inspect_repository(source: RepositorySource) -> RepositoryFacts | Problem:
    """Find a repository, its commit and its licences."""
    try:
        repo = Repo.open(source.path, source.revision)
        name = source.name or repo.public_name()
        return RepositoryFacts(
            source.path, repo.commit, name, find_licences(repo), tuple(sorted(repo.shallow_boundary))
        )
    except PART_ERRORS as error:
        return _problem_of(error)


def find_licences(repo: Repo) -> tuple[str, ...]:
    """The SPDX identifiers of the licence files in the root folder of a commit, sorted."""
    files = [
        entry.blob
        for entry in repo.root_entries()
        if LICENCE_FILE.fullmatch(entry.path) and entry.mode & MODE_TYPE_MASK != FOLDER_MODE
    ]
    sizes = repo.blob_sizes(files)
    wanted = [blob for blob in files if sizes.get(blob, MAX_LICENCE_BYTES + 1) <= MAX_LICENCE_BYTES]
    texts = [data.decode("utf-8", "replace") for _, data in repo.read_blobs(wanted) if isinstance(data, bytes)]
    return tuple(sorted({recognise_licence(text) for text in texts}))


def read_part(task: ReadTask) -> Problem | None:
    """Run the steps read and analyse."""
    return _run_part(task.folder, lambda folder: _read(task, folder), retries=task.retries)


def _read(task: ReadTask, folder: Path) -> None:
    recipe, repo = task.recipe, Repo.open(task.path, task.commit)
    with _open_cache(task.cache) as cache, BuildState(folder, recipe.seed, _workers(), NO_PROGRESS, cache) as build:
        sources, changes = read.read_repository(build, recipe.read, repo)
        units = analyse.analyse_sources(build, recipe.analyse, sources)
        storage.store_file_table(folder, describe_files(build, recipe, units, changes))
        history = HistoryFacts(
            repo.committed_at, repo.is_shallow, bool(repo.incomplete_reason), repo.has_uncertain_renames, repo.notes
        )
        records = ReadRecords(
            storage.store_units(units),
            storage.store_changes(changes),
            storage.step_records(build.steps),
            storage.store_drops(build.drops),
        )
        storage.store(folder / storage.HISTORY_FILE, history)
        storage.store(folder / storage.RECORDS_FILE, records)
        _finish_folder(build)


def rows_part(task: RowsTask) -> Problem | None:
    """Apply the decisions about files, and run the steps augment and window."""
    return _run_part(task.folder, lambda folder: _make_rows(task, folder), retries=task.retries)


def _make_rows(task: RowsTask, folder: Path) -> None:
    recipe = task.recipe
    records = storage.load(task.read_folder / storage.RECORDS_FILE, ReadRecords)
    decisions = storage.load(task.decisions, split.FileDecisions)
    units, changes = storage.load_units(records.units), storage.load_changes(records.changes)
    tokenizer = tokenizers.load_tokenizer(task.tokenizer)
    with (
        _open_cache(task.cache) as cache,
        BuildState(
            folder, recipe.seed, _workers(), NO_PROGRESS, cache, earlier_texts=[task.read_folder / TEXTS_FILE]
        ) as build,
    ):
        with build.count_step("split") as step:
            units, changes = split.apply_decisions(build, step, recipe, units, changes, decisions)
        samples = augment.make_samples(build, recipe, units, changes)
        with build.count_step("window") as step:
            windows = window.cut_windows_of(build, step, recipe, samples, tokenizer)
        storage.store_rows(folder, windows, dedup.describe_rows(build, recipe.dedup, windows))
        (build.scratch / window.TOKENS_FILE).rename(folder / storage.TOKENS_FILE)
        stored = RowRecords(
            storage.store_units(units),
            storage.store_changes(changes),
            storage.store_samples(samples, units, changes),
            storage.step_records(build.steps),
            storage.store_drops(build.drops),
        )
        storage.store(folder / storage.RECORDS_FILE, stored)
        _finish_folder(build)


def shard_part(task: ShardTask) -> Problem | None:
    """Apply the decisions about rows, and run the steps weigh, order and write."""
    return _run_part(task.folder, lambda folder: _write_shard(task, folder))


def _write_shard(task: ShardTask, folder: Path) -> None:
    recipe, repo = task.recipe, Repo.open(task.path, task.commit)
    read_records = storage.load(task.read_folder / storage.RECORDS_FILE, ReadRecords)
    records = storage.load(task.rows_folder / storage.RECORDS_FILE, RowRecords)
    rows, reasons, details = storage.load(task.decisions, tuple[list[int], list[str], list[str]])
    decisions = dedup.RowDecisions(np.array(rows, dtype=np.int64), reasons, details)
    tokenizer = tokenizers.load_tokenizer(task.tokenizer)
    units, changes = storage.load_units(records.units), storage.load_changes(records.changes)
    samples = storage.load_samples(records.samples, units, changes)
    earlier_texts = [task.read_folder / TEXTS_FILE, task.rows_folder / TEXTS_FILE]
    with BuildState(folder, recipe.seed, _workers(), repository=task.label, earlier_texts=earlier_texts) as build:
        build.steps += storage.as_step_counts([*read_records.steps, *records.steps])
        build.drops += storage.load_drops([*read_records.drops, *records.drops])
        windows = storage.load_windows(task.rows_folder, samples, tokenizer.dtype)
        with build.count_step("dedup", len(windows)) as step:
            windows = dedup.apply_decisions(step, windows, decisions)
        windows = weigh.weigh_windows(build, recipe.weigh, repo, windows)
        windows, factor = weigh.weigh_repository(recipe.repos, windows)
        windows = order.order_windows(build, recipe.order, windows)
        with build.count_step("write", len(windows)) as step:
            written = write.write_rows(build, step, recipe, repo, windows, tokenizer)
        shutil.rmtree(build.scratch)
        stored = ShardRecords(
            written.files,
            written.metadata,
            dict(written.features),
            storage.step_records(build.steps),
            factor,
        )
        storage.store(folder / storage.RECORDS_FILE, stored)


def _run_part(folder: Path, fill: Callable[[Path], None], *, retries: bool = False) -> Problem | None:
    """Fill a folder, unless it exists as it was written. With `retries`, one with faults is filled again."""
    try:
        if storage.has_folder(folder):
            if not retries or not (folder / storage.FAULTS_FILE).exists():
                return None
            shutil.rmtree(folder, ignore_errors=True)  # another process may do the same
        offer_temporary_folder(folder)
        with storage.new_folder(folder) as partial:
            fill(partial)
    except PART_ERRORS as error:
        return _problem_of(error)
    return None


def _problem_of(error: Exception) -> Problem:
    """The problem for an error of a repository or of the machine. Other errors are bugs of ours and raised again."""
    if machine_error := as_machine_error(error):
        return Problem(machine_error.what, machine_error.where, machine_error.hint, is_of_machine=True)
    if isinstance(error, RepositoryError):
        return Problem(error.what, error.where, error.hint)
    if isinstance(error, OSError):
        return Problem(error.strerror or str(error), str(error.filename or ""), is_of_machine=True)
    raise error


def with_header(recipe: Recipe, name: str) -> Recipe:
    """The recipe with the name of a repository for the header `auto`."""
    if recipe.window.header != "auto":
        return recipe
    return replace(recipe, window=replace(recipe.window, header=name))


def _open_cache(cache: CacheFolder | None) -> AbstractContextManager[Cache]:
    return nullcontext(NO_CACHE) if cache is None else SqliteCache(cache.path, cache.limit)


def _finish_folder(build: BuildState) -> None:
    """Move the text store out of the folder for temporary files, which is removed; and note faults."""
    build.texts.flush()
    (build.scratch / TEXTS_FILE).rename(build.folder / TEXTS_FILE)
    shutil.rmtree(build.scratch)
    if build.has_faults:
        (build.folder / storage.FAULTS_FILE).touch()

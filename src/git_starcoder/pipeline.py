"""Builds a training dataset from a Git repository.

Every line of `build` is one step. Each step lives in the module of its name, takes its own section of the recipe, and
says in its docstring what comes in and what goes out.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from git_starcoder.build_state import NO_PINS, BuildState, Pins
from git_starcoder.dataset import Dataset, dataset_fingerprint, publish_dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.protocols import NO_CACHE, NO_PROGRESS, Cache, Engine, Progress
from git_starcoder.stages import analyse, augment, dedup, newest_commits, order, read, split, weigh, window, write
from git_starcoder.user_paths import offer_temporary_folder

if TYPE_CHECKING:
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Change, Unit


def build(
    repo: Repo | str | Path,
    recipe: Recipe,
    out: str | Path,
    *,
    engine: Engine | None = None,
    progress: Progress = NO_PROGRESS,
    cache: Cache = NO_CACHE,
    force: bool = False,
    pins: Pins = NO_PINS,
) -> Dataset:
    """Build the dataset that a recipe describes.

    If the folder already has a dataset with the same fingerprint, nothing is built, unless something could not be read
    for it. The folder appears complete or not at all.

    Args:
        repo: The repository or its folder, whose commit HEAD is read. `Repo.open(folder, revision)` selects another
            commit.
        recipe: The settings of the dataset.
        out: The folder of the new dataset.
        engine: The worker processes that run tasks. The default is one per CPU.
        progress: Receives the progress of the build.
        cache: Results of earlier builds. By default, there is no cache.
        force: Whether to build again, and to replace files of an existing dataset that were edited.
        pins: What is taken over from an earlier dataset. They are no part of the recipe, but of the fingerprint.

    Raises:
        RepositoryError: the repository cannot be read, or nothing in it can be used.
        OutputError: the folder cannot be written, is locked by another build, or holds something else.
    """
    out = Path(out)
    offer_temporary_folder(out)
    repo = repo if isinstance(repo, Repo) else Repo.open(repo)
    # `auto` becomes a number or a name, so the fingerprint says what was built.
    recipe = newest_commits.resolve_commits(window.resolve_header(window.resolve_sizes(recipe), repo), repo)
    # From a shallow clone a dataset knows less, and what it knows depends on where the history was cut.
    inputs = (*window.external_digests(recipe), *sorted(repo.shallow_boundary), *pins.digests())
    with publish_dataset(out, dataset_fingerprint(recipe, repo.commit, *inputs), force=force) as target:
        if target.up_to_date is not None:
            progress.note(f"{out} is up to date")
            return target.up_to_date
        with (
            nullcontext(engine) if engine else LocalEngine() as workers,
            BuildState(target.folder, recipe.seed, workers, progress, cache, pins=pins) as state,
        ):
            past = newest_commits.open_past(recipe, repo)  # what training sees, if commits are held out
            units, changes = read_and_split(state, recipe, repo, past)
            samples = augment.make_samples(state, recipe, units, changes)  # texts, variations, frames → Sample
            windows = window.cut_windows(state, recipe, past or repo, samples)  # tokens → Windows
            windows = dedup.drop_duplicates(state, recipe.dedup, windows)  # each drop names its keeper
            windows = weigh.weigh_windows(state, recipe.weigh, past or repo, windows)  # a column; no row is copied
            windows = order.order_windows(state, recipe.order, windows)  # no later step reorders rows
            write.write_dataset(state, recipe, repo, past, windows, target.fingerprint)  # split files, manifest, …
    return Dataset.open(out)


def read_and_split(state: BuildState, recipe: Recipe, repo: Repo, past: Repo | None) -> tuple[list[Unit], list[Change]]:
    """Run the steps that read the repository; `past` is the commit that training sees, if it is not that of `repo`."""
    newest = repo if past else None
    sources, changes = read.read_repository(state, recipe.read, past or repo, newest)  # Git objects → Source, Change
    units = analyse.analyse_sources(state, recipe.analyse, sources)  # syntax trees → Unit
    return split.assign_splits(state, recipe, units, changes)  # once, before anything multiplies

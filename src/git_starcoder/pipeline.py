"""A Git repository in, a training dataset out.

Every line of `build` is one step. Each step lives in the module of its name, takes its own section of the recipe, and
says in its docstring which rows come in and which go out.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from git_starcoder.build_state import BuildState
from git_starcoder.dataset import Dataset, dataset_fingerprint, publish_dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.places import prefer
from git_starcoder.protocols import NO_CACHE, NO_PROGRESS, Cache, Engine, Progress
from git_starcoder.stages import analyse, augment, dedup, order, read, split, weigh, window, write

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.recipe import Recipe


def build(
    repo: Repo | str | Path,
    recipe: Recipe,
    out: Path,
    *,
    engine: Engine | None = None,
    progress: Progress = NO_PROGRESS,
    cache: Cache = NO_CACHE,
    force: bool = False,
) -> Dataset:
    """Build the dataset that `recipe` describes from `repo` into the folder `out`.

    A finished folder with the same fingerprint is left as it is. The folder appears whole or not at all.

    Raises:
        RepositoryError: the repository cannot be read, or nothing in it can be used.
        OutputError: the folder cannot be written, is locked by another build, or holds something else.

    """
    prefer(out)
    repo = repo if isinstance(repo, Repo) else Repo.open(repo)
    recipe = window.resolve(recipe)  # `auto` becomes a number, so the fingerprint says what was built
    # From a shallow clone a dataset knows less, and what it knows depends on where the history was cut.
    inputs = (*window.inputs(recipe), *sorted(repo.boundary))
    with publish_dataset(out, dataset_fingerprint(recipe, repo.commit, *inputs), force=force) as target:
        if target.up_to_date is not None:
            progress.note(f"{out} is up to date")
            return target.up_to_date
        with (
            nullcontext(engine) if engine else LocalEngine() as workers,
            BuildState(target.folder, recipe.seed, workers, progress, cache) as run,
        ):
            sources, changes = read.read_repository(run, recipe.read, repo)  # Git objects → Source, Change
            units = analyse.analyse_sources(run, recipe.analyse, sources)  # syntax trees → Unit
            units, changes = split.assign_splits(
                run, recipe, units, changes
            )  # decided once, before anything multiplies
            samples = augment.make_samples(run, recipe.augment, units, changes)  # texts, variations, frames → Sample
            windows = window.cut_windows(run, recipe, repo, samples)  # tokens → Windows
            windows = dedup.drop_duplicates(run, recipe.dedup, windows)  # each drop names its keeper
            windows = weigh.weigh_windows(run, recipe.weigh, repo, windows)  # a column; rows are never copied
            windows = order.order_windows(run, recipe.order, windows)  # the last word on order
            write.write_dataset(run, recipe, repo, windows, target.fingerprint)  # JSONL, metadata, manifest
    return Dataset.open(out)

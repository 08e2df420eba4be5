"""A Git repository in, a training dataset out.

Every line of `build` is one step. Each step lives in the module of its name, takes its own section of the recipe, and
says in its docstring which rows come in and which go out.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from git_starcoder.dataset import Dataset, fingerprint, publish
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.places import prefer
from git_starcoder.run import Run
from git_starcoder.seams import NO_CACHE, SILENT, Cache, Engine, Watch
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
    watch: Watch = SILENT,
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
    with publish(out, fingerprint(recipe, repo.commit, *inputs), force=force) as target:
        if target.finished is not None:
            watch.note(f"{out} is up to date")
            return target.finished
        with (
            nullcontext(engine) if engine else LocalEngine() as workers,
            Run(target.folder, recipe.seed, workers, watch, cache) as run,
        ):
            sources, changes = read.run(run, recipe.read, repo)  # Git objects → Source, Change
            units = analyse.run(run, recipe.analyse, sources)  # syntax trees → Unit
            units, changes = split.run(run, recipe, units, changes)  # decided once, before anything multiplies
            samples = augment.run(run, recipe.augment, units, changes)  # texts, variations, frames → Sample
            windows = window.run(run, recipe, repo, samples)  # tokens → Windows
            windows = dedup.run(run, recipe.dedup, windows)  # each drop names its keeper
            windows = weigh.run(run, recipe.weigh, repo, windows)  # a column; rows are never copied
            windows = order.run(run, recipe.order, windows)  # the last word on order
            write.run(run, recipe, repo, windows, target.fingerprint)  # JSONL, metadata, manifest
    return Dataset.open(out)

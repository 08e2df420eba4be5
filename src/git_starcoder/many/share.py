"""One of several processes that do a phase of a build of many repositories, without knowing of each other.

They are started with the same command, for example by a job array of Slurm. Each does the part of the phase for its
share of the repositories. What it needs of earlier phases is in the work folder; what is missing there it does itself,
so a process that was killed costs time, and nothing else. Each process makes the join before its phase, which has the
same result in all of them. `build_many` with the same work folder then finds all parts done.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from git_starcoder.build_state import BuildState
from git_starcoder.many import storage
from git_starcoder.many.build import ManyBuild, Share, find_repositories, require_buildable
from git_starcoder.many.repositories import require_some
from git_starcoder.protocols import NO_PROGRESS, Engine, Progress
from git_starcoder.stages import window
from git_starcoder.user_paths import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.many.tasks import RepositorySource
    from git_starcoder.recipe import Recipe

Phase = Literal["read", "rows", "write"]
"""The parts that see one repository, in their order."""


class DoneShare(NamedTuple):
    """What a process did."""

    done: int
    """Repositories of its share whose part is done, by this process or before."""
    left_out: int
    """Repositories of the whole list that cannot be used, as far as this process knows."""


def build_share(
    sources: Sequence[RepositorySource],
    recipe: Recipe,
    phase: Phase,
    share: Share,
    engine: Engine,
    out: Path,
    work: Path,
    *,
    progress: Progress = NO_PROGRESS,
    strict: bool = False,
) -> DoneShare:
    """Do a phase for a share of the repositories; the other arguments are those of `build_many`.

    Raises:
        RepositoryError: No repository can be used, or one cannot and `strict` is set.
        RecipeError, UsageError, OutputError: `build_many` would refuse the recipe or the folders.
    """
    require_buildable(recipe, out, work)
    recipe = window.resolve_sizes(recipe)
    chosen, left_out = find_repositories(sources, recipe, engine, progress, strict=strict)
    with (
        tempfile.TemporaryDirectory(dir=temporary_folder()) as folder,
        BuildState(Path(folder), recipe.seed, engine, progress) as state,
    ):
        many = ManyBuild(state, recipe, storage.open_work_folder(work), None, left_out, (phase,), strict=strict)
        if phase == "read":
            return DoneShare(len(many.read(chosen, share)), len(many.left_out))
        repositories = many.read(chosen)
        require_some([each.named for each in repositories], many.left_out)
        if phase == "rows":
            return DoneShare(len(many.make_rows(repositories, share)), len(many.left_out))
        return DoneShare(len(many.write(many.make_rows(repositories), share)), len(many.left_out))

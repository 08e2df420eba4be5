"""Weigh: how often a trainer draws a row: by the role of its file, its age, and whether a change made it.

The product of the three, as a column; rows are never copied. Ages are counted from the newest commit, not the clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.layout import age_factor, age_in_days
from git_starcoder.records import Change

if TYPE_CHECKING:
    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import WeighOptions
    from git_starcoder.records import Role, Windows


def weigh_windows(build: BuildState, options: WeighOptions, repo: Repo, windows: Windows) -> Windows:
    """Windows in, the same windows with their `weight` out."""
    with build.count_step("weigh", len(windows)) as step:
        weights = [
            of_role(options, origin.role)
            * age_factor(age_in_days(origin.changed_at, repo.committed_at), options.recent, options.old)
            * (options.evolution if isinstance(origin, Change) else 1.0)
            for origin in (sample.origin for sample in windows.samples)
        ]
        step.keep(len(windows))
        return windows.with_columns(weight=np.array(weights, dtype=np.float64)[windows.sample_index])


def of_role(options: WeighOptions, role: Role) -> float:
    """The factor of a role: `core` and `test` have their own, all others count as utilities."""
    return {"core": options.core, "test": options.test}.get(role, options.utility)

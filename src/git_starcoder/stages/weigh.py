"""Weigh: how often a trainer draws a row, by the role of its file. A column; rows are never copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from git_starcoder.recipe import Weigh
    from git_starcoder.rows import Role, Windows
    from git_starcoder.run import Run


def run(run: Run, options: Weigh, windows: Windows) -> Windows:
    """Windows in, the same windows with their `weight` out."""
    with run.step("weigh", len(windows)) as step:
        by_sample = np.array([of_role(options, sample.unit.role) for sample in windows.samples], dtype=np.float64)
        step.keep(len(windows))
        return windows.with_columns(weight=by_sample[windows.sample])


def of_role(options: Weigh, role: Role) -> float:
    """The weight of a role: `core` and `test` have their own, all others count as utilities."""
    return {"core": options.core, "test": options.test}.get(role, options.utility)

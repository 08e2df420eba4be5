"""Every row weighs what its role, its age and its kind say."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

from git_starcoder.checks import place
from git_starcoder.recipe import Recipe
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.dataset import Dataset

PRIORITY = {"core": "high", "test": "low"}
RECENT, OLD = 60, 90
"""Days from the last change to the newest commit."""


def check(dataset: Dataset) -> Generator[Finding, None, str]:
    """A finding for each row whose weight, priority or flags do not follow; the figure is the weights.

    Where training rows are copied by their weight, each copy weighs 1.
    """
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    weigh = recipe.weigh
    by_role = {"core": weigh.core, "test": weigh.test}
    met: set[float] = set()
    for split in SPLITS:
        for row in dataset.rows(split):
            said = row.metadata
            role = said["role"]
            days = said["age_days"]
            weight = by_role.get(role, weigh.utility)
            weight *= weigh.recent if days < RECENT else 1.0 if days < OLD else weigh.old
            weight *= weigh.evolution if said.get("is_evolution") else 1.0
            found = said["weight"]
            if split == "train" and recipe.write.copies:
                if found != 1:
                    yield Finding("weights", place(dataset, split, row), f"a copy of weight {found}")
                found = said.get("weight_of_row", 0)
                if said.get("copies", 0) not in {floor(found), ceil(found)}:
                    yield Finding("weights", place(dataset, split, row), f"{said.get('copies')} copies for {weight:g}")
            met.add(found)
            if abs(found - weight) > 5e-5:  # four decimals are written
                yield Finding("weights", place(dataset, split, row), f"weight {found}, not {weight:g}")
            if said["priority"] != PRIORITY.get(role, "medium"):
                yield Finding("weights", place(dataset, split, row), f"priority {said['priority']} for {role}")
            if (said["is_core"], said["is_test"]) != (role == "core", role == "test"):
                yield Finding("weights", place(dataset, split, row), f"is_core or is_test does not say {role}")
    return f"weights {', '.join(f'{weight:g}' for weight in sorted(met))}"

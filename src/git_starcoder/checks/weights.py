"""Every row weighs what its role, its age and its kind say."""

from __future__ import annotations

from math import ceil, floor
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from git_starcoder.checks import place
from git_starcoder.layout import age_factor
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = (
    "test_weighting_strategy", "test_smart_weighting", "test_temporal_weighting", "test_evolution_weighting",
)  # fmt: skip
PRIORITY = {"core": "high", "test": "low"}
ASKED = itemgetter("role", "age_days", "augmentation_type", "weight", "priority", "is_core", "is_test")


class Check:
    """A finding for each row whose weight, priority or flags do not follow; the figure is the weights.

    Where training rows are copied by their weight, each copy weighs 1.
    """

    def __init__(self, given: Given) -> None:
        recipe = given.recipe
        self._dataset = given.dataset
        self._weigh, self._copies = recipe.weigh, recipe.write.copies
        self._by_role = {"core": recipe.weigh.core, "test": recipe.weigh.test}
        self._met: set[float] = set()
        self._right: set[tuple[Any, ...]] = set()
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Their weights, from first principles; what many rows say is worked out once."""
        copied = split == "train" and self._copies
        for row, said in zip(block.rows, block.metadata, strict=True):
            asked = ASKED(said)
            if asked not in self._right or copied:
                wrong = list(self._wrong(split, said))
                if not wrong:
                    self._right.add(asked)
                for what in wrong:
                    yield Finding("weights", place(self._dataset, split, row), what)

    def _wrong(self, split: Split, said: Mapping[str, Any]) -> Iterator[str]:
        weigh = self._weigh
        role, days = said["role"], said["age_days"]
        weight = self._by_role.get(role, weigh.utility)
        weight *= age_factor(days, weigh.recent, weigh.old)
        weight *= weigh.evolution if said["augmentation_type"] == "git_diff" else 1.0
        found = said["weight"]
        if split == "train" and self._copies:
            if found != 1:
                yield f"a copy of weight {found}"
            found = said.get("weight_of_row", 0)
            if said.get("copies", 0) not in {floor(found), ceil(found)}:
                yield f"{said.get('copies')} copies for {weight:g}"
        self._met.add(found)
        if abs(found - weight) > 5e-5:  # four decimals are written
            yield f"weight {found}, not {weight:g}"
        if said["priority"] != PRIORITY.get(role, "medium"):
            yield f"priority {said['priority']} for {role}"
        if (said["is_core"], said["is_test"]) != (role == "core", role == "test"):
            yield f"is_core or is_test does not say {role}"

    def end(self) -> Iterator[Finding]:
        """Nothing more."""
        self.figure = f"weights {', '.join(f'{weight:g}' for weight in sorted(self._met))}"
        yield from ()

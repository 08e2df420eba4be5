"""Counts add up at every step and in every file."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from git_starcoder.checks import objects, written
from git_starcoder.layout import STEPS
from git_starcoder.records import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

SEEDS: tuple[str, ...] = ()
SAME = tuple(pairwise(STEPS[4:]))
"""Steps that hand on the very things that they keep."""


class Check:
    """A finding for each count that is not another; the figure is what was seen, kept and dropped."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._rows: dict[Split, int] = dict.fromkeys(SPLITS, 0)
        self.figure = "the steps are not the nine"

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Count them."""
        self._rows[split] += len(block.rows)
        return ()

    def end(self) -> Iterator[Finding]:
        """Compare all counts."""
        dataset = self._dataset
        steps = {step["step"]: step for step in dataset.manifest["steps"]}
        if tuple(steps) != STEPS:
            yield Finding("counts", "manifest.json", f"the steps are {', '.join(steps)}")
            return
        for name, step in steps.items():
            dropped = sum(step["dropped"].values())
            if step["seen"] != step["kept"] + dropped:
                what = f"{step['seen']} seen, but {step['kept']} kept and {dropped} dropped"
                yield Finding("counts", f"manifest.json, {name}", what)
        yield from _handed_on(steps)
        yield from _drops(dataset)
        for split, number in self._rows.items():
            for said, where in (
                (written(dataset, split), "manifest.json"),
                (dataset.metadata[f"{split}_sequences"], "dataset_metadata.json"),
            ):
                if number != said:
                    yield Finding("counts", dataset.files(split)[0].name, f"{number} rows, but {said} in {where}")
        total = sum(self._rows.values())
        for said, where in (
            (steps["write"]["kept"] + steps["write"]["figures"].get("copies", 0), "manifest.json"),
            (dataset.metadata["total_sequences"], "dataset_metadata.json"),
        ):
            if total != said:
                yield Finding("counts", where, f"{said} rows in all, but the files hold {total}")
        drops = sum(sum(step["dropped"].values()) for step in steps.values())
        self.figure = f"{steps['read']['seen']:,} files seen, {total:,} rows written, {drops:,} drops with a reason"


def _handed_on(steps: Mapping[str, dict[str, Any]]) -> Iterator[Finding]:
    """What a step keeps is what the next one sees."""
    changes = steps["read"]["figures"].get("changes", 0)  # they pass by analyse
    for name, handed in (("analyse", steps["read"]["kept"] - changes), ("split", steps["analyse"]["kept"] + changes)):
        if steps[name]["seen"] != handed:
            yield Finding("counts", "manifest.json", f"{name} saw {steps[name]['seen']}, but was handed {handed}")
    for before, after in SAME:
        if steps[before]["kept"] != steps[after]["seen"]:
            what = f"{before} kept {steps[before]['kept']}, but {after} saw {steps[after]['seen']}"
            yield Finding("counts", "manifest.json", what)


def _drops(dataset: Dataset) -> Iterator[Finding]:
    """Every drop that a step counts has its line, and the other way round."""
    told: Counter[tuple[str, str]] = Counter()
    for number, drop in objects(dataset, "drops.jsonl", ("step", "reason")):
        if isinstance(drop, str):
            yield Finding("counts", f"drops.jsonl:{number}", f"not a drop: {drop}")
        else:
            told[str(drop["step"]), str(drop["reason"])] += int(drop.get("things", 1))
    said = Counter({
        (step["step"], reason): count for step in dataset.manifest["steps"] for reason, count in step["dropped"].items()
    })  # fmt: skip
    for step, reason in sorted(told.keys() | said.keys()):
        if told[step, reason] != said[step, reason]:
            what = f"{said[step, reason]} dropped as '{reason}', but drops.jsonl has {told[step, reason]}"
            yield Finding("counts", f"manifest.json, {step}", what)

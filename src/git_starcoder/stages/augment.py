"""Unit → Sample: each text as it is, and its variations. No variation is kept that its own `verify` does not pass.

Which files an augmentation is applied to is drawn from their content, so a file has the same variations whatever else
is in the repository, and whatever order files come in.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder import augmentations
from git_starcoder.parse.tree import Code, parse
from git_starcoder.rows import Sample, identity
from git_starcoder.seams import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.augmentations import Variant
    from git_starcoder.rows import Unit
    from git_starcoder.run import Run, Step

BASE = "base"
LIMIT = 60.0
"""Seconds that all variations of one file may take."""


class Rejected(NamedTuple):
    """Why there is no variation."""

    reason: str
    because: str = ""


class Task(NamedTuple):
    """Variations of one file to make: for each augmentation, the seed of its randomness."""

    text: bytes
    language: str
    seeds: dict[str, int]


def run(run: Run, shares: Mapping[str, float], units: list[Unit]) -> list[Sample]:
    """Every unit as it is, and every variation that was drawn, could be made and was verified.

    Samples come in the order of the units, `base` first and the others in the order of `shares`. A thing seen is a
    unit with `base` or with one of `shares`.
    """
    samples: list[Sample] = []
    with run.step("augment", len(units) * (1 + len(shares))) as step:
        planned = [draw(run, shares, unit) for unit in units]
        made = run.engine.map(vary, _tasks(run, units, planned), limit=LIMIT)
        for unit, seeds in zip(units, planned, strict=True):
            samples.append(Sample(identity(unit.source.id, BASE), unit, BASE, unit.source.text))
            step.keep()
            results = _near(run, unit, seeds)
            if _far(unit, seeds):
                answer = next(made)
                if isinstance(answer, Failure):
                    rejected = Rejected(f"parser_{answer.kind}", answer.because)
                    answer = dict.fromkeys(_far(unit, seeds), rejected)
                results |= answer
            for key in shares:
                _take(run, step, samples, unit, key, results.get(key, Rejected("not_drawn")))
        for key in shares:
            step.figures[key] = sum(sample.made_by == key for sample in samples)
    return samples


def vary(task: Task) -> dict[str, Variant | Rejected]:
    """Make and verify the variations of one file. For worker processes."""
    before = parse(task.text, task.language)
    return {key: _vary(before, key, seed) for key, seed in task.seeds.items()}


def _vary(before: Code, key: str, seed: int) -> Variant | Rejected:
    augmentation = augmentations.load(key)
    if augmentation.NEEDS_TREE and not before.clean:
        return Rejected("not_clean")
    variant = augmentation.vary(before, random.Random(seed))  # noqa: S311 - not for secrets
    if isinstance(variant, str):
        return Rejected(variant)
    if variant.text == before.data and not variant.holes:
        return Rejected("same_text")
    after = before
    if augmentation.NEEDS_TREE and before.language is not None:
        after = parse(variant.text, before.language.key)
        if not after.clean:
            return Rejected("unverified", "it does not parse")
    wrong = augmentation.verify(before, variant, after)
    return Rejected("unverified", wrong) if wrong else variant


def draw(run: Run, shares: Mapping[str, float], unit: Unit) -> dict[str, int]:
    """The augmentations that this unit gets, each with its seed."""
    seeds: dict[str, int] = {}
    for key, share in shares.items():
        randomness = run.random("augment", key, unit.source.id)
        if randomness.random() < share:
            seeds[key] = randomness.getrandbits(64)
    return seeds


def _far(unit: Unit, seeds: dict[str, int]) -> dict[str, int]:
    """What is made in a worker: whatever needs a tree, where there is one without errors."""
    if unit.tree != "clean":
        return {}
    return {key: seed for key, seed in seeds.items() if augmentations.load(key).NEEDS_TREE}


def _tasks(run: Run, units: list[Unit], planned: list[dict[str, int]]) -> Iterator[Task]:
    for unit, seeds in zip(units, planned, strict=True):
        if far := _far(unit, seeds):
            yield Task(run.texts.get(unit.source.text), unit.source.language, far)


def _near(run: Run, unit: Unit, seeds: dict[str, int]) -> dict[str, Variant | Rejected]:
    """What is made here: variations of plain text, and the reasons why there is no tree."""
    reason = Rejected("no_tree" if unit.tree == "none" else "not_clean")
    results: dict[str, Variant | Rejected] = {}
    for key, seed in seeds.items():
        if not augmentations.load(key).NEEDS_TREE:
            text = Code(run.texts.get(unit.source.text), None, None, clean=False)
            results[key] = _vary(text, key, seed)
        elif unit.tree != "clean":
            results[key] = reason
    return results


def _take(run: Run, step: Step, samples: list[Sample], unit: Unit, key: str, result: Variant | Rejected) -> None:
    if isinstance(result, Rejected):
        step.drop(unit.source.path, result.reason, f"{key}: {result.because}" if result.because else key)
        return
    span = unit.source.text if result.holes else run.texts.put(result.text)
    holes = (place for hole in result.holes for place in hole)
    samples.append(Sample(identity(unit.source.id, key, result.text, *holes), unit, key, span, result.holes))
    step.keep()

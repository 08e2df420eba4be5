"""Unit → Sample: each text as it is, and its variations. No variation is kept that its own `verify` does not pass.

Which files an augmentation is applied to is drawn from their content, so a file has the same variations whatever else
is in the repository, and whatever order files come in.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder import augmentations
from git_starcoder.augmentations import Variant
from git_starcoder.parse.tree import Code, parse
from git_starcoder.rows import Sample, identity
from git_starcoder.seams import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.recipe import Augmentation
    from git_starcoder.rows import Unit
    from git_starcoder.run import Run, Step

BASE = "base"
LIMIT = 60.0
"""Seconds that all variations of one file may take."""


class Rejected(NamedTuple):
    """Why there is no variation."""

    reason: str
    because: str = ""


class Drawn(NamedTuple):
    """A variation to be made of one file."""

    key: str
    """Of the augmentation."""
    seed: int
    """Of its randomness."""


class Task(NamedTuple):
    """Variations to be made of one file."""

    text: bytes
    language: str
    drawn: list[Drawn]


def run(run: Run, options: Mapping[str, Augmentation], units: list[Unit]) -> list[Sample]:
    """Every unit as it is, and every variation that was drawn, could be made and was verified.

    Samples come in the order of the units, `base` first and the others in the order of `options`. A thing seen is a
    unit with `base` or with a copy of one of `options`.
    """
    samples: list[Sample] = []
    with run.step("augment", len(units) * (1 + sum(option.copies for option in options.values()))) as step:
        planned = [draw(run, options, unit) for unit in units]
        made = run.engine.map(vary, _tasks(run, units, planned), limit=LIMIT)
        for unit, drawn in zip(units, planned, strict=True):
            samples.append(Sample(identity(unit.source.id, BASE), unit, BASE, unit.source.text))
            step.keep()
            results = _near(run, unit, drawn)
            if far := _far(unit, drawn):
                answer = next(made)
                if isinstance(answer, Failure):
                    answer = [Rejected(f"parser_{answer.kind}", answer.because)] * len(far)
                results |= dict(zip(far, answer, strict=True))
            for key, option in options.items():
                here = [results[one] for one in drawn if one.key == key]
                missing = [Rejected("not_drawn")] * (option.copies - len(here))
                _take(run, step, samples, unit, key, here + missing)
        for key in options:
            step.figures[key] = sum(sample.made_by == key for sample in samples)
    return samples


def vary(task: Task) -> list[Variant | Rejected]:
    """Make and verify the variations of one file. For worker processes."""
    before = parse(task.text, task.language)
    return [_vary(before, drawn) for drawn in task.drawn]


def _vary(before: Code, drawn: Drawn) -> Variant | Rejected:
    augmentation = augmentations.variation(drawn.key)
    if augmentation.NEEDS == "tree" and not before.clean:
        return Rejected("not_clean")
    variant = augmentation.vary(before, random.Random(drawn.seed))  # noqa: S311 - not for secrets
    if isinstance(variant, str):
        return Rejected(variant)
    if variant.text == before.data and not variant.holes:
        return Rejected("same_text")
    after = before
    if augmentation.NEEDS == "tree" and before.language is not None:
        after = parse(variant.text, before.language.key)
        if not after.clean:
            return Rejected("unverified", "it does not parse")
    wrong = augmentation.verify(before, variant, after)
    return Rejected("unverified", wrong) if wrong else variant


def draw(run: Run, options: Mapping[str, Augmentation], unit: Unit) -> list[Drawn]:
    """The variations that this unit gets, in the order of `options`."""
    drawn: list[Drawn] = []
    for key, option in options.items():
        randomness = run.random("augment", key, unit.source.id)
        if randomness.random() < option.share:
            drawn += [Drawn(key, randomness.getrandbits(64)) for _ in range(option.copies)]
    return drawn


def _far(unit: Unit, drawn: list[Drawn]) -> list[Drawn]:
    """What is made in a worker: whatever needs a tree, where there is one without errors."""
    if unit.tree != "clean":
        return []
    return [one for one in drawn if augmentations.needs(one.key) == "tree"]


def _tasks(run: Run, units: list[Unit], planned: list[list[Drawn]]) -> Iterator[Task]:
    for unit, drawn in zip(units, planned, strict=True):
        if far := _far(unit, drawn):
            yield Task(run.texts.get(unit.source.text), unit.source.language, far)


def _near(run: Run, unit: Unit, drawn: list[Drawn]) -> dict[Drawn, Variant | Rejected]:
    """What is made here: variations of plain text, and the reasons why there is no tree."""
    reason = Rejected("no_tree" if unit.tree == "none" else "not_clean")
    results: dict[Drawn, Variant | Rejected] = {}
    for one in drawn:
        if augmentations.needs(one.key) == "text":
            text = Code(run.texts.get(unit.source.text), None, None, clean=False)
            results[one] = _vary(text, one)
        elif unit.tree != "clean":
            results[one] = reason
    return results


def _take(run: Run, step: Step, samples: list[Sample], unit: Unit, key: str, results: list[Variant | Rejected]) -> None:
    taken: set[Variant] = set()
    for result in results:
        if isinstance(result, Variant) and result in taken:
            step.drop(unit.source.path, "same_text", f"{key}: another copy came out the same")
        elif isinstance(result, Variant):
            taken.add(result)
            span = unit.source.text if result.holes else run.texts.put(result.text)
            holes = (place for hole in result.holes for place in hole)
            samples.append(Sample(identity(unit.source.id, key, result.text, *holes), unit, key, span, result.holes))
            step.keep()
        else:
            step.drop(unit.source.path, result.reason, f"{key}: {result.because}" if result.because else key)

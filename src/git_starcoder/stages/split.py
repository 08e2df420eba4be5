"""Split: which files are learned from and which are held out, decided once, before anything multiplies.

Files that share text belong together: a group is a connected component of equal texts, near-duplicates, files that
stand in others for the most part, and rename lineage. All that is ever made of a file inherits the split of its group.

Groups are taken in an order hashed from the seed and the group's oldest path, and fill test and val up to their shares
of the rows; the rest is train. So a file stays where it is when it is edited or renamed, and a small commit moves few
groups: those at the edge of a share. A group too large for the room that is left goes to train.

A repository that cannot be parted says so (`fallback` in the manifest) and is never cut inside a file, which would
leak: one group is all train, two are train and val. Whoever reads a dataset must cope with an empty val or test. Three
groups or more always give all three, if need be beyond their shares.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from math import ceil, fsum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder import augmentations
from git_starcoder.rows import SPLITS, Split, identity
from git_starcoder.stages import augment
from git_starcoder.text.contained import contained
from git_starcoder.text.near import links
from git_starcoder.text.shingles import SHINGLE, TextShingles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_starcoder import recipe
    from git_starcoder.rows import Unit
    from git_starcoder.run import Run, Step

TOKENS_PER_WORD = 1.33
"""Tokens that a learned tokenizer needs for a word or a run of signs (1.2 to 1.5 by repository): there is none yet."""
SLACK = 0.001
"""Share of the rows by which val and test may miss their shares before more is tried."""
POINT = 0.01
"""A split whose share is further off than this is worth a note."""


class Group(NamedTuple):
    """Files that must not be parted."""

    id: str
    rows: float
    """Rows that are expected of it."""
    place: float
    """Where it comes in the order of groups, 0 to 1."""
    taste: float
    """Whether it is first offered to test (low) or to val, 0 to 1."""


def run(
    run: Run,
    options: recipe.Split,
    units: Sequence[Unit],
    window: recipe.Window,
    variations: Mapping[str, recipe.Augmentation],
) -> list[Unit]:
    """Units in, the same units with their `group` and `split` out.

    `window` and the `variations` that are made tell how many rows a file will give: splits have shares of the rows,
    not of the files.
    """
    with run.step("split", len(units)) as step:
        digests = [_digest(run, unit) for unit in units]
        distinct: dict[str, int] = {}
        for at in sorted(range(len(units)), key=lambda at: units[at].source.path):
            distinct.setdefault(digests[at], at)
        shingles = TextShingles.of(run.texts.get(units[at].source.text) for at in distinct.values())
        tokens = dict(zip(distinct, ((shingles.sizes() + SHINGLE - 1) * TOKENS_PER_WORD).tolist(), strict=True))
        names = _names(run, step, units, digests, list(distinct.values()), shingles, options.near)
        rows: dict[str, list[float]] = defaultdict(list)
        for digest, at in distinct.items():  # of equal texts one will stay
            rows[names[at]].append(expected_rows(tokens[digest], window, _variations(run, units[at], variations)))
        groups = [Group(name, fsum(sorted(parts)), *_chances(run, name)) for name, parts in rows.items()]
        splits = assign(groups, options)
        step.figures["groups"] = len(groups)
        step.figures["largest_group"] = max(Counter(names).values(), default=0)
        _tell(run, step, options, groups, splits)
        step.keep(len(units))
        return [replace(unit, group=name, split=splits[name]) for unit, name in zip(units, names, strict=True)]


def expected_rows(tokens: float, window: recipe.Window, variations: int) -> int:
    """How many rows a text of so many tokens and its variations will give, about."""
    rows = 0
    for size in window.sizes:
        stride = max(1, round(size * (1 - window.overlap)))
        rows += 1 + max(0, ceil((tokens - size) / stride))
        if tokens <= size:
            break
    return rows * (1 + variations)


def assign(groups: Sequence[Group], options: recipe.Split) -> dict[str, Split]:
    """The split of each group, whatever order they come in."""
    order = sorted(groups, key=lambda group: (group.place, group.id))
    splits: dict[str, Split] = {group.id: "train" for group in order}
    if len(order) < len(SPLITS):
        for group in sorted(order, key=lambda group: group.rows)[: len(order) - 1]:
            splits[group.id] = "val"
        return splits
    total = fsum(sorted(group.rows for group in order))
    room: dict[Split, float] = {"test": options.test * total, "val": options.val * total}
    prefers_test = options.test / (options.test + options.val)

    def offer(group: Group, split: Split) -> None:
        if splits[group.id] == "train" and room[split] > SLACK * total >= group.rows - room[split]:
            splits[group.id] = split
            room[split] -= group.rows

    for group in order:
        offer(group, "test" if group.taste < prefers_test else "val")
    for group in order:  # what is still missing comes from groups of the other taste
        offer(group, "test")
        offer(group, "val")
    for split in SPLITS:
        if split not in splits.values():
            held = list(splits.values())
            spare = (group for group in order if held.count(splits[group.id]) > 1)
            splits[min(spare, key=lambda group: group.rows).id] = split
    return splits


def _digest(run: Run, unit: Unit) -> str:
    """Equal for equal texts. A blank text is nobody's copy: it would connect files that have nothing in common."""
    text = run.texts.get(unit.source.text)
    return identity(text) if text.strip() else identity("blank", unit.source.path)


def _variations(run: Run, unit: Unit, variations: Mapping[str, recipe.Augmentation]) -> int:
    """How many of its augmentations can be made of a unit."""
    drawn = augment.draw(run, variations, unit)
    return sum(unit.tree == "clean" or augmentations.needs(one.key) != "tree" for one in drawn)


def _chances(run: Run, name: str) -> tuple[float, float]:
    random = run.random("split", name)
    return random.random(), random.random()


def _names(
    run: Run,
    step: Step,
    units: Sequence[Unit],
    digests: list[str],
    distinct: list[int],
    shingles: TextShingles,
    threshold: float,
) -> list[str]:
    """The group of each unit, named by the oldest path of its files. `shingles` are those of the `distinct` ones."""
    parent = list(range(len(units)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    of_text: dict[str, int] = {}
    of_path: dict[str, int] = {}
    lineage = 0
    for at, unit in enumerate(units):
        parent[root(at)] = root(of_text.setdefault(digests[at], at))
        for path in (unit.source.path, *unit.source.former):
            lineage += of_path.setdefault(path, at) != at
            parent[root(at)] = root(of_path[path])
    near, inside = links(shingles, threshold), contained(shingles, threshold)
    lefts, rights = np.concatenate((near.left, inside.part)), np.concatenate((near.right, inside.whole))
    pairs: list[tuple[int, int]] = list(zip(lefts.tolist(), rights.tolist(), strict=True))
    for left, right in pairs:
        parent[root(distinct[left])] = root(distinct[right])
    oldest: dict[int, str] = {}
    for at, unit in enumerate(units):
        path = (unit.source.path, *unit.source.former)[-1]
        oldest[root(at)] = min(path, oldest.get(root(at), path))
    step.figures["equal_texts"] = len(units) - len(distinct)
    step.figures["lineage_links"] = lineage
    step.figures["near_duplicate_links"] = len(near.left)
    step.figures["contained_links"] = len(inside.part)
    if not near.exact:
        step.figures["near_duplicate_search"] = "partly estimated"
        run.watch.note("split: too many files are half alike to compare them all; some were put together by estimate")
    return [identity(oldest[root(at)]) for at in range(len(units))]


def _tell(run: Run, step: Step, options: recipe.Split, groups: list[Group], splits: dict[str, Split]) -> None:
    """Figures, and a note where the split is not what the recipe asks for."""
    rows = {split: fsum(group.rows for group in groups if splits[group.id] == split) for split in SPLITS}
    total = fsum(rows.values()) or 1.0
    for split in SPLITS:
        step.figures[f"expected_rows_{split}"] = round(rows[split])
    wanted = {"train": options.train, "val": options.val, "test": options.test}
    if len(groups) < 2:
        step.figures["fallback"] = "all train"
        run.watch.note("split: all files are alike, so nothing can be held out: val and test are empty")
    elif len(groups) < len(SPLITS):
        step.figures["fallback"] = "no test"
        run.watch.note("split: only two groups of files are not alike: test is empty")
    elif any(abs(rows[split] / total - wanted[split]) > POINT for split in SPLITS):
        step.figures["fallback"] = "uneven"
        shares = ", ".join(f"{split} {rows[split] / total:.1%}" for split in SPLITS)
        run.watch.note(f"split: the files cannot be parted as asked without a leak: {shares} of the rows")
    else:
        step.figures["fallback"] = "none"

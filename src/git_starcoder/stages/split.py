"""Split: which files are learned from and which are held out, decided once, before anything multiplies.

Files that share text belong together: a group is a connected component of equal texts, near-duplicates, files that
stand in others for the most part, copies with something added to every line (`text.alike`), and rename lineage. All
that is ever made of a file inherits the split of its group.

A change belongs to the group of the file that descends from it, or else of the one that had its path before, so that no
path is in two splits. What became of no file that is read is learned from; so its texts, like all history that is
learned from, pass a gate: an edit with a line of held-out code goes no further, because code moves between files
without a trace. Lines that files of the training split have too are no secret.

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
from typing import TYPE_CHECKING, NamedTuple, get_args

import numpy as np

from git_starcoder import augmentations
from git_starcoder.memo import Memo
from git_starcoder.records import SPLITS, Role, Split, content_id, printable_path
from git_starcoder.stages import augment
from git_starcoder.stages.gate import behind_gate, recall_lines
from git_starcoder.text import embed
from git_starcoder.text.alike import alike
from git_starcoder.text.near import keepers
from git_starcoder.text.shingles import SHINGLE, TextShingles, offsets_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_starcoder import recipe as recipes
    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.records import Change, Span, Unit
    from git_starcoder.text.lines import Lines

TOKENS_PER_WORD = 1.33
"""Tokens that a learned tokenizer needs for a word or a run of signs (1.2 to 1.5 by repository): there is none yet."""
STAYING = 0.8
"""Share of the rows of changes that stay where they are learned from (0.76 to 0.90 by repository): others are gated. Of
those that are held out nearly all do."""
SLACK = 0.001
"""Share of the rows by which val and test may miss their shares before more is tried."""
POINT = 0.01
"""A split whose share is further off than this is worth a note."""


ROLES: tuple[Role, ...] = get_args(Role)
GONE = "gone"
"""The group of changes to files that are no more, where no file that is read had their path."""


class Group(NamedTuple):
    """Files that must not be parted."""

    id: str
    rows: float
    """Rows that are expected of it where it is held out."""
    place: float
    """Where it comes in the order of groups, 0 to 1."""
    taste: float
    """Whether it is first offered to test (low) or to val, 0 to 1."""


def assign_splits(
    build: BuildState, recipe: recipes.Recipe, units: Sequence[Unit], changes: Sequence[Change]
) -> tuple[list[Unit], list[Change]]:
    """Units and changes in, the same with their `group` and `split` out, less near-copies and what is behind the gate.

    The windows of the recipe and its augmentations tell how many rows a file will give: splits have shares of the rows,
    not of the files.
    """
    with build.count_step("split", len(units) + len(changes)) as step:
        digests = [_digest(build, unit) for unit in units]
        distinct: dict[str, int] = {}
        for at in sorted(range(len(units)), key=lambda at: units[at].path):
            distinct.setdefault(digests[at], at)
        texts = {digest: units[at].source.text for digest, at in distinct.items()}
        shingles, lines = _shingles(build, texts), _lines(build, texts)
        names = _names(build, step, units, digests, list(distinct.values()), shingles, lines, recipe.split.near)
        of_path = {path: name for unit, name in zip(units, names, strict=True)
                   for path in (unit.path, *unit.source.former_paths)}  # fmt: skip
        of_change = [of_path.get(change.current_path) or of_path.get(change.path, GONE) for change in changes]
        tokens = dict(zip(distinct, ((shingles.sizes() + SHINGLE - 1) * TOKENS_PER_WORD).tolist(), strict=True))
        files: dict[str, list[float]] = defaultdict(list)
        edits: dict[str, list[float]] = defaultdict(list)
        for digest, at in distinct.items():  # of equal texts one will stay
            files[names[at]].append(
                expected_rows(tokens[digest], recipe.window, _variations(build, units[at], recipe.augment))
            )
        for change, name in zip(changes, of_change, strict=True):
            edits[name].append(_frames(change, recipe.augment))
        of_edits = defaultdict(float, {name: fsum(sorted(rows)) for name, rows in edits.items()})
        gone = STAYING * of_edits.pop(GONE, 0.0)
        held = {name: fsum(sorted(rows)) + of_edits[name] for name, rows in files.items()}
        gated = {name: (1 - STAYING) * of_edits[name] for name in held}
        groups = [Group(name, steady(rows), *_chances(build, name)) for name, rows in held.items()]
        less = recipe.split.train * fsum(sorted(gated.values()))
        splits = assign(groups, recipe.split, steady(gone) - steady(less))
        splits[GONE] = "train"
        step.figures["groups"] = len(groups)
        step.figures["largest_group"] = max(Counter(names).values(), default=0)
        expected = {name: rows - gated[name] * (splits[name] == "train") for name, rows in held.items()}
        _tell(build, step, recipe.split, expected, splits, gone)
        kept = [replace(unit, group=name, split=splits[name]) for unit, name in zip(units, names, strict=True)]
        grouped = [change._replace(group=name, split=splits[name])
                   for change, name in zip(changes, of_change, strict=True)]  # fmt: skip
        place = {digest: number for number, digest in enumerate(distinct)}
        texts_of_units = [place[digest] for digest in digests]
        unlike = _unlike(step, kept, shingles.some(texts_of_units), recipe.dedup.files)
        unlike = _about_something_else(build, step, unlike, recipe.dedup)
        step.keep(len(unlike))
        return unlike, behind_gate(build, step, kept, lines.take(texts_of_units), grouped, repr(recipe.read))


def expected_rows(tokens: float, window: recipes.WindowOptions, variations: int) -> int:
    """How many rows a text of so many tokens and its variations will give, about."""
    rows = 0
    for size in window.sizes:
        stride = max(1, round(size * (1 - window.overlap)))
        rows += 1 + max(0, ceil((tokens - size) / stride))
        if tokens <= size:
            break
    return rows * (1 + variations)


def steady(rows: float) -> int:
    """A number of rows to three binary digits, so that a small commit moves no file to another split by its size."""
    whole = round(rows)
    spare = max(0, whole.bit_length() - 3)
    return (whole + (1 << spare >> 1)) >> spare << spare


def assign(groups: Sequence[Group], options: recipes.SplitOptions, more: float = 0.0) -> dict[str, Split]:
    """The split of each group, whatever order they come in. `more` rows are learned from besides, or fewer."""
    order = sorted(groups, key=lambda group: (group.place, group.id))
    splits: dict[str, Split] = {group.id: "train" for group in order}
    if len(order) < len(SPLITS):
        for group in sorted(order, key=lambda group: group.rows)[: len(order) - 1]:
            splits[group.id] = "val"
        return splits
    total = fsum(sorted(group.rows for group in order)) + more
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


def _digest(build: BuildState, unit: Unit) -> str:
    """Equal for equal texts. A blank text is nobody's copy: it would connect files that have nothing in common."""
    text = build.texts.get(unit.source.text)
    return content_id(text) if text.strip() else content_id("blank", unit.source.path)


def _variations(build: BuildState, unit: Unit, variations: Mapping[str, recipes.AugmentationOptions]) -> int:
    """How many of its augmentations can be made of a unit, about."""
    can = {
        "text": True,
        "tree": unit.parse_status == "clean",
        "imports": bool(unit.imports),
        "history": False,
        "change": False,
    }
    return sum(can[augmentations.needs(one.key)] for one in augment.draw(build, variations, unit))


def _frames(change: Change, variations: Mapping[str, recipes.AugmentationOptions]) -> float:
    """How many rows a change will give, on average: one for each edit, and one for each that follows another."""
    shares = fsum(option.share for key, option in variations.items() if augmentations.needs(key) == "change")
    return shares * (2 * len(change.edits) - 1)


def _unlike(step: StepCounts, units: list[Unit], shingles: TextShingles, threshold: float | None) -> list[Unit]:
    """The units less those that nearly repeat a better one of their group: of a worse role, older, by path."""
    if threshold is None:
        return units
    order = _best_first(units)
    ordered = [units[at] for at in order]
    groups = np.array([int(unit.group[:8], 16) for unit in ordered], dtype=np.int64)
    found = keepers(shingles.some(order), threshold, lambda left, right: groups[left] != groups[right])
    keeper: list[int] = found.keeper.tolist()
    similarity: list[float] = found.similarity.tolist()
    kept: dict[str, Unit] = {}
    for unit, at, likeness in zip(ordered, keeper, similarity, strict=True):
        if at < 0:
            kept[unit.path] = unit
        else:
            step.drop(unit.path, "near_copy", f"{printable_path(ordered[at].path)}, similarity {likeness:.3f}")
    return [unit for unit in units if unit.path in kept]


def _about_something_else(
    build: BuildState, step: StepCounts, units: list[Unit], options: recipes.DedupOptions
) -> list[Unit]:
    """The units less those that say nearly what a better one of their group says, by an embedding model."""
    if options.embedding is None:
        return units
    model = embed.load(options.embedding)
    sizes = Counter(unit.group for unit in units)
    ordered = [units[at] for at in _best_first(units) if sizes[units[at].group] > 1]
    groups = np.unique([unit.group for unit in ordered], return_inverse=True)[1]
    vectors = model.vectors(build.texts.get(unit.source.text) for unit in ordered)
    found = embed.alike(vectors, groups, options.embedded)
    keeper: list[int] = found.keeper.tolist()
    similarity: list[float] = found.similarity.tolist()
    dropped: set[str] = set()
    for unit, at, likeness in zip(ordered, keeper, similarity, strict=True):
        if at >= 0:
            dropped.add(unit.path)
            step.drop(unit.path, "near_meaning", f"{printable_path(ordered[at].path)}, similarity {likeness:.3f}")
    return [unit for unit in units if unit.path not in dropped]


def _best_first(units: Sequence[Unit]) -> list[int]:
    """The order in which units are kept rather than their likes: by role, the newest first, by path."""
    return sorted(
        range(len(units)), key=lambda at: (ROLES.index(units[at].role), -units[at].changed_at, units[at].path)
    )


def _shingles(build: BuildState, texts: Mapping[str, Span]) -> TextShingles:
    """The shingles of texts by their digests, as an earlier build hashed them or as they are hashed now."""
    memo: Memo[bytes] = Memo(build.cache, "shingles", bytes)
    inputs = [(digest,) for digest in texts]
    known = memo.get(inputs)
    unknown = [at for at, answer in enumerate(known) if answer is None]
    spans = list(texts.values())
    made = TextShingles.of(build.texts.get(spans[at]) for at in unknown)
    for at, begin, end in zip(unknown, made.offsets[:-1].tolist(), made.offsets[1:].tolist(), strict=True):
        known[at] = made.flat[begin:end].tobytes()
    memo.put([(inputs[at], answer) for at in unknown if (answer := known[at]) is not None])
    flat = np.frombuffer(b"".join(answer for answer in known if answer), dtype=np.uint64)
    return TextShingles(flat, offsets_of(np.array([len(answer or b"") // 8 for answer in known], dtype=np.int64)))


def _lines(build: BuildState, texts: Mapping[str, Span]) -> Lines:
    """The lines of texts by their digests."""
    spans = list(texts.values())
    return recall_lines(build, [(digest,) for digest in texts], lambda at: [build.texts.get(spans[at])])


def place_of(build: BuildState, group: str) -> float:
    """Where a group comes in the order in which groups are held out, 0 (first) to 1."""
    return _chances(build, group)[0]


def _chances(build: BuildState, name: str) -> tuple[float, float]:
    random = build.rng("split", name)
    return random.random(), random.random()


def _names(
    build: BuildState,
    step: StepCounts,
    units: Sequence[Unit],
    digests: list[str],
    distinct: list[int],
    shingles: TextShingles,
    lines: Lines,
    threshold: float,
) -> list[str]:
    """The group of each unit, named by the oldest path of its files.

    `shingles` and `lines` are those of the `distinct` ones.
    """
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
        for path in (unit.source.path, *unit.source.former_paths):
            lineage += of_path.setdefault(path, at) != at
            parent[root(at)] = root(of_path[path])
    found = alike(shingles, lines, threshold, threads=build.engine.jobs)
    pairs: list[tuple[int, int]] = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    for left, right in pairs:
        parent[root(distinct[left])] = root(distinct[right])
    oldest: dict[int, str] = {}
    for at, unit in enumerate(units):
        path = (unit.source.path, *unit.source.former_paths)[-1]
        oldest[root(at)] = min(path, oldest.get(root(at), path))
    step.figures["equal_texts"] = len(units) - len(distinct)
    step.figures["lineage_links"] = lineage
    for search, count in found.found.items():
        step.figures[f"{search}_links"] = count
    if not found.exact:
        step.figures["near_duplicate_search"] = "partly estimated"
        build.progress.note(
            "split: too many files are half alike to compare them all; some were put together by estimate"
        )
    return [content_id(oldest[root(at)]) for at in range(len(units))]


def _tell(
    build: BuildState,
    step: StepCounts,
    options: recipes.SplitOptions,
    groups: Mapping[str, float],
    splits: dict[str, Split],
    gone: float,
) -> None:
    """Figures, and a note where the split is not what the recipe asks for."""
    rows = {split: fsum(sorted(rows for name, rows in groups.items() if splits[name] == split)) for split in SPLITS}
    rows["train"] += gone
    total = fsum(rows.values()) or 1.0
    for split in SPLITS:
        step.figures[f"expected_rows_{split}"] = round(rows[split])
    wanted = {"train": options.train, "val": options.val, "test": options.test}
    if len(groups) < 2:
        step.figures["fallback"] = "all train"
        build.progress.note("split: all files are alike, so nothing can be held out: val and test are empty")
    elif len(groups) < len(SPLITS):
        step.figures["fallback"] = "no test"
        build.progress.note("split: only two groups of files are not alike: test is empty")
    elif any(abs(rows[split] / total - wanted[split]) > POINT for split in SPLITS):
        step.figures["fallback"] = "uneven"
        shares = ", ".join(f"{split} {rows[split] / total:.1%}" for split in SPLITS)
        build.progress.note(f"split: the files cannot be parted as asked without a leak: {shares} of the rows")
    else:
        step.figures["fallback"] = "none"

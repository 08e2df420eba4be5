"""Holds out what the newest commits added (`split.holdout: commits`), as a part of the step split.

Training sees the repository as it was at the past commit, before them. Of the files that they added or changed, the
added lines are held out. The other lines of a changed file are known from training: a model reads them and is not
scored on them. Much of what a commit adds is old code, though, which was moved or copied. So

- a new file is dropped if it is a near-duplicate of a past file, or one contains the other (`near_past`), by the
  rules by which files form leak groups;
- a run of added lines is not scored if all its lines are known from training. It must have at least
  `MIN_ORIGIN_LINES` lines that are long enough to tell where they come from (`hashing.known_lines`);
- a file of which no line is left is dropped (`known_lines`).

A single known line stays, because people write such lines again and again. The files are divided between val and test
by their leak groups, so the weights are chosen by a part of what came later.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.errors import RepositoryError
from git_starcoder.git.attributes import read_attributes
from git_starcoder.git.history import decode_path, first_parent_commits
from git_starcoder.git.objects import Repo
from git_starcoder.hashing.arrays import connect_components
from git_starcoder.hashing.known_lines import KnownLines
from git_starcoder.hashing.near_duplicates import find_copies
from git_starcoder.hashing.texts import HashedLines, TextShingles
from git_starcoder.parse.role import foreign_role_filter
from git_starcoder.records import Span, Unit, content_id, printable_path
from git_starcoder.stages.history_gate import cached_lines, describe_changes
from git_starcoder.stages.shares import find_pinned_splits, splits_of_pinned_groups
from git_starcoder.text.encoding import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.command import GitOutput
    from git_starcoder.recipe import Recipe, SplitOptions
    from git_starcoder.records import Change, Split

EMPTY_TREES = {40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
               64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321"}  # fmt: skip
"""The id of the empty tree, which git knows without an object, by the length of ids."""
NUMSTAT_COMMAND = ("diff-tree", "-r", "-z", "-M", "--numstat")


def resolve_commits(recipe: Recipe, repo: Repo) -> Recipe:
    """The recipe with a number for `split.commits: auto`, if commits are held out.

    Raises:
        RepositoryError: the repository has only one commit.
    """
    if recipe.split.holdout != "commits" or recipe.split.commits != "auto":
        return recipe
    return replace(recipe, split=replace(recipe.split, commits=_choose_count(repo, recipe.split)))


def open_past(recipe: Recipe, repo: Repo) -> Repo | None:
    """The repository at the commit that training sees, before those that are held out; None if none are.

    Raises:
        RepositoryError: there are not so many commits.
    """
    if recipe.split.holdout != "commits" or recipe.split.commits == "auto":
        return None
    line = first_parent_commits(repo)
    if recipe.split.commits >= len(line):
        what = f"the main line has {len(line):,} commits, so {recipe.split.commits:,} of them cannot be held out"
        raise RepositoryError(what, where="split.commits", hint="choose a smaller number, or split.holdout=files")
    return Repo.open(repo.path, line[recipe.split.commits])


def _choose_count(repo: Repo, options: SplitOptions) -> int:
    """How many commits added about the shares val and test of all lines: as many as come closest."""
    line = first_parent_commits(repo)
    if len(line) < 2:
        hint = "fetch more of the history, or use split.holdout=files"
        raise RepositoryError("there is only one commit, so none came later", where="split.holdout", hint=hint)
    is_foreign = foreign_role_filter(read_attributes(repo).declared_roles)

    @cache
    def added_since(commit: str) -> int:
        with repo.start_git(*NUMSTAT_COMMAND, commit, repo.commit) as output:
            return sum(count for path, count in _parse_numstat(output) if not is_foreign(path))

    wanted = (options.val + options.test) * added_since(EMPTY_TREES[len(repo.commit)])
    # Powers of two bound the search, so that the first commit of a long history is not compared with the newest one.
    bound = 1
    while bound < len(line) - 1 and added_since(line[bound]) < wanted:
        bound = min(2 * bound, len(line) - 1)
    count = bisect_left(range(1, bound), wanted, key=lambda number: added_since(line[number])) + 1
    candidates = [number for number in (count - 1, count) if number and added_since(line[number])]
    return min(candidates or [count], key=lambda number: abs(added_since(line[number]) - wanted))


def _parse_numstat(output: GitOutput) -> Iterator[tuple[str, int]]:
    """Each path after a change, and how many lines were added. Binary files are left out."""
    fields = output.read_fields()
    for field in fields:
        added, _, path = (*field.split(b"\t", 2), b"", b"")[:3]
        if not path:  # of a rename, both paths follow
            next(fields, b"")
            path = next(fields, b"")
        if added.isdigit():
            yield decode_path(path), int(added)


class _Stretch(NamedTuple):
    """A run of added lines of a unit, or several with nothing but short unchanged lines between them.

    Code that was moved often stands around a blank line that a comparison takes for an old one. Without it, two added
    lines before it and two after it would not be a run of three.
    """

    start: int
    """The byte of the text at which they begin."""
    lines: list[bytes]
    is_added: list[bool]
    """Whether each line was added."""


def hold_out_newest(
    build: BuildState,
    step: StepCounts,
    recipe: Recipe,
    past: Sequence[Unit],
    changes: Sequence[Change],
    later: Sequence[Unit],
) -> list[Unit]:
    """The units of the newest commit that have held-out lines, with these, and with their group and split.

    `past` and `changes` are what training sees, with groups. Counts each unit of `later` as kept or dropped.
    """
    past_paths = {unit.path for unit in past}
    new_files = [unit for unit in later if past_paths.isdisjoint((unit.path, *unit.source.former_paths))]
    new_ids = {unit.id for unit in new_files}
    near = _find_near_past(build, recipe.split.near, past, new_files)
    stretches = {unit.id: _find_stretches(build.texts.get(unit.source.text), unit.source.added or ()) for unit in later}
    asked = HashedLines.from_texts(line for of_unit in stretches.values() for each in of_unit for line in each.lines)
    digests = {content_id(build.texts.get(unit.source.text)): unit.source.text for unit in past}
    past_lines = cached_lines(
        build, list(digests), lambda digest: (digest,), lambda digest: [build.texts.get(digests[digest])]
    )
    known = KnownLines.find(asked, (past_lines, describe_changes(build, changes, recipe.read).edits))
    kept: list[Unit] = []
    line_counts = Counter[str]()
    for unit in later:
        total = sum(each.is_added.count(True) for each in stretches[unit.id])
        if unit.id in near:
            step.drop(unit.path, "near_past", printable_path(near[unit.id]))
            line_counts["lines_near_past"] += total
            continue
        spans, scored = _scored_spans(stretches[unit.id], known)
        line_counts["lines_held_out"] += scored
        line_counts["lines_known"] += total - scored
        if spans:
            # If each line of a file was changed, its past version is still in training.
            is_whole = unit.id in new_ids and spans == [Span(0, _size(unit))]
            kept.append(replace(unit, scored_spans=() if is_whole else tuple(spans)))
            step.keep()
        else:
            step.drop(unit.path, "known_lines", "all lines that were added are known from training")
    step.figures["newest_commits"] = recipe.split.commits
    step.figures["lines_added"] = line_counts.total()
    for name in ("lines_held_out", "lines_known", "lines_near_past"):
        step.figures[name] = line_counts[name]
    groups = _find_groups(build, recipe.split.near, past, kept)
    splits = _divide(build, recipe.split, kept, groups)
    for split in ("val", "test"):
        step.figures[f"files_{split}"] = sum(splits[group] == split for group in groups)
    return [replace(unit, group=group, split=splits[group]) for unit, group in zip(kept, groups, strict=True)]


def _size(unit: Unit) -> int:
    return unit.source.text.stop - unit.source.text.start


def _find_stretches(text: bytes, added: Sequence[Span]) -> list[_Stretch]:
    """The stretches of a text whose added spans are in order."""
    stretches: list[_Stretch] = []
    stop = 0
    for span in added:
        lines, between = split_lines(text[span.start : span.stop]), split_lines(text[stop : span.start])
        if stretches and not len(HashedLines.from_texts(between).long_lines().word_counts):
            stretches[-1].lines.extend([*between, *lines])
            stretches[-1].is_added.extend([*[False] * len(between), *[True] * len(lines)])
        else:
            stretches.append(_Stretch(span.start, lines, [True] * len(lines)))
        stop = span.stop
    return stretches


def _scored_spans(stretches: Sequence[_Stretch], known: KnownLines) -> tuple[list[Span], int]:
    """The spans of the added lines that are not in a run of known ones, and the number of these lines.

    Spans of white space are left out.
    """
    spans: list[Span] = []
    count = 0
    for stretch in stretches:
        is_in_run = known.mark_runs(HashedLines.from_texts(stretch.lines))
        is_scored = [new and not old for new, old in zip(stretch.is_added, is_in_run, strict=True)]
        edges = list(accumulate(map(len, stretch.lines), initial=stretch.start))
        first = 0
        for stop in range(1, len(stretch.lines) + 1):
            if stop == len(stretch.lines) or is_scored[stop] != is_scored[first]:
                if is_scored[first] and b"".join(stretch.lines[first:stop]).strip():
                    spans.append(Span(edges[first], edges[stop]))
                    count += stop - first
                first = stop
    return spans, count


def _find_near_past(
    build: BuildState, threshold: float, past: Sequence[Unit], new_files: Sequence[Unit]
) -> dict[str, str]:
    """For each new file that is in one leak group with a past file its id, and the path of such a file."""
    if not new_files:
        return {}
    texts = {content_id(build.texts.get(unit.source.text)): unit for unit in (*new_files, *past)}  # past ones last
    units = list(texts.values())
    components = _copy_components(build, threshold, units)
    past_path: dict[int, str] = {}
    for unit, component in zip(units, components, strict=True):
        if unit.source.added is None:
            past_path.setdefault(component, unit.path)
    component_of_text = dict(zip(texts, components, strict=True))
    found: dict[str, str] = {}
    for unit in new_files:
        data = build.texts.get(unit.source.text)
        if data.strip() and (path := past_path.get(component_of_text[content_id(data)])):
            found[unit.id] = path
    return found


def _copy_components(build: BuildState, threshold: float, units: Sequence[Unit]) -> list[int]:
    """A number for each unit, which all have that are copies of one another."""
    texts = [build.texts.get(unit.source.text) for unit in units]
    pairs = find_copies(TextShingles.from_texts(texts), HashedLines.from_texts(texts), threshold)
    return connect_components(np.arange(len(units)), pairs.left, pairs.right).tolist()


def _find_groups(build: BuildState, threshold: float, past: Sequence[Unit], later: Sequence[Unit]) -> list[str]:
    """The leak group of each later unit: all that are alike, or whose past versions were in one group, share one.

    It is not the group of the past versions, so no group is in two splits.
    """
    if not later:
        return []
    group_of_path = {path: unit.group for unit in past for path in (*unit.source.former_paths, unit.path)}
    group_of_path |= {unit.path: unit.group for unit in past}
    paths = [(unit.path, *unit.source.former_paths) for unit in later]
    own = [next((group_of_path[path] for path in names if path in group_of_path), "") for names in paths]
    components = np.array(_copy_components(build, threshold, later), dtype=np.int64)
    first_of_group: dict[str, int] = {}
    links = [(first_of_group.setdefault(group, index), index) for index, group in enumerate(own) if group]
    left, right = np.array([*links, *enumerate(components.tolist())], dtype=np.int64).T
    joined: list[int] = connect_components(np.arange(len(later)), left, right).tolist()
    names: dict[int, str] = {}
    for component, group, (*_, oldest) in sorted(zip(joined, own, paths, strict=True)):
        names[component] = min(filter(None, (names.get(component), group or content_id(oldest))))
    return [content_id("newest commits", names[component]) for component in joined]


def _divide(build: BuildState, options: SplitOptions, units: Sequence[Unit], groups: Sequence[str]) -> dict[str, Split]:
    """The split of each group: in an order that is hashed from its name, the split that lacks most of its share.

    A group with a pinned file gets the split of this file.
    """
    held_out: dict[str, Split] = {path: split for path, split in build.pins.splits.items() if split != "train"}
    pinned = splits_of_pinned_groups(groups, find_pinned_splits(units, held_out))
    sizes = Counter[str]()
    for unit, group in zip(units, groups, strict=True):
        sizes[group] += sum(stop - start for start, stop in unit.scored_spans) or _size(unit)
    shares: dict[Split, float] = {"val": options.val, "test": options.test}
    filled: dict[Split, float] = dict.fromkeys(shares, 0.0)
    splits: dict[str, Split] = {}
    for group in sorted(sizes, key=lambda group: (build.uniform("newest", group), group)):
        split = pinned.get(group) or min(filled, key=lambda split: filled[split] / shares[split])
        splits[group] = split
        filled[split] += sizes[group]
    return splits

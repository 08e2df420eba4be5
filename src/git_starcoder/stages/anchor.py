"""What a tokenizer is learned from: files of an anchor commit, so that it holds still while the repository moves.

The anchor is a commit on the line of first parents, chosen by its place alone: every 64th of some 600, every 128th of
some 1,200. Between two anchors a tokenizer stays the same, and with it every token that was encoded before.

Only files to learn from are read, and of those only files that, alone, would be far from the edge between the splits:
a commit that moves that edge a little leaves them all where they are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from git_starcoder.errors import RepositoryError
from git_starcoder.git.history import first_parent_commits
from git_starcoder.git.objects import FILE_MODE, MODE_TYPE_MASK, Repo, Unreadable
from git_starcoder.memo import Memo
from git_starcoder.parse.own_output import recognise_own_output
from git_starcoder.records import content_id
from git_starcoder.stages.split import place_of
from git_starcoder.text import bpe
from git_starcoder.text.clean import Clean, clean, unfit
from git_starcoder.text.tokenizer import SPECIAL, Tokenizer, of_merges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import TreeEntry
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Unit

STEPS = 8
"""Anchors on a line of first parents that has as many commits as a power of two; up to twice as many on others."""
FAR = 0.5
"""Places from which on a file is far from the edge: held-out groups have the lowest places."""
MOST = 32 << 20
"""Bytes of text that are learned from, in an order hashed from their paths."""


def anchor(repo: Repo) -> str:
    """The anchor of the commit that is read; itself where the history is short or shallow."""
    line = [] if repo.is_shallow else first_parent_commits(repo)
    if not line:
        return repo.commit
    step = max(1, (1 << (len(line).bit_length() - 1)) // STEPS)
    return line[(len(line) - 1) % step]


def learn(build: BuildState, recipe: Recipe, repo: Repo, units: Sequence[Unit]) -> Tokenizer:
    """A tokenizer learned from the files of the anchor that became `units` to learn from.

    Where there are none (a small or shallow repository, a damaged anchor), it is learned from the units themselves.
    """
    chosen = _chosen(build, repo, units, recipe.read.max_bytes)
    memo: Memo[str] = Memo(build.cache, "tokenizer", str)
    inputs = (repr(recipe.read), str(recipe.window.vocab_size), content_id(*(blob for _, blob in chosen)))
    [definition] = memo.get([inputs]) if chosen else [None]
    if definition is None:
        texts = _texts(repo, recipe, chosen) if chosen else []
        known = bool(texts)
        texts = texts or [build.texts.get(unit.source.text) for unit in units if unit.split == "train"]
        definition = json.dumps(bpe.learn(texts, SPECIAL, recipe.window.vocab_size))
        if known:
            memo.put([(inputs, definition)])
    return of_merges(json.loads(definition))


def _chosen(build: BuildState, repo: Repo, units: Sequence[Unit], most: int) -> list[tuple[str, str]]:
    """Path and blob of each file of the anchor that is learned from."""
    became = {path: unit for unit in units for path in (*unit.source.former_paths, unit.path)}
    try:
        entries = Repo.open(repo.path, anchor(repo)).entries()
    except RepositoryError:
        return []
    order: list[tuple[str, TreeEntry]] = []
    for entry in entries:
        unit = became.get(entry.path)
        if (
            unit
            and unit.split == "train"
            and entry.mode & MODE_TYPE_MASK == FILE_MODE
            and place_of(build, _oldest(unit)) >= FAR
        ):
            order.append((content_id(entry.path), entry))
    chosen: list[tuple[str, str]] = []
    room = MOST
    for _, entry in sorted(order, key=lambda pair: pair[0]):
        room -= min(entry.size or 0, most)  # of a large notebook nearly all is pictures
        if room >= 0 and entry.size:
            chosen.append((entry.path, entry.blob))
    return chosen


def _oldest(unit: Unit) -> str:
    """The name of the group that it would be alone: its groups may change with every file that is like it."""
    return content_id((unit.path, *unit.source.former_paths)[-1])


def _texts(repo: Repo, recipe: Recipe, chosen: Sequence[tuple[str, str]]) -> list[bytes]:
    texts: list[bytes] = []
    for (path, _), (_, data) in zip(chosen, repo.read_blobs(blob for _, blob in chosen), strict=True):
        text = data if isinstance(data, Unreadable) or recognise_own_output(data) else clean(data, recipe.read)
        if isinstance(text, Clean) and not unfit(path, text, recipe.read):
            texts.append(text.text)
    return texts

"""Learns a tokenizer from the files of an anchor commit, so that it stays the same while the repository moves.

The anchor is a commit on the line of first parents, chosen by its place alone: in a history of about 600 commits every
64th is an anchor, of about 1,200 every 128th. Between two anchors the tokenizer stays the same, and so do all tokens
that were encoded before.

Only training files are used, and of those only files that would rank far from the held-out splits if each were a group
of its own. So a commit that moves the edge between the splits a little does not change which files are used.
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
from git_starcoder.stages.split import holdout_rank, oldest_path
from git_starcoder.text.clean import CleanText, clean_file, find_refusal
from git_starcoder.text.tokenizer import SPECIAL_TOKENS, Tokenizer, learn_bpe, learned_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import TreeEntry
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Unit

ANCHORS_PER_HISTORY = 8
"""Anchors in a history with as many commits as a power of two; other histories have up to twice as many."""
MIN_HOLDOUT_RANK = 0.5
"""Rank from which on a file is far from the held-out splits, which take the groups of the lowest ranks."""
MAX_LEARNING_BYTES = 32 << 20
"""Bytes of text to learn from. More text takes longer and hardly changes the tokenizer."""


def find_anchor(repo: Repo) -> str:
    """The anchor of the commit that is read; the commit itself if the history is short or shallow."""
    line = [] if repo.is_shallow else first_parent_commits(repo)
    if not line:
        return repo.commit
    # Of 600 commits the power of two below is 512, so every 64th is an anchor, counted from the oldest.
    distance = max(1, (1 << (len(line).bit_length() - 1)) // ANCHORS_PER_HISTORY)
    return line[(len(line) - 1) % distance]


def learn_tokenizer(build: BuildState, recipe: Recipe, repo: Repo, units: Sequence[Unit]) -> Tokenizer:
    """Learn a tokenizer from the anchor's versions of training files.

    If there are none (a small or shallow repository, a damaged anchor), learn it from the training units themselves.
    """
    chosen = _choose_files(build, repo, units, recipe.read.max_bytes)
    inputs = (repr(recipe.read), str(recipe.window.vocab_size), content_id(*(blob for _, blob in chosen)))
    texts: list[bytes] = []

    def learn(_: object) -> Iterator[str]:
        texts.extend(_read_texts(repo, recipe, chosen) if chosen else [])
        learned_from = texts or [build.texts.get(unit.source.text) for unit in units if unit.split == "train"]
        yield json.dumps(learn_bpe(learned_from, SPECIAL_TOKENS, recipe.window.vocab_size))

    memo: Memo[str] = Memo(build.cache, "tokenizer", str)
    [definition] = memo.map([inputs], lambda inputs: inputs, learn, lambda _, _text: bool(texts))
    return learned_tokenizer(json.loads(definition))


def _choose_files(build: BuildState, repo: Repo, units: Sequence[Unit], max_bytes: int) -> list[tuple[str, str]]:
    """Path and blob of each file of the anchor to learn from, in an order hashed from their paths."""
    unit_of_path = {path: unit for unit in units for path in (*unit.source.former_paths, unit.path)}
    try:
        entries = Repo.open(repo.path, find_anchor(repo)).entries()
    except RepositoryError:
        return []
    candidates: list[tuple[str, TreeEntry]] = []
    for entry in entries:
        unit = unit_of_path.get(entry.path)
        if unit is None or unit.split != "train" or entry.mode & MODE_TYPE_MASK != FILE_MODE:
            continue
        # The rank that the file would have as a group of its own: its real group may change with any file like it.
        if holdout_rank(build, content_id(oldest_path(unit))) >= MIN_HOLDOUT_RANK:
            candidates.append((content_id(entry.path), entry))
    chosen: list[tuple[str, str]] = []
    room = MAX_LEARNING_BYTES
    for _, entry in sorted(candidates, key=lambda pair: pair[0]):
        room -= min(entry.size or 0, max_bytes)  # a file that is larger is a notebook, and mostly pictures
        if room >= 0 and entry.size:
            chosen.append((entry.path, entry.blob))
    return chosen


def _read_texts(repo: Repo, recipe: Recipe, chosen: Sequence[tuple[str, str]]) -> list[bytes]:
    texts: list[bytes] = []
    for (path, _), (_, data) in zip(chosen, repo.read_blobs(blob for _, blob in chosen), strict=True):
        text = data if isinstance(data, Unreadable) or recognise_own_output(data) else clean_file(data, recipe.read)
        if isinstance(text, CleanText) and not find_refusal(path, text, recipe.read):
            texts.append(text.text)
    return texts

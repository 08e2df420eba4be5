"""Learns a tokenizer from the files of an anchor commit, so that it stays the same while the repository moves.

The anchor is a commit on the line of first parents, chosen by its place alone: in a history of about 600 commits every
64th is an anchor, of about 1,200 every 128th. Between two anchors the tokenizer stays the same, and so do all tokens
that were encoded before.

Only training files are used, and of those only files that would rank far from the held-out splits if each were a group
of its own. So a commit that moves the edge between the splits a little does not change which files are used. Code may
have moved since the anchor from one of them to a held-out file. So runs of lines that only held-out files have today
are left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.build_state import FAULTS
from git_starcoder.errors import RepositoryError
from git_starcoder.git.history import first_parent_commits
from git_starcoder.git.objects import FILE_MODE, MODE_TYPE_MASK, Repo, Unreadable
from git_starcoder.hashing.known_lines import KnownLines
from git_starcoder.hashing.texts import HashedLines
from git_starcoder.memo import Memo
from git_starcoder.parse.own_output import recognise_own_output
from git_starcoder.records import content_id, dataset_path
from git_starcoder.stages.file_table import oldest_path
from git_starcoder.stages.history_gate import cached_lines
from git_starcoder.stages.shares import holdout_rank
from git_starcoder.text.clean import CleanText, clean_file, find_refusal
from git_starcoder.text.encoding import split_lines
from git_starcoder.text.learned_bpe import learn_bpe
from git_starcoder.text.tokenizer import SPECIAL_TOKENS, Tokenizer, learned_tokenizer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from git_starcoder.build_state import BuildState, TextStore
    from git_starcoder.git.objects import TreeEntry
    from git_starcoder.recipe import Recipe
    from git_starcoder.records import Unit

ANCHORS_PER_HISTORY = 8
"""Anchors in a history with as many commits as a power of two; other histories have up to twice as many."""
MIN_HOLDOUT_RANK = 0.5
"""Rank from which on a file is far from the held-out splits, which take the groups of the lowest ranks."""
MAX_SAMPLE_BITS = 4
"""Bits of the largest number of repositories that are all learned from."""
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


class LearningSource(NamedTuple):
    """A repository to learn from."""

    repo: Repo
    units: Sequence[Unit]
    """Its files, with their splits."""
    texts: TextStore
    """The texts of the units."""
    name: str = ""
    """Its name; empty if the dataset has only this one."""


class LearningFile(NamedTuple):
    """A file of an anchor to learn from."""

    source: int
    """The index of its repository."""
    path: str
    blob: str
    is_current: bool
    """Whether the file still has this text."""


def choose_sample(names: Collection[str]) -> set[str]:
    """The names of the repositories to learn from: all of up to 15, and about 8 to 16 of more.

    A name belongs to the sample by its hash, if the hash is below 1/2, 1/4, … So most repositories that are added later
    leave the sample as it is, and with it all tokens.
    """
    bits = max(0, len(names).bit_length() - MAX_SAMPLE_BITS)
    hashes = {name: int(content_id("tokenizer", name), 16) for name in names}
    return {name for name in names if hashes[name] >> (128 - bits) == 0} or {min(names, key=lambda name: hashes[name])}


def learn_tokenizer(build: BuildState, recipe: Recipe, sources: Sequence[LearningSource]) -> Tokenizer:
    """Learn a tokenizer from the anchors' versions of training files.

    If there are none (a small or shallow repository, a damaged anchor), learn it from the training units themselves.
    """
    chosen = _choose_files(build, sources, recipe.read.max_bytes)
    old_files = [file for file in chosen if not file.is_current]
    old_texts = [text for text in _read_texts(sources, recipe, old_files) if isinstance(text, bytes)]
    held_out = _find_held_out_lines(build, sources, old_texts)
    kept = (_without_runs(text, held_out) for text in old_texts)
    blobs = (file.blob for file in chosen)
    inputs = (repr(recipe.read), str(recipe.window.vocab_size), content_id(*blobs), content_id(*kept))
    texts: list[bytes] = []
    faults: list[Unreadable] = []

    def learn(_: object) -> Iterator[str]:
        found = _read_texts(sources, recipe, chosen)
        texts.extend(_without_runs(text, held_out) for text in found if isinstance(text, bytes))
        faults.extend(text for text in found if isinstance(text, Unreadable) and text.reason in FAULTS)
        learned_from = texts or [
            source.texts.get(unit.source.text) for source in sources for unit in source.units if unit.split == "train"
        ]
        yield json.dumps(learn_bpe(learned_from, SPECIAL_TOKENS, recipe.window.vocab_size))

    memo: Memo[str] = Memo(build.cache, "tokenizer", str)
    [definition] = memo.map([inputs], lambda inputs: inputs, learn, lambda _, _text: bool(texts) and not faults)
    build.has_faults |= bool(faults)
    return learned_tokenizer(json.loads(definition))


def _choose_files(build: BuildState, sources: Sequence[LearningSource], max_bytes: int) -> list[LearningFile]:
    """The files of the anchors to learn from, in an order hashed from their paths."""
    candidates: list[tuple[str, int, TreeEntry, Unit]] = []
    for index, source in enumerate(sources):
        candidates += ((hashed, index, entry, unit) for hashed, entry, unit in _find_candidates(build, source))
    chosen: list[LearningFile] = []
    room = MAX_LEARNING_BYTES
    for _, index, entry, unit in sorted(candidates, key=lambda candidate: candidate[:2]):
        room -= min(entry.size or 0, max_bytes)  # a file that is larger is a notebook, and mostly pictures
        if room >= 0 and entry.size:
            chosen.append(LearningFile(index, entry.path, entry.blob, entry.blob == unit.source.blob))
    return chosen


def _find_candidates(build: BuildState, source: LearningSource) -> Iterator[tuple[str, TreeEntry, Unit]]:
    """The files of the anchor of a repository that may be learned from, after a hash of the path and with their unit.

    What the newest commits added, if that is held out, is not in the anchor. The past versions of these files train.
    """
    past = [unit for unit in source.units if unit.source.added is None]
    unit_of_path = {path: unit for unit in past for path in (*unit.source.former_paths, unit.path)}
    try:
        entries = Repo.open(source.repo.path, find_anchor(source.repo)).entries()
    except RepositoryError:
        build.has_faults = True
        return
    for entry in entries:
        build.has_faults |= entry.unreadable is not None and entry.unreadable.reason in FAULTS
        unit = unit_of_path.get(entry.path)
        if unit is None or unit.split != "train" or entry.mode & MODE_TYPE_MASK != FILE_MODE:
            continue
        # The rank that the file would have as a group of its own: its real group may change with any file like it.
        if holdout_rank(build, content_id(dataset_path(source.name, oldest_path(unit)))) >= MIN_HOLDOUT_RANK:
            build.has_faults |= entry.size is None
            yield content_id(dataset_path(source.name, entry.path)), entry, unit


def _find_held_out_lines(build: BuildState, sources: Sequence[LearningSource], texts: Sequence[bytes]) -> KnownLines:
    """The lines of some texts that held-out files have today and training files do not."""

    def find(*, in_training: bool) -> KnownLines:
        places = {
            content_id(source.texts.get(unit.source.text)): (source.texts, unit.source.text)
            for source in sources
            for unit in source.units
            if (unit.split == "train") is in_training and unit.source.added is None
        }

        def read(digest: str) -> list[bytes]:
            store, place = places[digest]
            return [store.get(place)]

        return KnownLines.find(asked, [cached_lines(build, list(places), lambda digest: (digest,), read)])

    asked = HashedLines.from_texts(texts)
    held_out = find(in_training=False) if texts else KnownLines.of(asked)
    return held_out.without(find(in_training=True)) if len(held_out.hashes) else held_out


def _without_runs(text: bytes, left_out: KnownLines) -> bytes:
    """A text without runs of some lines. Single lines stay: any commit may remove the last one that trains."""
    lines = split_lines(text)
    is_left_out = left_out.mark_runs(HashedLines.from_texts(lines))
    return b"".join(line for line, is_out in zip(lines, is_left_out, strict=True) if not is_out)


def _read_texts(
    sources: Sequence[LearningSource], recipe: Recipe, chosen: Sequence[LearningFile]
) -> list[bytes | Unreadable]:
    """The text of each file that has one, or why it cannot be read."""
    texts: dict[int, bytes | Unreadable] = {}
    for index, source in enumerate(sources):
        places = [place for place, file in enumerate(chosen) if file.source == index]
        blobs = source.repo.read_blobs(chosen[place].blob for place in places) if places else ()
        for place, (_, data) in zip(places, blobs, strict=True):
            if isinstance(data, Unreadable):
                texts[place] = data
                continue
            text = data if recognise_own_output(data) else clean_file(data, recipe.read)
            if isinstance(text, CleanText) and not find_refusal(chosen[place].path, text, recipe.read):
                texts[place] = text.text
    return [texts[place] for place in sorted(texts)]

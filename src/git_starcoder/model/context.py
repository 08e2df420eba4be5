"""Chooses what a model is shown of other files before a file: parts of files that it imports or resembles.

The context is chosen from the path of the file and its first `BEGINNING_TOKENS` tokens alone. So it may be shown before
any later token, of a finished file or of one that is being written, and tells nothing about what follows:

    <repo_name>NAME <file_sep>OTHER_PATH⏎PIECE … <file_sep>PATH⏎TEXT

Files are divided into pieces of up to `PIECE_TOKENS` tokens. The score of a piece is the sum of the inverse document
frequencies (Spärck Jones, 1972) of the words that it shares with the path and the beginning. To retrieve pieces that
resemble the text so far is from RepoCoder (Zhang et al., 2023). A file whose name is in a line that imports something
gets a higher score, the more so if few files have this name. Each file shows its best piece, and the best file is last,
nearest to the text.

The import graph of the dataset is not used: it is made of whole files, so it would tell something about the text that
follows.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

import numpy as np
import orjson

from git_starcoder.augmentations import header_parts
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.evals import control_mask
from git_starcoder.evals.completion import newline_mask
from git_starcoder.parse.identifiers import WORD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.memory.repository_memory import Contents
    from git_starcoder.text.tokenizer import Tokenizer

    Tokens = NDArray[Any]
    Integers = NDArray[np.int64]

BEGINNING_TOKENS = 128
"""Tokens of a file that its context is chosen from. A shorter file has no context."""
PIECE_TOKENS = 256
"""The most tokens of one file that are shown, from one line break to another where there is one."""
MIN_EXCERPT_TOKENS = 48
"""The fewest tokens of a file that are shown. Its path takes as much room as a few lines."""
CONTEXT_SCHEMA = "git-starcoder/context/1"
MARKER_FILE = "context.json"
"""The file of a context folder that says what it holds."""
ARRAYS = ("tokens", "piece_starts", "file_starts", "words", "word_pieces")
_IMPORT_LINE = re.compile(
    rb"""^.*\b(?:import|from|include|require|use|mod|package|export)\b.*$|^\s*"[^"\s]+"$""", re.MULTILINE
)
_NAME = re.compile(rb"[\w-]+")
_WORD_PART = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_FOLDER_FILES = frozenset({"__init__", "index", "lib", "main", "mod"})
"""Files that are imported by the name of their folder."""


@dataclass(frozen=True, eq=False)
class ContextComposer:
    """The files that may be shown, indexed by their words."""

    contents: Contents
    """`training split`, for training and for scores, or `repository`, for use."""
    paths: Sequence[str]
    """The path of each file."""
    groups: Sequence[str]
    """The leak group of each file."""
    tokens: Tokens
    """The tokens of all pieces, one after another."""
    piece_starts: Integers
    """Piece i is `tokens[piece_starts[i]:piece_starts[i + 1]]`, shape (pieces + 1,)."""
    file_starts: Integers
    """File i has the pieces `file_starts[i]` to `file_starts[i + 1]`, at least one, shape (files + 1,)."""
    words: NDArray[np.uint32]
    """The hash of each word of each piece, sorted, shape (words of all pieces,)."""
    word_pieces: NDArray[np.uint32]
    """The piece of each of them, shape (words of all pieces,)."""
    tokenizer: Tokenizer

    @classmethod
    def build(cls, documents: Iterable[Document], contents: Contents, tokenizer: Tokenizer) -> Self:
        """Index documents.

        Raises:
            UsageError: The tokenizer has no token that separates files.
        """
        if any(len(tokenizer.control_token_ids(part.control_token)) != 1 for part in header_parts("", "")):
            raise UsageError("the tokenizer has no token that separates files", where="context_tokens")
        breaks = newline_mask(tokenizer)
        groups: dict[str, str] = {}
        pieces: list[Tokens] = []
        words: list[NDArray[np.uint32]] = []
        file_starts: list[int] = []
        for document in sorted(documents, key=lambda each: (each.path, each.start)):
            if document.path not in groups:
                groups[document.path] = document.group
                file_starts.append(len(pieces))
            in_path = path_words(document.path)
            tokens = document.tokens[document.tokens != tokenizer.end_id]
            for start, stop in pairwise(piece_edges(breaks[tokens])):
                pieces.append(tokens[start:stop])
                words.append(hash_words(in_path | set(WORD.findall(tokenizer.decode(pieces[-1])))))
            if file_starts[-1] == len(pieces):  # nothing but the end of the text
                del groups[document.path]
                file_starts.pop()
        all_words = np.concatenate([np.zeros(0, dtype=np.uint32), *words])
        order = np.argsort(all_words, kind="stable")
        word_pieces = np.repeat(np.arange(len(words), dtype=np.uint32), [len(each) for each in words])
        kind = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
        return cls(
            contents,
            tuple(groups),
            tuple(groups.values()),
            np.concatenate([np.zeros(0, dtype=kind), *(piece.astype(kind) for piece in pieces)]),
            np.cumsum([0, *map(len, pieces)], dtype=np.int64),
            np.array([*file_starts, len(pieces)], dtype=np.int64),
            all_words[order],
            word_pieces[order],
            tokenizer,
        )

    def replace_files(self, gone: Collection[str], documents: Iterable[Document]) -> Self:
        """Return the composer without some files, given by their paths, and with others.

        What it knows of the other files is not computed again. Among files with equal scores, new ones come last.
        """
        added = type(self).build(documents, self.contents, self.tokenizer)
        kept = [file for file, path in enumerate(self.paths) if path not in gone]
        # Files 0 and 2 of three with 2, 1 and 3 pieces -> pieces 0, 1, 3, 4, 5, which become 0 to 4.
        piece_counts, lengths = np.diff(self.file_starts), np.diff(self.piece_starts)
        is_kept_file = np.zeros(len(self.paths), dtype=np.bool_)
        is_kept_file[kept] = True
        is_kept = np.repeat(is_kept_file, piece_counts)
        tokens = np.concatenate((self.tokens[np.repeat(is_kept, lengths)], added.tokens))
        all_lengths = np.concatenate((lengths[is_kept], np.diff(added.piece_starts)))
        all_counts = np.concatenate((piece_counts[kept], np.diff(added.file_starts)))
        new_number = np.cumsum(is_kept) - 1
        is_kept_word = is_kept[self.word_pieces]
        words = self.words[is_kept_word]
        pieces = new_number[self.word_pieces[is_kept_word]].astype(np.uint32)
        at = np.searchsorted(words, added.words, side="right")
        return type(self)(
            self.contents,
            (*(self.paths[file] for file in kept), *added.paths),
            (*(self.groups[file] for file in kept), *added.groups),
            tokens,
            np.concatenate(([0], np.cumsum(all_lengths))).astype(np.int64),
            np.concatenate(([0], np.cumsum(all_counts))).astype(np.int64),
            np.insert(words, at, added.words),
            np.insert(pieces, at, added.word_pieces + np.uint32(is_kept.sum())),
            self.tokenizer,
        )

    def extend_header(self, header: Tokens, text: Tokens, budget: int, group: str = "") -> Tokens:
        """Put the context of a file between the two parts of its header: at most `budget` tokens.

        Args:
            header: The header of the file, as `augmentations.header_parts` defines it.
            text: The text of the file, of which only the first `BEGINNING_TOKENS` are read. If it has fewer, or the
                header is empty, there is no context.
            budget: The most tokens that are added.
            group: A leak group of which nothing is shown. The file itself is never shown.
        """
        if not len(header) or len(text) < BEGINNING_TOKENS:
            return header
        own_line = header[np.flatnonzero(header == self._header_tokens[1])[-1] :]
        beginning = self.tokenizer.decode(text[:BEGINNING_TOKENS])
        shown: list[Tokens] = []
        for file, piece in self._ranked_pieces(self.tokenizer.decode(own_line[1:]), beginning):
            line = self._path_lines[file]
            tokens = self.tokens[self.piece_starts[piece] : self.piece_starts[piece + 1]][: max(0, budget - len(line))]
            is_allowed = self.groups[file] != group and not np.array_equal(line, own_line)
            if is_allowed and len(tokens) >= MIN_EXCERPT_TOKENS:
                shown.append(np.concatenate((line, tokens)))
                budget -= len(shown[-1])
            if budget < MIN_EXCERPT_TOKENS:
                break
        return np.concatenate((header[: -len(own_line)], *reversed(shown), own_line)).astype(header.dtype)

    def extend_prompt(self, prompt: Tokens, budget: int) -> Tokens:
        """Put the context of a file into a prompt that begins with its header, perhaps after an end-of-text token.

        It is chosen from the text before the place that is written: what follows a gap is not read. See
        `extend_header`.
        """
        start = int(prompt[:1].tolist() == [self.tokenizer.end_id])
        controls: list[int] = np.flatnonzero(control_mask(self.tokenizer)[prompt]).tolist()
        # <repo_name> NAME <file_sep> PATH⏎ TEXT, or PATH⏎ <fim_prefix> TEXT <fim_suffix> …, or
        # PATH⏎ <fim_prefix> <fim_suffix> … <fim_middle> TEXT
        if prompt[controls[start : start + 2]].tolist() != self._header_tokens or controls[start] != start:
            return prompt
        separator = controls[start + 1]
        text = separator + 1 + int(np.argmax(newline_mask(self.tokenizer)[prompt[separator:]]))
        header = prompt[start:text]
        if controls[-2:-1] == [text + 1]:
            text = controls[-1]
        text += text in controls
        stop = next((place for place in controls if place >= text), len(prompt))
        extended = self.extend_header(header, prompt[text:stop], budget)
        return np.concatenate((prompt[:start], extended, prompt[start + len(header) :])).astype(prompt.dtype)

    def _ranked_pieces(self, path: bytes, beginning: bytes) -> Iterator[tuple[int, int]]:
        """Yield each file that shares a word with a path and a beginning, and its best piece: the best file first."""
        scores = self._score_pieces(path_words(path.decode()) | set(WORD.findall(beginning)))
        if not len(scores):
            return
        best = np.maximum.reduceat(scores, self.file_starts[:-1])
        is_similar = best > 0
        for name in imported_names(beginning):
            if files := self._files_of_name.get(name):
                best[files] += np.log(len(best) / len(files))
        for file in np.argsort(-best, kind="stable").tolist():
            if is_similar[file]:
                first, stop = self.file_starts[file : file + 2].tolist()
                yield file, first + int(np.argmax(scores[first:stop]))

    def _score_pieces(self, words: set[bytes]) -> NDArray[np.float64]:
        """For each piece, the sum of the inverse document frequencies of the words that it has, shape (pieces,)."""
        hashes, count = hash_words(words), len(self.piece_starts) - 1
        scores = np.zeros(count, dtype=np.float64)
        edges = (np.searchsorted(self.words, hashes, side).tolist() for side in ("left", "right"))
        for start, stop in zip(*edges, strict=True):
            if start < stop:
                scores[self.word_pieces[start:stop]] += np.log(count / (stop - start))
        return scores

    @cached_property
    def _header_tokens(self) -> list[int]:
        """The control tokens of a header: before the name of the repository, and before a path."""
        return [self.tokenizer.control_token_ids(part.control_token)[0] for part in header_parts("", "")]

    @cached_property
    def _path_lines(self) -> list[Tokens]:
        """The second part of the header of each file."""
        lines, bounds = self.tokenizer.encode([header_parts("", path)[1].text for path in self.paths])
        texts = np.split(lines.astype(np.int64), bounds[1:-1]) if self.paths else []
        return [np.concatenate((self._header_tokens[1:], text)) for text in texts]

    @cached_property
    def _files_of_name(self) -> dict[bytes, list[int]]:
        """The files that a name in an import may mean."""
        files: dict[bytes, list[int]] = defaultdict(list)
        for file, path in enumerate(self.paths):
            files[import_name(path)].append(file)
        return files

    def save(self, folder: Path) -> None:
        """Write the composer into a new folder."""
        folder.mkdir()
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        marker = {"schema": CONTEXT_SCHEMA, "contents": self.contents, "paths": self.paths, "groups": self.groups}
        (folder / MARKER_FILE).write_bytes(orjson.dumps(marker, option=orjson.OPT_INDENT_2) + b"\n")

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer) -> Self:
        """Open the composer in a folder. Its arrays stay on disk, and are read where they are needed.

        Raises:
            DatasetError: The folder holds none, or a damaged one.
        """
        try:
            marker = orjson.loads((folder / MARKER_FILE).read_bytes())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
            composer = cls(marker["contents"], marker["paths"], marker["groups"], tokenizer=tokenizer, **arrays)
            is_whole = (
                len(composer.tokens) == composer.piece_starts[-1]
                and len(composer.piece_starts) - 1 == composer.file_starts[-1]
                and len(composer.file_starts) - 1 == len(composer.paths) == len(composer.groups)
                and len(composer.words) == len(composer.word_pieces)
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
            what = f"the files for context cannot be read: {error}"
            raise DatasetError(what, where=str(folder), hint="train the model again") from error
        if marker["schema"] != CONTEXT_SCHEMA or not is_whole:
            what = "the files for context are damaged or of another version"
            raise DatasetError(what, where=str(folder), hint="train the model again")
        return composer


def piece_edges(is_break: NDArray[np.bool_]) -> list[int]:
    """Where the pieces of a text begin, and where the last one ends.

    `is_break` says which tokens have a line break, shape (tokens,). A piece ends after the last one that fits, unless
    it would be shorter than half of what it may have.
    """
    edges = [0]
    while edges[-1] < len(is_break):
        least, most = edges[-1] + PIECE_TOKENS // 2, edges[-1] + PIECE_TOKENS
        breaks = np.flatnonzero(is_break[least:most])
        edges.append(least + int(breaks[-1]) + 1 if most < len(is_break) and len(breaks) else min(most, len(is_break)))
    return edges


def hash_words(words: set[bytes]) -> NDArray[np.uint32]:
    """The sorted, distinct hashes of words, shape (words,)."""
    return np.unique(np.array([crc32(word) for word in words], dtype=np.uint32))


def path_words(path: str) -> set[bytes]:
    """The names in a path and the words in these names: `src/walkTree.rs` gives src, walkTree, walk, Tree, rs."""
    data = path.encode("utf-8", "surrogateescape")  # a name on disk need not be UTF-8
    return {*_NAME.findall(data), *_WORD_PART.findall(data)}


def import_name(path: str) -> bytes:
    """The name by which other files import a file: that of the file without its endings, or that of its folder."""
    parts = PurePosixPath(path)
    stem = parts.name.partition(".")[0]
    return (parts.parent.name if stem in _FOLDER_FILES and parts.parent.name else stem).encode(
        "utf-8", "surrogateescape"
    )


def imported_names(text: bytes) -> set[bytes]:
    """The names in the lines of a text that import something, in any language; some others are among them."""
    return {name for line in _IMPORT_LINE.findall(text) for name in _NAME.findall(line)}

"""What flows: Source → Unit → Sample → Windows, Change → Sample, and the Drop that says what did not.

Paths are `str` decoded with `surrogateescape`, so that any bytes are a path. Texts do not travel in rows: a `Span`
says where a text lies in the run's text store (`Run.texts`), so memory grows with the index and not with the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Role = Literal["core", "utility", "test", "docs", "configuration", "generated", "vendored"]
FOREIGN_ROLES: tuple[Role, ...] = ("generated", "vendored")
"""Roles of files that nobody of the project wrote; no change of theirs is read."""
ParseStatus = Literal["clean", "errors", "none"]


class DeclaredRoles(NamedTuple):
    """What a repository says of one of its files itself; None where it says nothing."""

    vendored: bool | None = None
    generated: bool | None = None
    documentation: bool | None = None
    reason: str = ""
    """Why it is vendored, where not an attribute says so."""


NO_DECLARED_ROLES = DeclaredRoles()


def content_id(*parts: str | bytes | int) -> str:
    """The id of a row: a 128-bit hash of content, as 32 hexadecimal digits. Same input, same id, on any machine."""
    pieces: list[bytes] = []
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        pieces += (len(data).to_bytes(8, "little"), data)
    return blake2b(b"".join(pieces), digest_size=16).hexdigest()


_UNPRINTABLE = re.compile(r"[\udc80-\udcff]|\\(?=x(?:[89a-f][0-9a-f]|5c))")
"""What `printable` escapes: bytes that are not UTF-8, and a backslash that would read as one of its escapes."""
_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")


def printable_path(path: str) -> str:
    r"""A path as text that any encoder takes; `path_of` gives the path back, so two paths never print the same.

    Bytes that are not UTF-8 become `\xNN`. Where the path itself has a backslash followed by what would make it such
    an escape, the backslash becomes `\x5c`. All other paths are printed as they are, `a\b` and `a\x2d` too.
    """
    if path.isascii() and "\\x" not in path:
        return path
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", path)


def parse_printable_path(printed: str) -> str:
    """The path that `printable` prints like this."""
    if "\\x" not in printed:
        return printed
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), printed.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def escape_undecodable(text: str) -> str:
    r"""A message or a piece of code as text that any encoder takes: bytes that are not UTF-8 become `\xNN`."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Span(NamedTuple):
    """Bytes `start` to `stop` of a text store or of a text."""

    start: int
    stop: int


EMPTY_SPAN = Span(0, 0)


@dataclass(frozen=True, slots=True)
class Source:
    """One file at the commit that is read, as text."""

    id: str
    """Hash of blob and path."""
    path: str
    blob: str
    commit: str
    """The commit that last changed it; empty where a shallow history does not say."""
    changed_at: int
    """Committer time of that commit, seconds since 1970."""
    former_paths: tuple[str, ...]
    """Paths that this file had before, newest first: its rename lineage."""
    language: str
    """A key of the languages shelf, or `text`."""
    text: Span
    """UTF-8 with LF line ends and no byte order mark."""
    decoding_changes: tuple[str, ...] = ()
    """What decoding altered: any of `bom`, `crlf`, `utf-16`, `utf-32`, `cookie`; and `notebook`."""
    declared_roles: DeclaredRoles = NO_DECLARED_ROLES


class Symbol(NamedTuple):
    """A function, type or constant as its file declares it."""

    name: str
    signature: str
    """On one line. Of a function all but its body and attributes; a type or constant in full where it is short."""
    visibility: Literal["public", "private"]
    line: int
    """Counted from 1."""
    kind: Literal["function", "type", "constant"] = "function"
    owner: str = ""
    """The type or function that it is declared in or for; empty at the top level."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A source, understood."""

    source: Source
    parse_status: ParseStatus
    """`clean`: parsed without errors; `errors`: parsed with some; `none`: plain text."""
    role: Role
    difficulty: float
    """0 (trivial) to 1, from branching, nesting and size."""
    symbols: tuple[Symbol, ...] = ()
    imports: tuple[str, ...] = ()
    """Paths of files of this repository that it imports, sorted."""
    type_density: float = 0.0
    """Type annotations per line of code."""
    error_patterns: int = 0
    """Places where errors are handled (`?`, `unwrap`, `except`, `catch`, `if err != nil`, …)."""
    group: str = ""
    """The leak unit: rename lineage and near-duplicates, together."""
    split: Split = "train"
    window_starts: Span = EMPTY_SPAN
    """Where its top-level items and functions begin: see `Sample.starts`."""

    @property
    def id(self) -> str:
        """Of the source."""
        return self.source.id

    @property
    def path(self) -> str:
        """Of the source."""
        return self.source.path

    @property
    def commit(self) -> str:
        """The commit that last changed it."""
        return self.source.commit

    @property
    def changed_at(self) -> int:
        """Committer time of that commit."""
        return self.source.changed_at

    @property
    def language(self) -> str:
        """Of the source."""
        return self.source.language


class Edit(NamedTuple):
    """A hunk of a change: consecutive lines that a commit made others, with the lines around them."""

    before: Span
    after: Span
    line: int
    """The first line of `after` in its file, counted from 1."""


class Change(NamedTuple):
    """What one commit did to one file, as text."""

    id: str
    """Hash of commit and path."""
    path: str
    """After the commit."""
    former_path: str
    """Before the commit where it renamed the file, else empty."""
    current_path: str
    """The file at the commit that is read that descends from it; empty where none does."""
    commit: str
    changed_at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    message: Span
    """UTF-8, without trailers; may be empty."""
    blob_before: str
    """A blob; empty where the commit adds the file."""
    blob_after: str
    language: str
    role: Role
    difficulty: float
    edits: tuple[Edit, ...]
    """In the order of the file."""
    is_whole_file: bool
    """Whether the one edit is the whole file."""
    group: str = ""
    split: Split = "train"


class ContextPart(NamedTuple):
    """A control token, and text behind it."""

    control_token: str
    """In StarCoder's spelling, one of `tokenizer.SPECIAL_TOKENS`; empty for none."""
    text: Span


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that a model will see: a unit as it is (`base`), a verified variation of it, or what a change made."""

    id: str
    origin: Unit | Change
    technique: str
    """`base`, or the key of the augmentation."""
    text: Span
    """What the model is to learn."""
    masked_spans: tuple[Span, ...] = ()
    """Byte spans of the text to be masked and given back at the end, in order, disjoint."""
    context_prefix: tuple[ContextPart, ...] = ()
    """What stands before the text in every row and does not count for the loss. The text must follow."""
    kind: str = ""
    """What the augmentation calls it, where it makes several kinds."""
    window_starts: Span = EMPTY_SPAN
    """Where windows like to begin: ascending byte offsets in the text, as little-endian uint32 in the text store."""


MAX_CACHE_GROUP = 64
"""Samples whose answers are one entry of the cache, at most."""


def cache_groups(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """The places of samples in runs of neighbours, of one file or of one commit, which the cache keeps together."""

    def of(index: int) -> str:
        origin = samples[index].origin
        return origin.commit if isinstance(origin, Change) else origin.id

    for _, run in groupby(range(len(samples)), key=of):
        family = list(run)
        yield from (family[first : first + MAX_CACHE_GROUP] for first in range(0, len(family), MAX_CACHE_GROUP))


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows as columns: row i of every array is one window. All arrays have shape (windows,)."""

    samples: Sequence[Sample]
    tokens: NDArray[Any]
    """Tokens of all samples behind one another, each behind its head, shape (tokens,); usually a memory map."""
    prefix_starts: NDArray[np.int64]
    """Where the head of each sample begins in `tokens`, shape (samples,)."""
    sample_index: NDArray[np.int32]
    """Index into `samples`."""
    token_start: NDArray[np.int64]
    """Where the window begins in `tokens`."""
    sample_offset: NDArray[np.int32]
    """Where the window begins in its sample, in tokens."""
    length: NDArray[np.int32]
    """Tokens of text in the window, before sentinels and padding."""
    size: NDArray[np.int32]
    """Tokens of the row once written."""
    prefix_length: NDArray[np.int32]
    """Tokens of the head, which stand before those of the text in the row."""
    mask_start: NDArray[np.int32]
    """Masked tokens, counted from the window's start; -1 where nothing is masked."""
    mask_stop: NDArray[np.int32]
    window_index: NDArray[np.int32]
    """Which window of its sample this is, from 0."""
    window_count: NDArray[np.int32]
    """How many windows its sample has."""
    content_key: NDArray[np.uint64]
    """Hash of the row's content: equal rows have equal keys."""
    difficulty: NDArray[np.float64]
    weight: NDArray[np.float64]
    stage: NDArray[np.int8]
    """Of the curriculum, from 0; meaningful after `order`."""

    def __len__(self) -> int:
        return len(self.sample_index)

    def take(self, rows: NDArray[Any]) -> Windows:
        """The windows that a mask or an index array names, in that order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in WINDOW_COLUMNS})

    def with_columns(self, **columns: NDArray[Any]) -> Windows:
        """The same windows with some columns replaced."""
        return replace(self, **columns)


WINDOW_COLUMNS = (
    "sample_index", "token_start", "sample_offset", "length", "size", "prefix_length", "mask_start", "mask_stop",
    "window_index", "window_count", "content_key", "difficulty", "weight", "stage",
)  # fmt: skip


class Drop(NamedTuple):
    """Something seen that is not in the dataset, and why."""

    step: str
    id: str
    """A path, or the id of a row with its path."""
    reason: str
    """One of few words, counted in the manifest."""
    detail: str = ""
    """Detail for a person: the keeper of a duplicate, the size, the message."""
    occurrences: int = 1
    """More than one where many go together, as all files of a giant commit do."""


class Finding(NamedTuple):
    """Something that a check found."""

    check: str
    where: str
    """File, and line where there is one."""
    what: str

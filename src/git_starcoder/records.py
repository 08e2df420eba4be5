"""Defines the records that steps pass on: Source → Unit → Sample → Windows, Change → Sample; and Drop and Finding.

Paths are `str` decoded with `surrogateescape`, so that any bytes are a path. Records do not contain texts: a `Span`
locates a text in the text store of the build (`BuildState.texts`), so memory grows with the index, not with the text.
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
"""Roles of files that the project's authors did not write; their changes are not read."""
ParseStatus = Literal["clean", "errors", "none"]


class DeclaredRoles(NamedTuple):
    """The roles that a repository itself declares for a file; None where it declares nothing."""

    vendored: bool | None = None
    generated: bool | None = None
    documentation: bool | None = None
    reason: str = ""
    """Why the file counts as vendored, where that is not declared by an attribute."""


NO_DECLARED_ROLES = DeclaredRoles()


CONTENT_ID = re.compile(r"[0-9a-f]{32}")
"""The form of a `content_id`."""


def content_id(*parts: str | bytes | int) -> str:
    """A 128-bit hash of content as 32 hexadecimal digits. The same content has the same id on any machine."""
    framed_parts: list[bytes] = []
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        framed_parts += (len(data).to_bytes(8, "little"), data)
    return blake2b(b"".join(framed_parts), digest_size=16).hexdigest()


_UNPRINTABLE = re.compile(r"[\udc80-\udcff]|\\(?=x(?:[89a-f][0-9a-f]|5c))")
"""What `printable_path` escapes: bytes that are not UTF-8, and a backslash that would look like such an escape."""
_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")


def printable_path(path: str) -> str:
    r"""A path as text that every encoding can write. `parse_printable_path` is the inverse, so no two paths are alike.

    Bytes that are not UTF-8 become `\xNN`. A backslash of the path that would look like such an escape becomes `\x5c`.
    All other paths stay as they are, `a\b` and `a\x2d` too.
    """
    if path.isascii() and "\\x" not in path:
        return path
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", path)


def parse_printable_path(printed: str) -> str:
    """The path that `printable_path` prints as this text."""
    if "\\x" not in printed:
        return printed
    data = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), printed.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


class RepositoryLabel(NamedTuple):
    """What the rows of a dataset of many repositories say about theirs."""

    name: str
    """The name, which no other repository of the dataset has."""
    licences: tuple[str, ...]
    """The SPDX identifiers of its licences, sorted; empty if there is none, or none that is known."""


def dataset_path(repository: str, path: str) -> str:
    """A path in a dataset of many repositories, which begins with the name of its repository.

    If the dataset has one repository, `repository` is empty, and the path stays as it is.
    """
    return f"{repository}/{path}" if repository else path


def escape_undecodable(text: str) -> str:
    r"""A text that every encoding can write: bytes that are not UTF-8 become `\xNN`."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class Span(NamedTuple):
    """The range of bytes from `start` to below `stop` of a text store or of a text."""

    start: int
    stop: int


EMPTY_SPAN = Span(0, 0)


@dataclass(frozen=True, slots=True)
class Source:
    """One file at the commit that is read, decoded to text."""

    id: str
    """Hash of the blob and the path."""
    path: str
    blob: str
    commit: str
    """The commit that last changed the file; empty where a shallow history does not contain it."""
    changed_at: int
    """Committer time of that commit, seconds since 1970."""
    former_paths: tuple[str, ...]
    """Earlier paths of the file, the newest first: its rename lineage."""
    language: str
    """A key of the languages registry, or `text`."""
    text: Span
    """UTF-8 with LF line ends and no byte order mark."""
    decoding_changes: tuple[str, ...] = ()
    """What decoding changed: any of `bom`, `crlf`, `utf-16`, `utf-32`, `cookie` and `notebook`."""
    declared_roles: DeclaredRoles = NO_DECLARED_ROLES
    added: tuple[Span, ...] | None = None
    """For a file of the newest commit that is held out because of its commits: the byte spans of the lines that the
    past commit does not have. None for a file of the commit that training sees."""


class Symbol(NamedTuple):
    """A function, type or constant that a file declares."""

    name: str
    signature: str
    """The declaration on one line: a function without body and attributes, a short type or constant in full."""
    visibility: Literal["public", "private"]
    line: int
    """The line of the declaration, counted from 1."""
    kind: Literal["function", "type", "constant"] = "function"
    owner: str = ""
    """The type or function that it belongs to; empty at the top level."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A source with the results of the analyse step."""

    source: Source
    parse_status: ParseStatus
    """`clean`: parsed without errors; `errors`: parsed with some; `none`: plain text."""
    role: Role
    difficulty: float
    """0 (trivial) to 1, from branching, nesting and size."""
    symbols: tuple[Symbol, ...] = ()
    imports: tuple[str, ...] = ()
    """Sorted paths of the files of this repository that it imports."""
    type_density: float = 0.0
    """Number of type annotations per line of code."""
    error_patterns: int = 0
    """Number of places where errors are handled (`?`, `unwrap`, `except`, `catch`, `if err != nil`, …)."""
    group: str = ""
    """The leak group: a rename lineage and its near-duplicates."""
    split: Split = "train"
    window_starts: Span = EMPTY_SPAN
    """Offsets at which top-level items and functions begin; see `Sample.window_starts`."""
    scored_spans: tuple[Span, ...] = ()
    """The byte spans of the text that are held out, disjoint and in order, if the rest of it is known from training;
    empty if the text has one split as a whole."""

    @property
    def id(self) -> str:
        """The id of the source."""
        return self.source.id

    @property
    def path(self) -> str:
        """The path of the source."""
        return self.source.path

    @property
    def commit(self) -> str:
        """The commit that last changed the source."""
        return self.source.commit

    @property
    def changed_at(self) -> int:
        """Committer time of that commit."""
        return self.source.changed_at

    @property
    def language(self) -> str:
        """The language of the source."""
        return self.source.language


class Edit(NamedTuple):
    """A hunk of a change: consecutive changed lines with the lines around them, before and after."""

    before: Span
    after: Span
    line: int
    """The first line of `after` in its file, counted from 1."""


class Change(NamedTuple):
    """What one commit did to one file."""

    id: str
    """Hash of the commit and the path."""
    path: str
    """The path after the commit."""
    former_path: str
    """The path before the commit, if the commit renamed the file; else empty."""
    current_path: str
    """The path of the same file at the commit that is read; empty if the file no longer exists."""
    commit: str
    changed_at: int
    """Committer time, seconds since 1970."""
    authored_at: int
    message: Span
    """The commit message in UTF-8, without trailers; may be empty."""
    blob_before: str
    """The blob before the commit; empty if the commit added the file."""
    blob_after: str
    language: str
    role: Role
    difficulty: float
    edits: tuple[Edit, ...]
    """The hunks, in the order of the file."""
    is_whole_file: bool
    """Whether the one edit is the whole file."""
    group: str = ""
    split: Split = "train"


class ContextPart(NamedTuple):
    """A control token and the text after it."""

    control_token: str
    """The token in StarCoder's spelling, one of `tokenizer.SPECIAL`; empty for no token."""
    text: Span


@dataclass(frozen=True, slots=True)
class Sample:
    """One text to learn: a unit as it is (`base`), a verified variation of it, or an edit of a change."""

    id: str
    origin: Unit | Change
    technique: str
    """`base`, or the key of the augmentation that made the sample."""
    text: Span
    """The text that the model learns."""
    masked_spans: tuple[Span, ...] = ()
    """Disjoint byte spans of the text, in order, that are moved to the end as the middle to predict."""
    context_prefix: tuple[ContextPart, ...] = ()
    """Text before the sample in every row that is not in the loss."""
    kind: str = ""
    """The kind of the sample, for augmentations that make several kinds."""
    window_starts: Span = EMPTY_SPAN
    """Preferred starts of windows: ascending byte offsets in the text, stored as little-endian uint32."""

    @property
    def scored_spans(self) -> tuple[Span, ...]:
        """See `Unit.scored_spans`."""
        return () if isinstance(self.origin, Change) else self.origin.scored_spans


MAX_CACHE_GROUP = 64
"""Largest number of samples whose results share one entry of the cache."""


def cache_groups(samples: Sequence[Sample]) -> Iterator[list[int]]:
    """Indices of consecutive samples of one file or of one commit, whose results the cache stores together."""

    def origin_id(index: int) -> str:
        origin = samples[index].origin
        return origin.commit if isinstance(origin, Change) else origin.id

    for _, neighbours in groupby(range(len(samples)), key=origin_id):
        indices = list(neighbours)
        yield from (indices[start : start + MAX_CACHE_GROUP] for start in range(0, len(indices), MAX_CACHE_GROUP))


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows as columns: index i of each array is window i. Arrays have shape (windows,) unless noted."""

    samples: Sequence[Sample]
    tokens: NDArray[Any]
    """Tokens of all samples, each after its context prefix, shape (tokens,); usually a memory map."""
    prefix_starts: NDArray[np.int64]
    """Index in `tokens` at which the context prefix of each sample begins, shape (samples,)."""
    sample_index: NDArray[np.int32]
    """Index into `samples`."""
    token_start: NDArray[np.int64]
    """Index in `tokens` at which the window begins."""
    sample_offset: NDArray[np.int32]
    """Tokens of the sample before the window."""
    length: NDArray[np.int32]
    """Tokens of text in the window, without control tokens and padding."""
    size: NDArray[np.int32]
    """Tokens of the written row, with control tokens and padding."""
    prefix_length: NDArray[np.int32]
    """Tokens of the context prefix, which come before the text in the row."""
    mask_start: NDArray[np.int32]
    """First masked token, counted from the start of the window; -1 if nothing is masked."""
    mask_stop: NDArray[np.int32]
    """First token after the masked ones, counted likewise."""
    window_index: NDArray[np.int32]
    """Index of the window within its sample, from 0."""
    window_count: NDArray[np.int32]
    """Number of windows of the sample."""
    content_key: NDArray[np.uint64]
    """Hash of the content of the row: equal rows have equal keys."""
    difficulty: NDArray[np.float64]
    weight: NDArray[np.float64]
    stage: NDArray[np.int8]
    """Stage of the curriculum, from 0; set by the order step."""
    scored_bounds: NDArray[np.int64]
    """Where in `tokens` the scored tokens begin and end, in order, shape (spans, 2), for samples of which only a part
    is scored (`Sample.scored_spans`). All tokens of other samples are."""

    def __len__(self) -> int:
        return len(self.sample_index)

    def take(self, rows: NDArray[Any]) -> Windows:
        """The windows selected by a boolean mask or by an array of indices, in that order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in WINDOW_COLUMNS})

    def with_columns(self, **columns: NDArray[Any]) -> Windows:
        """The same windows with some columns replaced."""
        return replace(self, **columns)


WINDOW_COLUMNS = (
    "sample_index", "token_start", "sample_offset", "length", "size", "prefix_length", "mask_start", "mask_stop",
    "window_index", "window_count", "content_key", "difficulty", "weight", "stage",
)  # fmt: skip


class Drop(NamedTuple):
    """Something that a step saw and did not pass on, and why."""

    step: str
    id: str
    """A path, or the id of a row with its path."""
    reason: str
    """One of a few fixed words, counted in the manifest."""
    detail: str = ""
    """Details for people: the row that a duplicate repeats, a size, a message."""
    occurrences: int = 1
    """More than 1 where many items are dropped together, such as all files of a giant commit."""


class Finding(NamedTuple):
    """A violation that a check found."""

    check: str
    where: str
    """The file, with the line if there is one."""
    what: str

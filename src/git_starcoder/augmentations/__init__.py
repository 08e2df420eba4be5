"""Registry: every other file here is one augmentation, a way to make more samples from a file or a change.

There are two kinds. The constant `NEEDS` of the module says which it is.

**Variations** (`NEEDS` is `text` or `tree`) change the text of a file and keep its meaning. A module offers

- `vary(code, random) -> Variant | str`: a variation of the file, or the reason why there is none;
- `verify(before, variant, after) -> str`: what is wrong with a variation, or `""`. It does not trust `vary`: it checks
  the texts and trees from before and after;
- `TABLES`, if `NEEDS` is `tree`: the tables of a language file that it reads. Files of a language that lacks one of
  them have no variation.

**Framings** (`NEEDS` is `imports`, `history` or `change`) put a context prefix in front of a text. The prefix is not in
the loss. A module offers

- `frame(inputs) -> list[FramedText] | str`: the texts with their prefixes, or the reason why there are none. They are
  made from a file and the files it imports (`imports`), a file and its latest changes (`history`), or one change
  (`change`);
- `verify(inputs, frame) -> str`: what is wrong with a framed text, or `""`.

The augment step drops whatever does not pass its own `verify`. A reason is one word of a few, counted in the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from git_starcoder import registry
from git_starcoder.records import printable_path
from git_starcoder.text.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from git_starcoder.parse.language import Language
    from git_starcoder.parse.tree import Code
    from git_starcoder.records import Span, Symbol

NOTHING_TO_CHANGE = "nothing_to_change"
"""The reason for no variation: the file has nothing that the augmentation may change, or its language file does not say
what that would be."""
InputKind = Literal["text", "tree", "imports", "history", "change"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A variation of a file."""

    text: bytes
    masked_spans: tuple[Span, ...] = ()
    """Byte spans of the text to be masked, in order, disjoint."""


class PrefixPart(NamedTuple):
    """A control token and the text after it, in a context prefix."""

    control_token: str
    """In StarCoder's spelling, one of `tokenizer.SPECIAL`; empty for none."""
    text: bytes


class FramedText(NamedTuple):
    """A text with a context prefix."""

    prefix: tuple[PrefixPart, ...]
    text: bytes
    kind: str = ""
    """A name for this kind of frame, where the augmentation makes several kinds."""


class ChangeTexts(NamedTuple):
    """What a commit did to a file."""

    path: str
    message: bytes
    edits: tuple[tuple[bytes, bytes], ...]
    """Text before and text after of each hunk, in the order of the file."""
    is_whole_file: bool
    """Whether the only edit spans the whole file."""


class FrameInput(NamedTuple):
    """What a framed text is made from."""

    path: str
    text: bytes
    """The file; empty for `change`."""
    imported_files: tuple[tuple[str, tuple[Symbol, ...]], ...] = ()
    """For `imports`: path and symbols of each file that this one imports and may show."""
    changes: tuple[ChangeTexts, ...] = ()
    """For `history` the latest changes of the file, newest first; for `change` the one change."""
    symbols: tuple[Symbol, ...] = ()
    """For `imports`: what the file itself declares."""


class Variation(Protocol):
    """A module that makes variations: its `NEEDS` is `text` or `tree`."""

    NEEDS: InputKind
    vary: Callable[[Code, Random], Variant | str]
    verify: Callable[[Code, Variant, Code], str]


class Framing(Protocol):
    """A module that adds context prefixes: its `NEEDS` is `imports`, `history` or `change`."""

    NEEDS: InputKind
    frame: Callable[[FrameInput], list[FramedText] | str]
    verify: Callable[[FrameInput, FramedText], str]


def input_kind(key: str) -> InputKind:
    """What the augmentation with this key works on: its `NEEDS`."""
    return registry.load("augmentations", key).NEEDS


def supports_language(key: str, language: Language | None) -> bool:
    """Whether the file of a language has all tables that an augmentation reads. None, for plain text, always has."""
    tables: tuple[str, ...] = getattr(registry.load("augmentations", key), "TABLES", ())
    return language is None or all(name in language.table for name in tables)


def load_variation(key: str) -> Variation:
    """The module of an augmentation whose `NEEDS` is `text` or `tree`."""
    return cast("Variation", registry.load("augmentations", key))


def load_framing(key: str) -> Framing:
    """The module of an augmentation whose `NEEDS` is `imports`, `history` or `change`."""
    return cast("Framing", registry.load("augmentations", key))


def header_parts(repository: str, path: str) -> tuple[PrefixPart, PrefixPart]:
    """The header of a file as it is: `<repo_name>NAME<file_sep>PATH` and a line break, as StarCoder2 has it.

    Files that are shown as context go between the two parts, each with `<file_sep>PATH` of its own.
    """
    return PrefixPart("<repo_name>", repository.encode()), PrefixPart("<file_sep>", redact(path_line(path)).text)


def path_line(path: str) -> bytes:
    """A path as the line that follows `<file_sep>` in a context prefix."""
    return printable_path(path).encode() + b"\n"

"""A shelf: every other file here is one of the augmentations. `NEEDS` says what it works on.

`text` or `tree`: variations of a file, of any text or of code that parses.

- `vary(code, random) -> Variant | str`: a variation of the whole file, or the reason why there is none;
- `verify(before, variant, after) -> str`: what is wrong with the variation, or "" for nothing;
- `TABLES`, with `tree`: the tables of a language file that it reads. It has nothing to change in a language that lacks
  one of them.

`imports`, `history` or `change`: frames, texts behind a head of context that does not count for the loss.

- `frame(around) -> list[Frame] | str`: frames of a file with what it imports (`imports`) or with its latest changes
  (`history`), or frames of one change (`change`); or the reason why there is none;
- `verify(around, frame) -> str`: what is wrong with the frame, or "" for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from git_starcoder import registry

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.language import Language
    from git_starcoder.parse.tree import Code
    from git_starcoder.records import Span, Symbol

NOTHING = "nothing_to_change"
"""Why there is no variation: the file has nothing that this augmentation may touch, or its language file does not say
what that would be."""
Needs = Literal["text", "tree", "imports", "history", "change"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A variation of a file."""

    text: bytes
    holes: tuple[Span, ...] = ()
    """Byte spans of the text to be masked, in order, disjoint."""


class Part(NamedTuple):
    """A control token, and text behind it."""

    mark: str
    """In StarCoder's spelling, one of `tokenizer.SPECIAL_TOKENS`; empty for none."""
    text: bytes


class Frame(NamedTuple):
    """A text behind a head of context."""

    head: tuple[Part, ...]
    text: bytes
    kind: str = ""
    """What the augmentation calls it, where it makes several kinds."""


class Shown(NamedTuple):
    """What a commit did to a file."""

    path: str
    message: bytes
    edits: tuple[tuple[bytes, bytes], ...]
    """Before and after of each hunk, in the order of the file."""
    whole: bool
    """Whether the one edit is the whole file."""


class Around(NamedTuple):
    """What a frame is made from."""

    path: str
    text: bytes
    """Of the file as it is; empty for `change`."""
    neighbours: tuple[tuple[str, tuple[Symbol, ...]], ...] = ()
    """Files that it imports and may be shown, with what they declare."""
    changes: tuple[Shown, ...] = ()
    """For `history` the latest changes of the file, newest first; for `change` the one."""
    symbols: tuple[Symbol, ...] = ()
    """What the file itself declares; for `imports`."""


class Variation(Protocol):
    """What a module offers that needs `text` or `tree`."""

    NEEDS: Needs

    def vary(self, code: Code, random: Random) -> Variant | str:
        """A variation, or the reason why there is none."""
        ...

    def verify(self, before: Code, variant: Variant, after: Code) -> str:
        """What is wrong with a variation, or nothing."""
        ...


class Framing(Protocol):
    """What a module offers that needs `imports`, `history` or `change`."""

    NEEDS: Needs

    def frame(self, around: Around) -> list[Frame] | str:
        """Frames, or the reason why there is none."""
        ...

    def verify(self, around: Around, frame: Frame) -> str:
        """What is wrong with a frame, or nothing."""
        ...


def needs(key: str) -> Needs:
    """What the augmentation with this key works on."""
    return registry.load("augmentations", key).NEEDS


def applies(key: str, language: Language | None) -> bool:
    """Whether the file of a language has all the tables that an augmentation reads."""
    tables: tuple[str, ...] = getattr(registry.load("augmentations", key), "TABLES", ())
    return language is None or all(name in language.table for name in tables)


def variation(key: str) -> Variation:
    """The augmentation with this key, which needs `text` or `tree`."""
    return cast("Variation", registry.load("augmentations", key))


def framing(key: str) -> Framing:
    """The augmentation with this key, which needs `imports`, `history` or `change`."""
    return cast("Framing", registry.load("augmentations", key))

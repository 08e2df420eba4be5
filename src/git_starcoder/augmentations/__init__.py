"""A shelf: every other file here is one of the augmentations.

- `NEEDS_TREE`: whether it works on code that parses, or on any text;
- `vary(code, random) -> Variant | str`: a variation of the whole file, or the reason why there is none;
- `verify(before, variant, after) -> str`: what is wrong with the variation, or "" for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from git_starcoder import shelf

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code
    from git_starcoder.rows import Span

NOTHING = "nothing_to_change"
"""Why there is no variation: the file has nothing that this augmentation may touch."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A variation of a file."""

    text: bytes
    holes: tuple[Span, ...] = ()
    """Byte spans of the text to be masked, in order, disjoint."""


class Augmentation(Protocol):
    """What a module of this shelf offers."""

    NEEDS_TREE: bool

    def vary(self, code: Code, random: Random) -> Variant | str:
        """A variation, or the reason why there is none."""
        ...

    def verify(self, before: Code, variant: Variant, after: Code) -> str:
        """What is wrong with a variation, or nothing."""
        ...


def load(key: str) -> Augmentation:
    """The augmentation with this key."""
    return cast("Augmentation", shelf.load("augmentations", key))

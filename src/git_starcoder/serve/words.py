"""Words of a suggestion: where it may end, and how much of it is what a person goes on to write."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = re.compile(r"\w+")


class WordEnd(NamedTuple):
    """The end of a word of a completion."""

    place: int
    """Characters of the completion up to there."""
    confidence: float
    """The probability of these characters, 0 to 1."""


def shown_part(text: str, confidence: float, ends: Sequence[WordEnd], threshold: float) -> str:
    """Return the beginning of a completion whose confidence reaches a threshold; empty if there is none.

    `confidence` is that of the whole text.

    >>> shown_part("return size(items)", 0.2, [WordEnd(6, 0.9), WordEnd(12, 0.4)], 0.3)
    'return size('
    """
    if confidence >= threshold:
        return text
    return text[: max((end.place for end in ends if end.confidence >= threshold), default=0)]


def is_inside_word(text: str, place: int) -> bool:
    """Whether a word goes on at a place of a text."""
    return 0 < place < len(text) and bool(WORD.fullmatch(text[place - 1 : place + 1]))


def accepted_length(suggestion: str, rest: str) -> int:
    """How many characters of a suggestion are accepted by a person who is about to type `rest`; 0 for none.

    >>> accepted_length("alpha beta gamma", "alpha beta delta")
    11
    >>> accepted_length("alphabet", "alpha beta")
    0
    """
    pairs = enumerate(zip(suggestion, rest, strict=False))
    length = next((place for place, (one, other) in pairs if one != other), min(len(suggestion), len(rest)))
    # It must not end inside a word of the text, nor of the suggestion: of `count` for `counter`, nothing is right.
    while length and any(is_inside_word(text, length) for text in (suggestion, rest)):
        length -= 1
    return length if WORD.search(rest, 0, length) else 0

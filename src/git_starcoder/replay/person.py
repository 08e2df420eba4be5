"""The person who types: where a pause is, what a keystroke is, and which part of a suggestion is accepted.

- The person pauses before the first character of each line that is not blank, and before each further word of the
  line. A word is a run of letters, digits and `_`. At each pause, one suggestion is asked for. It is shown if its
  confidence reaches the threshold.
- The person accepts the longest beginning of a shown suggestion that is what they are about to type, if it has at
  least a word. It must not end inside a word. One key accepts a suggestion that is right to its end. Otherwise, one key
  accepts each word.
- Each character is a keystroke, except for white space at the beginning of a line: editors indent by themselves.
- Nothing that is wrong is ever accepted, and reading a suggestion costs no keystroke.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

TYPING_INTERVAL_SECONDS = 0.24
"""The mean time between two keystrokes of 168,000 people (Dhakal et al., 2018, "Observations on Typing from 136 Million
Keystrokes"). A suggestion that takes longer comes too late for a person who types on."""
WORD = re.compile(r"\w+")
FREE = re.compile(r"^[ \t]+", re.MULTILINE)
"""White space that editors insert."""


class Answer(NamedTuple):
    """What a suggester answers at a pause."""

    text: str
    """Empty if there is nothing to show."""
    confidence: float = 0.0
    """0 to 1."""
    seconds: float = 0.0
    """How long it took."""


NO_ANSWER = Answer("")


class Tally(NamedTuple):
    """What was counted while some text was typed. Tallies can be added."""

    characters: int = 0
    """Keystrokes without suggestions."""
    keystrokes: int = 0
    """Keystrokes with suggestions, and with the keys that accept them."""
    pauses: int = 0
    """How often a suggestion was asked for."""
    shown: int = 0
    right: int = 0
    """Shown suggestions of which at least a word was accepted."""
    whole: int = 0
    """Shown suggestions that were right to their end."""
    late: int = 0
    """Shown suggestions that took longer than `TYPING_INTERVAL_SECONDS`. Nothing else depends on times."""

    @property
    def wrong(self) -> int:
        """Shown suggestions whose first word is wrong."""
        return self.shown - self.right

    @property
    def saved(self) -> float:
        """The share of keystrokes that suggestions save."""
        return 1 - self.keystrokes / self.characters if self.characters else 0.0

    @property
    def precision(self) -> float:
        """The share of shown suggestions that are right."""
        return self.right / self.shown if self.shown else 0.0

    def add(self, other: Tally) -> Tally:
        """The counts of both."""
        return Tally(*map(sum, zip(self, other, strict=True)))


def find_pauses(text: str) -> list[int]:
    r"""The places of a text, which begins a line, before which the person pauses.

    >>> find_pauses("  x = size(y)\n}\n")
    [2, 6, 11, 14]
    """
    pauses: list[int] = []
    start = 0
    for line in text.split("\n"):
        if line.strip():
            first = len(line) - len(line.lstrip())
            pauses += [start + first, *(start + word.start() for word in WORD.finditer(line) if word.start() > first)]
        start += len(line) + 1
    return pauses


def keystroke_sums(text: str) -> list[int]:
    """How many keystrokes the text before each place needs, and the whole text at the end; length len(text) + 1."""
    free = {place for found in FREE.finditer(text) for place in range(*found.span())}
    return list(accumulate((place not in free for place in range(len(text))), initial=0))


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
    while length and any(_is_inside_word(text, length) for text in (suggestion, rest)):
        length -= 1
    return length if WORD.search(rest, 0, length) else 0


def _is_inside_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and bool(WORD.fullmatch(text[place - 1 : place + 1]))


def type_text(text: str, ask: Callable[[int], Answer], threshold: float) -> Tally:
    """Type a text, which begins a line, and count. `ask` returns the answer at a place, the same each time."""
    sums = keystroke_sums(text)
    keystrokes = pauses = shown = right = whole = late = place = 0
    for pause in find_pauses(text):
        if pause < place:
            continue  # a suggestion that reached beyond it was accepted
        keystrokes += sums[pause] - sums[place]
        place = pause
        pauses += 1
        answer = ask(pause)
        if not answer.text.strip() or answer.confidence < threshold:
            continue
        shown += 1
        late += answer.seconds > TYPING_INTERVAL_SECONDS
        if length := accepted_length(answer.text, text[pause:]):
            is_whole = length == len(answer.text)
            right, whole, place = right + 1, whole + is_whole, pause + length
            keystrokes += 1 if is_whole else len(WORD.findall(text[pause:place]))
    keystrokes += sums[-1] - sums[place]
    return Tally(sums[-1], keystrokes, pauses, shown, right, whole, late)

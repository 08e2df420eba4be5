"""The person who types: where a pause is, what a keystroke is, and which part of a suggestion is accepted.

- The person pauses before the first character of each line that is not blank, and before each further word of the
  line. A word is a run of letters, digits and `_`. At each pause, one suggestion is asked for. It is shown as far as
  its confidence reaches the threshold.
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

from git_starcoder.serve.words import WORD, WordEnd, accepted_length, shown_part

if TYPE_CHECKING:
    from collections.abc import Callable

TYPING_INTERVAL_SECONDS = 0.24
"""The mean time between two keystrokes of 168,000 people (Dhakal et al., 2018, "Observations on Typing from 136 Million
Keystrokes"). A suggestion that takes longer comes too late for a person who types on."""
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
    ends: tuple[WordEnd, ...] = ()
    """Where the suggestion may end earlier, with the confidence up to there."""

    def cut_at(self, threshold: float) -> str:
        """Return the part of the suggestion whose confidence reaches a threshold; empty if there is none."""
        return shown_part(self.text, self.confidence, self.ends, threshold)


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
        suggestion = answer.cut_at(threshold)
        if not suggestion.strip():
            continue
        shown += 1
        late += answer.seconds > TYPING_INTERVAL_SECONDS
        if length := accepted_length(suggestion, text[pause:]):
            is_whole = length == len(suggestion)
            right, whole, place = right + 1, whole + is_whole, pause + length
            keystrokes += 1 if is_whole else len(WORD.findall(text[pause:place]))
    keystrokes += sums[-1] - sums[place]
    return Tally(sums[-1], keystrokes, pauses, shown, right, whole, late)

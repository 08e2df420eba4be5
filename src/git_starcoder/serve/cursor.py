"""What the engine is asked and what it answers. These types are the interface for servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from git_starcoder.model.generation import GREEDY, Sampling
from git_starcoder.serve.words import WordEnd, shown_part

if TYPE_CHECKING:
    from collections.abc import Mapping

EndingRule = Literal["auto", "line", "none"]
"""Where a completion ends by itself: `auto` after a line, or after a block if the line opens one; `line` after a line;
`none` only where the model ends the text."""
Reason = Literal[
    "line", "block", "end", "suffix", "repetition", "stop", "length", "time", "word", "unsure", "empty"
]  # fmt: skip
"""Why a completion ended, or why nothing is shown. See `REASONS`."""
REASONS: Mapping[Reason, str] = {
    "line": "the line is complete",
    "block": "the block is complete",
    "end": "the model ended the text",
    "suffix": "what follows is already there, after the cursor",
    "repetition": "what follows repeats the text before it",
    "stop": "a stop text was reached",
    "length": "the largest number of tokens was reached",
    "time": "the time limit was reached",
    "word": "one more word would lower the confidence below the threshold",
    "unsure": "the confidence is below the threshold",
    "empty": "the model has nothing to write here",
}
"""What each reason means, for users."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a text that is being edited."""

    prefix: str
    """The text of the file before the cursor, as long as possible: it should begin where the file begins."""
    suffix: str = ""
    """The text after the cursor."""
    path: str = ""
    """The path of the file in its repository, with `/`. If it is not known, the engine looks for the file."""
    open_texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Whole texts of other files that are open in the editor, by path: they count in place of the files on disk."""
    excerpts: tuple[str, ...] = ()
    """Parts of other texts that the user has seen, the most important last."""


class Wishes(NamedTuple):
    """What a client may choose about a completion."""

    max_tokens: int = 64
    """The largest number of new tokens; at most a quarter of what the model reads without other files."""
    sampling: Sampling = GREEDY
    ending: EndingRule = "auto"
    stop: tuple[str, ...] = ()
    """The completion ends before the first of these texts."""
    min_confidence: float | None = None
    """A completion ends before the word with which its confidence would be lower; if that is the first word, nothing is
    shown. None: the threshold of the model. 0 shows everything."""
    seconds: float = 10.0
    """The time limit. What is written by then is the completion."""
    line_seconds: float = inf
    """No further line is begun when so much time has passed since the first token."""
    top_count: int = 0
    """How many of the most likely tokens are told for each token."""


DEFAULT_WISHES = Wishes()


class TokenChoice(NamedTuple):
    """A token of a completion and its probability."""

    text: bytes
    probability: float
    """After the memory is mixed in."""
    top: tuple[tuple[bytes, float], ...] = ()
    """The most likely tokens at this place, the likeliest first, and their probabilities."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What may stand at a cursor."""

    text: str
    """What to insert; empty if nothing is shown."""
    reason: Reason
    confidence: float
    """The probability that the model gives to the first line, as far as it is shown, 0 to 1."""
    threshold: float
    """The confidence from which a completion is shown."""
    path: str
    """The path that was given, or that the engine has found; empty if it is not known."""
    prompt_tokens: int
    cached_tokens: int
    """Tokens of the prompt that were not read again."""
    tokens: tuple[TokenChoice, ...] = ()
    """The tokens that were written. If the completion was cut, or nothing is shown, they are more than its text."""
    ends: tuple[WordEnd, ...] = ()
    """Where the first line could end earlier, in order."""
    drafted: int = 0
    """Tokens of drafts that the network read."""
    seconds: float = 0.0
    prompt_seconds: float = 0.0
    """The part of it until the prompt was read."""

    def cut_at(self, threshold: float) -> str:
        """Return the part of the text that a higher threshold would show; empty if there is none."""
        return shown_part(self.text, self.confidence, self.ends, threshold)

    def explain(self) -> str:
        """Say in one line why the completion is as it is."""
        shown = "" if self.text else "nothing is shown: "
        digits = 2 if f"{self.confidence:.2f}" != f"{self.threshold:.2f}" else 4
        confidence = f"confidence {self.confidence:.{digits}f}, shown from {self.threshold:.{digits}f}"
        return f"{shown}{REASONS[self.reason]} ({confidence})"


class CancelledError(Exception):
    """The completion is not wanted any more."""

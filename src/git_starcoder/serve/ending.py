"""Decides where a completion ends: where a person would end it.

A completion is one line, or a block if the line opens one. It ends before it repeats what stands after the cursor, or
itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Self

from git_starcoder.serve.prompt import plain_text
from git_starcoder.serve.repetition import first_copy_end
from git_starcoder.serve.words import WORD

if TYPE_CHECKING:
    from git_starcoder.serve.cursor import Cursor, EndingRule, Reason

MAX_BLOCK_LINES = 12
"""The most lines of a block. Longer ones are rarely right to their end, and nobody reads them before accepting."""
MAX_BLANK_LINES = 3
"""The most blank lines before a completion; with more, there is none."""
OPENERS = (":", "{", "(", "[", "=>", "->")
"""A line that ends with one of these opens a block."""
OPENING_WORDS = re.compile(r"(?:^|\s)(?:do|then|begin|else)$")
CLOSERS = ("}", ")", "]", "end")
"""A line that begins with one of these closes a block, and belongs to it."""
BRACKETS = {")": "(", "]": "[", "}": "{"}
QUOTES = "\"'`"


class Verdict(NamedTuple):
    """What is to become of a text that is being written."""

    kept: int
    """The characters that belong to the completion if it ends now."""
    settled: int
    """The characters that belong to it however it goes on."""
    reason: Reason | None
    """Why it ends; None if it goes on."""


@dataclass(frozen=True)
class EndingRules:
    """What the end of a completion depends on: the text around the cursor."""

    rule: EndingRule
    stop: tuple[str, ...]
    before: str
    """The text before the cursor, as the model reads it."""
    line_rest: str
    """The line of the cursor, after it, without white space at both ends."""
    next_line: str
    """The first line after that is not blank, without white space at both ends."""
    opener: str | None
    """The line that opened the block that the cursor stands at the beginning of, if there is one."""

    @classmethod
    def at(cls, cursor: Cursor, rule: EndingRule, stop: tuple[str, ...] = ()) -> Self:
        """Read the text around a cursor."""
        before = plain_text(cursor.prefix[-65_536:]).decode()
        line_start = _line_start(before)
        line_rest, _, after = plain_text(cursor.suffix[:65_536]).decode().partition("\n")
        next_line = next((line for line in after.split("\n") if line.strip()), "")
        above = line_start if line_start.strip() else _line_above(before)
        opener = above if opens_block(above) and not line_rest.strip() else None
        if opener is not None and not line_start.strip() and indentation(next_line) > indentation(opener):
            opener = None  # the next line already is the block
        return cls(rule, tuple(filter(None, stop)), before, line_rest.strip(), next_line.strip(), opener)

    @cached_property
    def line_start(self) -> str:
        """The line of the cursor, before it."""
        return _line_start(self.before)

    @cached_property
    def line_above(self) -> str:
        """The line before that of the cursor that is not blank, without white space at its end."""
        return _line_above(self.before)

    @cached_property
    def repeated_lines(self) -> frozenset[str]:
        """The lines before the cursor that stand twice in a row, without white space at their ends and blank lines."""
        lines = [line.rstrip() for line in self.before.split("\n") if line.strip()]
        return frozenset(line for line, next_line in pairwise(lines) if line == next_line)

    def judge(self, text: str, *, is_over: bool = False) -> Verdict:
        """Decide about a text that was written so far. `is_over` says that nothing more will be written."""
        verdict = (
            self._judge_lines(text, is_over=is_over) if self.rule != "none" else Verdict(len(text), len(text), None)
        )
        places = [place for stop in self.stop if (place := text.find(stop, 0, verdict.kept + len(stop))) >= 0]
        if places and min(places) <= verdict.kept:
            return Verdict(min(places), min(places), "stop")
        # The end of the text may be the beginning of a stop text.
        held = max((_overlap(text, stop) for stop in self.stop), default=0)
        return verdict._replace(settled=min(verdict.settled, len(text) - held)) if not verdict.reason else verdict

    def _judge_lines(self, text: str, *, is_over: bool) -> Verdict:
        lines = text.split("\n")
        if self.line_rest:
            return self._judge_within_line(lines[0], is_complete=len(lines) > 1 or is_over)
        first = next((index for index, line in enumerate(lines) if line.strip()), None)
        if first is None or first > MAX_BLANK_LINES:
            return Verdict(0, 0, "empty" if len(lines) > MAX_BLANK_LINES else None)
        return self._judge_block(lines, first, is_over=is_over)

    def _judge_within_line(self, line: str, *, is_complete: bool) -> Verdict:
        """The rest of the line is there, after the cursor: the completion ends before it is repeated."""
        quote = open_quote(self.line_start)
        in_string = quote == self.line_rest[0]
        place = _closing_quote(line, quote) if in_string else _unopened_bracket(line, self.line_rest[0])
        cut = line[: place - 1] if place else line
        if (kept := self._circle_end(cut, is_complete=is_complete or place > 0)) is not None:
            return Verdict(kept, kept, "repetition")
        if place:
            return Verdict(len(cut), len(cut), "suffix")
        if not is_complete:
            return Verdict(len(line), 0, None)
        stripped = line.rstrip()
        if in_string and (size := self._other_quote(stripped)):
            return Verdict(len(stripped) - size, len(line), "suffix")
        if stripped.endswith(self.line_rest):
            return Verdict(len(stripped) - len(self.line_rest), len(line), "suffix")
        return Verdict(len(stripped), len(stripped), "line")

    def _other_quote(self, line: str) -> int:
        """The length of the end of a line that closes the string of the cursor with the wrong kind of quote.

        The editor has closed it with the right one. What stands after that is a part of the end if the line repeats it.
        A pair of the other quotes, or an apostrophe, is text of the string.
        """
        closer, string = self.line_rest[0], self.line_start[self.line_start.rindex(self.line_rest[0]) :] + line
        others = [other for other in QUOTES if other != closer and string.count(other) % 2]
        ends = (other + self.line_rest[1:size] for other in others for size in range(len(self.line_rest), 0, -1))
        return next((len(end) for end in ends if line.endswith(end)), 0)

    def _judge_block(self, lines: list[str], first: int, *, is_over: bool) -> Verdict:
        """Judge line by line: the first one that is not blank, and the others if it opens a block."""
        opener, body = self._opening_line(lines, first)
        kept = settled = start = 0
        last = self.line_above
        for index, line in enumerate(lines):
            is_complete = index < len(lines) - 1 or is_over
            if line.strip():
                whole = self._line(lines, index)
                if is_complete and whole.strip() == self.next_line and not _closes_own(lines[: index + 1]):
                    return Verdict(kept, kept, "suffix")
                is_same = is_complete and whole.rstrip() == last and WORD.search(last)
                if is_same and last not in self.repeated_lines:
                    return Verdict(kept, kept, "repetition")
                last = whole.rstrip()
                is_out = opener is not None and index >= body and indentation(whole) <= indentation(opener)
                is_closer = line.strip().startswith(CLOSERS)
                if is_out and not is_closer:
                    return Verdict(kept, kept, "block" if kept else "empty")
                end = self._circle_end(line, is_complete=is_complete, index=index)
                if end is not None:
                    return Verdict(start + end, start + end, "repetition")
                kept = start + len(line.rstrip())
                if is_complete:
                    settled = kept
                    if opener is None:
                        return Verdict(kept, kept, "line")
                    is_closed = is_closer and index >= body and _closes(opener, lines[body : index + 1])
                    if is_out or is_closed or index - first + 1 >= MAX_BLOCK_LINES:
                        return Verdict(kept, kept, "block")
            start += len(line) + 1
        return Verdict(kept, settled, None)

    def _opening_line(self, lines: list[str], first: int) -> tuple[str | None, int]:
        """The line that opens the block that is written, None if none does; and where the block begins in `lines`."""
        if self.rule == "line":
            return None, 0
        if self.opener is not None and (first > 0 or not self.line_start.strip()):
            return self.opener, first
        line = self._line(lines, first)
        is_complete = first < len(lines) - 1
        return (line, first + 1) if is_complete and opens_block(line) else (None, 0)

    def _circle_end(self, line: str, *, is_complete: bool, index: int = 0) -> int | None:
        """Where a line of the text ends that repeats itself, if it does. What stands before the cursor counts."""
        line_start = "" if index else self.line_start
        end = first_copy_end(line_start + line, self.before, is_complete=is_complete)
        return None if end is None else max(0, end - len(line_start))

    def _line(self, lines: list[str], index: int) -> str:
        """A line with what stands before the cursor in it."""
        return self.line_start + lines[0] if index == 0 else lines[index]


def _line_start(before: str) -> str:
    """See `EndingRules.line_start`."""
    return before.rpartition("\n")[2]


def _line_above(before: str) -> str:
    """See `EndingRules.line_above`."""
    return before.rpartition("\n")[0].rstrip().rpartition("\n")[2]


def opens_block(line: str) -> bool:
    """Whether a line opens a block, by its last characters."""
    stripped = line.rstrip()
    return stripped.endswith(OPENERS) or bool(OPENING_WORDS.search(stripped))


def indentation(line: str) -> int:
    """The columns before the text of a line, with 4 for a tab."""
    return len(line[: len(line) - len(line.lstrip())].expandtabs(4))


def _unopened_bracket(line: str, bracket: str) -> int:
    """The place after the first closing `bracket` that nothing in the line opens; 0 if there is none."""
    opening = BRACKETS.get(bracket)
    depth = 0
    for place, character in enumerate(line, 1) if opening else ():
        depth += (character == opening) - (character == bracket)
        if depth < 0:
            return place
    return 0


def _closes_own(lines: list[str]) -> bool:
    """Whether the last of the lines begins with a bracket that closes one of the lines before."""
    closer = lines[-1].strip()[0]
    return closer in BRACKETS and not _unopened_bracket("\n".join(lines), closer)


def _closes(opener: str, lines: list[str]) -> bool:
    """Whether lines close the bracket that the line before them ends with."""
    closer = next((closer for closer, bracket in BRACKETS.items() if opener.rstrip().endswith(bracket)), "")
    return bool(_unopened_bracket("\n".join(lines), closer))


def open_quote(line: str) -> str:
    """The quote of the string that is open at the end of a line; empty if none is."""
    quote, is_escaped = "", False
    for character in line:
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character in QUOTES and quote in {"", character}:
            quote = "" if quote else character
    return quote


def _closing_quote(line: str, quote: str) -> int:
    """The place after the first quote that closes a string which is open at the beginning of a line; 0 if none does."""
    return next((place for place in range(1, len(line) + 1) if not open_quote(quote + line[:place])), 0)


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of a text that is the beginning of a stop text."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)

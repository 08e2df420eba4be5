"""Makes the prompt of a cursor: the layout of training, cut so that it begins in the same way after each keystroke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.model.complete import RESERVED_TOKENS, arrange_prompt
from git_starcoder.serve.healing import MAX_HEALED_TOKENS
from git_starcoder.text.encoding import normalize_line_ends

if TYPE_CHECKING:
    from git_starcoder.model.complete import Model
    from git_starcoder.model.context import ContextComposer
    from git_starcoder.serve.cursor import Cursor
    from git_starcoder.serve.healing import TokenTable

    Tokens = Any

MAX_SUFFIX_TOKENS = 96
"""Tokens after the cursor that the network reads. If they come after the text before the cursor, they are read again at
each keystroke."""
MAX_EXCERPT_TOKENS = 1024
"""Tokens of excerpts that the memory reads."""
READ_CHARACTERS = 32_768
"""Characters before the cursor that are divided into tokens, at least; more than any context."""
BEGINNING_CHARACTERS = 4096
"""Characters at the beginning of a file that its context may be chosen from."""
CUT_SHARE = 1 / 4
"""If a text is too long, its beginning is cut off in steps of this share of the room for it: a prompt that lost a token
with each keystroke would have to be read anew each time."""
CUT_SLACK = 1.25
"""A cut stays where it was while it is at most this many steps from where it must be."""


class Prompt(NamedTuple):
    """A prompt, and what belongs to it."""

    tokens: Tokens
    """What the network reads, shape (tokens,)."""
    remembered: Tokens
    """What the memory reads: the same without other files as context."""
    healed: bytes
    """The text before the cursor with which the continuation must begin; see `healing`."""
    limit: int
    """The largest number of new tokens."""
    start: int
    """Tokens that were cut off at the beginning of the text."""


def plain_text(text: str) -> bytes:
    """The UTF-8 of a text as a build would store it. A NUL, which no text has there, becomes U+FFFD."""
    data = text.removeprefix("\ufeff").replace("\0", "\ufffd").encode("utf-8", "replace")
    return normalize_line_ends(data)


def text_tokens(model: Model, cursor: Cursor) -> tuple[Tokens, Tokens, Tokens]:
    """The tokens of the text before a cursor, of the text after it, and of the beginning of the file.

    Only as much as a prompt may need.
    """
    prefix = cursor.prefix
    cut = max(0, len(prefix) // READ_CHARACTERS - 1) * READ_CHARACTERS
    cut = prefix.find("\n", cut) + 1 if cut else 0
    texts = [
        plain_text(prefix[cut:]),
        plain_text(cursor.suffix[: 16 * MAX_SUFFIX_TOKENS]),
        plain_text(prefix[:BEGINNING_CHARACTERS]) if cut else b"",
    ]
    tokens, offsets = model.tokenizer.encode(texts)
    before, after, beginning = np.split(tokens.astype(np.int64), offsets[1:-1])
    return before, after[:MAX_SUFFIX_TOKENS], beginning if cut else before


def make_prompt(
    model: Model, texts: tuple[Tokens, Tokens, Tokens], path: str, composer: ContextComposer | None, budget: int,
    table: TokenTable, max_tokens: int, context: int, last_start: int = 0,
) -> Prompt:  # fmt: skip
    """Arrange the parts of a prompt.

    The header takes at most half of the room for text, and the text after the cursor half of what is left. The rest is
    for the text before the cursor.

    Args:
        model: The model that is to read it.
        texts: What `text_tokens` returned.
        path: The path of the file; empty if it is not known, and then there is no header.
        composer: What chooses parts of other files to show, if anything.
        budget: The most tokens of other files.
        table: The tokens of the model.
        max_tokens: The largest number of new tokens that is wanted.
        context: Tokens that the network reads at once, with those of other files.
        last_start: The `start` of the prompt before this one.
    """
    before, after, beginning = texts
    healed = table.take_back(before[-8:].tolist())
    before = before[: len(before) - healed.tokens]
    limit = max(1, min(max_tokens, (context - budget) // 4))
    room = context - budget - limit - RESERVED_TOKENS - MAX_HEALED_TOKENS
    header = model.header(path, room)
    shown = header if composer is None else composer.extend_header(header, beginning, budget)
    room += budget - len(shown)
    after = after[: room // 2]
    has_gap = model.fills_gaps and bool(model.tokenizer.decode(after).strip())
    room -= len(after) * has_gap
    excess, step = len(before) - room, max(1, int(room * CUT_SHARE))
    start = last_start if excess <= last_start <= excess + CUT_SLACK * step else -(-max(0, excess) // step) * step
    is_whole = start == 0 and len(beginning) - healed.tokens <= len(before)
    before = before[start:]

    def arrange(header: Tokens) -> Tokens:
        return arrange_prompt(
            model.tokenizer, header, before, after if has_gap else None, begins_file=is_whole,
            suffix_first=model.suffix_first,
        )  # fmt: skip

    return Prompt(arrange(shown), arrange(header), healed.text, limit, start)

"""Which patterns of secrets there are, in the order in which they name what several of them find.

A pattern is tried only where one of its literals stands, so a text without any costs one fast search. None can take
long on any text: a run without a limit is possessive and cannot begin within itself, all else is bounded.
"""

from __future__ import annotations

from git_starcoder.text.secret_joins import JOINS
from git_starcoder.text.secret_tokens import KEYS, TOKENS

PATTERNS = (*KEYS, *TOKENS, *JOINS)

"""Reads prompts in which an editor has already put fill-in-the-middle tokens: Zed and Continue have own templates.

<file_sep>other.py⏎… <file_sep>this.py⏎<fim_prefix>before<fim_suffix>after<fim_middle>
"""

from __future__ import annotations

import re

from git_starcoder.serve.cursor import Cursor
from git_starcoder.text.control_tokens import FIM_SPELLINGS

_FILE_MARK = re.compile(r"<\|?file_sep\|?>")
_REPOSITORY_MARK = re.compile(r"<\|?repo_name\|?>[^\n<]*\n?")
MAX_PATH_CHARACTERS = 512


def split_template(prompt: str) -> Cursor:
    """Divide a prompt into the parts that a template has put together. Any other prompt is text before a cursor."""
    for before_mark, middle_mark, after_mark in FIM_SPELLINGS:
        stripped = prompt.rstrip()
        if stripped.endswith(middle_mark) and before_mark in stripped and after_mark in stripped:
            head, _, rest = stripped.removesuffix(middle_mark).partition(before_mark)
            prefix, _, suffix = rest.rpartition(after_mark)
            *others, own = _FILE_MARK.split(_REPOSITORY_MARK.sub("", head))
            path = own.partition("\n")[0].strip()[:MAX_PATH_CHARACTERS]
            return Cursor(prefix, suffix, path, excerpts=tuple(text for text in others if text.strip()))
    return Cursor(prompt)

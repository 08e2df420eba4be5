"""Prompts into which an editor has put fill-in-the-middle tokens."""

from __future__ import annotations

import pytest

from git_starcoder.serve.cursor import Cursor
from git_starcoder.serve.templates import split_template


@pytest.mark.parametrize(
    ("prompt", "cursor"),
    [
        ("<fim_prefix>a = <fim_suffix>\nb<fim_middle>", Cursor("a = ", "\nb")),
        ("<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>", Cursor("a", "b")),
        ("<fim_prefix><fim_suffix><fim_middle>", Cursor("", "")),
        (
            "<repo_name>r\n<file_sep>o.py\nx = 1\n<file_sep>src/t.py\n<fim_prefix>a<fim_suffix>b<fim_middle>",
            Cursor("a", "b", "src/t.py", excerpts=("o.py\nx = 1\n",)),
        ),
        ("a <fim_prefix> b", Cursor("a <fim_prefix> b")),
        ("a<fim_middle>", Cursor("a<fim_middle>")),
        ("plain", Cursor("plain")),
    ],
)
def test_the_parts_of_a_template(prompt, cursor):
    assert split_template(prompt) == cursor

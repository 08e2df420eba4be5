"""The texts of an editor, after any changes, in each unit of positions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.serve.documents import CODECS, OpenDocuments, Place, file_name, find_offset

TEXTS = st.text(st.sampled_from("ab\n\r\f\u2028é€😀\x0b\x85"), max_size=12)


def place_of(text, offset, encoding):
    """The position of an offset, in the words of the protocol. None: it is between `\\r` and `\\n`."""
    codec, width = CODECS[encoding]
    before = text[:offset]
    if before.endswith("\r") and text[offset:].startswith("\n"):
        return None
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return Place(len(lines) - 1, len(lines[-1].encode(codec)) // width)


@given(TEXTS, st.sampled_from(sorted(CODECS)))
def test_every_position_is_found(text, encoding):
    for offset in range(len(text) + 1):
        place = place_of(text, offset, encoding)
        if place is not None:
            assert find_offset(text, place, encoding) == offset


@given(TEXTS, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), TEXTS), max_size=4), st.sampled_from(sorted(CODECS)))  # fmt: skip
def test_changes_give_the_text_of_the_editor(text, changes, encoding):
    documents = OpenDocuments()
    documents.encoding = encoding
    documents.open("file:///a", text)
    for start, size, new in changes:
        start = min(start, len(text))
        end = min(len(text), start + size)
        span = place_of(text, start, encoding), place_of(text, end, encoding)
        if None not in span:
            documents.change("file:///a", new, span)
            text = text[:start] + new + text[end:]
        assert documents.texts["file:///a"] == text
    whole = place_of(text, len(text), encoding)
    assert documents.split("file:///a", whole) == (text, "")


def test_a_position_outside_is_the_end():
    text = "ab\ncd\r\n"
    assert find_offset(text, Place(0, 99), "utf-16") == 2
    assert find_offset(text, Place(1, 99), "utf-16") == 5
    assert find_offset(text, Place(9, 0), "utf-16") == len(text)


def test_half_a_character_is_no_error():
    """A program that counts wrongly, or half of a surrogate pair in the text."""
    assert find_offset("😀b", Place(0, 1), "utf-16") == 1
    assert find_offset("\ud800b", Place(0, 1), "utf-16") == 1


def test_a_whole_text_replaces_a_whole_text():
    documents = OpenDocuments()
    documents.open("file:///a", "old")
    documents.change("file:///a", "new", None)
    assert documents.texts == {"file:///a": "new"}
    documents.close("file:///a")
    documents.close("file:///a")
    with pytest.raises(KeyError):
        documents.change("file:///a", "x", None)


@pytest.mark.parametrize(
    ("uri", "name"),
    [("file:///a%20b/caf%C3%A9.py", "/a b/café.py"), ("file:///caf%E9.py", "/caf\udce9.py"), ("file:///é;b.py", "/é;b.py"),
     ("file://localhost/a.py", "/a.py"), ("file://host/a.py", ""), ("untitled:Untitled-1", ""), ("jdt://[x/y", ""), ("file:///a%00.py", "")],
)  # fmt: skip
def test_the_file_of_a_uri(uri, name):
    assert file_name(uri) == name

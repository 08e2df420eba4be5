"""Lines as hashes agree with lines as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.text import shingles
from git_starcoder.text.lines import LEAST, Lines, only_in

line = st.text(st.sampled_from("ab \t"), max_size=30).map(str.encode)
text = st.lists(line, max_size=6).map(b"\n".join)


def lines_of(text):
    stripped = (line.strip(b" \t") for line in text.split(b"\n"))
    return [line for line in stripped if len(line) >= LEAST]


@given(st.lists(text, max_size=5), st.lists(text, max_size=5))
def test_a_text_stands_in_others_where_a_long_line_of_it_does(these, others):
    known = {line for other in others for line in lines_of(other)}
    expected = [bool(known & set(lines_of(one))) for one in these]
    assert Lines.of(these).stand_in(only_in(Lines.of(others).flat, Lines.of([]).flat)).tolist() == expected


@given(st.lists(text, max_size=5), st.lists(text, max_size=5))
def test_only_in_is_a_difference_of_sets(these, others):
    mine = {line for one in these for line in lines_of(one)}
    known = {line for other in others for line in lines_of(other)}
    assert len(only_in(Lines.of(these).flat, Lines.of(others).flat)) == len(mine - known)


def test_batches_do_not_matter(monkeypatch):
    texts = [f"this is line number {number} of them all\n".encode() * 3 for number in range(50)]
    expected = Lines.of(texts)
    monkeypatch.setattr(shingles, "BATCH", 100)
    found = Lines.of(texts)
    assert found.flat.tolist() == expected.flat.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist() == list(range(0, 151, 3))

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, token_masking
from git_starcoder.parse.tree import Code


def vary(data: bytes, seed: int = 0) -> Variant | str:
    return token_masking.vary(Code(data, None, None, is_clean=False), random.Random(seed))


TEXTS = st.text(st.sampled_from("ab_1 \n\té漢\U0001f600(,"), max_size=4000).map(str.encode)


@given(data=TEXTS, seed=st.integers(0, 9))
def test_holes_are_right_in_any_text(data: bytes, seed: int) -> None:
    variant = vary(data, seed)
    if isinstance(variant, Variant):
        code = Code(data, None, None, is_clean=False)
        assert token_masking.verify(code, variant, code) == ""
        assert variant.text == data
    else:
        assert variant == NOTHING_TO_CHANGE


def test_about_a_tenth_is_masked_and_every_kilobyte_has_a_hole() -> None:
    data = b"".join(b"    value_%d = compute(%d, other)\n" % (i, i) for i in range(3000))
    variant = vary(data)
    assert isinstance(variant, Variant)
    assert 0.06 < sum(stop - start for start, stop in variant.masked_spans) / len(data) < 0.14
    starts = [start for start, _ in variant.masked_spans]
    assert max(b - a for a, b in itertools.pairwise(starts)) < 2 * token_masking.BYTES_PER_SPAN


def test_holes_are_whole_lines_parts_of_lines_and_several_lines() -> None:
    data = b"".join(b"    value_%d = compute(%d, other)\n" % (i, i) for i in range(3000))
    variant = vary(data)
    assert isinstance(variant, Variant)
    texts = [data[start:stop] for start, stop in variant.masked_spans]
    assert sum(b"\n" in text for text in texts) > 10
    assert sum(text.startswith(b"value") and text.endswith(b")") and b"\n" not in text for text in texts) > 10
    assert sum(not text.startswith(b"value") for text in texts) > 10


def test_nothing_to_mask_in_blank_texts() -> None:
    assert vary(b"") == NOTHING_TO_CHANGE
    assert vary(b" \n\t\n" * 1000) == NOTHING_TO_CHANGE

"""Kept rate and delta-chrF, on edits whose values are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.replay.edit_metrics import delta_chrf, kept_rate

TEXT = st.text(alphabet="ab (\n", max_size=30)


@pytest.mark.parametrize(
    ("base", "predicted", "final", "rate"),
    [
        ("old line\n", "new line\n", "new line\n", 1.0),
        ("", "brand new line\n", "brand new line\n", 1.0),
        ("    foo(old_name)\n", "    foo(new_name)\n", "    foo(new_name)\n", 1.0),
        ("old line\n", "", "new line\n", 0.0),
        ("old", "old", "new", 0.0),
        ("same", "same", "same", 1.0),
        # Of the new tokens `alpha`, ` ` and `beta`, the last is not kept: 6 of 10 characters.
        ("x", "x alpha beta", "x alpha", 6 / 11),
    ],
)
def test_kept_rate_is_the_share_of_new_characters_that_stay(base, predicted, final, rate):
    assert kept_rate(base, predicted, final) == pytest.approx(rate)


def test_delta_chrf_is_100_for_the_same_edit_and_0_for_another():
    assert delta_chrf("a = 1\n", "a = 2\n", "a = 2\n") == 100
    assert delta_chrf("", "bbbbbb", "cccccc") == 0
    assert delta_chrf("x", "x", "x") == 100
    assert delta_chrf("abcdefgh", "abcdefgh", "abcdefgx") == 0  # nothing was predicted


def test_delta_chrf_weighs_recall_more_than_precision():
    """Sequences of one character: `ab` is expected. Half of it is found, or it is found with as much beside it."""
    short, long = delta_chrf("", "abcdef", "abcdefghijkl"), delta_chrf("", "abcdefghijkl", "abcdef")
    assert 0 < short < long < 100


def test_an_edit_that_removes_is_compared_too():
    assert delta_chrf("keep this away", "keep away", "keep away") == 100
    assert delta_chrf("keep this away", "keep this", "keep away") < 60


def test_runs_of_white_space_count_as_one_character():
    assert delta_chrf("", "a   b", "a b") == 100


@given(TEXT, TEXT, TEXT)
def test_both_are_within_their_bounds_and_perfect_for_what_was_written(base, predicted, final):
    assert 0 <= kept_rate(base, predicted, final) <= 1
    assert 0 <= delta_chrf(base, predicted, final) <= 100
    assert delta_chrf(base, final, final) == pytest.approx(100)

"""Where a person pauses, what is accepted, and what is counted."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.replay import person
from git_starcoder.replay.person import Answer, Tally, find_pauses, keystroke_sums, type_text
from git_starcoder.serve.words import WordEnd, accepted_length

TEXT = "    total = count_words(text)\n    return total\n"
CODE = st.text(alphabet="ab_ (\n\t.=", max_size=60)


def test_the_examples_of_the_docstrings_are_true():
    assert doctest.testmod(person).failed == 0


def test_a_person_pauses_before_each_line_and_word():
    assert [TEXT[pause:].split(None, 1)[0][:5] for pause in find_pauses(TEXT)] == [
        "total", "count", "text)", "retur", "total",
    ]  # fmt: skip
    assert find_pauses("\n\n") == []
    assert find_pauses("}\n") == [0]


def test_indentation_is_no_keystroke_and_a_line_break_is_one():
    assert keystroke_sums("  ab\n\tc d\n")[-1] == 3 + 4


def test_nothing_is_accepted_that_is_not_right_or_ends_inside_a_word():
    assert accepted_length("count_words(text)", "count_words(text)\n") == 17
    assert accepted_length("count_words(line)", "count_words(text)\n") == len("count_words(")
    assert accepted_length("count", "count_words") == 0
    assert accepted_length("counter", "count = 1") == 0
    assert accepted_length("(", "(text)") == 0  # no word


def test_typing_without_suggestions_costs_every_keystroke():
    tally = type_text(TEXT, lambda _: Answer(""), 0.0)
    assert tally == Tally(characters=len(TEXT) - 8, keystrokes=len(TEXT) - 8, pauses=5)
    assert tally.saved == 0


def test_a_suggestion_that_is_right_to_its_end_costs_one_key():
    answers = {4: Answer("total = count_words(text)", 0.9, 0.1)}
    tally = type_text(TEXT, lambda place: answers.get(place, Answer("")), 0.5)
    assert (tally.shown, tally.right, tally.whole, tally.late) == (1, 1, 1, 0)
    assert tally.characters - tally.keystrokes == len("total = count_words(text)") - 1
    assert tally.pauses == 3  # those inside what was accepted are none


def test_a_suggestion_that_goes_wrong_costs_a_key_for_each_word_that_is_right():
    answers = {4: Answer("total = count_words(line)", 0.9, 9.0)}
    tally = type_text(TEXT, lambda place: answers.get(place, Answer("")), 0.5)
    assert (tally.right, tally.whole, tally.late) == (1, 0, 1)
    assert tally.characters - tally.keystrokes == len("total = count_words(") - 2


def test_a_suggestion_below_the_threshold_is_not_shown_and_a_wrong_one_costs_nothing():
    tally = type_text(TEXT, lambda _: Answer("wrong", 0.4), 0.5)
    assert (tally.shown, tally.wrong) == (0, 0)
    tally = type_text(TEXT, lambda _: Answer("wrong", 0.5), 0.5)
    assert (tally.shown, tally.wrong, tally.precision, tally.saved) == (5, 5, 0.0, 0.0)


def test_a_suggestion_is_shown_as_far_as_its_confidence_reaches_the_threshold():
    answer = Answer("total = count_letters(", 0.2, ends=(WordEnd(5, 0.9), WordEnd(21, 0.4)))
    assert [answer.cut_at(threshold) for threshold in (0.1, 0.3, 0.5, 1.0)] == [
        "total = count_letters(", "total = count_letters", "total", ""
    ]  # fmt: skip


@given(CODE, st.integers(1, 40), st.floats(0, 1))
def test_no_suggestion_makes_typing_longer(text, length, threshold):
    def ask(place):
        return Answer(text[place : place + length], 0.5)

    tally = type_text(text, ask, threshold)
    assert tally.keystrokes <= tally.characters == keystroke_sums(text)[-1]
    assert tally.whole <= tally.right <= tally.shown <= tally.pauses <= len(find_pauses(text))


@given(CODE, CODE)
def test_what_is_accepted_is_a_beginning_of_both(suggestion, rest):
    length = accepted_length(suggestion, rest)
    assert suggestion[:length] == rest[:length]
    assert not length or any(character.isalnum() or character == "_" for character in rest[:length])

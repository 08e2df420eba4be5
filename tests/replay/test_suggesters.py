"""The baselines that count."""

from __future__ import annotations

from git_starcoder.replay.suggesters import BufferWordsSuggester, FrequentLineSuggester


def test_the_most_frequent_line_follows_the_line_above_and_begins_as_typed():
    suggester = FrequentLineSuggester()
    suggester.learn({"a.py": "start\none\nstart\none\nstart\ntwo\nelse\ntwo\n", "b.py": "else\ntwo\n"})
    found = suggester.suggest("c.py", "start\n", "")
    assert (found.text, found.confidence) == ("one", 2 / 3)
    assert suggester.suggest("c.py", "start\n  t", "").text == "wo"
    assert suggester.suggest("c.py", "unknown\n  o", "").text == "ne"
    assert suggester.suggest("c.py", "unknown\n", "").text == ""
    suggester.learn({"a.py": None})
    assert suggester.suggest("c.py", "start\n", "").text == ""
    assert suggester.suggest("c.py", "else\n", "").text == "two"


def test_the_words_of_the_buffer_are_those_that_follow_the_last_one():
    suggester = BufferWordsSuggester()
    found = suggester.suggest("a.py", "self.size + self.size - self.name * self.", "self.size\n")
    assert (found.text, found.confidence) == ("size", 3 / 4)
    assert suggester.suggest("a.py", "", "x").text == ""
    assert suggester.suggest("a.py", "never before", "").text == ""

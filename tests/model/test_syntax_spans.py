"""Spans that are nodes of the syntax tree, in rows that begin and end anywhere."""

from __future__ import annotations

import numpy as np
import pytest

import bases
from git_starcoder.model.syntax_spans import SpanTask, SyntaxSpans, find_node
from git_starcoder.protocols import Failure

CUT = b"   return total\n\n\ndef find_limit(items, limit):\n    for item in items:\n        if item > limit:\n            return item\n"


def node(place, level, language="python"):
    found = find_node(SpanTask(CUT, language, place, level))
    return found and CUT[slice(*found)]


def test_nodes_around_a_place_from_the_smallest_to_the_largest():
    place = CUT.index(b"item > limit") / len(CUT) + 1e-6
    found = {node(place, level / 20) for level in range(20)}
    assert {b"item", b"item > limit"} <= found
    assert all(len(text) <= len(CUT) / 2 for text in found)
    assert b"if item > limit:\n            return item" in found


def test_text_without_a_tree_has_no_nodes():
    assert node(0.5, 0.5, "text") is None


class Here:
    """An engine that works in this process, and fails at texts of one language."""

    jobs = 1

    def map(self, function, tasks, *, limit):
        assert limit > 0
        return (Failure("crash") if task.language == "rust" else function(task) for task in tasks)


@pytest.mark.parametrize("word", [b"total", b"limit:", b"> limit"])
def test_spans_are_widened_to_whole_tokens(word):
    place = CUT.index(word) / len(CUT) + 1e-6
    tokenizer = bases.learn([CUT * 3], 400)
    tokens = tokenizer.encode([CUT])[0]
    rows = [(tokens, "python"), (tokens, "rust"), (tokens, "text")]
    shares = np.array([[place, 0.3]] * 3)
    found, crashed, plain = SyntaxSpans(tokenizer, Here()).find(rows, shares)
    assert (crashed, plain) == (None, None)
    text = node(place, 0.3)
    shown = tokenizer.decode(tokens[slice(*found)])
    assert text in shown
    assert text not in tokenizer.decode(tokens[found[0] + 1 : found[1]])
    assert text not in tokenizer.decode(tokens[found[0] : found[1] - 1])

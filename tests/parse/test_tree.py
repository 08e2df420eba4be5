"""Trees stand within limits that do not depend on the machine, whatever the text."""

from __future__ import annotations

from random import Random

import pytest

from git_starcoder import registry
from git_starcoder.parse import tree
from git_starcoder.parse.tree import is_deeper, parse, run_queries

KEYS = registry.names("languages")


def test_text_has_no_tree():
    code = parse(b"fn main() {}", "text")
    assert (code.root, code.language, code.is_clean, code.exceeded_limit) == (None, None, False, "")
    assert run_queries(code, "symbols") == {}


def test_a_tree_is_clean_or_has_errors():
    assert parse(b"fn main() {}", "rust").is_clean
    broken = parse(b"fn main( {", "rust")
    assert broken.root is not None
    assert not broken.is_clean


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "text",
    [b"(" * 100_000 + b")" * 100_000, b"{[(<" * 100_000, b"(" * 5_000 + b")" * 5_000, b"[" * 50_000],
    ids=["parentheses", "mixed", "within the scan", "open"],
)
def test_deep_texts_have_no_tree(key, text):
    code = parse(text, key)
    assert code.root is None or not is_deeper(code.root, tree.MAX_TREE_DEPTH)
    assert code.root is not None or code.exceeded_limit in {"depth", "steps"}


def test_depth_without_brackets_is_seen():
    code = parse(b"x = " + b"1 + " * 5_000 + b"1\n", "python")
    assert code.exceeded_limit == "depth"
    assert parse(b"x = " + b"1 + " * 500 + b"1\n", "python").is_clean


def test_deeper_counts_levels():
    root = parse(b"((((1))))\n", "python").root
    levels, node = 0, root
    while node.children:
        node = max(node.children, key=lambda child: child.descendant_count)
        levels += 1
    assert is_deeper(root, levels - 1)
    assert not is_deeper(root, levels)


@pytest.mark.parametrize("key", KEYS)
def test_random_bytes_and_half_files_are_harmless(key):
    noise = Random(7).randbytes(20_000)
    for text in (noise, b"", b"\n", b"\0" * 1_000, b'"' * 1_001, b"/*" + b"x" * 1_000):
        code = parse(text, key)
        assert code.root is None or code.root.end_byte <= len(text)


def test_the_scanner_that_reads_to_the_end_again_and_again_is_stopped():
    assert parse(b'r#"' * 20_000, "rust").exceeded_limit == "steps"
    assert parse(b"fn next() {}", "rust").is_clean  # and the parser is good for the next text


def test_too_many_steps_are_stopped(monkeypatch):
    monkeypatch.setattr(tree, "BASE_PARSER_STEPS", 0)
    monkeypatch.setattr(tree, "PARSER_STEPS_PER_BYTE", 0.0)
    assert parse(b"x = 1\n" * 1_000, "python").exceeded_limit == "steps"
    monkeypatch.undo()
    assert parse(b"x = 1\n" * 1_000, "python").is_clean


def test_a_large_text_is_not_parsed():
    assert parse(b"x = 1\n" * (tree.MAX_PARSED_BYTES // 6 + 1), "python").exceeded_limit == "size"


def test_a_flat_table_is_parsed():
    code = parse(b"static T: [u8; 3] = [" + b"0x1f, " * 50_000 + b"];", "rust")
    assert code.is_clean


def test_a_tree_reads_its_text_as_often_as_it_is_asked():
    text = b"fn main() { let x = 1; }\n" * 400
    code = parse(text, "rust")
    for _ in range(tree.MAX_TEXT_READINGS + 10):
        assert code.root.text == text


def test_the_same_text_has_the_same_tree_in_the_same_limits():
    text = Random(3).randbytes(30_000)
    first, second = parse(text, "cpp"), parse(text, "cpp")
    assert first.exceeded_limit == second.exceeded_limit
    assert (first.root and first.root.descendant_count) == (second.root and second.root.descendant_count)

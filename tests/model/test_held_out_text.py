"""Held-out text as bytes: cut between lines, and the same for every tokenizer."""

from __future__ import annotations

import numpy as np
import pytest

import bases
import finished
from git_starcoder.dataset.held_out import Document, load_documents
from git_starcoder.model.held_out_text import digest_texts, draw_texts, encode_header, encode_texts
from git_starcoder.text.tokenizer import load_tokenizer

SOURCES = {f"src/file_{seed}.py": finished.source(seed, functions=30) for seed in range(3)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    texts = {"train": {"a.py": finished.source(9)}, "test": SOURCES}
    return finished.write(tmp_path_factory.mktemp("dataset") / "out", texts, repository="toy")


@pytest.fixture(scope="module")
def tokenizer(dataset):
    return load_tokenizer(dataset.tokenizer_folder)


@pytest.fixture(scope="module")
def other():
    return bases.tokenizer(280)


def test_whole_files_are_their_bytes(dataset, tokenizer):
    texts = draw_texts(load_documents(dataset, "test"), 10**6, tokenizer)
    assert {text.path: text.scored for text in texts} == SOURCES
    assert all(text.begins_file and text.ends_file and not text.read for text in texts)


def test_pieces_begin_and_end_between_lines(dataset, tokenizer):
    texts = draw_texts(load_documents(dataset, "test"), 900, tokenizer)
    assert any(text.read for text in texts)
    assert any(not text.ends_file for text in texts)
    for text in texts:
        whole = SOURCES[text.path]
        assert text.read + text.scored in whole
        assert text.begins_file == whole.startswith(text.read + text.scored)
        assert not text.read or text.read.endswith(b"\n")
        assert text.scored.endswith(b"\n")
        assert text.ends_file == whole.endswith(text.scored)
        assert text.scored


def piece(tokenizer, text, *, start=0, read=0, end=True):
    tokens = [*tokenizer.encode([text])[0].tolist(), *[tokenizer.end_id] * end]
    return Document("a.py", "python", "core", "g", start, np.array(tokens, dtype=np.int32), read)


@pytest.mark.parametrize(
    ("start", "end", "read", "scored"),
    [
        (0, True, b"", b"ab cd\nef\ngh"),
        (0, False, b"", b"ab cd\nef\n"),
        (7, True, b"", b"ef\ngh"),  # the first line may have lost its beginning
        (7, False, b"", b"ef\n"),
    ],
)
def test_lines_that_were_cut_are_left_out(tokenizer, start, end, read, scored):
    [text] = draw_texts([piece(tokenizer, b"ab cd\nef\ngh", start=start, end=end)], 10**6, tokenizer)
    assert (text.read, text.scored, text.begins_file, text.ends_file) == (read, scored, start == 0, end)


def test_a_text_without_a_whole_line_is_left_out(tokenizer):
    assert draw_texts([piece(tokenizer, b"ab cd", start=3, end=False)], 10**6, tokenizer) == []


def test_every_tokenizer_scores_the_same_bytes(dataset, tokenizer, other):
    texts = draw_texts(load_documents(dataset, "test"), 900, tokenizer)
    for own in (tokenizer, other):
        documents = encode_texts(texts, own, "toy" if own is tokenizer else None)
        for text, document in zip(texts, documents, strict=True):
            tokens = document.tokens[: len(document.tokens) - text.ends_file]
            read, scored = np.split(tokens, [document.context_length])
            assert (own.decode(read), own.decode(scored)) == (text.read, text.scored)
            assert (document.tokens[-1] == own.end_id) == text.ends_file
            assert (document.start == 0) == text.begins_file
            assert (document.path, document.group) == (text.path, text.group)
            assert bool(len(document.header)) == (own is tokenizer)


def test_texts_that_are_not_cut_have_the_tokens_and_headers_of_the_dataset(dataset, tokenizer):
    expected = load_documents(dataset, "test")
    documents = encode_texts(draw_texts(expected, 10**6, tokenizer), tokenizer, "toy")
    for one, other in zip(documents, expected, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert one.header.tolist() == other.header.tolist()
    assert encode_header(tokenizer, "toy", "src/file_0.py").tolist() == expected[0].header.tolist()


def test_the_digest_is_of_everything_that_is_scored(dataset, tokenizer):
    documents = load_documents(dataset, "test")
    texts = draw_texts(documents, 10**6, tokenizer)
    assert digest_texts(texts) == digest_texts(draw_texts(documents, 10**6, tokenizer))
    assert len({digest_texts(texts), digest_texts(texts[1:]), digest_texts(draw_texts(documents, 900, tokenizer))}) == 3

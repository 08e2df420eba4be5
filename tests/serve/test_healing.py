"""A cursor inside a token: what is taken back, and which tokens may follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bases
import finished
from git_starcoder.serve.healing import MAX_HEALED_TOKENS, TokenTable


@pytest.fixture(scope="module")
def tokenizer():
    return bases.learn([finished.source(seed) for seed in range(6)], 500)


@pytest.fixture(scope="module")
def table(tokenizer):
    return TokenTable(tokenizer)


def encode(tokenizer, text):
    return tokenizer.encode([text])[0].tolist()


def test_a_word_that_was_begun_may_become_the_whole_token(tokenizer, table):
    (whole,) = encode(tokenizer, b" return")
    tokens = encode(tokenizer, b"x = 1\n    retu")
    healed = table.take_back(tokens)
    assert healed.text.endswith(b"retu")
    assert tokenizer.decode(tokens[len(tokens) - healed.tokens :]) == healed.text
    assert table.fitting(b" retu")[whole]
    assert not table.fitting(b" reto")[whole]


def test_the_fitting_tokens_are_those_that_agree_with_the_text(tokenizer, table):
    for text in (b" retu", b"\n", b" ", b"items", b"\xff", b"\xff\xff"):
        fitting = table.fitting(text)
        for token in range(tokenizer.vocab_size):
            own = tokenizer.decode([token])
            agrees = (own.startswith(text) or text.startswith(own)) and token not in tokenizer.control_tokens
            assert fitting[token] == agrees, (text, own)


def test_nothing_is_taken_back_where_no_token_is_longer(tokenizer, table):
    longest = max(range(tokenizer.vocab_size), key=lambda token: len(tokenizer.decode([token])))
    assert table.take_back([longest]).tokens == 0
    assert table.take_back([]).tokens == 0


@given(st.text("return items: \n", max_size=30))
def test_what_is_taken_back_can_be_written_again(tokenizer, table, text):
    tokens = encode(tokenizer, text.encode())
    healed = table.take_back(tokens)
    assert healed.tokens <= MAX_HEALED_TOKENS
    rest = healed.text
    for token in tokens[len(tokens) - healed.tokens :]:
        assert table.fitting(rest)[token]
        rest = rest[len(tokenizer.decode([token])) :]
    assert rest == b""

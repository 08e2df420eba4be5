"""Numbers come as a parser of JSON reads them, and whatever is no such text is told."""

from __future__ import annotations

import orjson
import pytest

from git_starcoder.folder.numbers import numbers


@pytest.mark.parametrize("most", [9, 10, 4095, 9999, 10_000, 99_999_999])
def test_numbers_and_the_places_of_their_commas(most):
    wanted = [*range(0, most + 1, 1 + most // 300), 0, most]
    text = ",".join(map(str, wanted)) + ","
    found, commas = numbers(text.encode())
    assert found.tolist() == wanted
    assert commas.tolist() == [at for at, character in enumerate(text) if character == ","]


@pytest.mark.parametrize("text", ["", ",", "1", "1,2", "1,,2,", "-1,", " 1,", "1.,", "1e3,", "00,", "123456789,"])
def test_anything_else_is_told(text):
    assert numbers(text.encode()) is None


@pytest.mark.parametrize("form", [b"%c", b"%c1", b"1%c", b"%c2345", b"12345%c", b"12%c45"])
def test_any_byte_is_taken_as_a_parser_of_json_takes_it(form):
    for byte in range(256):
        text = form % byte
        try:
            wanted = orjson.loads(b"[" + text + b"]")
        except orjson.JSONDecodeError:
            wanted = None
        found = numbers(text + b",")
        if found is None:  # white space and points are for a parser of JSON
            assert wanted is None or chr(byte) in " \t\n\r.eE-"
        else:
            assert found[0].tolist() == wanted

"""Numbers are read as a JSON parser reads them, and any text that is not a list of them is refused."""

from __future__ import annotations

import orjson
import pytest

from git_starcoder.dataset.read_blocks import parse_numbers


@pytest.mark.parametrize("largest", [9, 10, 4095, 9999, 10_000, 99_999_999])
def test_numbers_come_back(largest):
    wanted = [*range(0, largest + 1, 1 + largest // 300), 0, largest]
    spelled = [str(number).encode() for number in wanted]
    numbers, stops = parse_numbers(b",".join(spelled))
    assert numbers.tolist() == wanted
    assert stops.tolist() == [len(b",".join(spelled[: count + 1])) for count in range(len(wanted))]


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,", ",1", "1,,2", "-1", " 1", "1.", "1e3", "00", "7,042", "100000000", "4294967296", "1" * 30],
)
def test_anything_else_is_refused(text):
    assert parse_numbers(text.encode()) is None


@pytest.mark.parametrize("form", [b"%c", b"%c1", b"1%c", b"%c2345", b"12345%c", b"12%c45"])
def test_any_byte_is_taken_as_a_parser_of_json_takes_it(form):
    for byte in range(256):
        text = form % byte
        try:
            wanted = orjson.loads(b"[" + text + b"]")
        except orjson.JSONDecodeError:
            wanted = None
        found = parse_numbers(text)
        if found is None:  # white space and points are for a parser of JSON
            assert wanted is None or chr(byte) in " \t\n\r.eE-"
        else:
            assert found[0].tolist() == wanted

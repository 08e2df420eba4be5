"""Whole numbers as JSON spells them → an array: many at a time, without an object for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 8
"""Digits of the longest number that is read."""
STEPS = ((8, 10, 0x00FF00FF00FF00FF), (16, 100, 0x0000FFFF0000FFFF), (32, 10_000, 0x00000000FFFFFFFF))
"""Neighbouring digits become numbers of two digits, these of four, these of eight: bits, factor, and what is kept."""
LEAST = np.array([0, 0, *(10**digits for digits in range(1, LONGEST))], dtype=np.uint32)
"""The smallest number of so many digits."""


def numbers(text: bytes) -> tuple[NDArray[np.uint32], NDArray[np.int64]] | None:
    """The numbers of a text with a comma behind each, and where these commas are; None if it is anything else.

    Anything else is also what JSON does not allow, as 007, and a number of more than eight digits.
    """
    data = np.frombuffer(bytes(LONGEST) + text, dtype=np.uint8)
    ends = np.flatnonzero(data == ord(","))
    digits = np.diff(ends, prepend=LONGEST - 1) - 1
    if not text.endswith(b",") or digits.min() < 1 or digits.max() > LONGEST:
        return None
    # The last bytes of each number as one word, the first of them lowest.
    word = np.dtype("<u4" if digits.max() <= 4 else "<u8")
    every = (1 << 8 * word.itemsize) - 1
    words = np.ndarray(len(data) - word.itemsize, word, data, strides=(1,))[ends - word.itemsize]
    # Of a word with fewer digits only the upper bytes are the number's; a digit less "0" is its value.
    used = [every - (every >> 8 * count) for count in range(word.itemsize + 1)]
    words ^= int.from_bytes(b"0" * word.itemsize)
    words &= np.array(used, dtype=word)[digits]
    if np.any((words | words + int.from_bytes(b"\6" * word.itemsize)) & int.from_bytes(b"\xf0" * word.itemsize)):
        return None
    for bits, factor, kept in STEPS[: word.itemsize.bit_length() - 1]:
        words = (words * factor + (words >> bits)) & (kept & every)
    found = words.astype(np.uint32)
    return None if np.any(found < LEAST[digits]) else (found, ends - LONGEST)

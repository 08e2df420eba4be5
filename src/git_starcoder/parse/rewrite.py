"""Edits of a text, renaming of its safe names, and the proof that nothing else was renamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.parse.scope import NAME, WORD, scopes
from git_starcoder.parse.shape import shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_starcoder.parse.tree import Code


def edited(data: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """A text with spans replaced: start, stop, what comes there. The spans are disjoint."""
    pieces: list[bytes] = []
    edge = 0
    for start, stop, new in sorted(edits):
        pieces += (data[edge:start], new)
        edge = stop
    pieces.append(data[edge:])
    return b"".join(pieces)


def renamed(code: Code, names: Iterable[dict[bytes, bytes]]) -> bytes:
    """A text with names of its functions replaced: old → new for each of `scopes(code).functions`, in order."""
    edits: list[tuple[int, int, bytes]] = []
    for function, new in zip(scopes(code).functions, names, strict=True):
        for old, word in new.items():
            edits.extend((place, place + len(old), word) for place in function.safe[old])
    return edited(code.data, edits)


def renamed_wrongly(before: Code, after: Code) -> str:
    """What keeps two texts from being alpha-equivalent, or nothing.

    Nothing but safe names may differ, and each has one new name, its own, everywhere. The old text is made again from
    what the new one has at the places of safe names, so any other change shows.
    """
    if shape(before) != shape(after):
        return "the tree differs"
    known = scopes(before)
    places = [
        (at, old, index) for index, one in enumerate(known.functions) for old, all_ in one.safe.items() for at in all_
    ]
    became: list[dict[bytes, bytes]] = [{} for _ in known.functions]
    edits: list[tuple[int, int, bytes]] = []
    shift = 0
    for at, old, index in sorted(places):
        word = WORD.match(after.data, at + shift)
        new = word[0] if word else b""
        if not NAME.fullmatch(new):
            return f"'{_text(new)}' is no name"
        if became[index].setdefault(old, new) != new:
            return f"'{_text(old)}' became '{_text(new)}' in one place only"
        edits.append((at, at + len(old), new))
        shift += len(new) - len(old)
    if edited(before.data, edits) != after.data:
        return "something else than safe names differs"
    for names in became:
        new = [word for old, word in names.items() if word != old]
        if len(set(new)) < len(new):
            return "two names became one"
        if not known.words.isdisjoint(new):
            return "a new name was there before"
    return ""


def _text(word: bytes) -> str:
    return word.decode("utf-8", "replace")

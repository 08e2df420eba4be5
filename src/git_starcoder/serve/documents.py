r"""The texts that are open in an editor, as the language server protocol tells them: change by change.

Positions are lines and units within a line. The editor chooses the unit: a byte of UTF-8, a code unit of UTF-16, or a
character. Lines end with `\n`, `\r\n` or `\r` and with nothing else, so that a form feed stands within a line.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE_END = re.compile(r"\r\n|\n|\r")
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
"""For each encoding of positions the codec of Python and the bytes of a unit."""


class Place(NamedTuple):
    """A position in a text, both numbers from 0."""

    line: int
    units: int
    """Units of the encoding before it in its line."""


class OpenDocuments:
    """The texts of the open documents, by URI."""

    def __init__(self) -> None:
        self.encoding = "utf-16"
        """The unit of positions: a key of `CODECS`."""
        self._texts: dict[str, str] = {}

    @property
    def texts(self) -> Mapping[str, str]:
        """All texts."""
        return self._texts

    def open(self, uri: str, text: str) -> None:
        """Begin to keep a text."""
        self._texts[uri] = text

    def close(self, uri: str) -> None:
        """Forget a text."""
        self._texts.pop(uri, None)

    def change(self, uri: str, text: str, span: tuple[Place, Place] | None) -> None:
        """Replace the text between two places, or with None the whole text.

        Raises:
            KeyError: The document is not open.
        """
        before = self._texts[uri]
        if span is not None:
            start, end = (find_offset(before, place, self.encoding) for place in span)
            text = before[:start] + text + before[end:]
        self._texts[uri] = text

    def split(self, uri: str, place: Place) -> tuple[str, str]:
        """The text of an open document before and after a place.

        Raises:
            KeyError: The document is not open.
        """
        text = self._texts[uri]
        at = find_offset(text, place, self.encoding)
        return text[:at], text[at:]


def find_offset(text: str, place: Place, encoding: str) -> int:
    """The number of characters before a place; a place after the end of its line or of the text is this end."""
    start = 0
    if place.line > 0:
        ends = [match.end() for match in islice(LINE_END.finditer(text), place.line - 1, place.line)]
        if not ends:
            return len(text)
        start = ends[0]
    codec, width = CODECS[encoding]
    line_end = LINE_END.search(text, start)
    line = text[start : line_end.start() if line_end else len(text)]
    return start + len(line.encode(codec, "replace")[: max(0, place.units) * width].decode(codec, "replace"))


def file_name(uri: str) -> str:
    """The absolute name of the file with a URI, as git and Python write it; empty if it is no file of this machine."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as `jdt://[x`
        return ""
    name = unquote(parts.path, errors="surrogateescape")
    return name if parts.scheme == "file" and parts.netloc in {"", "localhost"} and "\0" not in name else ""

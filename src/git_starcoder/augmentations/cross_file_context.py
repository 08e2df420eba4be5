"""What a file uses of others, before the file: signatures and short definitions, by path.

A row reads `<file_sep>PATH⏎SIGNATURES … <file_sep>PATH⏎TEXT`: of each imported file of which the text uses something
what an editor would show, a line each, members indented under their type; then the file itself. The most used file
stands last, nearest to the text. Only TEXT counts for the loss. Files behind `<file_sep>` and a path are StarCoder2's
repository context (Lozhkov et al., 2024); to show what the imports of a file resolve to, as declarations and not as
whole files, is from CoCoMIC (Ding et al., 2022, arXiv 2212.10007).

What is used is told from words outside of comments and strings, and in doubt nothing is shown:

- a type or constant by its name, a function by its name with brackets behind it; behind a dot or colons only where
  what is before them is the module (`net::go`), for anything else has its own `go`;
- a member behind its type (`Config::new`); a method also behind another dot, where no other type has one of that name
  and either that has several words, which are no one else's (`max_depth`, not `get`), or the object has a name like the
  type; and only under its type, which the text must name, too;
- nothing that the file declares itself, or that two of the imported files declare.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.augmentations import Frame, Part
from git_starcoder.parse.language import detect_language
from git_starcoder.records import printable_path

if TYPE_CHECKING:
    from git_starcoder.augmentations import Around
    from git_starcoder.records import Symbol

NEEDS = "imports"

BUDGET = 2_400
"""Bytes of what is shown of other files, with their paths."""
INDENT = b"    "
"""Before a member."""

_C = r'"(?:\\.|[^"\\\n])*"?|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)'
_CHARACTER = r"|'(?:\\.|[^'\\\n])*'?"
_PYTHON = r'"""[\s\S]*?(?:"""|\Z)|' + r"'''[\s\S]*?(?:'''|\Z)|" + r'"(?:\\.|[^"\\\n])*"?|#[^\n]*' + _CHARACTER
_QUIET = {"python": re.compile(_PYTHON.encode()), "rust": re.compile(_C.encode())}
_OTHERWISE = re.compile((_C + _CHARACTER).encode())
"""Comments and strings, about; what nothing closes goes on to the end, or looking for it would take quadratic time. In
Rust a single quote begins a lifetime more often than a character."""
_NAME = re.compile(rb"[A-Za-z_\x80-\xff][\w\x80-\xff]*")
_WORD = re.compile(rb"(?:(::|\.|->)\s{0,80})?([A-Za-z_\x80-\xff][\w\x80-\xff]*)(\s{0,80}\(|::<|<)?")
_WORDS = re.compile(r"[^_]_[^_]|[a-z][A-Z]")
"""A name of several words."""
_CLOSED = {"go", "typescript", "tsx"}
"""Languages in which no other file can use what is private. In others a module below may, or one of the package."""
_ROOTS = (b"crate::", b"self::", b"super::")


class _Use(NamedTuple):
    """A word as a text uses it."""

    behind: bytes
    """The word before it with the dot or colons between them; empty where there are none, `.` where no word is."""
    called: bool


class _Entry(NamedTuple):
    """A symbol that a text uses."""

    uses: int
    path: str
    symbol: Symbol
    type: _Entry | None
    """Of a member."""


def frame(around: Around) -> list[Frame] | str:
    """The file behind what it uses most of the files that it imports, as long as the budget has room.

    Reasons: `no_imports` (none that may be shown), `nothing_used`.
    """
    if not around.neighbours:
        return "no_imports"
    chosen: set[_Entry] = set()
    shown: dict[str, list[_Entry]] = {}
    room = BUDGET
    for entry in sorted(_used(around), key=lambda one: (-one.uses, one.path, one.symbol)):
        more = [one for one in (entry.type, entry) if one is not None and one not in chosen]
        size = sum(len(_line(one)) for one in more) + (len(_path(entry.path)) if entry.path not in shown else 0)
        if size <= room:
            room -= size
            chosen.update(more)
            shown.setdefault(entry.path, []).extend(more)
    if not shown:
        return "nothing_used"
    head = [
        Part("<file_sep>", _path(path) + b"".join(_line(one) for one in sorted(entries, key=_place)))
        for path, entries in sorted(shown.items(), key=lambda item: (sum(one.uses for one in item[1]), item[0]))
    ]
    return [Frame((*head, Part("<file_sep>", _path(around.path))), around.text)]


def _path(path: str) -> bytes:
    return printable_path(path).encode() + b"\n"


def _line(entry: _Entry) -> bytes:
    return (INDENT if entry.type else b"") + entry.symbol.signature.encode() + b"\n"


def _place(entry: _Entry) -> tuple[int, str, bool, int, Symbol]:
    """As in the file, but members directly behind their type."""
    first = entry.type or entry
    return first.symbol.line, first.symbol.name, entry.type is not None, entry.symbol.line, entry.symbol


def _used(around: Around) -> list[_Entry]:
    """What the text uses of other files, members last; what a file declares twice, once."""
    words = set(_NAME.findall(around.text))
    named = [
        (path, symbol)
        for path, symbols in around.neighbours
        for symbol in {(one.owner, one.signature): one for one in reversed(symbols)}.values()
        if _word(symbol) in words and (symbol.visibility == "public" or detect_language(path) not in _CLOSED)
    ]
    uses = _uses(around, {_word(symbol) for _, symbol in named})
    own = {symbol.name for symbol in around.symbols}
    modules = {path: _modules(path) for path, _ in around.neighbours}
    homes: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for path, symbol in named:
        homes[symbol.name, bool(symbol.owner)].add(symbol.owner or path)
    found: list[_Entry] = []
    types: dict[tuple[str, str], _Entry] = {}
    for path, symbol in named:
        if symbol.owner or symbol.name in own or len(homes[symbol.name, False]) > 1:
            continue
        count = sum(
            times
            for use, times in uses[_word(symbol)].items()
            if (use.called or symbol.kind != "function") and _leads_to(use.behind, modules[path])
        )
        if count:
            found.append(_Entry(count, path, symbol, None))
            if symbol.kind == "type":
                types.setdefault((path, symbol.name), found[-1])
    for path, symbol in named:
        if not symbol.owner or (owner := types.get((path, symbol.owner))) is None:
            continue
        alone = _is_open(symbol) and symbol.name not in own and len(homes[symbol.name, True]) == 1
        count = sum(
            times
            for use, times in uses[_word(symbol)].items()
            if use.behind.rstrip(b".:") == symbol.owner.encode()
            or (alone and use.called and use.behind and _may_be(use.behind, symbol))
        )
        if count:
            found.append(_Entry(count, path, symbol, owner))
    return found


def _is_open(symbol: Symbol) -> bool:
    """Whether it is a method that other files may call: no trait's, as those of a language's own have common names."""
    return symbol.kind == "function" and (symbol.visibility == "public" or symbol.signature.startswith("pub("))


def _may_be(behind: bytes, symbol: Symbol) -> bool:
    """Whether a method behind a dot may be this one: by its name, if of several words, or by that of the object."""
    thing = behind.rstrip(b".:->").replace(b"_", b"").lower().decode("utf-8", "replace")
    return bool(_WORDS.search(symbol.name)) or (len(thing) >= 3 and thing in symbol.owner.lower())


def _word(symbol: Symbol) -> bytes:
    """The name as another file writes it: C++ may declare `Type::name`."""
    return symbol.name.rpartition("::")[2].encode()


def _modules(path: str) -> set[bytes]:
    """What a file's module may be called: by its folders, and by its own name."""
    *folders, name = printable_path(path).encode().split(b"/")
    return {*folders, name.partition(b".")[0]}


def _leads_to(behind: bytes, modules: set[bytes]) -> bool:
    return not behind or behind in _ROOTS or (behind.rstrip(b".:") in modules and not behind.endswith(b"->"))


def _uses(around: Around, words: set[bytes]) -> dict[bytes, Counter[_Use]]:
    """How a text uses some words outside of its comments and strings."""
    text = _QUIET.get(detect_language(around.path), _OTHERWISE).sub(b" ", around.text)
    uses: dict[bytes, Counter[_Use]] = defaultdict(Counter)
    stop, last = -1, b""
    for match in _WORD.finditer(text):
        dot, word, bracket = match.groups()
        if word in words:
            behind = b"" if not dot else last + dot if match.start() == stop else b"."
            uses[word][_Use(behind, bool(bracket))] += 1
        stop, last = match.end(), word
    return uses


def verify(around: Around, frame: Frame) -> str:
    """The text is the file; the head has its path, and others with lines that declare there what the text names."""
    if frame.text != around.text:
        return "the text is another"
    *others, last = frame.head or (Part("", b""),)
    if any(part.mark != "<file_sep>" for part in frame.head) or last.text != _path(around.path):
        return "the head has other parts"
    if not others:
        return "nothing is shown"
    if sum(len(part.text) for part in others) > BUDGET:
        return "the head is too long"
    neighbours = {_path(path): symbols for path, symbols in around.neighbours}
    own = {symbol.name for symbol in around.symbols}
    words = set(_NAME.findall(around.text))
    for part in others:
        path, *lines = (line + b"\n" for line in part.text.split(b"\n")[:-1])
        symbols = neighbours.pop(path, None)
        if symbols is None or not lines:
            return "no file is shown, or the same one again"
        owner: str = ""
        for line in lines:
            inside: str = owner if line.startswith(INDENT) else ""
            signature = line.removeprefix(INDENT) if inside else line
            shown = [one for one in symbols if one.owner == inside and one.signature.encode() + b"\n" == signature]
            if not shown:
                return "the file declares no such thing"
            if not inside:
                owner = shown[0].name
                if owner in own:
                    return "the file itself declares it"
            if _word(shown[0]) not in words:
                return "the text does not name it"
    return ""

"""A file after the signatures and short definitions that it uses from other files.

A row reads `<file_sep>PATH⏎SIGNATURES … <file_sep>PATH⏎TEXT`. For each imported file of which the text uses something
it has what an editor would show, one line for each declaration, members indented under their type; then the file
itself. The most used file comes last, nearest to the text. Only TEXT is in the loss. Files after `<file_sep>` and a
path are StarCoder2's repository context (Lozhkov et al., 2024); to show what the imports of a file resolve to, as
declarations and not as whole files, is from CoCoMIC (Ding et al., 2022, arXiv 2212.10007).

What the text uses is judged from its words outside of comments and strings. What is in doubt is not shown:

- A type or constant is used where its name occurs, a function where its name occurs with a bracket after it. After a
  dot or colons they are used only if the word before names the module (`net::go`): anything else may have its own `go`.
- A member is used after its type (`Config::new`). A method is also used after another dot, if no other type has a
  method of this name, and the name has several words (`max_depth`, not `get`) or the object's name resembles the type.
- A member is shown only under its type, which the text must use too.
- Nothing is shown that the file declares itself, or that two of the imported files declare.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.augmentations import FramedText, PrefixPart, path_line
from git_starcoder.parse.language import detect_language
from git_starcoder.records import printable_path

if TYPE_CHECKING:
    from git_starcoder.augmentations import FrameInput
    from git_starcoder.records import Symbol

NEEDS = "imports"

MAX_PREFIX_BYTES = 2_400
"""Bytes of what is shown of other files, with their paths: about 600 tokens, so that a window keeps room for the
text."""
MEMBER_INDENT = b"    "
"""The space before a member under its type."""

# Comments and strings, approximately. What nothing closes goes on to the end of the text, because a search for the end
# that fails would take quadratic time. In Rust a single quote begins a lifetime more often than a character.
_C = r'"(?:\\.|[^"\\\n])*"?|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)'
_CHARACTER = r"|'(?:\\.|[^'\\\n])*'?"
_PYTHON = r'"""[\s\S]*?(?:"""|\Z)|' + r"'''[\s\S]*?(?:'''|\Z)|" + r'"(?:\\.|[^"\\\n])*"?|#[^\n]*' + _CHARACTER
_NO_CODE = {"python": re.compile(_PYTHON.encode()), "rust": re.compile(_C.encode())}
_NO_CODE_ELSEWHERE = re.compile((_C + _CHARACTER).encode())
"""The same for all languages but Python and Rust."""
_NAME = re.compile(rb"[A-Za-z_\x80-\xff][\w\x80-\xff]*")
_USE = re.compile(rb"(?:(::|\.|->)\s{0,80})?([A-Za-z_\x80-\xff][\w\x80-\xff]*)(\s{0,80}\(|::<|<)?")
"""A name, with the dot or colons before it and the bracket after it, if there are any."""
_SEVERAL_WORDS = re.compile(r"[^_]_[^_]|[a-z][A-Z]")
_FILE_PRIVATE_LANGUAGES = {"go", "typescript", "tsx"}
"""Languages in which no other file can use what is private. In others a submodule may, or a file of the package."""
_MODULE_ROOTS = (b"crate::", b"self::", b"super::")


class _Use(NamedTuple):
    """How a text uses a name."""

    qualifier: bytes
    """The word before it with the dot or colons between them; `.` if there is no word, empty if there is no dot."""
    is_called: bool


class _UsedSymbol(NamedTuple):
    """A symbol that a text uses."""

    use_count: int
    path: str
    symbol: Symbol
    type: _UsedSymbol | None
    """For a member, the type under which it is shown."""


def frame(inputs: FrameInput) -> list[FramedText] | str:
    """The file, after what it uses most of the files that it imports, as far as there is room.

    Reasons: `no_imports` (none that may be shown), `nothing_used`.
    """
    if not inputs.imported_files:
        return "no_imports"
    chosen: set[_UsedSymbol] = set()
    shown: dict[str, list[_UsedSymbol]] = {}
    room = MAX_PREFIX_BYTES
    for used in sorted(_find_used_symbols(inputs), key=lambda used: (-used.use_count, used.path, used.symbol)):
        new = [one for one in (used.type, used) if one is not None and one not in chosen]
        size = sum(len(_line(one)) for one in new) + (len(path_line(used.path)) if used.path not in shown else 0)
        if size <= room:
            room -= size
            chosen.update(new)
            shown.setdefault(used.path, []).extend(new)
    if not shown:
        return "nothing_used"
    by_use = sorted(shown.items(), key=lambda item: (sum(used.use_count for used in item[1]), item[0]))
    prefix = [
        PrefixPart("<file_sep>", path_line(path) + b"".join(map(_line, sorted(symbols, key=_declaration_order))))
        for path, symbols in by_use
    ]
    return [FramedText((*prefix, PrefixPart("<file_sep>", path_line(inputs.path))), inputs.text)]


def _line(used: _UsedSymbol) -> bytes:
    return (MEMBER_INDENT if used.type else b"") + used.symbol.signature.encode() + b"\n"


def _declaration_order(used: _UsedSymbol) -> tuple[int, str, bool, int, Symbol]:
    """A sort key: the order of the file, but members directly after their type."""
    top = used.type or used
    return top.symbol.line, top.symbol.name, used.type is not None, used.symbol.line, used.symbol


def _find_used_symbols(inputs: FrameInput) -> list[_UsedSymbol]:
    """What the text uses of the imported files, members last."""
    candidates = _visible_symbols(inputs)
    uses = _find_uses(inputs, {_written_name(symbol) for _, symbol in candidates})
    own = {symbol.name for symbol in inputs.symbols}
    homes: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for path, symbol in candidates:  # the files that declare a name, or the types that have a member of this name
        homes[symbol.name, bool(symbol.owner)].add(symbol.owner or path)
    found: list[_UsedSymbol] = []
    types: dict[tuple[str, str], _UsedSymbol] = {}
    modules: dict[str, set[bytes]] = {}  # names that the module of a file may have: its folders' and its own
    for path, _ in inputs.imported_files:
        *folders, name = printable_path(path).encode().split(b"/")
        modules[path] = {*folders, name.partition(b".")[0]}
    for path, symbol in candidates:
        if symbol.owner or symbol.name in own or len(homes[symbol.name, False]) > 1:
            continue
        count = sum(
            times
            for use, times in uses[_written_name(symbol)].items()
            if (use.is_called or symbol.kind != "function") and _is_from_module(use.qualifier, modules[path])
        )
        if count:
            found.append(_UsedSymbol(count, path, symbol, None))
            if symbol.kind == "type":
                types.setdefault((path, symbol.name), found[-1])
    for path, symbol in candidates:
        if not symbol.owner or (owner := types.get((path, symbol.owner))) is None:
            continue
        is_unique = _is_callable_method(symbol) and symbol.name not in own and len(homes[symbol.name, True]) == 1
        count = sum(
            times
            for use, times in uses[_written_name(symbol)].items()
            if use.qualifier.rstrip(b".:") == symbol.owner.encode()
            or (is_unique and use.is_called and use.qualifier and _may_be_method(use.qualifier, symbol))
        )
        if count:
            found.append(_UsedSymbol(count, path, symbol, owner))
    return found


def _visible_symbols(inputs: FrameInput) -> list[tuple[str, Symbol]]:
    """Path and symbol of what the text names and may use; what a file declares twice, once."""
    words = set(_NAME.findall(inputs.text))
    return [
        (path, symbol)
        for path, symbols in inputs.imported_files
        for symbol in {(symbol.owner, symbol.signature): symbol for symbol in reversed(symbols)}.values()
        if _written_name(symbol) in words
        and (symbol.visibility == "public" or detect_language(path) not in _FILE_PRIVATE_LANGUAGES)
    ]


def _is_callable_method(symbol: Symbol) -> bool:
    """Whether it is a method that other files may call. Methods of traits are not public: their names are common."""
    return symbol.kind == "function" and (symbol.visibility == "public" or symbol.signature.startswith("pub("))


def _may_be_method(qualifier: bytes, symbol: Symbol) -> bool:
    """Whether a method after a dot may be this one: several words, or a type that is named like the object."""
    object_name = qualifier.rstrip(b".:->").replace(b"_", b"").lower().decode("utf-8", "replace")
    return bool(_SEVERAL_WORDS.search(symbol.name)) or (len(object_name) >= 3 and object_name in symbol.owner.lower())


def _written_name(symbol: Symbol) -> bytes:
    """The name as another file writes it: C++ may declare `Type::name`."""
    return symbol.name.rpartition("::")[2].encode()


def _is_from_module(qualifier: bytes, modules: set[bytes]) -> bool:
    """Whether what stands before a name, if anything, says that it is from one of these modules."""
    if not qualifier or qualifier in _MODULE_ROOTS:
        return True
    return qualifier.rstrip(b".:") in modules and not qualifier.endswith(b"->")


def _find_uses(inputs: FrameInput, names: set[bytes]) -> dict[bytes, Counter[_Use]]:
    """How often the text uses each name in each way, outside of its comments and strings."""
    code = _NO_CODE.get(detect_language(inputs.path), _NO_CODE_ELSEWHERE).sub(b" ", inputs.text)
    uses: dict[bytes, Counter[_Use]] = defaultdict(Counter)
    last_stop, last_name = -1, b""
    for match in _USE.finditer(code):
        dot, name, bracket = match.groups()
        if name in names:
            qualifier = b"" if not dot else last_name + dot if match.start() == last_stop else b"."
            uses[name][_Use(qualifier, bool(bracket))] += 1
        last_stop, last_name = match.end(), name
    return uses


def verify(inputs: FrameInput, frame: FramedText) -> str:
    """Check that the text is the file, and the prefix has declarations of imported files that the text names."""
    if frame.text != inputs.text:
        return "the text is another"
    *others, last = frame.prefix or (PrefixPart("", b""),)
    if {part.control_token for part in frame.prefix} != {"<file_sep>"} or last.text != path_line(inputs.path):
        return "the prefix has other parts"
    if not others:
        return "nothing is shown"
    if sum(len(part.text) for part in others) > MAX_PREFIX_BYTES:
        return "the prefix is too long"
    imported = {path_line(path): symbols for path, symbols in inputs.imported_files}
    own = {symbol.name for symbol in inputs.symbols}
    words = set(_NAME.findall(inputs.text))
    for part in others:
        path, *lines = (line + b"\n" for line in part.text.split(b"\n")[:-1])
        symbols = imported.pop(path, None)
        if symbols is None or not lines:
            return "a file is shown twice, or is not imported"
        owner: str = ""
        for line in lines:
            member_of: str = owner if line.startswith(MEMBER_INDENT) else ""
            signature = line.removeprefix(MEMBER_INDENT) if member_of else line
            same = (one for one in symbols if one.owner == member_of and one.signature.encode() + b"\n" == signature)
            shown = next(same, None)
            if shown is None:
                return "the file declares no such thing"
            if not member_of and shown.name in own:
                return "the file itself declares it"
            owner = owner if member_of else shown.name
            if _written_name(shown) not in words:
                return "the text does not name it"
    return ""

"""What a repository says of its own files: Linguist's attributes in its `.gitattributes`, and virtual environments.

The files of the commit are read as data, by git's rules: the deepest file goes first, and in it the last line that
matches. `git check-attr` cannot be asked: it needs a checkout or git 2.40, and reads what is set on this machine.

Patterns are those of `.gitignore` but for three things: none is negative, one with a slash at its end matches nothing,
and one that matches a folder says nothing of the files in it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.git.history import encode_path
from git_starcoder.git.objects import FILE_MODE, MODE_TYPE_MASK
from git_starcoder.records import NO_DECLARED_ROLES, DeclaredRoles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from git_starcoder.git.objects import Repo

ATTRIBUTES_FILE = ".gitattributes"
MAX_ATTRIBUTES_BYTES = 1 << 20
"""Bytes of a file that is read. Git reads 100 MB."""
MAX_ATTRIBUTE_LINES = 2_000
"""Lines that say something of Linguist's attributes, of all files together; more are not read, and a note says so."""
LONGEST_LINE = 2_047
"""Git leaves out longer ones."""
BLANK = b" \t\r\n"
VENDORED, GENERATED, DOCUMENTATION = b"linguist-vendored", b"linguist-generated", b"linguist-documentation"
ATTRIBUTES = (VENDORED, GENERATED, DOCUMENTATION)
STARS = re.compile(rb"\*{2,}")
LITERAL = re.compile(rb"[^*?\[\\]+(?=\*\*+(?:/|\Z))")
VALID = re.compile(rb"[A-Za-z0-9_.][-A-Za-z0-9_.]*")
QUOTED = re.compile(rb'"((?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*)"')
ESCAPE = re.compile(rb'\\([abfnrtv"\\]|[0-3][0-7]{2})')
CONTROL = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
FALSE = b"false"
"""The one value that Linguist takes for no."""
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta/history")
"""Files that only a virtual environment has at its top."""

State = bool | None
Saying = tuple[bytes, State]
"""An attribute, and whether it is set; None for `!attribute`, which takes back what others say."""


class Line(NamedTuple):
    """A line of a `.gitattributes`."""

    matches: Callable[[bytes, bytes], bool]
    """Takes the path below the file's folder, and its last name."""
    states: list[Saying]


class GitAttributes:
    """What is said of each path. The attributes of the commit that is read hold for all of its history."""

    def __init__(
        self, lines: dict[bytes, list[Line]], macros: dict[bytes, list[Saying]], environments: set[str]
    ) -> None:
        """`lines` are those of each folder, whose name is empty or ends with a slash."""
        self._lines = lines
        self._macros = macros
        self._environments = frozenset(environments)
        self.declared_roles = lru_cache(1 << 14)(self._said)

    def _said(self, path: str) -> DeclaredRoles:
        said = self._attributes(encode_path(path)) if self._lines else NO_DECLARED_ROLES
        if said.vendored is None and self._environments and (inside := self._environment(path)):
            said = said._replace(vendored=True, reason=f"{inside} is a virtual environment")
        return said

    def _environment(self, path: str) -> str:
        """The virtual environment that a path lies in, or ""."""
        ends = (at + 1 for at, letter in enumerate(path) if letter == "/")
        return next((path[:end] for end in ends if path[:end] in self._environments), "")

    def _attributes(self, path: bytes) -> DeclaredRoles:
        found: dict[bytes, State] = {}
        at = path.rfind(b"/") + 1
        name = path[at:]
        while True:
            for line in reversed(self._lines.get(path[:at], ())):
                if line.matches(path[at:], name):
                    self._fill(line.states, found)
            if not at or all(attribute in found for attribute in ATTRIBUTES):
                return DeclaredRoles(found.get(VENDORED), found.get(GENERATED), found.get(DOCUMENTATION))
            at = path.rfind(b"/", 0, at - 1) + 1

    def _fill(self, states: list[Saying], found: dict[bytes, State]) -> None:
        """Take what a line says of attributes of which nothing is known yet, the last one first; macros say more."""
        for attribute, state in reversed(states):
            if attribute not in found:
                found[attribute] = state
                if state and attribute in self._macros:
                    self._fill(self._macros[attribute], found)


def read_attributes(repo: Repo) -> GitAttributes:
    """What the commit of a repository says of its files."""
    entries = [
        entry for entry in repo.entries() if entry.mode & MODE_TYPE_MASK == FILE_MODE
    ]  # git does not follow a link here, either
    environments = {
        entry.path[: -len(name)] for entry in entries for name in ENVIRONMENTS if entry.path.endswith(f"/{name}")
    }
    wanted = [
        entry
        for entry in entries
        if entry.path.rpartition("/")[2] == ATTRIBUTES_FILE
        and (entry.size or MAX_ATTRIBUTES_BYTES + 1) <= MAX_ATTRIBUTES_BYTES
    ]
    texts: dict[bytes, bytes] = {}
    contents = repo.read_blobs(entry.blob for entry in wanted) if wanted else iter(())
    for entry, (_, data) in zip(wanted, contents, strict=True):
        if isinstance(data, bytes):
            texts[encode_path(entry.path)[: -len(ATTRIBUTES_FILE)]] = data
    return _read(repo, texts, environments)


def _read(repo: Repo, texts: dict[bytes, bytes], environments: set[str]) -> GitAttributes:
    parsed = {folder: list(_parsed(data, root=not folder)) for folder, data in texts.items()}
    macros = {name: states for pattern, name, states in parsed.get(b"", ()) if pattern is None}
    asked = {*ATTRIBUTES, *_that_say(macros, ATTRIBUTES)}
    lines: defaultdict[bytes, list[Line]] = defaultdict(list)
    room = MAX_ATTRIBUTE_LINES
    for folder, said in sorted(parsed.items()):
        for pattern, _, states in said:
            if pattern is None or not any(attribute in asked for attribute, _ in states):
                continue
            room -= 1
            if room >= 0 and (matches := _matcher(pattern)):
                lines[folder].append(Line(matches, [one for one in states if one[0] in asked]))
    if room < 0:
        repo.notes.append(f"{-room} lines of .gitattributes beyond {MAX_ATTRIBUTE_LINES:,} are not looked at")
    return GitAttributes(dict(lines), macros, environments)


def _that_say(macros: dict[bytes, list[Saying]], attributes: Iterable[bytes]) -> set[bytes]:
    """Macros that say something of attributes, perhaps by way of others."""
    found = set(attributes)
    while more := {
        name for name, states in macros.items() if name not in found and any(one in found for one, _ in states)
    }:
        found |= more
    return found


def _parsed(data: bytes, *, root: bool) -> Iterator[tuple[bytes | None, bytes, list[Saying]]]:
    """Pattern, or None and the name of a macro, and what is said, of each line that is well-formed."""
    for raw in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw.lstrip(BLANK)
        if not line or line.startswith(b"#") or len(raw) > LONGEST_LINE:
            continue
        if quoted := QUOTED.match(line):
            pattern, rest = ESCAPE.sub(_unescaped, quoted[1]), line[quoted.end() :]
        else:
            end = next((at for at, byte in enumerate(line) if byte in BLANK), len(line))
            pattern, rest = line[:end], line[end:]
        states = _states(rest)
        if states is None or pattern.startswith(b"!"):
            continue
        if not pattern.startswith(b"[attr]"):
            yield pattern, b"", states
        elif root and not quoted and VALID.fullmatch(name := pattern.removeprefix(b"[attr]")):
            yield None, name, states


def _unescaped(found: re.Match[bytes]) -> bytes:
    one = found[1]
    return bytes([int(one, 8) if len(one) == 3 else CONTROL.get(one[0], one[0])])


def _states(rest: bytes) -> list[Saying] | None:
    """What a line says; None where a name is none, for which git leaves out the line."""
    states: list[Saying] = []
    for word in re.findall(rb"[^ \t\r\n]+", rest):
        sign = word[:1] if word[:1] in {b"-", b"!"} else b""
        name, _, value = word.removeprefix(sign).partition(b"=")
        if not VALID.fullmatch(name):
            return None
        states.append((name, None if sign == b"!" else sign != b"-" and value != FALSE))
    return states


def _matcher(pattern: bytes) -> Callable[[bytes, bytes], bool] | None:
    """Whether a pattern matches a path; None for one that can match no file."""
    if not pattern or pattern.endswith(b"/"):
        return None
    if b"/" not in pattern:
        name = _name(pattern)
        return (lambda _, last: name.fullmatch(last) is not None) if name else None
    pattern = pattern.removeprefix(b"/")
    literal = LITERAL.match(pattern)
    prefix = literal[0] if literal else b""  # `ab**/c` is `ab`, then `**/c`, as git compares what is literal first
    chunks = _chunks(pattern[len(prefix) :])
    if chunks is None:
        return None
    if STARS.fullmatch(pattern, len(prefix)):
        return lambda path, _: path.startswith(prefix)
    return lambda path, _: path.startswith(prefix) and _match(chunks, path[len(prefix) :].split(b"/"))


def _chunks(pattern: bytes) -> list[list[re.Pattern[bytes]]] | None:
    """Expressions for names that follow on one another; any number of names may stand between two chunks of them."""
    parts = _parts(pattern)
    chunks: list[list[re.Pattern[bytes]]] = [[]]
    for number, part in enumerate(parts):
        if STARS.fullmatch(part):
            if number == len(parts) - 1:
                chunks[-1].append(re.compile(b"[^/]+"))  # `a/**` is all that lies in a, but not a
                chunks.append([])
            elif chunks[-1] or len(chunks) == 1:
                chunks.append([])
        elif name := _name(part):
            chunks[-1].append(name)
        else:
            return None
    return chunks


def _parts(pattern: bytes) -> list[bytes]:
    """The names of a pattern: what stands between its slashes, but for those in brackets, which match nothing."""
    parts = [b""]
    at = 0
    while at < len(pattern):
        byte = pattern[at : at + 1]
        stop = at + 1
        if byte == b"\\" and pattern[stop : stop + 1] != b"/":
            stop += 1
        elif byte == b"[" and (found := _bracket(pattern, stop)):
            stop = found[1]
        if byte == b"/":
            parts.append(b"")
        elif byte != b"\\" or stop > at + 1:
            parts[-1] += pattern[at:stop]
        at = stop
    return parts


def _match(chunks: list[list[re.Pattern[bytes]]], names: list[bytes]) -> bool:
    """Whether names match chunks of names, between which any number of names may stand.

    The first place where a chunk fits is as good as any other, so nothing is tried twice.
    """
    first, *others = chunks
    if len(names) < len(first) or not _fits(first, names, 0):
        return False
    if not others:
        return len(names) == len(first)
    *middle, last = others
    at = len(first)
    for chunk in middle:
        at = next((one for one in range(at, len(names) - len(chunk) + 1) if _fits(chunk, names, one)), len(names) + 1)
        at += len(chunk)
    return at <= len(names) - len(last) and _fits(last, names, len(names) - len(last))


def _fits(chunk: list[re.Pattern[bytes]], names: list[bytes], at: int) -> bool:
    return all(one.fullmatch(name) for one, name in zip(chunk, names[at:], strict=False))


CLASSES = {
    b"alnum": rb"0-9A-Za-z", b"alpha": rb"A-Za-z", b"blank": rb" \t", b"cntrl": rb"\x00-\x1f\x7f", b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e", b"lower": rb"a-z", b"print": rb"\x20-\x7e", b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t-\r", b"upper": rb"A-Z", b"xdigit": rb"0-9A-Fa-f",
}  # fmt: skip
NAMED_CLASS = re.compile(rb"\[:([^\]]*):\]")
MEMBER = re.compile(rb"(\\.|[^\\])(?:-(\\.|[^\\\]]))?", re.DOTALL)
"""A byte, or the first and the last of some."""


def _name(glob: bytes) -> re.Pattern[bytes] | None:
    """The expression for one name of a pattern; None for what matches nothing.

    What stands between two stars is taken where it first fits, so that no pattern takes more than one pass and a bit.
    """
    parts = [b""]
    at = 0
    while at < len(glob):
        byte = glob[at : at + 1]
        at += 1
        if byte == b"*":
            if parts[-1] or len(parts) == 1:
                parts.append(b"")
        elif byte == b"?":
            parts[-1] += b"[^/]"
        elif byte == b"[":
            found = _bracket(glob, at)
            if found is None:
                return None
            part, at = found
            parts[-1] += part
        else:
            if byte == b"\\":
                byte, at = glob[at : at + 1], at + 1
                if not byte:
                    return None
            parts[-1] += re.escape(byte)
    first, *others = parts
    if not others:
        return re.compile(first, re.DOTALL)
    *middle, last = others
    return re.compile(first + b"".join(b"(?>.*?%b)" % part for part in middle) + b".*" + last, re.DOTALL)


def _bracket(glob: bytes, at: int) -> tuple[bytes, int] | None:
    """The expression for `[…]` behind its first bracket, and where it ends; None where it is none."""
    negative = glob[at : at + 1] in {b"!", b"^"}
    start = at = at + negative
    members: list[bytes] = []
    while at == start or glob[at : at + 1] != b"]":
        if named := NAMED_CLASS.match(glob, at):
            if named[1] not in CLASSES:
                return None
            members.append(CLASSES[named[1]])
            at = named.end()
            continue
        member = MEMBER.match(glob, at)
        if member is None:
            return None
        low = high = member[1][-1]
        if member[2]:
            high = member[2][-1]
        if low <= high:
            members.append(b"\\x%02x-\\x%02x" % (low, high))
        at = member.end()
    inside = b"".join(members)
    if not inside:
        return (b"[^/]" if negative else b"(?!)"), at + 1
    return (b"[^/%b]" % inside if negative else b"(?!/)[%b]" % inside), at + 1

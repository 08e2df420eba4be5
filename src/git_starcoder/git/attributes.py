"""Reads what a repository declares about its files: attributes of Linguist in `.gitattributes`, virtual environments.

The `.gitattributes` files of the commit are interpreted by git's rules: the deepest file has priority, and in it the
last line that matches. `git check-attr` is no alternative: it needs a checkout or git 2.40, and reads the settings of
this machine.

Patterns are those of `.gitignore` with three differences: a negative pattern is ignored, a pattern with a slash at its
end matches nothing, and a pattern that matches a folder does not apply to the files in it.
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
    from collections.abc import Iterator

    from git_starcoder.git.objects import Repo

ATTRIBUTES_FILE = ".gitattributes"
MAX_ATTRIBUTES_BYTES = 1 << 20
"""Larger `.gitattributes` files are not read. The limit of git is 100 MB."""
MAX_ATTRIBUTE_LINES = 2_000
"""Lines about Linguist's attributes in all files together; later lines are ignored, and a note says so."""
MAX_MACROS = 2_000
"""Macros that are read. Each file that one applies to may need all of them."""
MAX_LINE_BYTES = 2_047
"""Git ignores longer lines."""
WHITESPACE = b" \t\r\n"
VENDORED, GENERATED, DOCUMENTATION = b"linguist-vendored", b"linguist-generated", b"linguist-documentation"
LINGUIST_ATTRIBUTES = (VENDORED, GENERATED, DOCUMENTATION)
ATTRIBUTE_NAME = re.compile(rb"[A-Za-z0-9_.][-A-Za-z0-9_.]*")
QUOTED_PATTERN = re.compile(rb'"((?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*)"')
ESCAPE = re.compile(rb'\\([abfnrtv"\\]|[0-3][0-7]{2})')
CONTROL_CHARACTERS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
ENVIRONMENT_FILES = ("pyvenv.cfg", "conda-meta/history")
"""Files that exist only at the top of a virtual environment."""

Setting = tuple[bytes, bool | None]
"""An attribute and whether it is set; None for `!attribute`, which removes the setting."""


class AttributeRule(NamedTuple):
    """A line of a `.gitattributes` file."""

    pattern: re.Pattern[bytes]
    """Matches the file's name, or its path below the folder with a slash at the end."""
    is_for_name: bool
    settings: list[Setting]


class GitAttributes:
    """What the commit that is read declares about each path. This holds for all of its history."""

    def __init__(
        self, rules: dict[bytes, list[AttributeRule]], macros: dict[bytes, list[Setting]], environments: set[str]
    ) -> None:
        """`rules` are those of each folder, whose name is empty or ends with a slash."""
        self._rules, self._macros, self._environments = rules, macros, environments
        self.declared_roles = lru_cache(1 << 14)(self._declared_roles)

    def _declared_roles(self, path: str) -> DeclaredRoles:
        declared = self._attribute_roles(encode_path(path)) if self._rules else NO_DECLARED_ROLES
        if declared.vendored is None and self._environments:
            ends = (index + 1 for index, char in enumerate(path) if char == "/")
            if environment := next((path[:end] for end in ends if path[:end] in self._environments), ""):
                return declared._replace(vendored=True, reason=f"{environment} is a virtual environment")
        return declared

    def _attribute_roles(self, path: bytes) -> DeclaredRoles:
        known: dict[bytes, bool | None] = {}
        folder_end = path.rfind(b"/") + 1
        name = path[folder_end:]
        while True:
            relative = path[folder_end:] + b"/"
            for rule in reversed(self._rules.get(path[:folder_end], ())):
                if rule.pattern.fullmatch(name if rule.is_for_name else relative):
                    self._add_unknown(rule.settings, known)
            if not folder_end or all(attribute in known for attribute in LINGUIST_ATTRIBUTES):
                return DeclaredRoles(known.get(VENDORED), known.get(GENERATED), known.get(DOCUMENTATION))
            folder_end = path.rfind(b"/", 0, folder_end - 1) + 1

    def _add_unknown(self, settings: list[Setting], known: dict[bytes, bool | None]) -> None:
        """Add the settings of attributes that are not known yet, the last one first; a macro adds its own settings."""
        waiting = list(settings)
        while waiting:
            attribute, state = waiting.pop()
            if attribute not in known:
                known[attribute] = state
                if state:
                    waiting += self._macros.get(attribute, ())


def read_attributes(repo: Repo) -> GitAttributes:
    """Read what the commit of a repository declares about its files."""
    files = [entry for entry in repo.entries() if entry.mode & MODE_TYPE_MASK == FILE_MODE]  # like git, follow no links
    environments = {
        entry.path[: -len(name)] for entry in files for name in ENVIRONMENT_FILES if entry.path.endswith(f"/{name}")
    }
    named = [entry for entry in files if entry.path.rpartition("/")[2] == ATTRIBUTES_FILE]
    wanted = [entry for entry in named if 0 < (entry.size or 0) <= MAX_ATTRIBUTES_BYTES]
    contents = repo.read_blobs(entry.blob for entry in wanted) if wanted else iter(())
    parsed: dict[bytes, list[tuple[bytes | None, bytes, list[Setting]]]] = {}
    for entry, (_, data) in zip(wanted, contents, strict=True):
        if isinstance(data, bytes):
            folder = encode_path(entry.path)[: -len(ATTRIBUTES_FILE)]
            parsed[folder] = list(_parse_lines(data, is_root=not folder))
    definitions = [(name, settings) for pattern, name, settings in parsed.get(b"", ()) if pattern is None]
    macros = dict(definitions[:MAX_MACROS])
    if (excess := len(definitions) - MAX_MACROS) > 0:
        repo.notes.append(f"{excess} macros of .gitattributes beyond {MAX_MACROS:,} are ignored")
    relevant = _find_relevant(macros)
    rules: defaultdict[bytes, list[AttributeRule]] = defaultdict(list)
    line_count = 0
    for folder, lines in sorted(parsed.items()):
        for pattern, _, all_settings in lines:
            settings = [setting for setting in all_settings if setting[0] in relevant]
            if pattern is None or not settings:
                continue
            line_count += 1
            if line_count <= MAX_ATTRIBUTE_LINES and (compiled := _compile_pattern(pattern)):
                rules[folder].append(AttributeRule(compiled, b"/" not in pattern, settings))
    if (excess := line_count - MAX_ATTRIBUTE_LINES) > 0:
        repo.notes.append(f"{excess} lines of .gitattributes beyond {MAX_ATTRIBUTE_LINES:,} are ignored")
    return GitAttributes(dict(rules), macros, environments)


def _find_relevant(macros: dict[bytes, list[Setting]]) -> set[bytes]:
    """Linguist's attributes, and the macros that set one of them, directly or through other macros."""
    macros_that_set: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, settings in macros.items():
        for attribute, _ in settings:
            macros_that_set[attribute].append(name)
    relevant: set[bytes] = set()
    waiting = [*LINGUIST_ATTRIBUTES]
    while waiting:
        attribute = waiting.pop()
        if attribute not in relevant:
            relevant.add(attribute)
            waiting += macros_that_set[attribute]
    return relevant


def _parse_lines(data: bytes, *, is_root: bool) -> Iterator[tuple[bytes | None, bytes, list[Setting]]]:
    """Pattern, macro and settings of each well-formed line. The pattern of a macro's definition is None."""
    for raw_line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = raw_line.lstrip(WHITESPACE)
        if not line or line.startswith(b"#") or len(raw_line) > MAX_LINE_BYTES:
            continue
        if quoted := QUOTED_PATTERN.match(line):
            pattern, rest = ESCAPE.sub(_unescape, quoted[1]), line[quoted.end() :]
        else:
            end = next((index for index, byte in enumerate(line) if byte in WHITESPACE), len(line))
            pattern, rest = line[:end], line[end:]
        settings = _parse_settings(rest)
        if settings is None or pattern.startswith(b"!"):
            continue
        if not pattern.startswith(b"[attr]"):
            yield pattern, b"", settings
        elif is_root and not quoted and ATTRIBUTE_NAME.fullmatch(name := pattern.removeprefix(b"[attr]")):
            yield None, name, settings


def _unescape(escape: re.Match[bytes]) -> bytes:
    code = escape[1]
    return bytes([int(code, 8) if len(code) == 3 else CONTROL_CHARACTERS.get(code[0], code[0])])


def _parse_settings(text: bytes) -> list[Setting] | None:
    """The settings of a line; None if a name is invalid, for which git ignores the line."""
    settings: list[Setting] = []
    for word in re.findall(rb"[^ \t\r\n]+", text):
        sign = word[:1] if word[:1] in {b"-", b"!"} else b""
        name, _, value = word.removeprefix(sign).partition(b"=")
        if not ATTRIBUTE_NAME.fullmatch(name):
            return None
        # `false` is the only value that Linguist takes as no.
        settings.append((name, None if sign == b"!" else sign != b"-" and value != b"false"))
    return settings


STARS = re.compile(rb"\*{2,}")
LITERAL_BEFORE_STARS = re.compile(rb"[^*?\[\\]+(?=\*\*+(?:/|\Z))")


def _compile_pattern(pattern: bytes) -> re.Pattern[bytes] | None:
    """The expression for a pattern, see `AttributeRule.pattern`; None if it cannot match a file.

    No expression needs more time than about the product of the lengths of pattern and path: what is between two stars,
    or two `**`, is matched at the first possible place, which is as good as any other, and never tried again.
    """
    if not pattern or pattern.endswith(b"/"):
        return None
    if b"/" not in pattern:
        names = _translate_names(pattern)
        return re.compile(names[0][0]) if names else None
    pattern = pattern.removeprefix(b"/")
    # `ab**/c` means `ab`, then `**/c`, because git compares the literal start first.
    literal = LITERAL_BEFORE_STARS.match(pattern)
    prefix = literal[0] if literal else b""
    if STARS.fullmatch(pattern, len(prefix)):
        return re.compile(re.escape(prefix) + b"(?s:.+)")
    names = _translate_names(pattern[len(prefix) :])
    if names is None:
        return None
    # a/**/b/c/**/d -> chunks a/, b/c/ and d/, with any number of names between two of them
    chunks = [b""]
    for index, (name, is_any_depth) in enumerate(names):
        if not is_any_depth:
            chunks[-1] += name + b"/"
        elif index == len(names) - 1:
            chunks[-1] += b"[^/]+/"  # `a/**` means everything inside of a, but not a
            chunks.append(b"")
        elif chunks[-1] or len(chunks) == 1:
            chunks.append(b"")
    first, *others = chunks
    expression = re.escape(prefix) + first
    if others:
        *middle, last = others
        expression += b"".join(b"(?>(?:[^/]*/)*?%b)" % chunk for chunk in middle) + b"(?:[^/]*/)*" + last
    return re.compile(expression)


def _translate_names(pattern: bytes) -> list[tuple[bytes, bool]] | None:
    """The expression of each name in a pattern, and whether the name is `**`; None if the pattern matches nothing."""
    names: list[tuple[bytes, bool]] = []
    parts, star_count = [b""], 0  # the expressions between the stars of the current name
    offset = 0
    while True:
        char = pattern[offset : offset + 1]
        offset += 1
        if char in {b"", b"/"}:
            names.append((_join_at_stars(parts), star_count > 1 and not any(parts)))
            if not char:
                return names
            parts, star_count = [b""], 0
        elif char == b"*":
            star_count += 1
            if parts[-1] or len(parts) == 1:
                parts.append(b"")
        elif char == b"?":
            parts[-1] += b"[^/]"
        elif char == b"[":
            bracket = _translate_bracket(pattern, offset)
            if bracket is None:
                return None
            parts[-1] += bracket[0]
            offset = bracket[1]
        elif char != b"\\":
            parts[-1] += re.escape(char)
        elif pattern[offset : offset + 1] != b"/":  # an escaped slash is a slash
            if offset == len(pattern):
                return None
            parts[-1] += re.escape(pattern[offset : offset + 1])
            offset += 1


def _join_at_stars(parts: list[bytes]) -> bytes:
    """The expression for parts of a name with stars between them."""
    first, *middle = parts[: max(1, len(parts) - 1)]
    last = b"[^/]*" + parts[-1] if len(parts) > 1 else b""
    return first + b"".join(b"(?>[^/]*?%b)" % part for part in middle) + last


CHARACTER_CLASSES = {
    b"alnum": rb"0-9A-Za-z", b"alpha": rb"A-Za-z", b"blank": rb" \t", b"cntrl": rb"\x00-\x1f\x7f", b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e", b"lower": rb"a-z", b"print": rb"\x20-\x7e", b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t-\r", b"upper": rb"A-Z", b"xdigit": rb"0-9A-Fa-f",
}  # fmt: skip
NAMED_CLASS = re.compile(rb"\[:([^\]]*):\]")
BRACKET_MEMBER = re.compile(rb"(\\.|[^\\])(?:-(\\.|[^\\\]]))?", re.DOTALL)
"""A byte, or the first and the last byte of a range."""


def _translate_bracket(pattern: bytes, offset: int) -> tuple[bytes, int] | None:
    """The expression for `[…]` and the offset after it; `offset` is after the opening bracket. None if invalid."""
    is_negative = pattern[offset : offset + 1] in {b"!", b"^"}
    start = offset = offset + is_negative
    members: list[bytes] = []
    while offset == start or pattern[offset : offset + 1] != b"]":
        if named := NAMED_CLASS.match(pattern, offset):
            if named[1] not in CHARACTER_CLASSES:
                return None
            members.append(CHARACTER_CLASSES[named[1]])
            offset = named.end()
            continue
        member = BRACKET_MEMBER.match(pattern, offset)
        if member is None:
            return None
        low, high = member[1][-1], (member[2] or member[1])[-1]
        if low <= high:
            members.append(b"\\x%02x-\\x%02x" % (low, high))
        offset = member.end()
    inside = b"".join(members)
    if not inside:
        return (b"[^/]" if is_negative else b"(?!)"), offset + 1
    return (b"[^/%b]" % inside if is_negative else b"(?!/)[%b]" % inside), offset + 1

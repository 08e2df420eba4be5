"""Renames local variables by what the syntax tree says they are (whole files, scope-aware, checked).

A safe name (`parse.scope`) is called after its declared type (`cfg: &NetworkConfig` → `network_config`), after what
gives its value (`Config::load()` → `loaded_config`, `a == b` → `is_equal`), after the collection that it runs over
(`for x in &items` → `item`), or is written out (`ctx` → `context`). What is a good name already stays, and so does a
name that the tree says nothing about. Every new name stands nowhere else in the file.

The `[ast_based]` table of a language says where to look. Of the query `names`, `@name` is a binding and `@type`,
`@value` or `@over` what it is told from. The others are kinds of nodes of a value:

- `through`: says what the node in it says. `calls`: the field of what is called.
- `members`: the fields of the owner and of the name. `compares`: two things are compared.
- `nouns`: what such a node is called.

The words themselves are in `ast_based.toml`.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from tree_sitter import QueryCursor

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.language import load_language
from git_starcoder.parse.renaming import (
    RENAMABLE_NAME,
    find_local_names,
    find_span_index,
    rename_error,
    rename_local_names,
    reserved_words,
)
from git_starcoder.records import Span

if TYPE_CHECKING:
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("rename", "ast_based")

_TABLE = tomllib.loads((files("git_starcoder.augmentations") / "ast_based.toml").read_text(encoding="utf-8"))


def _set(key: str) -> frozenset[str]:
    return frozenset(_TABLE[key].split())


def _pairs(key: str) -> dict[str, str]:
    return {one: other for one, _, other in (pair.partition(":") for pair in _TABLE[key].split())}


_WHOLE, _DONE = _pairs("whole"), _pairs("done")
_ADJECTIVES = frozenset(_DONE.values())
_GENERIC, _ASKS, _PASSES, _COUNTS, _IS = map(_set, ("generic", "asks", "passes", "counts", "is"))
_INDEX, _VARIANTS = _set("index"), _set("variants")
_WRAPPERS, _COLLECTIONS, _MAPS = _set("wrappers"), _set("collections"), _set("maps")
_HOLDERS = _WRAPPERS | _COLLECTIONS | _MAPS
_QUALIFIERS: list[str] = _TABLE["qualifiers"].split()
_SCALARS = {name: noun for noun, names in _TABLE["scalars"].items() for name in names.split()}
_COMPARED = {operator: word for word, operators in _TABLE["compared"].items() for operator in operators}
_COMPUTED = {operator: word for word, operators in _TABLE["computed"].items() for operator in operators}
_WEAK = _GENERIC | frozenset(word + "s" for word in _GENERIC)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_QUIET = re.compile(r"'\w+|\b(?:mut|const|dyn|impl|struct|enum|union|volatile|final|readonly|typename|class)\b|[&*]")
_PARAMETERS = re.compile(r"(?:[\w.:]*[.:])?(\w+)(?:::)?\s*[<\[](.*)[>\]]")
_PATH = re.compile(r"::|\.|->")
_RANKS = ("type", "over", "value", "weak")
"""What a name is told from, the best first; what says little (`u8`, `5`) is weak."""
LONG = 200
"""Bytes of a type, or of a name, that are looked at."""
LONGEST = 4
"""Words in a name."""
DEEPEST = 6
"""Nodes of a value that are looked through."""


def vary(code: Code, random: Random) -> Variant | str:
    """The file with new names for what the tree says something about."""
    if not find_local_names(code).functions:
        return NOTHING
    names = _Names(code, random)
    new = [names.give(words) for words in _told(code)]
    return Variant(rename_local_names(code, new)) if any(new) else NOTHING


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Alpha-equivalence: nothing but safe names differs, and each has one new name, its own, everywhere."""
    return "another text was parsed" if variant.text != after.data else rename_error(before, after)


class _Names:
    """Names that a file does not have."""

    def __init__(self, code: Code, random: Random) -> None:
        if code.language is None:
            raise ValueError("renaming needs a tree")
        self._random = random
        self._taken = find_local_names(code).words | reserved_words(code.language.key)
        self._snake = code.language.table["rename"]["style"] == "snake"

    def give(self, told: dict[bytes, list[str]]) -> dict[bytes, bytes]:
        """A name of its words for each of the old ones, all different; none where all that there are, are taken."""
        given: dict[bytes, bytes] = {}
        taken: set[bytes] = set()
        for old, words in told.items():
            name = self._name(words)
            if name in self._taken or name in taken:
                others = [self._name([word, *words]) for word in self._random.sample(_QUALIFIERS, len(_QUALIFIERS))]
                name = next((one for one in others if one not in self._taken and one not in taken), b"")
            if RENAMABLE_NAME.fullmatch(name):
                given[old] = name
                taken.add(name)
        return given

    def _name(self, words: list[str]) -> bytes:
        return ("_".join(words) if self._snake else words[0] + "".join(map(str.title, words[1:]))).encode()


def _told(code: Code) -> list[dict[bytes, list[str]]]:
    """For each function, the words for those of its safe names that the tree calls something else."""
    if code.language is None or code.root is None:
        raise ValueError("names need a tree")
    functions = find_local_names(code).functions
    spans = [Span(one.start, one.stop) for one in functions]
    starts = [one.start for one in functions]
    best: list[dict[bytes, tuple[int, list[str]]]] = [{} for _ in functions]
    value = _Value(code.data, _rules(code.language.key))
    for _, match in QueryCursor(code.language.compile_query("ast_based.names")).matches(code.root):
        start, stop = match["name"][0].start_byte, match["name"][0].end_byte
        index = find_span_index(starts, spans, start)
        old = code.data[start:stop]
        places = functions[index].safe_names.get(old, []) if index >= 0 else []
        at = bisect_left(places, start)
        if at < len(places) and places[at] == start:
            rank, words = value.evidence(match)
            new = _combined(_split(old.decode()), words, rank) if words else []
            if new and rank < best[index].get(old, (len(_RANKS), []))[0]:
                best[index][old] = rank, new
    told: list[dict[bytes, list[str]]] = []
    for function, found in zip(functions, best, strict=True):
        words_of = {old: found[old][1] if old in found else _written_out(old) for old in function.safe_names}
        told.append({old: words for old, words in words_of.items() if words})
    return told


def _written_out(old: bytes) -> list[str]:
    """The words of a name without abbreviations; nothing where it has none."""
    parts = _split(old.decode())
    whole = _whole(parts)
    return whole if whole != parts else []


def _combined(parts: list[str], words: list[str], rank: int) -> list[str]:
    """The words of a new name, from the old one and what the tree says; nothing where the old one is as good."""
    old, words = _whole(parts), _whole(words)[-LONGEST:]
    poor = len("".join(parts)) <= 2 or _GENERIC.issuperset(old)
    if (_WEAK.issuperset(words) and not poor) or set(words) <= set(old):
        return []
    if words == ["number"] and len(parts) == 1 and parts[0] in _INDEX:
        return ["index"]
    if poor and words[0] in _ADJECTIVES:
        return words if len(words) > 1 else [*words, "value"]
    if poor or set(old) <= set(words) or (len(parts) == 1 and any(word.startswith(parts[0]) for word in words)):
        return words
    if _RANKS[rank] == "type" and words[-1] not in _WEAK and words[-1] not in old:
        return [*(_one(old) if _one(words) and _one(old) else old)[1 - LONGEST :], words[-1]]
    if _RANKS[rank] == "value" and (words[0] in _ADJECTIVES or (words[0] == "is" and old[0] not in _IS)):
        return [words[0], *[word for word in old if word != words[0]][1 - LONGEST :]]
    return []


@dataclass(frozen=True, slots=True)
class _Rules:
    through: frozenset[str]
    calls: dict[str, str]
    members: dict[str, list[str]]
    compares: frozenset[str]
    nouns: dict[str, str]


@cache
def _rules(key: str) -> _Rules:
    table = load_language(key).table["ast_based"]
    return _Rules(
        frozenset(table["through"]), table["calls"], table["members"], frozenset(table["compares"]), table["nouns"]
    )


@dataclass(frozen=True, slots=True)
class _Value:
    """Reads what the nodes of a text are called."""

    data: bytes
    rules: _Rules

    def evidence(self, match: dict[str, list[Node]]) -> tuple[int, list[str]]:
        """What a match says about its name, and how much that counts: an index of `_RANKS`."""
        if "type" in match:
            kind, words = "type", _of_type(self._text(match["type"][0]))
        elif "over" in match:
            kind, words = "over", self._called(match["over"][0], 1)
            words = words if words == ["index"] else _one(words)
        else:
            kind, words = "value", self._called(match["value"][0], 0)
        return _RANKS.index("weak" if _WEAK.issuperset(words) else kind), words

    def _text(self, node: Node) -> str:
        return self.data[node.start_byte : min(node.end_byte, node.start_byte + LONG)].decode("utf-8", "replace")

    def _called(self, node: Node, depth: int) -> list[str]:
        """What a value is called; nothing where it is only another name, unless something is done with that."""
        kind, rules = node.type, self.rules
        if depth == DEEPEST:
            return []
        if kind == "identifier":
            return _split(self._text(node)) if depth else []
        if kind in rules.through:
            inner = _inner(node)
            return self._called(inner, depth + 1) if inner else []
        if noun := rules.nouns.get(kind):
            return [noun]
        if kind in rules.compares:
            return self._compared(node)
        owner, name = self._member(node)
        if kind not in rules.calls:
            return _split(self._text(name)) if name else []
        callee = node.child_by_field_name(rules.calls[kind])
        if callee is not None and callee.type in rules.through:
            callee = _inner(callee)
        if callee is not None and kind not in rules.members:
            owner, name = self._member(callee)
            name = name or callee
        return self._given(owner, self._text(name), depth) if name else []

    def _member(self, node: Node) -> tuple[Node | None, Node | None]:
        """The owner and the name of a field, a method, or something in a module."""
        fields = self.rules.members.get(node.type)
        if fields is None:
            return None, None
        return node.child_by_field_name(fields[0]), node.child_by_field_name(fields[1])

    def _given(self, owner: Node | None, name: str, depth: int) -> list[str]:
        """What a function gives, by its name and by what stands before that."""
        if name in _PASSES and owner is not None:
            return self._called(owner, depth + 1)
        if name[:1].isupper():
            return _of_type(name)
        parts = _whole(_split(name))
        if (len(name) < 3 and not owner) or not parts:
            return []
        there = _PATH.split(self._text(owner))[-1] if owner else ""
        thing = _of_type(there) if there[:1].isupper() else self._called(owner, depth + 1) if owner else []
        if there[:1].isupper() and parts[0] in _ASKS:
            return thing
        if name in _COUNTS:
            return [*(_one(thing) or thing)[-2:], "count"]
        if parts[0] in _IS:
            return ["is", *thing[-1:], *parts[1:]]
        if parts[0] in _DONE:
            return [_DONE[parts[0]], *(parts[1:] or thing)]
        return parts[1:] if parts[0] in _ASKS else parts

    def _compared(self, node: Node) -> list[str]:
        """What an operation on two things is called."""
        operator = node.child_by_field_name("operator") or node.child_by_field_name("operators")
        sign = self._text(operator) if operator else ""
        if sign not in _COMPARED:
            return [_COMPUTED[sign]] if sign in _COMPUTED else []
        left = node.child_by_field_name("left") or node.named_children[0]
        name = self._member(left)[1] or (left if left.type == "identifier" else None)
        words = _whole(_split(self._text(name)))[-1:] if name else []
        return ["is", *(word for word in words if len(word) > 2), _COMPARED[sign]]


def _inner(node: Node) -> Node | None:
    """What a node is about that adds nothing itself."""
    for field in ("value", "argument", "operand", "expression", "function"):
        if inner := node.child_by_field_name(field):
            return inner
    return node.named_children[0] if node.named_child_count else None


def _of_type(text: str) -> list[str]:
    """What a thing of this type is called."""
    text = " ".join(_QUIET.sub(" ", text).strip("\"': ").split())
    if len(text) >= LONG or not text:
        return []
    if text.startswith(("func", "fn", "Fn")):
        return ["callback"]
    if "|" in text:
        one = [part.strip() for part in text.split("|") if part.strip() not in {"None", "null", "undefined"}]
        return _of_type(one[0]) if len(one) == 1 else []
    if text.endswith("[]"):
        return _many(_of_type(text[:-2]))
    if text[0] == "[":
        inner, _, behind = text[1:].partition("]")
        return _many(_of_type(behind or inner.partition(";")[0]))
    if text.startswith("map["):
        return [*_of_type(text.partition("]")[2]), "map"]
    if parameters := _PARAMETERS.fullmatch(text):
        return _of_holder(parameters[1], parameters[2])
    return ["callback"] if "=>" in text else _of_name(_PATH.split(text)[-1])


def _of_holder(head: str, parameters: str) -> list[str]:
    """What a thing is called whose type has parameters."""
    first = _first(parameters)
    if head in _WRAPPERS:
        return _of_type(first)
    if head in _COLLECTIONS:
        return _many(_of_type(first))
    if head in _MAPS:
        return [*_of_type(parameters[len(first) + 1 :]), "map"]
    return _of_name(head)


def _of_name(name: str) -> list[str]:
    """What a thing is called whose type has this name."""
    if name in _SCALARS:
        return [_SCALARS[name]]
    return _split(name) if len(name) > 2 and name.isidentifier() and name not in _HOLDERS | _VARIANTS else []


def _first(parameters: str) -> str:
    """The first of the parameters of a type."""
    depth = 0
    for place, character in enumerate(parameters):
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            return parameters[:place]
    return parameters


def _split(name: str) -> list[str]:
    """`networkConfig`, `NETWORK_CONFIG`, `network_config` → network, config."""
    return [word.lower() for word in _WORD.findall(name)]


def _whole(words: list[str]) -> list[str]:
    """Words without abbreviations, and none twice in a row."""
    whole = [_WHOLE.get(word, word) for word in words]
    return [word for place, word in enumerate(whole) if not place or word != whole[place - 1]]


def _many(words: list[str]) -> list[str]:
    """The plural of a thing."""
    if not words or _one(words):
        return words
    last = words[-1]
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return [*words[:-1], last[:-1] + "ies"]
    return [*words[:-1], last + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")]


def _one(words: list[str]) -> list[str]:
    """The singular of things; nothing where it is not known."""
    if not words:
        return []
    last = words[-1]
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("s", "")):
        if last.endswith(ending) and not last.endswith(("ss", "us", "is")) and len(last) > len(ending) + 2:
            return [*words[:-1], last.removesuffix(ending) + singular]
    return []

"""Renames local variables after their types or values (whole files, scope-aware, verified).

A name that is safe to rename (`parse.renaming`) becomes its declared type (`cfg: &NetworkConfig` → `network_config`),
what its value comes from (`Config::load()` → `loaded_config`, `a == b` → `is_equal`), an element of the collection
that it runs over (`for x in &items` → `item`), or its abbreviation in full (`ctx` → `context`). A name that is good
already stays, and so does a name that the tree says nothing about. Every new name occurs nowhere else in the file.

The `[ast_based]` table of a language file says where to look. In its query `names`, `@name` is a binding, and `@type`,
`@value` or `@over` is the evidence for its name. The other entries are about the nodes of a value:

- `through`: nodes that mean what the node inside them means (a parenthesis, an `await`).
- `calls`: nodes that call a function, with the field of the function.
- `members`: nodes that select a member, with the fields of its owner and of its name.
- `compares`: nodes that apply an operator to two values.
- `nouns`: nodes whose value has a word of its own (a number, a text).

The word lists are in `ast_based.toml`.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from tree_sitter import QueryCursor

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, variable_renaming
from git_starcoder.parse.renaming import RENAMABLE_NAME, find_local_names, find_span_index, rename_local_names
from git_starcoder.records import Span

if TYPE_CHECKING:
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("rename", "ast_based")

MAX_SOURCE_BYTES = 200
"""Bytes of a type or name that are read; a longer type gives no name."""
MAX_WORDS = 4
"""Words in a new name."""
MAX_VALUE_DEPTH = 6
"""Nested nodes of a value that are looked into."""

_LISTS = tomllib.loads((files("git_starcoder.augmentations") / "ast_based.toml").read_text(encoding="utf-8"))


def _word_set(key: str) -> frozenset[str]:
    return frozenset(_LISTS[key].split())


def _word_map(key: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in _LISTS[key].split())


_ABBREVIATIONS, _ADJECTIVES = _word_map("abbreviations"), _word_map("adjectives")
_ALL_ADJECTIVES = frozenset(_ADJECTIVES.values())
_GENERIC, _NEUTRAL_VERBS, _PASS_THROUGH = map(_word_set, ("generic", "neutral_verbs", "pass_through"))
_COUNTERS, _BOOLEAN_VERBS = map(_word_set, ("counters", "boolean_verbs"))
_LOOP_COUNTERS, _EMPTY_TYPES = map(_word_set, ("loop_counters", "empty_types"))
_WRAPPERS, _COLLECTIONS, _MAPS = map(_word_set, ("wrappers", "collections", "maps"))
_GENERIC_TYPES = _WRAPPERS | _COLLECTIONS | _MAPS
_QUALIFIERS: list[str] = _LISTS["qualifiers"].split()
_SCALARS = {name: noun for noun, names in _LISTS["scalars"].items() for name in names.split()}
_COMPARISONS = {operator: word for word, operators in _LISTS["comparisons"].items() for operator in operators}
_ARITHMETIC = {operator: word for word, operators in _LISTS["arithmetic"].items() for operator in operators}
_WEAK = _GENERIC | frozenset(word + "s" for word in _GENERIC)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TYPE_NOISE = re.compile(
    r"'\w+|\b(?:mut|const|dyn|impl|struct|enum|union|volatile|final|readonly|typename|class)\b|[&*]"
)
_GENERIC_TYPE = re.compile(r"(?:[\w.:]*[.:])?(\w+)(?:::)?\s*[<\[](.*)[>\]]")
_PATH_SEPARATOR = re.compile(r"::|\.|->")
_EVIDENCE = ("type", "over", "value", "weak")
"""Kinds of evidence for a name, the best first. Evidence that says little (`u8`, `5`) is weak."""


def vary(code: Code, random: Random) -> Variant | str:
    """The file with new names for what the tree says something about."""
    if not find_local_names(code).functions:
        return NOTHING_TO_CHANGE
    style = variable_renaming.NameStyle(code)
    new_names = [_choose_names(proposals, style, random) for proposals in _propose_names(code)]
    return Variant(rename_local_names(code, new_names)) if any(new_names) else NOTHING_TO_CHANGE


verify = variable_renaming.verify


def _choose_names(
    proposals: dict[bytes, list[str]], style: variable_renaming.NameStyle, random: Random
) -> dict[bytes, bytes]:
    """Old names of a function → new names. A name that is taken gets a qualifier, or stays where all are taken."""
    chosen: dict[bytes, bytes] = {}
    taken: set[bytes] = set()

    def is_free(name: bytes) -> bool:
        return name not in style.taken and name not in taken

    for old, words in proposals.items():
        parts = [word.encode() for word in words]
        name = style.join(parts)
        if not is_free(name):
            qualifiers = random.sample(_QUALIFIERS, len(_QUALIFIERS))
            name = next(filter(is_free, (style.join([word.encode(), *parts]) for word in qualifiers)), b"")
        if RENAMABLE_NAME.fullmatch(name):
            chosen[old] = name
            taken.add(name)
    return chosen


def _propose_names(code: Code) -> list[dict[bytes, list[str]]]:
    """For each function, its safe names that should change, with the words of the new name."""
    if code.language is None or code.root is None:
        raise ValueError("names need a tree")
    functions = find_local_names(code).functions
    spans = [Span(function.start, function.stop) for function in functions]
    starts = [function.start for function in functions]
    # For each function: old name → (rank of the evidence, words). The best evidence wins, the first of equals.
    best: list[dict[bytes, tuple[int, list[str]]]] = [{} for _ in functions]
    describer = _Describer(code.data, code.language.table["ast_based"])
    for _, match in QueryCursor(code.language.compile_query("ast_based.names")).matches(code.root):
        start, stop = match["name"][0].start_byte, match["name"][0].end_byte
        index = find_span_index(starts, spans, start)
        old = code.data[start:stop]
        places = functions[index].safe_names.get(old, []) if index >= 0 else []
        found = bisect_left(places, start)
        if found < len(places) and places[found] == start:
            rank, words = describer.evidence(match)
            new = _combine_words(_split_name(old.decode()), words, rank) if words else []
            if new and rank < best[index].get(old, (len(_EVIDENCE), []))[0]:
                best[index][old] = rank, new
    proposals: list[dict[bytes, list[str]]] = []
    for function, with_evidence in zip(functions, best, strict=True):
        words_of: dict[bytes, list[str]] = {}
        for old in function.safe_names:
            parts = _split_name(old.decode())
            words = with_evidence[old][1] if old in with_evidence else _expand(parts)
            if old in with_evidence or words != parts:
                words_of[old] = words
        proposals.append(words_of)
    return proposals


def _combine_words(parts: list[str], words: list[str], rank: int) -> list[str]:
    """The words of a new name, from the old name and the evidence; nothing if the old name is as good."""
    old, words = _expand(parts), _expand(words)[-MAX_WORDS:]
    is_poor = len("".join(parts)) <= 2 or _GENERIC.issuperset(old)
    if (_WEAK.issuperset(words) and not is_poor) or set(words) <= set(old):
        return []
    if words == ["number"] and len(parts) == 1 and parts[0] in _LOOP_COUNTERS:
        return ["index"]
    if is_poor and words[0] in _ALL_ADJECTIVES:
        return words if len(words) > 1 else [*words, "value"]
    if is_poor or set(old) <= set(words) or (len(parts) == 1 and any(word.startswith(parts[0]) for word in words)):
        return words
    # The old name says something of its own: add the type as a noun, or how the value came about as an adjective.
    if _EVIDENCE[rank] == "type" and words[-1] not in _WEAK and words[-1] not in old:
        return [*(_singular(old) if _singular(words) and _singular(old) else old)[1 - MAX_WORDS :], words[-1]]
    if _EVIDENCE[rank] == "value" and (
        words[0] in _ALL_ADJECTIVES or (words[0] == "is" and old[0] not in _BOOLEAN_VERBS)
    ):
        return [words[0], *[word for word in old if word != words[0]][1 - MAX_WORDS :]]
    return []


@dataclass(frozen=True, slots=True)
class _Describer:
    """Finds words that describe the nodes of a text."""

    data: bytes
    rules: dict[str, Any]
    """The `[ast_based]` table of the language."""

    def evidence(self, match: dict[str, list[Node]]) -> tuple[int, list[str]]:
        """The rank of a match's evidence (an index into `_EVIDENCE`), and the words that it suggests for the name."""
        if "type" in match:
            kind, words = "type", _describe_type(self._text(match["type"][0]))
        elif "over" in match:
            kind, words = "over", self._describe_value(match["over"][0], 1)
            words = words if words == ["index"] else _singular(words)
        else:
            kind, words = "value", self._describe_value(match["value"][0], 0)
        return _EVIDENCE.index("weak" if _WEAK.issuperset(words) else kind), words

    def _text(self, node: Node) -> str:
        stop = min(node.end_byte, node.start_byte + MAX_SOURCE_BYTES)
        return self.data[node.start_byte : stop].decode("utf-8", "replace")

    def _describe_value(self, node: Node, depth: int) -> list[str]:
        """Words for a value. A value that is only another name (at depth 0) has none."""
        kind, rules = node.type, self.rules
        if depth == MAX_VALUE_DEPTH:
            return []
        if kind == "identifier":
            return _split_name(self._text(node)) if depth else []
        if kind in rules["through"]:
            inner = _inner_node(node)
            return self._describe_value(inner, depth + 1) if inner else []
        if noun := rules["nouns"].get(kind):
            return [noun]
        if kind in rules["compares"]:
            return self._describe_operation(node)
        owner, name = self._member(node)
        if kind not in rules["calls"]:
            return _split_name(self._text(name)) if name else []
        callee = node.child_by_field_name(rules["calls"][kind])
        if callee is not None and callee.type in rules["through"]:
            callee = _inner_node(callee)
        if callee is not None and kind not in rules["members"]:
            owner, name = self._member(callee)
            name = name or callee
        return self._describe_call(owner, self._text(name), depth) if name else []

    def _member(self, node: Node) -> tuple[Node | None, Node | None]:
        """The owner and the name of a field, a method, or an item of a module."""
        fields = self.rules["members"].get(node.type)
        if fields is None:
            return None, None
        return node.child_by_field_name(fields[0]), node.child_by_field_name(fields[1])

    def _describe_call(self, owner: Node | None, name: str, depth: int) -> list[str]:
        """Words for what a function returns, by its name and its owner: `Config::load` → loaded, config."""
        if name in _PASS_THROUGH and owner is not None:
            return self._describe_value(owner, depth + 1)
        if name[:1].isupper():
            return _describe_type(name)
        parts = _expand(_split_name(name))
        if (len(name) < 3 and not owner) or not parts:
            return []
        owner_name = _PATH_SEPARATOR.split(self._text(owner))[-1] if owner else ""
        is_type = owner_name[:1].isupper()
        owner_words = _describe_type(owner_name) if is_type else self._describe_value(owner, depth + 1) if owner else []
        if is_type and parts[0] in _NEUTRAL_VERBS:
            return owner_words
        if name in _COUNTERS:
            return [*(_singular(owner_words) or owner_words)[-2:], "count"]
        if parts[0] in _BOOLEAN_VERBS:
            return ["is", *owner_words[-1:], *parts[1:]]
        if parts[0] in _ADJECTIVES:
            return [_ADJECTIVES[parts[0]], *(parts[1:] or owner_words)]
        return parts[1:] if parts[0] in _NEUTRAL_VERBS else parts

    def _describe_operation(self, node: Node) -> list[str]:
        """Words for the result of an operator: `size < limit` → is, size, below."""
        operator = node.child_by_field_name("operator") or node.child_by_field_name("operators")
        sign = self._text(operator) if operator else ""
        if sign not in _COMPARISONS:
            return [_ARITHMETIC[sign]] if sign in _ARITHMETIC else []
        left = node.child_by_field_name("left") or node.named_children[0]
        name = self._member(left)[1] or (left if left.type == "identifier" else None)
        words = _expand(_split_name(self._text(name)))[-1:] if name else []
        return ["is", *(word for word in words if len(word) > 2), _COMPARISONS[sign]]


def _inner_node(node: Node) -> Node | None:
    """The node inside one that adds no meaning."""
    for field in ("value", "argument", "operand", "expression", "function"):
        if inner := node.child_by_field_name(field):
            return inner
    return node.named_children[0] if node.named_child_count else None


def _describe_type(text: str) -> list[str]:
    """Words for a value of this type: `Vec<&NetworkConfig>` → network, configs."""
    text = " ".join(_TYPE_NOISE.sub(" ", text).strip("\"': ").split())
    if len(text) >= MAX_SOURCE_BYTES or not text:
        return []
    if text.startswith(("func", "fn", "Fn")):
        return ["callback"]
    if "|" in text:
        types = [part.strip() for part in text.split("|") if part.strip() not in {"None", "null", "undefined"}]
        return _describe_type(types[0]) if len(types) == 1 else []
    if text.endswith("[]"):
        return _plural(_describe_type(text[:-2]))
    if text[0] == "[":  # Go: [4]T, Rust: [T; 4]
        inside, _, after = text[1:].partition("]")
        return _plural(_describe_type(after or inside.partition(";")[0]))
    if text.startswith("map["):
        return [*_describe_type(text.partition("]")[2]), "map"]
    if generic := _GENERIC_TYPE.fullmatch(text):
        name, parameters = generic.groups()
        first = _first_parameter(parameters)
        if name in _WRAPPERS:
            return _describe_type(first)
        if name in _COLLECTIONS:
            return _plural(_describe_type(first))
        return [*_describe_type(parameters[len(first) + 1 :]), "map"] if name in _MAPS else _describe_type_name(name)
    return ["callback"] if "=>" in text else _describe_type_name(_PATH_SEPARATOR.split(text)[-1])


def _describe_type_name(name: str) -> list[str]:
    """Words for a value whose type has this name."""
    if name in _SCALARS:
        return [_SCALARS[name]]
    is_telling = len(name) > 2 and name.isidentifier() and name not in _GENERIC_TYPES | _EMPTY_TYPES
    return _split_name(name) if is_telling else []


def _first_parameter(parameters: str) -> str:
    """The first of the parameters of a type: `Map<K, V>, T` → `Map<K, V>`."""
    depth = 0
    for index, character in enumerate(parameters):
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            return parameters[:index]
    return parameters


def _split_name(name: str) -> list[str]:
    """`networkConfig`, `NETWORK_CONFIG`, `network_config` → network, config."""
    return [word.lower() for word in _WORD.findall(name)]


def _expand(words: list[str]) -> list[str]:
    """Words with abbreviations written out, and none twice in a row."""
    expanded = [_ABBREVIATIONS.get(word, word) for word in words]
    return [word for index, word in enumerate(expanded) if not index or word != expanded[index - 1]]


def _plural(words: list[str]) -> list[str]:
    """The words with the last one in the plural."""
    if not words or _singular(words):
        return words
    last = words[-1]
    if last.endswith("y") and last[-2:-1] not in "aeiou":
        return [*words[:-1], last[:-1] + "ies"]
    return [*words[:-1], last + ("es" if last.endswith(("s", "x", "ch", "sh")) else "s")]


def _singular(words: list[str]) -> list[str]:
    """The words with the last one in the singular; nothing if it is no plural."""
    if not words:
        return []
    last = words[-1]
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("s", "")):
        if last.endswith(ending) and not last.endswith(("ss", "us", "is")) and len(last) > len(ending) + 2:
            return [*words[:-1], last.removesuffix(ending) + singular]
    return []

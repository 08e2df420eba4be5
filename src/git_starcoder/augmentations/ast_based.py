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
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tree_sitter import QueryCursor

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.language import load
from git_starcoder.parse.rewrite import renamed, renamed_wrongly
from git_starcoder.parse.scope import NAME, holder, reserved, scopes
from git_starcoder.rows import Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.tree import Code

NEEDS = "tree"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _pairs(words: str) -> dict[str, str]:
    return {one: other for one, _, other in (pair.partition(":") for pair in words.split())}


WHOLE = _pairs("""
    addr:address alloc:allocation amt:amount arg:argument args:arguments arr:array attr:attribute attrs:attributes
    avg:average blk:block buf:buffer btn:button cb:callback cert:certificate cfg:config cmd:command cnt:count
    col:column cols:columns cond:condition conf:config conn:connection coord:coordinate ctx:context cur:current
    curr:current db:database decl:declaration decls:declarations def:definition desc:description dest:destination
    dev:device dict:dictionary diff:difference dir:directory dirs:directories dist:distance doc:document
    docs:documents dst:destination el:element elem:element elems:elements env:environment err:error errs:errors
    ev:event evt:event expr:expression ext:extension fmt:format fn:function freq:frequency func:function
    hdr:header hist:history idx:index img:image init:initial iter:iterator lang:language len:length lib:library
    lst:list mem:memory mgr:manager msg:message msgs:messages num:number nums:numbers obj:object op:operation
    ops:operations opt:option opts:options orig:original param:parameter params:parameters pkg:package
    pkt:packet pos:position prev:previous proc:process prop:property props:properties ptr:pointer pwd:password
    qty:quantity recv:received ref:reference refs:references repo:repository req:request reqs:requests
    res:result resp:response ret:result sep:separator seq:sequence sig:signature sock:socket src:source
    srv:server stmt:statement str:text sym:symbol sz:size tbl:table tmp:temporary tok:token toks:tokens
    ts:timestamp tx:transaction txn:transaction txs:transactions txt:text usr:user val:value vals:values
    vec:vector ver:version
    """)
"""Abbreviations that everybody writes."""
GENERIC = _set(
    "value values result data temporary temp object item element thing out output text number flag this that"
)
"""Words that say nothing."""
DONE = _pairs("""
    add:added apply:applied build:built calculate:calculated check:checked collect:collected compile:compiled
    compute:computed connect:connected convert:converted create:created decode:decoded decrypt:decrypted
    deserialize:decoded encode:encoded encrypt:encrypted evaluate:evaluated execute:executed extract:extracted
    fetch:fetched filter:filtered find:found format:formatted generate:generated hash:hashed insert:inserted
    join:joined load:loaded lookup:found make:made merge:merged normalize:normalized open:opened pack:packed
    parse:parsed pop:popped prepare:prepared query:queried read:read receive:received render:rendered
    replace:replaced resolve:resolved run:finished search:found select:selected serialize:encoded sign:signed
    sort:sorted split:split spawn:spawned strip:stripped take:taken transform:transformed trim:trimmed
    unpack:unpacked update:updated validate:validated verify:verified wrap:wrapped write:written
    """)
"""What a thing is once that was done to it."""
_ASKS = _set("get as into to with from new init default create make build of at")
"""First words of a function's name that add nothing to what follows."""
_PASSES = _set("""
    unwrap expect unwrap_or unwrap_or_else unwrap_or_default ok ok_or ok_or_else map_err context with_context as_ref
    as_mut as_deref as_str as_slice as_bytes borrow borrow_mut clone cloned copied to_owned to_vec to_string into
    into_iter iter iter_mut lock enumerate rev stream values items keys entries collect toArray toString
    """)
"""Methods that leave a thing what it is, about."""
_COUNTS = _set("len size count length")
_IS = _set("is has can should was are does will")
_INDEX = _set("i j k")
_SCALARS = {
    "flag": "bool boolean Boolean _Bool",
    "number": """
        u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 int int8 int16 int32 int64 uint uint8 uint16 uint32
        uint64 uintptr float float32 float64 number bigint long short double Integer Long Double Float Short byte
        size_t ssize_t uint8_t uint16_t uint32_t uint64_t int8_t int16_t int32_t int64_t unsigned""",
    "text": "str String string CharSequence",
    "letter": "char rune Character",
}
SCALARS = {name: noun for noun, names in _SCALARS.items() for name in names.split()}
"""Types that say little."""
_WRAPPERS = _set("""
    Option Box Arc Rc Ref RefMut RefCell Mutex RwLock Cow Cell Result Promise Optional unique_ptr shared_ptr weak_ptr
    Pin Weak MutexGuard Readonly Partial Awaitable Type type AtomicReference PhantomData Some
    """)
_COLLECTIONS = _set("""
    Vec VecDeque HashSet BTreeSet Set List ArrayList Array ReadonlyArray Iterable Iterator Sequence Collection vector
    list set deque tuple frozenset LinkedList Queue Deque Stream array span initializer_list SmallVec
    """)
_MAPS = _set("HashMap BTreeMap Map dict Dict Mapping Record unordered_map map DashMap IndexMap LinkedHashMap TreeMap")
QUALIFIERS = sorted(_set("actual current first given inner known last latest local new next other own second single"))
"""What is put before a name that is taken."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_QUIET = re.compile(r"'\w+|\b(?:mut|const|dyn|impl|struct|enum|union|volatile|final|readonly|typename|class)\b")
_PARAMETERS = re.compile(r"(?:[\w.:]*[.:])?(\w+)(?:::)?\s*[<\[](.*)[>\]]")
_PATH = re.compile(r"::|\.|->")
_VARIANTS = _set("Some Ok Err")
_NOUNS = frozenset(SCALARS.values())
OPERATORS = {
    "==": "is equal", "===": "is equal", "is": "is same", "!=": "is different", "!==": "is different",
    "is not": "is different", "<": "is below", "<=": "is below", ">": "is above", ">=": "is above", "in": "is inside",
    "not in": "is missing", "+": "sum", "-": "difference", "*": "product", "/": "quotient", "//": "quotient",
    "%": "remainder",
}  # fmt: skip
"""What comes out of an operation on two things."""
_LONG = 200
"""Characters of a type or a name that are looked at."""
LONGEST = 4
"""Words in a name."""
DEEPEST = 6
"""Nodes that are looked through."""


@dataclass(frozen=True, slots=True)
class _Rules:
    through: frozenset[str]
    calls: dict[str, str]
    members: dict[str, list[str]]
    compares: frozenset[str]
    nouns: dict[str, str]


def vary(code: Code, random: Random) -> Variant | str:
    """The file with new names for what the tree says something about."""
    if code.language is None or code.root is None:
        raise ValueError("names need a tree")
    functions = scopes(code).functions
    if not functions:
        return NOTHING
    told = _told(code)
    names = _Names(code, random)
    new = [names.give(words) for words in told]
    return Variant(renamed(code, new)) if any(new) else NOTHING


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Alpha-equivalence: nothing but safe names differs, and each has one new name, its own, everywhere."""
    return "another text was parsed" if variant.text != after.data else renamed_wrongly(before, after)


def _told(code: Code) -> list[dict[bytes, list[str]]]:
    """For each function, the words for those of its safe names that the tree calls something else."""
    functions = scopes(code).functions
    best: list[dict[bytes, tuple[int, list[str]]]] = [{} for _ in functions]
    if code.language is None or code.root is None:
        return []
    rules = _rules(code.language.key)
    spans = [Span(one.start, one.stop) for one in functions]
    starts = [one.start for one in functions]
    for _, match in QueryCursor(code.language.query("ast_based.names")).matches(code.root):
        start, stop = match["name"][0].start_byte, match["name"][0].end_byte
        index = holder(starts, spans, start)
        old = code.data[start:stop]
        places = functions[index].safe.get(old, []) if index >= 0 else []
        at = bisect_left(places, start)
        if at == len(places) or places[at] != start:
            continue
        for rank, words in _evidence(match, rules):
            new = _combined(_split(old.decode()), words, rank)
            if new and rank < best[index].get(old, (len(_RANKS), []))[0]:
                best[index][old] = rank, new
    told: list[dict[bytes, list[str]]] = []
    for function, found in zip(functions, best, strict=True):
        words = {old: found[old][1] if old in found else _plain(old) for old in function.safe}
        told.append({old: new for old, new in words.items() if new})
    return told


def _plain(old: bytes) -> list[str]:
    """The words of a name without abbreviations; nothing where it has none."""
    parts = _split(old.decode())
    whole = _whole(parts)
    return whole if whole != parts else []


_RANKS = ("type", "over", "value", "weak")


def _evidence(match: dict[str, list[Node]], rules: _Rules) -> Iterator[tuple[int, list[str]]]:
    """What a match says about its name, and how much that counts: an index of `_RANKS`."""
    for kind, nodes in match.items():
        if kind == "type":
            words, weak = _of_type(_text(nodes[0])), False
        elif kind == "over":
            words, weak = _of_value(nodes[0], rules)
            words = words if weak else _one(words)
            weak = weak and words != ["index"]
        elif kind == "value":
            words, weak = _of_value(nodes[0], rules)
        else:
            continue
        weak = weak or (len(words) == 1 and words[0] in _NOUNS)
        if words:
            yield _RANKS.index("weak" if weak else kind), words


def _combined(parts: list[str], words: list[str], rank: int) -> list[str]:
    """The words of a new name, from the old one and what the tree says; nothing where the old one is as good."""
    old = _whole(parts)
    words = _whole(words)[-LONGEST:]
    poor = len("".join(parts)) <= 2 or GENERIC.issuperset(old)
    if (GENERIC.issuperset(words) and not poor) or set(words) <= set(old):
        return []
    if words == ["number"] and parts[0] in _INDEX and len(parts) == 1:
        return ["index"]
    if poor or set(old) <= set(words) or (len(parts) == 1 and any(word.startswith(parts[0]) for word in words)):
        return words
    if _RANKS[rank] == "type" and words[-1] not in {*old, *GENERIC}:
        return [*old[1 - LONGEST :], words[-1]]
    if _RANKS[rank] == "value" and ((words[0] == "is" and old[0] not in _IS) or words[0] in DONE.values()):
        return [words[0], *[word for word in old if word != words[0]][1 - LONGEST :]]
    return []


def _of_type(text: str) -> list[str]:
    """What a thing of this type is called."""
    text = " ".join(_QUIET.sub(" ", text).replace("&", " ").replace("*", " ").strip("\"': ").split())
    if len(text) > _LONG or not text or text[0] == "(":
        return []
    if text.startswith(("func", "fn", "Fn")) or "=>" in text:
        return ["callback"]
    if "|" in text:
        one = [part for part in re.split(r"\s*\|\s*", text) if part not in ("None", "null", "undefined")]
        return _of_type(one[0]) if len(one) == 1 else []
    if text.endswith("[]"):
        return _many(_of_type(text[:-2]))
    if text[0] == "[":
        inner, _, behind = text[1:].partition("]")
        return _many(_of_type(behind or inner.partition(";")[0]))
    if text.startswith("map["):
        return [*_of_type(text.partition("]")[2]), "map"]
    if generic := _PARAMETERS.fullmatch(text):
        head, inner = generic[1], _first(generic[2])
        if head in _WRAPPERS:
            return _of_type(inner)
        if head in _COLLECTIONS:
            return _many(_of_type(inner))
        if head in _MAPS:
            return [*_of_type(generic[2][len(inner) + 1 :]), "map"]
        text = head
    head = _PATH.split(text)[-1]
    if head in SCALARS:
        return [SCALARS[head]]
    return _split(head) if len(head) > 2 and head not in _COLLECTIONS | _MAPS | _WRAPPERS else []


def _first(parameters: str) -> str:
    """The first of the parameters of a type."""
    depth = 0
    for place, character in enumerate(parameters):
        depth += (character in "<[(") - (character in ">])")
        if character == "," and not depth:
            return parameters[:place]
    return parameters


def _of_value(node: Node, rules: _Rules, depth: int = 0) -> tuple[list[str], bool]:
    """What a value is called, and whether that says little."""
    kind = node.type
    if depth == DEEPEST:
        return [], True
    if kind in rules.through:
        inner = _inner(node)
        return _of_value(inner, rules, depth + 1) if inner else ([], True)
    if noun := rules.nouns.get(kind):
        return [noun], True
    if kind in rules.compares:
        return _compared(node, rules)
    owner, name = _member(node, rules)
    if kind in rules.calls:
        callee = node.child_by_field_name(rules.calls[kind])
        if callee is not None and callee.type in rules.through:
            callee = _inner(callee)
        if callee is not None and kind not in rules.members:
            owner, name = _member(callee, rules)
            name = name or callee
        return (_given(owner, _text(name), rules, depth), False) if name else ([], True)
    return (_split(_text(name)) if name else [], False)


def _inner(node: Node) -> Node | None:
    """What a node is about that adds nothing itself."""
    for field in ("value", "argument", "operand", "expression", "function"):
        if inner := node.child_by_field_name(field):
            return inner
    return node.named_children[0] if node.named_child_count else None


def _member(node: Node, rules: _Rules) -> tuple[Node | None, Node | None]:
    """The owner and the name of a field, a method, or something in a module."""
    fields = rules.members.get(node.type)
    if fields is None:
        return None, None
    return node.child_by_field_name(fields[0]), node.child_by_field_name(fields[1])


def _given(owner: Node | None, name: str, rules: _Rules, depth: int) -> list[str]:
    """What a function gives, by its name and by what stands before that."""
    if name in _PASSES and owner is not None:
        return _of_value(owner, rules, depth + 1)[0]
    if name[:1].isupper():
        return _of_type(name) if name not in _VARIANTS else []
    parts = _whole(_split(name))
    if (len(name) < 3 and not owner) or not parts:
        return []
    there = _PATH.split(_text(owner))[-1] if owner is not None else ""
    thing = _of_type(there) if there[:1].isupper() else _of_value(owner, rules, depth + 1)[0] if owner else []
    if there[:1].isupper() and parts[0] in _ASKS:
        return thing
    if name in _COUNTS:
        return [*(_one(thing) or thing)[-2:], "count"]
    if parts[0] in _IS:
        return ["is", *thing[-1:], *parts[1:]]
    if parts[0] in DONE:
        return [DONE[parts[0]], *(parts[1:] or thing)]
    return parts[1:] if parts[0] in _ASKS else parts


def _compared(node: Node, rules: _Rules) -> tuple[list[str], bool]:
    """What an operation on two things is called."""
    operator = node.child_by_field_name("operator") or node.child_by_field_name("operators")
    word = OPERATORS.get(_text(operator), "") if operator else ""
    if not word.startswith("is "):
        return ([word] if word else []), True
    left = node.child_by_field_name("left") or node.named_children[0]
    name = _member(left, rules)[1] or (left if left.type == "identifier" else None)
    words = _whole(_split(_text(name)))[-1:] if name else []
    return ["is", *([] if words and len(words[0]) < 3 else words), word[3:]], False


def _split(name: str) -> list[str]:
    """`networkConfig`, `NETWORK_CONFIG`, `network_config` → network, config."""
    return [word.lower() for word in _WORD.findall(name)]


def _whole(words: list[str]) -> list[str]:
    """Words without abbreviations, and none twice in a row."""
    whole = [WHOLE.get(word, word) for word in words]
    return [word for place, word in enumerate(whole) if not place or word != whole[place - 1]]


def _many(words: list[str]) -> list[str]:
    """The plural of a thing."""
    if not words:
        return []
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


def _text(node: Node | None) -> str:
    return "" if node is None or node.text is None else node.text[:_LONG].decode("utf-8", "replace")


class _Names:
    """Names that a file does not have."""

    def __init__(self, code: Code, random: Random) -> None:
        if code.language is None:
            raise ValueError("renaming needs a tree")
        self._random = random
        self._taken = scopes(code).words | reserved(code.language.key)
        self._snake = code.language.table["rename"]["style"] == "snake"

    def give(self, told: dict[bytes, list[str]]) -> dict[bytes, bytes]:
        """A name of these words for each, different ones, with another word before it where it is taken."""
        given: dict[bytes, bytes] = {}
        taken: set[bytes] = set()
        for old, words in told.items():
            qualifiers = self._random.sample(QUALIFIERS, len(QUALIFIERS))
            for name in (self._name(words), *(self._name([word, *words]) for word in qualifiers)):
                if name not in self._taken and name not in taken and NAME.fullmatch(name):
                    given[old] = name
                    taken.add(name)
                    break
        return given

    def _name(self, words: list[str]) -> bytes:
        rest = words[1:] if self._snake else [word.title() for word in words[1:]]
        return ("_" if self._snake else "").join([words[0], *rest]).encode()


@cache
def _rules(key: str) -> _Rules:
    table = load(key).table["ast_based"]
    return _Rules(
        frozenset(table["through"]), table["calls"], table["members"], frozenset(table["compares"]), table["nouns"]
    )

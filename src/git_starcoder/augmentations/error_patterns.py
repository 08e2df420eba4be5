"""Writes the handling of errors in another form that means the same (`?` as a `match`).

The forms are in the `[error_patterns]` table of a language (`parse.forms`), each with the conditions under which it
means what the others mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.forms import alternative_forms, equal_parts, find_sites, find_sites_at, rewrite_site

if TYPE_CHECKING:
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.forms import Site
    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("error_patterns", "layout")

TABLE = "error_patterns"
SHARE = 0.5
"""How many of the places are written in another form, about."""
FEW = 50
"""Sites of a file that are looked up one by one in its variation: that costs less than to look at all of it, once, and
for n sites of one block it costs n² where it looks at all of them each time."""


def vary(code: Code, random: Random) -> Variant | str:
    """The file with some of its error handling in other forms: at least one place, where there is any."""
    found = [site for site in find_sites(code, TABLE) if alternative_forms(code, site, TABLE)]
    some = [site for site in found if random.random() < SHARE]
    for chosen in (some, found):
        pieces: list[bytes] = []
        edge = 0
        for site in chosen:
            if site.span.start < edge:
                continue
            text = rewrite_site(code, site, random.choice(alternative_forms(code, site, TABLE)), random)
            if text is not None:
                pieces += (code.data[edge : site.span.start], text)
                edge = site.span.stop
        if pieces:
            return Variant(b"".join((*pieces, code.data[edge:])))
    return NOTHING


class _Row:
    """A walk over the children of a node."""

    def __init__(self, code: Code, node: Node) -> None:
        self._data = code.data
        self._nodes = node.children
        self._index = 0
        self._stops = {child.end_byte for child in self._nodes}
        self.edge = node.start_byte
        """Where what is still to come begins."""

    def node(self) -> Node | None:
        """The next child."""
        return self._nodes[self._index] if self._index < len(self._nodes) else None

    def text(self, node: Node) -> bytes:
        """What is between the edge and the end of a node."""
        return self._data[self.edge : node.end_byte]

    def gap(self, node: Node) -> bytes:
        """What is between the edge and a node."""
        return self._data[self.edge : node.start_byte]

    def whole(self, site: Site) -> bool:
        """Whether a site that begins with the next child ends with it or one after it."""
        return site.span.stop in self._stops

    def skip(self, stop: int) -> None:
        """Go on behind the next child, and all others before a place."""
        self._index += 1
        while self._index < len(self._nodes) and self._nodes[self._index].start_byte < stop:
            self._index += 1
        self.edge = stop


def verify(before: Code, variant: Variant, after: Code) -> str:
    """The same tree and the same bytes, but for places that both trees have in forms with one meaning.

    Both trees are walked side by side, down to where the texts differ. There each must have a site that begins and
    ends with whole nodes, the form of one must be among those that the other's may become, and their parts must be the
    same.
    """
    if variant.text != after.data or before.root is None or after.root is None:
        return "another text was parsed"
    start, stop = before.root.start_byte, after.root.start_byte
    if (
        before.data[:start] != after.data[:stop]
        or before.data[before.root.end_byte :] != after.data[after.root.end_byte :]
    ):
        return "more than error handling differs, outside of the code"
    stack = [(before.root, after.root)]
    olds = _by_start(before)
    news = _by_start(after) if len(olds) > FEW else None
    while stack:
        one, two = stack.pop()
        left, right = _Row(before, one), _Row(after, two)
        while (old := left.node()) and (new := right.node()):
            if left.gap(old) != right.gap(new):
                return _differs(old)
            if old.type == new.type and left.text(old) == right.text(new):
                left.skip(old.end_byte)
                right.skip(new.end_byte)
                continue
            known = [site for site in olds.get(old.start_byte, ()) if left.whole(site)]
            there: list[Site] = []
            if known:
                begun = find_sites_at(after, TABLE, new.start_byte) if news is None else news.get(new.start_byte, ())
                there = [site for site in begun if right.whole(site)]
            pairs = ((a, b) for a in known for b in there if _one_meaning(before, a, after, b))
            if pair := next(pairs, None):
                left.skip(pair[0].span.stop)
                right.skip(pair[1].span.stop)
            elif old.type == new.type and old.children:
                stack.append((old, new))
                left.skip(old.end_byte)
                right.skip(new.end_byte)
            else:
                return _differs(old)
        if left.node() or right.node() or left.text(one) != right.text(two):
            return _differs(one)
    return ""


def _differs(node: Node) -> str:
    return f"more than error handling differs, line {node.start_point[0] + 1}"


def _by_start(code: Code) -> dict[int, list[Site]]:
    starts: dict[int, list[Site]] = {}
    for site in find_sites(code, TABLE):
        starts.setdefault(site.span.start, []).append(site)
    return starts


def _one_meaning(before: Code, old: Site, after: Code, new: Site) -> bool:
    """Whether a site may have become another one: only names that a form gives itself are in one and not the other."""
    if new.form not in alternative_forms(before, old, TABLE):
        return False
    for name in old.parts.keys() | new.parts.keys():
        if name in old.parts and name in new.parts:
            if not equal_parts(before, old.parts[name], after, new.parts[name]):
                return False
        elif name in new.parts:
            if after.data[slice(*new.parts[name].span)] not in new.form.new_names.get(name, ()):
                return False
        elif name not in old.form.new_names:
            return False
    return True

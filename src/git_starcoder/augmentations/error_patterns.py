"""Writes error handling in another form with the same meaning, such as `?` as a `match`.

The forms, and the conditions under which they mean the same, are in the `[error_patterns]` table of a language file;
`parse.forms` describes and applies such tables.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.parse.forms import alternative_forms, equal_parts, find_sites, find_sites_at, rewrite_site
from git_starcoder.parse.renaming import apply_edits

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from tree_sitter import Node

    from git_starcoder.parse.forms import Site
    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("error_patterns", "layout")

FORMS_TABLE = "error_patterns"
REWRITTEN_SHARE = 0.5
"""Share of the places that are written in another form, approximately."""
MAX_SINGLE_LOOKUPS = 50
"""Sites of a file up to which those of its variation are looked up one at a time. Few lookups cost less than finding
all sites once; but each lookup may walk a whole block, so n of them in one block cost n²."""


def vary(code: Code, random: Random) -> Variant | str:
    """The file with some of its error handling in other forms: at least one place, if there is any."""
    found = [site for site in find_sites(code, FORMS_TABLE) if alternative_forms(code, site, FORMS_TABLE)]
    drawn = [site for site in found if random.random() < REWRITTEN_SHARE]
    for chosen in (drawn, found):
        edits: list[tuple[int, int, bytes]] = []
        for site in chosen:
            if edits and site.span.start < edits[-1][1]:
                continue
            text = rewrite_site(code, site, random.choice(alternative_forms(code, site, FORMS_TABLE)), random)
            if text is not None:
                edits.append((site.span.start, site.span.stop, text))
        if edits:
            return Variant(apply_edits(code.data, edits))
    return NOTHING_TO_CHANGE


class _ChildWalk:
    """A walk over the children of a node and the text between them."""

    def __init__(self, code: Code, node: Node) -> None:
        self._data = code.data
        self._remaining = deque(node.children)
        self._child_ends = {child.end_byte for child in node.children}
        self.edge = node.start_byte
        """The end of what has been walked over."""

    def next_child(self) -> Node | None:
        """The next child, or None at the end."""
        return self._remaining[0] if self._remaining else None

    def text_until(self, end: int) -> bytes:
        return self._data[self.edge : end]

    def ends_with_child(self, site: Site) -> bool:
        return site.span.stop in self._child_ends

    def advance(self, stop: int) -> None:
        """Walk over the next child, and over all others that begin before `stop`."""
        self._remaining.popleft()
        while self._remaining and self._remaining[0].start_byte < stop:
            self._remaining.popleft()
        self.edge = stop


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Check that trees and texts are the same, except at places that both trees have in forms with one meaning.

    Both trees are walked side by side, down to where the texts differ. There each must have a site that begins and ends
    with whole nodes; the form of one must be among those that the other may become; and their parts must be the same.
    """
    if variant.text != after.data or before.root is None or after.root is None:
        return "another text was parsed"
    old_root, new_root = before.root, after.root
    old_outside = before.data[: old_root.start_byte], before.data[old_root.end_byte :]
    if old_outside != (after.data[: new_root.start_byte], after.data[new_root.end_byte :]):
        return "more than error handling differs, outside of the code"
    stack = [(old_root, new_root)]
    old_sites = _sites_by_start(before)
    new_sites = _sites_by_start(after) if len(old_sites) > MAX_SINGLE_LOOKUPS else None

    def new_sites_at(start: int) -> Iterable[Site]:
        return find_sites_at(after, FORMS_TABLE, start) if new_sites is None else new_sites.get(start, ())

    while stack:
        old_parent, new_parent = stack.pop()
        old_walk, new_walk = _ChildWalk(before, old_parent), _ChildWalk(after, new_parent)
        while (old := old_walk.next_child()) and (new := new_walk.next_child()):
            if old_walk.text_until(old.start_byte) != new_walk.text_until(new.start_byte):
                return _describe_difference(old)
            old_stop, new_stop = old.end_byte, new.end_byte
            if old.type != new.type or old_walk.text_until(old_stop) != new_walk.text_until(new_stop):
                old_here = [site for site in old_sites.get(old.start_byte, ()) if old_walk.ends_with_child(site)]
                starting = new_sites_at(new.start_byte) if old_here else ()
                new_here = [site for site in starting if new_walk.ends_with_child(site)]
                pairs = ((a, b) for a in old_here for b in new_here if _have_same_meaning(before, a, after, b))
                if pair := next(pairs, None):
                    old_stop, new_stop = pair[0].span.stop, pair[1].span.stop
                elif old.type == new.type and old.children:
                    stack.append((old, new))
                else:
                    return _describe_difference(old)
            old_walk.advance(old_stop)
            new_walk.advance(new_stop)
        rest = old_walk.text_until(old_parent.end_byte), new_walk.text_until(new_parent.end_byte)
        if old_walk.next_child() or new_walk.next_child() or rest[0] != rest[1]:
            return _describe_difference(old_parent)
    return ""


def _describe_difference(node: Node) -> str:
    return f"more than error handling differs, line {node.start_point[0] + 1}"


def _sites_by_start(code: Code) -> dict[int, list[Site]]:
    starts: dict[int, list[Site]] = {}
    for site in find_sites(code, FORMS_TABLE):
        starts.setdefault(site.span.start, []).append(site)
    return starts


def _have_same_meaning(before: Code, old: Site, after: Code, new: Site) -> bool:
    """Whether `old` may have become `new`: they differ only in names that one of the forms introduces itself."""
    if new.form not in alternative_forms(before, old, FORMS_TABLE):
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

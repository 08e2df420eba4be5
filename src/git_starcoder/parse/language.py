"""The languages shelf: which language a path is in, and its grammar and queries, loaded once per process.

A language is one TOML file. Its `[file]` table says which extensions it has, where its grammar is and which nodes are
comments; every other table belongs to the module that reads it, and may be missing. A language file may also claim an
extension of another one (`claims`): `.h` is C, unless the text has a line that only C++ can have.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, cast

from tree_sitter import Language as Grammar
from tree_sitter import Parser, Query

from git_starcoder import registry

TEXT = "text"
"""The language of every file that no grammar is for."""


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """One language of the shelf. Only for worker processes: a grammar can crash the one it runs in."""

    key: str
    table: dict[str, Any]
    """Its TOML file."""
    grammar: Grammar
    parser: Parser
    comments: frozenset[str]
    """Node kinds that are comments."""
    _queries: dict[tuple[str, ...], Query] = field(default_factory=dict[tuple[str, ...], Query])

    def query(self, *names: str) -> Query:
        """The queries of these names as one query (one walk over the tree costs less than two); compiled once.

        A name is `table.key` of the TOML file, or a table, whose key is `query`.

        Raises:
            KeyError: the file has no such query.
            tree_sitter.QueryError: the query does not fit the grammar.
        """
        if names not in self._queries:
            texts: list[str] = []
            for name in names:
                table, _, key = name.partition(".")
                texts.append(self.table[table][key or "query"])
            self._queries[names] = Query(self.grammar, "\n".join(texts))
        return self._queries[names]


def language_of(path: str, text: bytes = b"") -> str:
    """The language of a file: a key of the shelf, or `text`. With the text at hand, claims are looked at too."""
    extension = PurePosixPath(path).suffix.lower()
    owners, claims = _extensions()
    for key, pattern in claims.get(extension, ()) if text else ():
        if pattern.search(text):
            return key
    return owners.get(extension, TEXT)


@cache
def table(key: str) -> dict[str, Any]:
    """The TOML file of a language; no grammar is loaded, so this is safe in any process."""
    return tomllib.loads(registry.read("languages", key))


@cache
def load(key: str) -> Language:
    """A language with its grammar.

    Raises:
        FileNotFoundError: no such language on the shelf.
    """
    file = table(key)["file"]
    capsule: Any = getattr(import_module(file["grammar"]), file["function"])()
    grammar = Grammar(cast("object", capsule))
    return Language(key, table(key), grammar, Parser(grammar), frozenset(file["comments"]))


@cache
def _extensions() -> tuple[dict[str, str], dict[str, list[tuple[str, re.Pattern[bytes]]]]]:
    """Whose extension it is, and who claims it on which condition."""
    owners: dict[str, str] = {}
    claims: dict[str, list[tuple[str, re.Pattern[bytes]]]] = {}
    for key in registry.names("languages"):
        file = table(key)["file"]
        owners.update(dict.fromkeys(file["extensions"], key))
        for extension, pattern in file.get("claims", {}).items():
            claims.setdefault(extension, []).append((key, re.compile(pattern.encode(), re.MULTILINE)))
    return owners, claims

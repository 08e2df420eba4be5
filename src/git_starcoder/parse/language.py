"""Finds the language of a path, and loads its grammar and queries once per process.

A language is one TOML file of the registry `languages/`. Its `[file]` table lists the extensions, the grammar and the
node types of comments. Every other table belongs to the module that reads it and may be missing. A language may also
claim an extension of another one (`claims`): `.h` is C unless the text has a line that only C++ can have.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any, cast

from tree_sitter import Language as Grammar
from tree_sitter import Parser, Query

from git_starcoder import registry

PLAIN_TEXT = "text"
"""The language of every file without a grammar."""


@dataclass(frozen=True, slots=True, eq=False)
class Language:
    """A registered language. Use it only in worker processes: a grammar can crash the process that runs it."""

    key: str
    table: dict[str, Any]
    """Its TOML file."""
    grammar: Grammar
    parser: Parser
    comments: frozenset[str]
    """Types of the nodes that are comments."""
    _queries: dict[tuple[str, ...], Query] = field(default_factory=dict[tuple[str, ...], Query])

    def compile_query(self, *names: str) -> Query:
        """Compile queries into one, because one walk over the tree costs less than two. The result is cached.

        A name is `table.key` of the TOML file, or `table` for its key `query`.

        Raises:
            KeyError: The file has no such query.
            tree_sitter.QueryError: The query does not fit the grammar.
        """
        if names not in self._queries:
            parts = (name.partition(".") for name in names)
            text = "\n".join(self.table[table][key or "query"] for table, _, key in parts)
            self._queries[names] = Query(self.grammar, text)
        return self._queries[names]


def detect_language(path: str, text: bytes = b"") -> str:
    """The language of a file: a registered key or `PLAIN_TEXT`. Claims count only if a text is given."""
    extension = PurePosixPath(path).suffix.lower()
    owners, claims = _extensions()
    claimed = (key for key, pattern in claims.get(extension, ()) if text and pattern.search(text))
    return next(claimed, owners.get(extension, PLAIN_TEXT))


@cache
def language_table(key: str) -> dict[str, Any]:
    """The TOML file of a language. This loads no grammar, so it is safe in any process."""
    return tomllib.loads(registry.read("languages", key))


@cache
def load_language(key: str) -> Language:
    """Load a registered language with its grammar."""
    file = language_table(key)["file"]
    grammar = Grammar(cast("object", getattr(import_module(file["grammar"]), file["function"])()))
    return Language(key, language_table(key), grammar, Parser(grammar), frozenset(file["comments"]))


@cache
def _extensions() -> tuple[dict[str, str], dict[str, list[tuple[str, re.Pattern[bytes]]]]]:
    """The language that owns each extension, and the languages that claim it with the pattern of each claim."""
    owners: dict[str, str] = {}
    claims: defaultdict[str, list[tuple[str, re.Pattern[bytes]]]] = defaultdict(list)
    for key in registry.names("languages"):
        file = language_table(key)["file"]
        owners.update(dict.fromkeys(file["extensions"], key))
        for extension, pattern in file.get("claims", {}).items():
            claims[extension].append((key, re.compile(pattern.encode(), re.MULTILINE)))
    return owners, claims

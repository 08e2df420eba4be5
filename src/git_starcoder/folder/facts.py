"""What was found out about the code, as files to be used on their own: resolved imports, and declared symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from git_starcoder.records import escape_undecodable, printable_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from git_starcoder.records import Unit

IMPORTS = "imports.jsonl"
SIGNATURES = "signatures.jsonl"


def write(folder: Path, units: Iterable[Unit]) -> None:
    """Write both files, in the order of the paths."""
    units = sorted(units, key=lambda unit: printable_path(unit.path))
    splits = {unit.path: unit.split for unit in units}
    with (folder / IMPORTS).open("wb") as file:
        for unit in units:
            for target in sorted(unit.imports, key=printable_path):
                edge = {
                    "from": printable_path(unit.path),
                    "to": printable_path(target),
                    "from_split": unit.split,
                    "to_split": splits.get(target),
                }
                file.write(orjson.dumps(edge, option=orjson.OPT_APPEND_NEWLINE))
    with (folder / SIGNATURES).open("wb") as file:
        for unit in units:
            for symbol in sorted(unit.symbols, key=lambda symbol: (symbol.line, symbol.name, symbol.signature)):
                said = {
                    "path": printable_path(unit.path),
                    "line": symbol.line,
                    "name": escape_undecodable(symbol.name),
                    "owner": escape_undecodable(symbol.owner),
                    "kind": symbol.kind,
                    "signature": escape_undecodable(symbol.signature),
                    "visibility": symbol.visibility,
                    "language": unit.language,
                    "role": unit.role,
                    "split": unit.split,
                }
                file.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))

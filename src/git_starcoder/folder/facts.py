"""What was found out about the code, as files to be used on their own: resolved imports, and declared symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from git_starcoder.rows import encodable, printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from git_starcoder.rows import Unit

IMPORTS = "imports.jsonl"
SIGNATURES = "signatures.jsonl"


def write(folder: Path, units: Iterable[Unit]) -> None:
    """Write both files, in the order of the paths."""
    units = sorted(units, key=lambda unit: printable(unit.path))
    splits = {unit.path: unit.split for unit in units}
    with (folder / IMPORTS).open("wb") as file:
        for unit in units:
            for target in sorted(unit.imports, key=printable):
                edge = {
                    "from": printable(unit.path),
                    "to": printable(target),
                    "from_split": unit.split,
                    "to_split": splits.get(target),
                }
                file.write(orjson.dumps(edge, option=orjson.OPT_APPEND_NEWLINE))
    with (folder / SIGNATURES).open("wb") as file:
        for unit in units:
            for symbol in sorted(unit.symbols, key=lambda symbol: (symbol.line, symbol.name, symbol.signature)):
                said = {
                    "path": printable(unit.path),
                    "line": symbol.line,
                    "name": encodable(symbol.name),
                    "owner": encodable(symbol.owner),
                    "kind": symbol.kind,
                    "signature": encodable(symbol.signature),
                    "visibility": symbol.visibility,
                    "language": unit.language,
                    "role": unit.role,
                    "split": unit.split,
                }
                file.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE))

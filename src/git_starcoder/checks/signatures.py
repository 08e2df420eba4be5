"""Every declared symbol stands in a file of the dataset, once, with what it declares."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_starcoder.checks import Skip, objects
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Split

SEEDS = ("test_function_signatures_extracted",)
FILE = "signatures.jsonl"
KEYS = ("path", "line", "name", "owner", "kind", "signature", "visibility", "language", "role", "split")
KINDS = ("function", "type", "constant")


class Check:
    """A finding for each symbol that cannot be; the figure is how many there are.

    With the repository, the name must stand in the file.
    """

    def __init__(self, given: Given) -> None:
        self._dataset, self._source = given.dataset, given.source
        self._about: dict[str, tuple[Split, str, str]] = {}
        self._blobs: dict[str, str] = {}
        self.figure: str | Skip = ""

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Remember what is said of their files."""
        for said in block.metadata:
            if not said.get("is_evolution"):
                self._about[said["source_file"]] = split, said["language"], said["role"]
                self._blobs[said["source_file"]] = said.get("blob", "")
        return ()

    def end(self) -> Iterator[Finding]:
        """Read the symbols."""
        functions = symbols = 0
        names: dict[str, dict[str, int]] = defaultdict(dict)
        for number, symbol in objects(self._dataset, FILE, KEYS):
            where = f"{FILE}:{number}"
            if isinstance(symbol, str):
                yield Finding("signatures", where, f"not a symbol: {symbol}")
                continue
            symbols += 1
            functions += symbol["kind"] == "function"
            name, path = str(symbol["name"]), str(symbol["path"])
            names[path].setdefault(name, number)
            if symbol["kind"] not in KINDS:
                yield Finding("signatures", where, f"kind is {symbol['kind']!r}")
            elif name not in str(symbol["signature"]):
                yield Finding("signatures", where, f"the signature does not name {name}")
            said = symbol["split"], symbol["language"], symbol["role"]
            if (known := self._about.get(path, said)) != said:
                yield Finding("signatures", where, f"{path} is {', '.join(known)} in its rows, not {', '.join(said)}")
        if (said := self._dataset.metadata.get("function_signatures")) != functions:
            yield Finding("signatures", "dataset_metadata.json", f"function_signatures is {said}, not {functions}")
        if self._source:
            yield from self._of_source(self._source, names)
        self.figure = f"{functions:,} functions, {symbols - functions:,} types and constants, in {len(names):,} files"
        if not symbols:
            self.figure = Skip("no file declares anything that we read: see the languages shelf")

    def _of_source(self, source: Repo, names: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
        """Names that stand nowhere in their file; of UTF-8 ones, since others are read from other bytes."""
        wanted = {self._blobs[path]: path for path in names if self._blobs.get(path)}
        source.sizes(wanted)
        for blob, data in source.read(wanted):
            path = wanted[blob]
            if not isinstance(data, bytes) or b"\0" in data:
                continue
            for name, number in names[path].items():
                if name.isascii() and name.encode() not in data:
                    yield Finding("signatures", f"{FILE}:{number}", f"{name} is not in {path}")

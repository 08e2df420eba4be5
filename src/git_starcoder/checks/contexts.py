"""A context of other files shows what they declare, of files that are imported and of no others."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from git_starcoder.checks import OfSamples, Skip, objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Given
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.records import Finding

SEEDS: tuple[str, ...] = ()
MADE_BY = "cross_file_context"
MARK = "<file_sep>"


class Check(OfSamples):
    """A finding for each context with a line that `signatures.jsonl` does not have of the file that it is shown under.

    Files are those of `imports.jsonl`; the last path is the row's own file. The figure is how many lines were looked
    at. Without such a control token in the tokenizer nothing can be told.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._lines = 0

    def end(self) -> Iterator[Finding]:
        """Look at all contexts."""
        shown = [one for one in self._samples.by_id.values() if one.metadata["augmentation_type"] == MADE_BY]
        if not shown or MARK not in self._samples.tokenizer.controls.values():
            self.figure = Skip("no row has such a context" if not shown else f"the tokenizer has no {MARK}")
            return
        declared: dict[str, set[str]] = defaultdict(set)
        imported: dict[str, set[str]] = defaultdict(set)
        for name, key, value, kept in (
            ("signatures.jsonl", "path", "signature", declared),
            ("imports.jsonl", "from", "to", imported),
        ):
            for _, one in objects(self._dataset, name, (key, value)):
                if isinstance(one, dict):  # what is no object, other checks find
                    kept[str(one[key])].add(str(one[value]))
        for sample in shown:
            for wrong in self._wrong(sample, declared, imported):
                yield self._found(sample, wrong)
        self.figure = f"{self._lines:,} lines of {len(shown):,} contexts"

    def _wrong(
        self, sample: RebuiltSample, declared: dict[str, set[str]], imported: dict[str, set[str]]
    ) -> Iterator[str]:
        own = str(sample.metadata["source_file"])
        *others, (_, last) = self._samples.context_parts(sample) or [("", b"")]
        if last.decode("utf-8", "replace") != f"{own}\n":
            yield "its file does not stand last"
        for _, text in others:
            shown = text.decode("utf-8", "replace")
            # A path may have line ends of its own.
            known = [path for path in imported[own] if "\n" in path and shown.startswith(f"{path}\n")]
            path = max(known, key=len, default=shown.partition("\n")[0])
            lines = shown[len(path) + 1 :].split("\n")
            self._lines += len(lines)
            if path not in imported[own]:
                yield f"{own} does not import {path}"
            elif any(line and line.strip() not in declared[path] for line in lines):
                yield f"{path} does not declare all that is shown of it"

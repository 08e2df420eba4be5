"""No file, group of files, row or planted canary is in two splits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from git_starcoder import shelf
from git_starcoder.checks import ORDER, Checked, place
from git_starcoder.folder.samples import Samples
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import Skip
    from git_starcoder.dataset import Dataset
    from git_starcoder.git.objects import Repo
    from git_starcoder.rows import Split

SEEDS: tuple[str, ...] = ()
CERTIFICATE = ("leak", "near_files", "overlap", "held_out_lines")
"""The checks whose figures are the leak certificate."""
CANARY = re.compile(rb"(?i)canary\W{0,3}(?:guid)?\W{0,3}([0-9a-f](?:-?[0-9a-f]){15,63})")
"""`canary` and 16 hexadecimal digits or more, as in `canary GUID 26b5c67b-86a1-…` (BIG-bench, Srivastava et al., 2022,
arXiv 2206.04615): who does not want a file to be learned from writes it there."""


class Check:
    """A finding for each file, group, row or canary that crosses; the figure is how many are held out.

    A canary is a word like `canary 26b5c67b86a14b4d`: put into a file that is to be held out, it shows whether anything
    made of that file or its history got into training.
    """

    def __init__(self, dataset: Dataset, source: Repo | None) -> None:  # noqa: ARG002 - the shelf's signature
        self.figure: str | Skip = ""
        self.certificate: dict[str, Any] = {}
        self._dataset = dataset
        self._samples = Samples.shared(dataset)
        self._owners: dict[tuple[str, str | bytes], Split] = {}
        self._told: set[tuple[str, str | bytes]] = set()

    def row(self, split: Split, number: int, row: Checked) -> Iterator[Finding]:
        """Held-out rows come first, then those of training."""
        self._samples.add(split, number, row.metadata, row.ids)
        for key in (("file", row.metadata["source_file"]), ("group", row.metadata["group"]), ("row", row.content)):
            owner = self._owners.setdefault(key, split) if split != "train" else self._owners.get(key, split)
            if owner != split and key not in self._told:
                self._told.add(key)
                name = f" {key[1]}" if isinstance(key[1], str) else ""
                yield Finding("leak", place(self._dataset, split, row), f"{key[0]}{name} is in {owner} too")

    def end(self) -> Iterator[Finding]:
        """Look for canaries."""
        planted: dict[bytes, Split] = {}
        crossing: set[bytes] = set()
        for split in ORDER:
            for sample in self._samples.of.values():
                if sample.split != split:
                    continue
                for canary in self._canaries(sample.head, *(run for _, run in sample.runs())):
                    owner = planted.setdefault(canary, split) if split != "train" else planted.get(canary, split)
                    if owner != split and canary not in crossing:
                        crossing.add(canary)
                        where = self._dataset.place(split, sample.number)
                        yield Finding("leak", where, f"canary {canary.decode()} is in {owner} too")
        told = [kind for kind, _ in self._told]
        for kind in ("file", "group", "row"):
            held = sum(key[0] == kind for key in self._owners)
            self.certificate[f"{kind}s"] = {"held_out": held, "crossing": told.count(kind)}
        self.certificate["canaries"] = {"held_out": len(planted), "crossing": len(crossing)}
        self.figure = "held out: " + ", ".join(
            f"{said['held_out']:,} {name}" for name, said in self.certificate.items()
        )

    def _canaries(self, *parts: Any) -> Iterator[bytes]:
        for tokens in parts:
            text = self._samples.tokenizer.decode(tokens)
            if b"canary" in text.lower():
                yield from (found[1].lower().replace(b"-", b"") for found in CANARY.finditer(text))


def certificate(dataset: Dataset, source: Repo | None = None) -> dict[str, dict[str, Any]]:
    """The figures of the leak certificate, by check; of one that has nothing to look for there are none.

    - `leak`: for `files`, `groups`, `rows` and `canaries` how many are `held_out`, and `crossing` into another split.
    - `near_files`: `files`; those that could be `compared`; the `threshold` from which two are alike; pairs `crossing`.
    - `overlap`: `runs` (one `one_in` of the different held-out runs of `run` tokens), the share of them in training
      (`overlap`; `without_changes`), its mean where files are held out at random (`floor`, `deviation`, `draws`).
    - `held_out_lines`: `lines` that only held-out code has; `changes` learned from, and `changes_with_a_line` of these;
      `contexts` that show other files.

    Raises:
        DatasetError: a line is not a row.
    """
    checks = {key: shelf.load("checks", key).Check(dataset, source) for key in CERTIFICATE}
    for split in ORDER:
        for number, row in enumerate(dataset.rows(split)):
            checked = Checked(*row)
            for check in checks.values():
                list(check.row(split, number, checked))
    for check in checks.values():
        list(check.end())
    return {key: check.certificate for key, check in checks.items()}

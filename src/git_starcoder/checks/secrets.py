"""No key, token or password is anywhere in the dataset."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast

import orjson

from git_starcoder.checks import ORDER, OfSamples, Skip
from git_starcoder.errors import DatasetError
from git_starcoder.records import Finding
from git_starcoder.text.secrets import MARK, redact

if TYPE_CHECKING:
    from collections.abc import Iterator


SEEDS: tuple[str, ...] = ()
FILES = ("drops.jsonl", "imports.jsonl", "signatures.jsonl", "dataset_metadata.json", "manifest.json")
"""All that holds words from the repository beside the rows."""


class Check(OfSamples):
    """A finding for each text with a secret, by its first row or its line; the figure is how much was looked at.

    Rows overlap, so what is looked at is the samples that they were cut from, each token once: context, text, and the
    message in the metadata. No secret is ever told, only its kind.
    """

    def end(self) -> Iterator[Finding]:
        """Look at all texts."""
        mode = self._recipe.read.secrets
        if mode == "off":
            self.figure = Skip("the recipe leaves secrets (read.secrets: off)")
            return
        marks = size = 0
        for sample in self._samples.by_id.values():
            message = str(sample.metadata.get("commit_message", "")).encode()
            texts = [self._samples.prefix_and_runs(sample)[0], *self._samples.run_texts(sample), message]
            kinds: Counter[str] = Counter()
            for text in texts:
                size += len(text)
                kinds += redact(text).found
                marks += len(MARK.findall(text))
            if kinds:
                yield self._found(sample, _told(kinds))
        for where, text in self._columns():
            size += len(text)
            if kinds := redact(text).found:
                yield Finding("secrets", where, _told(kinds))
        for name in FILES:
            for number, text in self._beside(name):
                size += len(text)
                if kinds := redact(text).found:
                    yield Finding("secrets", f"{name}:{number}", _told(kinds))
        self.figure = f"{size / 1e6:,.1f} MB of text, {marks:,} secrets redacted"

    def _columns(self) -> Iterator[tuple[str, bytes]]:
        """What Parquet files say for programs of others, by its first row: each text once."""
        seen: set[bytes] = set()
        for split in ORDER:
            for number, values in enumerate(self._dataset.compatibility_columns(split)):
                for text in (str(value).encode() for value in values.values()):
                    digest = blake2b(text, digest_size=16).digest()
                    if digest not in seen:
                        seen.add(digest)
                        yield self._dataset.row_location(split, number), text

    def _beside(self, name: str) -> Iterator[tuple[int, bytes]]:
        """What a file says, by line: of JSON the values, for what stands around them is ours."""
        path = self._dataset.folder / name
        try:
            data = path.read_bytes() if path.suffix == ".json" else b""
            if data:
                yield from ((1, word.encode()) for word in _words(orjson.loads(data)))
                return
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    yield number, "\n".join(_words(orjson.loads(line))).encode()
        except orjson.JSONDecodeError as error:
            raise DatasetError(f"'{path}' is damaged: {error}", where=name) from error
        except OSError as error:
            raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=name) from error


def _words(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            waiting += cast("list[Any]", one)
        elif isinstance(one, dict):
            waiting += cast("dict[str, Any]", one).values()


def _told(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))

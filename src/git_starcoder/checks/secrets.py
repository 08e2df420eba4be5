"""The check for secrets in the dataset."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import orjson

from git_starcoder.checks.contract import READING_ORDER, Check
from git_starcoder.errors import DatasetError
from git_starcoder.text.secrets import REDACTED_MARK, redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.records import Finding

FILES_WITH_TEXT = ("drops.jsonl", "imports.jsonl", "signatures.jsonl", "dataset_metadata.json", "manifest.json")
"""Files besides the rows that hold words from the repository."""


class SecretsCheck(Check):
    """Reports each text with a secret, by its first row or by its line. The figure is the amount of text.

    Rows overlap, so samples are searched instead, where each token is there once: context prefix, text, and the commit
    message in the metadata. Findings name the kind of a secret and never the secret.
    """

    name = "secrets"
    promise = "No key, token or password is anywhere in the dataset."

    def finish(self) -> Iterator[Finding]:
        """Search all texts."""
        if self.context.recipe.read.secrets == "off":
            self.skip_reason = "the recipe leaves secrets (read.secrets: off)"
            return
        redaction_count = byte_count = 0
        for sample in self.samples.by_id.values():
            message = str(sample.metadata.get("commit_message", "")).encode()
            texts = [self.samples.prefix_and_runs(sample)[0], *self.samples.run_texts(sample), message]
            kinds: Counter[str] = Counter()
            for text in texts:
                byte_count += len(text)
                kinds += redact(text).counts
                redaction_count += len(REDACTED_MARK.findall(text))
            if kinds:
                yield self.sample_finding(sample, _format_kinds(kinds))
        for place, text in chain(self._parquet_texts(), self._file_texts()):
            byte_count += len(text)
            if kinds := redact(text).counts:
                yield self.finding(place, _format_kinds(kinds))
        self.figure = f"{byte_count / 1e6:,.1f} MB of text, {redaction_count:,} secrets redacted"

    def _parquet_texts(self) -> Iterator[tuple[str, bytes]]:
        """Each text of the columns that Parquet files have for other programs, with the place of its first row."""
        seen_digests: set[bytes] = set()
        for split in READING_ORDER:
            for number, values in enumerate(self.dataset.compatibility_columns(split)):
                for text in (str(value).encode() for value in values.values()):
                    digest = blake2b(text, digest_size=16).digest()
                    if digest not in seen_digests:
                        seen_digests.add(digest)
                        yield self.dataset.row_location(split, number), text

    def _file_texts(self) -> Iterator[tuple[str, bytes]]:
        """The values in other files, with their places: line by line in JSONL, one by one in JSON."""
        for name in FILES_WITH_TEXT:
            path = self.dataset.folder / name
            try:
                if path.suffix == ".json":
                    yield from ((f"{name}:1", text.encode()) for text in _json_texts(orjson.loads(path.read_bytes())))
                    continue
                with path.open("rb") as lines:
                    for number, line in enumerate(lines, 1):
                        yield f"{name}:{number}", "\n".join(_json_texts(orjson.loads(line))).encode()
            except orjson.JSONDecodeError as error:
                raise DatasetError(f"'{path}' is damaged: {error}", where=name) from error
            except OSError as error:
                raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=name) from error


def _json_texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, but no keys: those are ours."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            pending += cast("list[Any]", item)
        elif isinstance(item, dict):
            pending += cast("dict[str, Any]", item).values()


def _format_kinds(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))

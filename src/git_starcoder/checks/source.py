"""Every text is in the repository: files token by token, changes hunk by hunk, variations by what made them."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder import augmentations, registry
from git_starcoder.augmentations import Variant
from git_starcoder.checks import OfSamples, Skip
from git_starcoder.dataset.samples import UNKNOWN_TOKEN
from git_starcoder.git.attributes import attributes_of
from git_starcoder.git.changes import changes_of
from git_starcoder.parse.language import TEXT
from git_starcoder.parse.role import unread_by_path
from git_starcoder.parse.tree import Code, parse
from git_starcoder.protocols import Failure
from git_starcoder.records import Finding, printable_path
from git_starcoder.text.clean import Clean, clean
from git_starcoder.text.hunks import hunks
from git_starcoder.text.message import message_of
from git_starcoder.text.notebook import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_starcoder.checks import Given
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.changes import FileChange
    from git_starcoder.git.objects import Repo

SEEDS: tuple[str, ...] = ()
AS_IT_IS = ("base", "temporal_context", "cross_file_context")
"""Whose text is the file."""
DIFF = "git_diff"
DRAWN = 512
"""Changes, and variations, that are compared, those of the least sample ids, which are hashes of content."""
AT_ONCE = 32
"""Changes whose texts are held in memory together."""
MARKS = ("<commit_before>", "<commit_msg>", "<commit_after>")


class Varied(NamedTuple):
    """A file, and variations of it."""

    before: bytes
    language: str
    made: list[tuple[str, bytes]]
    """What made each, and its text."""


class Check(OfSamples):
    """A finding for each text that is not in the repository; the figure is how many were compared with what is there.

    A file that is shown as it is, also behind a context, must be the tokens of its blob, each at its place. A masked
    text must stand in its blob. Of a change, each BEFORE and AFTER must be a hunk of what its commit did to the file,
    in order, and the message the commit's, or none. A variation that rows show whole must be one by the rules of its
    technique, as when it was made.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        if given.source is None:
            self.figure = Skip(given.unread or "needs the repository (--repo)")
        self._options = given.recipe.read
        self._compared: Counter[str] = Counter()
        self._unread: set[str] = set()
        self._unknown = 0

    def end(self) -> Iterator[Finding]:
        """Read the repository."""
        if self._source is None:
            return
        samples = self._samples.by_id.values()
        by_blob: dict[str, list[RebuiltSample]] = defaultdict(list)
        for one in samples:
            if one.metadata["augmentation_type"] in AS_IT_IS or one.is_masked:
                by_blob[str(one.metadata.get("blob", ""))].append(one)
        yield from self._files(self._source, by_blob)
        every = sorted((one for one in samples if one.metadata["augmentation_type"] == DIFF), key=lambda one: one.id)
        drawn = every[:DRAWN]
        yield from self._changes(self._source, drawn)
        known = {key for key in registry.names("augmentations") if augmentations.needs(key) in {"text", "tree"}}
        other = [one for one in samples if one.metadata["augmentation_type"] in known and not one.is_masked]
        yield from self._variations(self._source, other)
        told = [f"{self._compared['file']:,} files and {self._compared['change']:,} of {len(every):,} changes compared"]
        told += [f"{len(self._unread):,} blobs are not in this copy"] if self._unread else []
        told += [f"{self._unknown:,} changes are not known: {self._why}"] if self._unknown else []
        told += [f"{self._compared['variation']:,} of {len(other):,} variations verified"] if other else []
        self.figure = ", ".join(told)

    def _texts(self, source: Repo, blobs: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """The text of each blob as a build keeps it; None where it is none, or cannot be had."""
        wanted = list(dict.fromkeys(blobs))
        sizes = source.sizes(wanted)
        most = max(self._options.max_bytes, LARGEST)  # a notebook may be larger than its text
        small = [blob for blob in wanted if sizes.get(blob, most + 1) <= most]
        self._unread |= {blob for blob in wanted if blob not in sizes}
        for blob, data in source.read(small):
            text = clean(data, self._options) if isinstance(data, bytes) else None
            yield blob, text.text if isinstance(text, Clean) else None

    def _files(self, source: Repo, by_blob: dict[str, list[RebuiltSample]]) -> Iterator[Finding]:
        seen: set[str] = set()
        for blob, text in self._texts(source, sorted(by_blob)):
            seen.add(blob)
            tokens = None if text is None else self._samples.tokenizer.encode([text])[0].astype(np.int32)
            for sample in by_blob[blob]:
                if text is None or tokens is None:
                    yield self._found(sample, f"blob {blob[:12]} is no text")
                    continue
                self._compared["file"] += 1
                if sample.is_masked:
                    if not all(part in text for part in self._samples.run_texts(sample)):
                        yield self._found(sample, f"its text does not stand in blob {blob[:12]}")
                elif wrong := _differs(sample.tokens[: sample.length], np.append(tokens, self._samples.tokenizer.end)):
                    yield self._found(sample, f"{wrong} blob {blob[:12]}")
        for blob in sorted(by_blob.keys() - seen - self._unread):
            yield self._found(by_blob[blob][0], f"blob {blob[:12] or 'unnamed'} is too large, or none")

    def _changes(self, source: Repo, samples: list[RebuiltSample]) -> Iterator[Finding]:
        if not samples:
            return
        options = self._options
        skip = unread_by_path(attributes_of(source).said)
        found = changes_of(source, options.changes, options.commit_files, skip).kept
        known = {(one.commit, printable_path(one.path)): one for one in found}
        wanted = [(one, known.get((str(one.metadata["commit"]), str(one.metadata["source_file"])))) for one in samples]
        names = sorted({change.commit for _, change in wanted if change})
        messages = {
            name: message_of(data, redacted=options.secrets != "off")
            for name, data in source.commits(names)
            if isinstance(data, bytes)
        }
        for first in range(0, len(wanted), AT_ONCE):
            some = wanted[first : first + AT_ONCE]
            blobs = {blob for _, change in some if change for blob in (change.before, change.after) if blob}
            texts = dict(self._texts(source, sorted(blobs)))
            for sample, change in some:
                if self._need_not_be(change):
                    self._unknown += 1
                elif change is None:
                    what = (
                        f"no commit {str(sample.metadata['commit'])[:12]} did this to {sample.metadata['source_file']}"
                    )
                    yield self._found(sample, what)
                elif change.after in self._unread or change.before in self._unread:
                    continue
                else:
                    self._compared["change"] += 1
                    if wrong := self._wrong(sample, change, texts, messages.get(change.commit, b"")):
                        yield self._found(sample, wrong)

    def _need_not_be(self, change: FileChange | None) -> bool:
        """Whether a build may have found another change where this repository has one, or none."""
        if change is None:
            return bool(self._given.partial)
        return self._given.unsure_renames and bool(change.former or not change.before)

    @property
    def _why(self) -> str:
        return self._given.partial or "blobs are missing that tell whether files were renamed"

    def _variations(self, source: Repo, samples: list[RebuiltSample]) -> Iterator[Finding]:
        if self._samples.tokenizer.widths is None:
            return  # another tokenizer need not give back the very text
        whole = ((one, self._samples.full_text(one)) for one in sorted(samples, key=lambda one: one.id))
        made: dict[str, dict[str, list[tuple[RebuiltSample, bytes]]]] = defaultdict(lambda: defaultdict(list))
        for one, text in islice(((one, text) for one, text in whole if text is not None), DRAWN):
            made[str(one.metadata.get("blob", ""))][str(one.metadata["language"])].append((one, text))
        asked: deque[list[RebuiltSample]] = deque()
        seen: set[str] = set()

        def tasks() -> Iterator[Varied]:
            for blob, before in self._texts(source, sorted(made)):
                if before is not None:
                    seen.add(blob)
                    for language, some in made[blob].items():
                        asked.append([one for one, _ in some])
                        yield Varied(
                            before, language, [(one.metadata["augmentation_type"], text) for one, text in some]
                        )

        for answer in self._given.ask(verify, tasks()):
            varied = asked.popleft()
            if isinstance(answer, Failure):
                continue  # a worker crashed or hung, which is nothing that is wrong with the dataset
            self._compared["variation"] += len(varied)
            for sample, wrong in zip(varied, answer, strict=True):
                if wrong:
                    yield self._found(sample, f"no {sample.metadata['augmentation_type']} of its file: {wrong}")
        for blob in sorted(made.keys() - seen - self._unread):
            sample, _ = next(iter(made[blob].values()))[0]
            yield self._found(sample, f"blob {blob[:12] or 'unnamed'} is no text, too large, or none")

    def _wrong(self, sample: RebuiltSample, change: FileChange, texts: dict[str, Any], message: bytes) -> str:
        """What is wrong with a row of a change, whose head is a path and then before, message and after again."""
        parts = self._samples.context_parts(sample)
        befores, said, afters = ([text for mark, text in parts if mark == wanted] for wanted in MARKS)
        shown = sample.tokens[: sample.length]
        if not len(befores) == len(said) == len(afters) > 0 or UNKNOWN_TOKEN in shown:
            return "" if not parts else "its head is not whole"  # without such control tokens nothing can be told
        if parts[0][1] != f"{printable_path(change.path)}\n".encode():
            return "it shows another path"
        if said[0] not in {message, b""} or any(said[1:]):
            return f"the message is not that of commit {change.commit[:12]}"
        before = texts.get(change.before) or b""
        made = hunks(before, texts.get(change.after) or b"") or []
        pairs = [*zip(befores, [*afters[:-1], self._samples.decode(shown)], strict=True)]
        at = [(hunk.before, hunk.after) for hunk in made]
        places = [at.index(pair) if pair in at else -1 for pair in pairs]
        if -1 in places or places != sorted(places):
            return f"commit {change.commit[:12]} did something else"
        return ""


def _differs(shown: Any, tokens: Any) -> str:
    """Where tokens, some of them unknown, are not those of a file."""
    if len(shown) > len(tokens):
        return f"it goes on behind the {len(tokens):,} tokens of"
    wrong = np.flatnonzero((shown != tokens[: len(shown)]) & (shown != UNKNOWN_TOKEN))
    return f"token {int(wrong[0]):,} is not that of" if len(wrong) else ""


def verify(varied: Varied) -> list[str]:
    """What is wrong with each variation of a file, or "". For worker processes."""
    before = parse(varied.before, varied.language if varied.language in registry.names("languages") else TEXT)
    return [_unverified(before, key, text) for key, text in varied.made]


def _unverified(before: Code, key: str, text: bytes) -> str:
    variation, after = augmentations.variation(key), before
    if variation.NEEDS == "tree":
        if before.language is None or not before.clean:
            return "that does not parse"
        after = parse(text, before.language.key)
        if not after.clean:
            return "it does not parse"
    return variation.verify(before, Variant(text), after)

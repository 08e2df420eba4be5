"""Checks of where rows come from: commits, files and changes of the repository, if it is at hand."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from itertools import islice, product
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder import augmentations, registry
from git_starcoder.augmentations import Variant
from git_starcoder.checks.base import Check
from git_starcoder.checks.techniques import COMMIT_HASH
from git_starcoder.dataset import METADATA_FILE
from git_starcoder.dataset.folder import path_in_repository
from git_starcoder.dataset.samples import UNKNOWN_TOKEN
from git_starcoder.git.attributes import ATTRIBUTES_FILE, read_attributes
from git_starcoder.git.changes import select_changes
from git_starcoder.parse.language import PLAIN_TEXT, detect_language
from git_starcoder.parse.role import file_role, foreign_role_filter
from git_starcoder.parse.tree import Code, parse
from git_starcoder.protocols import Failure
from git_starcoder.records import (
    FOREIGN_ROLES,
    NO_DECLARED_ROLES,
    DeclaredRoles,
    parse_printable_path,
    printable_path,
)
from git_starcoder.row_layout import BASE
from git_starcoder.text.clean import CleanText, clean_file, clean_message
from git_starcoder.text.diff import find_hunks
from git_starcoder.text.notebook import MAX_NOTEBOOK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.git.attributes import GitAttributes
    from git_starcoder.git.changes import FileChange
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Finding, Split

    Variations = tuple[bytes, str, list[tuple[str, bytes]]]
    """A file, its language, and the technique and the text of each variation of it."""

ALL_DECLARED_ROLES = [DeclaredRoles(a, b, c) for a, b, c in product((None, True, False), repeat=3)]
"""Everything that `.gitattributes` may declare of a file."""
UNCHANGED_TECHNIQUES = (BASE, "temporal_context", "cross_file_context")
"""Techniques whose text is the file as it is, with or without a context prefix."""
MAX_COMPARED_SAMPLES = 512
"""Changes, and variations, that are compared: those with the smallest sample ids, which are hashes of content."""
CHANGES_IN_MEMORY = 32
"""Changes whose texts are in memory together."""
DIFF_PARTS = ("<commit_before>", "<commit_msg>", "<commit_after>")


class CommitsCheck(Check):
    """Reports each commit that cannot be right. The figure is how many were read, and how many of them rows name."""

    name = "commits"
    promise = "Every commit id in a row belongs to the history that the build read; none in training is held out."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._place_of_commit: dict[str, str] = {}
        self._message_of_commit: dict[str, str] = {}
        self._training_commits: set[str] = set()
        self._unknown_count = 0

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Remember the commits, and compare their messages."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            commit = metadata.get("commit", "")
            if not commit:  # a shallow history does not say
                continue
            if split == "train":
                self._training_commits.add(commit)
            if commit not in self._place_of_commit:
                self._place_of_commit[commit] = self.dataset.row_location(split, row.index)
                if not COMMIT_HASH.fullmatch(commit):
                    yield self.row_finding(split, row, f"commit is {commit!r}")
            message = metadata.get("commit_message")
            # Training rows have no message where it quotes held-out code.
            if message and self._message_of_commit.setdefault(commit, message) != message:
                first = self._place_of_commit[commit]
                problem = f"another message of commit {commit[:12]} than {first} or a row behind it has"
                yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compare with the metadata, the manifest and the history."""
        listed: int = self.dataset.metadata.get("git_commits_analyzed", 0)
        counted = self.context.steps.get("read", {}).get("figures", {}).get("commits")
        named_count = len(self._place_of_commit)
        problem = f"git_commits_analyzed is {listed}, but "
        if counted is not None and counted != listed:
            yield self.finding(METADATA_FILE, f"{problem}{counted} in manifest.json")
        if len(self._training_commits if "past_commit" in self.dataset.manifest else self._place_of_commit) > listed:
            yield self.finding(METADATA_FILE, f"{problem}rows name {named_count} commits")
        if self.context.repository:
            yield from self._compare_with_history(self.context.repository)
            yield from self._compare_with_training(self.context.training_repository, counted)
        self.figure = f"{listed:,} commits last changed a file that was read; {named_count:,} are in rows"
        if self._unknown_count:
            self.figure += f"; {self._unknown_count:,} of these not looked at: {self.context.history_problem}"
        if not named_count:
            self.skip_reason = "no row names a commit: the history is shallow or none"

    def _compare_with_training(self, repository: Repo | None, counted: int | None) -> Iterator[Finding]:
        """Compare the commits of training rows with the history that training sees."""
        if repository is None:
            return
        history = _commits_of(repository)
        if "past_commit" in self.dataset.manifest:
            for commit in sorted(self._training_commits - history):
                problem = f"commit {commit} of a training row is later than the past commit {repository.commit[:12]}"
                yield self.finding(self._place_of_commit[commit], problem)
        if counted is not None and counted != len(history) and not self.context.history_problem:
            yield self.finding("manifest.json, read", f"{counted} commits, but the history has {len(history)}")

    def _compare_with_history(self, repository: Repo) -> Iterator[Finding]:
        history = _commits_of(repository)
        for commit, place in sorted(self._place_of_commit.items()):
            if commit not in history and repository.incomplete_reason:
                self._unknown_count += 1
            elif commit not in history:
                yield self.finding(place, f"commit {commit} is not in the history of {repository.commit[:12]}")


def _commits_of(repository: Repo) -> set[str]:
    """The ids of all commits of the history."""
    with repository.start_git("rev-list", repository.commit) as output:
        return {line.decode() for line in iter(output.read_line, None)}


class _CommitFiles(NamedTuple):
    """What a commit says of its files, by their printable paths."""

    blobs: dict[str, str]
    commits: dict[str, str]
    """The commit that last changed each file."""
    attributes: GitAttributes | None
    """None if they cannot be read."""


class OriginsCheck(Check):
    """Reports each sample with wrong metadata of its file. The figure is how many were compared, and with what.

    The weight of a row follows from its role, which follows from its path and language. So this check, `weights` and
    `ages` together compute weights again from the repository up.
    """

    name = "origins"
    promise = "Language and role of a row are those of its file; with --repo, also its blob and commit."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        figures = [step["figures"] for step in context.steps.values()]
        has_attributes = any(each.get("marked") or each.get("changes_marked") for each in figures)
        self._possible_roles = ALL_DECLARED_ROLES if has_attributes else [NO_DECLARED_ROLES]
        """What `.gitattributes` may declare, where they cannot be read."""
        self._files: dict[str, _CommitFiles] = {}
        """By commit."""

    def finish(self) -> Iterator[Finding]:
        """Compute the metadata of each sample again."""
        samples, repository = self.samples.by_id.values(), self.context.repository
        history_problem = self.context.history_problem
        for sample in samples:
            files = self._files_of(sample)
            problem = self._role_problem(sample, files.attributes)
            if repository and not problem and not sample.metadata.get("is_evolution"):
                path = str(sample.metadata["source_file"])
                if path in files.blobs or not path.startswith(self.context.unreadable_folders):
                    problem = _mismatch("blob", sample, files.blobs.get(path, "none"))
                if not problem and not history_problem:
                    problem = _mismatch("commit", sample, files.commits.get(path, ""))
            if problem:
                yield self.sample_finding(sample, problem)
        compared_with = "their files and the history" if repository else "their paths"
        if repository and history_problem:
            compared_with = f"their files; not against the history: {history_problem}"
        elif self.context.repository_problem:
            compared_with += f": {self.context.repository_problem}"
        self.figure = f"{len(samples):,} texts against {compared_with}"

    def _files_of(self, sample: RebuiltSample) -> _CommitFiles:
        """The files of the commit that a sample is from."""
        repository = self.context.repository_of(sample)
        if repository is None:
            return _CommitFiles({}, {}, None)
        if repository.commit not in self._files:
            is_newest = repository is self.context.repository
            last_changes = self.context.last_changes if is_newest else repository.last_changes()
            self._files[repository.commit] = _CommitFiles(
                {printable_path(entry.path): entry.blob for entry in repository.entries()},
                {printable_path(path): last.commit for path, last in last_changes.items()},
                read_attributes(repository) if self._can_read_attributes(repository) else None,
            )
        return self._files[repository.commit]

    def _can_read_attributes(self, repository: Repo) -> bool:
        """Whether every `.gitattributes` of the commit can be read."""
        files = (entry for entry in repository.entries() if entry.path.rpartition("/")[2] == ATTRIBUTES_FILE)
        return not self.context.unreadable_folders and all(entry.size is not None for entry in files)

    def _role_problem(self, sample: RebuiltSample, attributes: GitAttributes | None) -> str:
        """What is wrong with the language or the role of a sample, or ""."""
        about = sample.metadata
        path, language, role = parse_printable_path(path_in_repository(about)), str(about["language"]), about["role"]
        if about["augmentation_type"] == BASE and (text := self.samples.full_text(sample)) is not None:
            language = detect_language(path, text)
        declared_roles = [attributes.declared_roles(path)] if attributes else self._possible_roles
        roles = [file_role(path, language, b"", declared) for declared in declared_roles]
        # That a file is generated or vendored may be said in its text, of which the path says nothing.
        expected_role = role if role in {*FOREIGN_ROLES, *roles} else roles[0]
        return _mismatch("language", sample, language) or _mismatch("role", sample, expected_role)


class SourceCheck(Check):
    """Reports each text that is not in the repository. The figure is how many texts were compared.

    - A file that is shown as it is, also behind a context, must have the tokens of its blob, each at its place.
    - The text of a masked sample must occur in its blob.
    - Each before and after of a change must be a hunk of what its commit did to the file, in order; the message must be
      that of the commit, or empty.
    - A variation that rows show in full must pass the `verify` of its technique, as when it was made.
    """

    name = "source"
    promise = "Every text comes from the repository: from a file, from a diff, or from a verified variation."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        if context.repository is None:
            self.skip_reason = context.repository_problem or "needs the repository (--repo)"
        self._compared: Counter[str] = Counter()
        self._missing_blobs: set[str] = set()
        """Blobs that a partial clone lacks."""
        self._unknown_changes = 0

    def finish(self) -> Iterator[Finding]:
        """Read the repository and compare."""
        repository = self.context.repository
        if repository is None:
            return
        samples = self.samples.by_id.values()
        samples_of_blob: dict[str, list[RebuiltSample]] = defaultdict(list)
        for sample in samples:
            if sample.metadata["augmentation_type"] in UNCHANGED_TECHNIQUES or sample.is_masked:
                samples_of_blob[str(sample.metadata.get("blob", ""))].append(sample)
        yield from self._compare_files(repository, samples_of_blob)
        diffs = [sample for sample in samples if sample.metadata["augmentation_type"] == "git_diff"]
        training = self.context.training_repository or repository
        yield from self._compare_changes(training, sorted(diffs, key=attrgetter("id"))[:MAX_COMPARED_SAMPLES])
        keys = registry.names("augmentations")
        techniques = {key for key in keys if augmentations.input_kind(key) in {"text", "tree"}}
        varied = (sample for sample in samples if sample.metadata["augmentation_type"] in techniques)
        variations = [sample for sample in varied if not sample.is_masked]
        yield from self._verify_variations(repository, variations)
        compared = self._compared
        results = [f"{compared['file']:,} files and {compared['change']:,} of {len(diffs):,} changes compared"]
        if self._missing_blobs:
            results.append(f"{len(self._missing_blobs):,} blobs are not in this copy")
        if self._unknown_changes:
            reason = self.context.history_problem or "blobs are missing that tell whether files were renamed"
            results.append(f"{self._unknown_changes:,} changes are not known: {reason}")
        if variations:
            results.append(f"{compared['variation']:,} of {len(variations):,} variations verified")
        self.figure = ", ".join(results)

    def _read_texts(self, repository: Repo, blobs: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """The text of each blob as a build reads it, or None if it is not text; without missing and too large blobs."""
        options = self.context.recipe.read
        wanted = list(dict.fromkeys(blobs))
        sizes = repository.blob_sizes(wanted)
        max_bytes = max(options.max_bytes, MAX_NOTEBOOK_BYTES)  # a notebook may be larger than its text
        readable = [blob for blob in wanted if sizes.get(blob, max_bytes + 1) <= max_bytes]
        self._missing_blobs |= {blob for blob in wanted if blob not in sizes}
        for blob, data in repository.read_blobs(readable):
            text = clean_file(data, options) if isinstance(data, bytes) else None
            yield blob, text.text if isinstance(text, CleanText) else None

    def _compare_files(self, repository: Repo, samples_of_blob: dict[str, list[RebuiltSample]]) -> Iterator[Finding]:
        tokenizer = self.samples.tokenizer
        seen_blobs: set[str] = set()
        for blob, text in self._read_texts(repository, sorted(samples_of_blob)):
            seen_blobs.add(blob)
            if text is None:
                for sample in samples_of_blob[blob]:
                    yield self.sample_finding(sample, f"blob {blob[:12]} is no text")
                continue
            tokens = np.append(tokenizer.encode([text])[0].astype(np.int32), tokenizer.end_id)
            for sample in samples_of_blob[blob]:
                self._compared["file"] += 1
                problem = ""
                if not sample.is_masked:
                    problem = _first_difference(sample.tokens[: sample.length], tokens)
                elif not all(part in text for part in self.samples.run_texts(sample)):
                    problem = "its text does not stand in"
                if problem:
                    yield self.sample_finding(sample, f"{problem} blob {blob[:12]}")
        for blob in sorted(samples_of_blob.keys() - seen_blobs - self._missing_blobs):
            yield self.sample_finding(samples_of_blob[blob][0], f"blob {blob[:12] or 'unnamed'} is too large, or none")

    def _compare_changes(self, repository: Repo, samples: list[RebuiltSample]) -> Iterator[Finding]:
        if not samples:
            return
        options = self.context.recipe.read
        skip = foreign_role_filter(read_attributes(repository).declared_roles)
        changes = select_changes(repository, options.changes, options.commit_files, skip).selected
        change_of = {(change.commit, printable_path(change.path)): change for change in changes}
        origins = [(str(sample.metadata["commit"]), str(sample.metadata["source_file"])) for sample in samples]
        pairs = [(sample, change_of.get(origin)) for sample, origin in zip(samples, origins, strict=True)]
        messages = {
            name: clean_message(data, redacted=options.secrets != "off")
            for name, data in repository.read_commits(sorted({change.commit for _, change in pairs if change}))
            if isinstance(data, bytes)
        }
        for first in range(0, len(pairs), CHANGES_IN_MEMORY):
            batch = pairs[first : first + CHANGES_IN_MEMORY]
            blobs = {blob for _, change in batch if change for blob in (change.blob_before, change.blob_after) if blob}
            texts = dict(self._read_texts(repository, sorted(blobs)))
            for sample, change in batch:
                if self._may_differ_from_build(change):
                    self._unknown_changes += 1
                elif change is None:
                    commit, path = str(sample.metadata["commit"])[:12], sample.metadata["source_file"]
                    yield self.sample_finding(sample, f"no commit {commit} did this to {path}")
                elif not {change.blob_after, change.blob_before} & self._missing_blobs:
                    self._compared["change"] += 1
                    if problem := self._change_problem(sample, change, texts, messages.get(change.commit, b"")):
                        yield self.sample_finding(sample, problem)

    def _may_differ_from_build(self, change: FileChange | None) -> bool:
        """Whether the build may have seen another change than this repository shows, because history is missing."""
        if change is None:
            return bool(self.context.history_problem)
        return self.context.has_unsure_renames and bool(change.former_path or not change.blob_before)

    def _change_problem(self, sample: RebuiltSample, change: FileChange, texts: dict[str, Any], message: bytes) -> str:
        """What is wrong with the sample of a change, or "".

        Its context prefix has a path, and then before, message and after of each hunk; the last after is the text.
        """
        parts = self.samples.context_parts(sample)
        befores, messages, afters = ([text for mark, text in parts if mark == wanted] for wanted in DIFF_PARTS)
        tokens = sample.tokens[: sample.length]
        if not len(befores) == len(messages) == len(afters) > 0 or UNKNOWN_TOKEN in tokens:
            return "its head is not whole" if parts else ""  # a tokenizer without control tokens gives no parts
        if parts[0][1] != f"{printable_path(change.path)}\n".encode():
            return "it shows another path"
        if messages[0] not in {message, b""} or any(messages[1:]):
            return f"the message is not that of commit {change.commit[:12]}"
        real_hunks = find_hunks(texts.get(change.blob_before) or b"", texts.get(change.blob_after) or b"") or []
        real_pairs = [(hunk.before, hunk.after) for hunk in real_hunks]
        shown_pairs = zip(befores, [*afters[:-1], self.samples.decode(tokens)], strict=True)
        remaining = iter(
            real_pairs
        )  # a commit may do the same in two places, so each is looked for behind the last one
        if not all(pair in remaining for pair in shown_pairs):
            return f"commit {change.commit[:12]} did something else"
        return ""

    def _verify_variations(self, repository: Repo, samples: list[RebuiltSample]) -> Iterator[Finding]:
        if self.samples.tokenizer.token_byte_counts is None:
            return  # a tokenizer that is not byte-level may not give back the exact text
        texts = ((sample, self.samples.full_text(sample)) for sample in sorted(samples, key=attrgetter("id")))
        complete = ((sample, text) for sample, text in texts if text is not None)
        by_blob: dict[str, dict[str, list[tuple[RebuiltSample, bytes]]]] = defaultdict(lambda: defaultdict(list))
        for sample, text in islice(complete, MAX_COMPARED_SAMPLES):
            by_blob[str(sample.metadata.get("blob", ""))][str(sample.metadata["language"])].append((sample, text))
        pending: deque[list[RebuiltSample]] = deque()
        seen_blobs: set[str] = set()

        def tasks() -> Iterator[Variations]:
            for blob, original in self._read_texts(repository, sorted(by_blob)):
                if original is not None:
                    seen_blobs.add(blob)
                    for language, variations in by_blob[blob].items():
                        pending.append([sample for sample, _ in variations])
                        named = [(sample.metadata["augmentation_type"], text) for sample, text in variations]
                        yield original, language, named

        for result in self.context.run_tasks(verify_variations, tasks()):
            verified = pending.popleft()
            if isinstance(result, Failure):
                continue  # a worker that crashed or hung says nothing about the dataset
            self._compared["variation"] += len(verified)
            for sample, problem in zip(verified, result, strict=True):
                if problem:
                    technique = sample.metadata["augmentation_type"]
                    yield self.sample_finding(sample, f"no {technique} of its file: {problem}")
        for blob in sorted(by_blob.keys() - seen_blobs - self._missing_blobs):
            sample, _ = next(iter(by_blob[blob].values()))[0]
            yield self.sample_finding(sample, f"blob {blob[:12] or 'unnamed'} is no text, too large, or none")


def verify_variations(task: Variations) -> list[str]:
    """What is wrong with each variation of a file, or "". Runs in workers, too."""
    text, language, variations = task
    original = parse(text, language if language in registry.names("languages") else PLAIN_TEXT)
    return [_variation_problem(original, technique, varied) for technique, varied in variations]


def _variation_problem(original: Code, technique: str, text: bytes) -> str:
    augmentation, varied = augmentations.load_variation(technique), original
    if augmentation.NEEDS == "tree":
        if original.language is None or not original.is_clean:
            return "that does not parse"
        varied = parse(text, original.language.key)
        if not varied.is_clean:
            return "it does not parse"
    return augmentation.verify(original, Variant(text), varied)


def _first_difference(shown: NDArray[np.int32], tokens: NDArray[np.int32]) -> str:
    """Where the tokens of a sample, some of them `UNKNOWN`, differ from those of its file; "" if nowhere."""
    if len(shown) > len(tokens):
        return f"it goes on behind the {len(tokens):,} tokens of"
    wrong = np.flatnonzero((shown != tokens[: len(shown)]) & (shown != UNKNOWN_TOKEN))
    return f"token {int(wrong[0]):,} is not that of" if len(wrong) else ""


def _mismatch(key: str, sample: RebuiltSample, expected: str) -> str:
    """A message if the metadata of a sample say something else than expected, or ""."""
    value = sample.metadata.get(key)
    return "" if value == expected else f"{key} {value!r}, not {expected!r}"

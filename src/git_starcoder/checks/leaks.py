"""Checks for leaks: held-out text that also appears in the training split. They fill the leak certificate."""

from __future__ import annotations

import re
from itertools import chain
from operator import itemgetter
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.checks.base import READING_ORDER, Check, sample_batches
from git_starcoder.dataset.samples import known_runs
from git_starcoder.git.objects import FILE_MODE, FOLDER_MODE, MODE_TYPE_MASK
from git_starcoder.hashing.arrays import RUN_TOKENS, connect_components, run_hashes
from git_starcoder.hashing.known_lines import KnownLines
from git_starcoder.hashing.overlap import FileRuns, RunIndex, sample_hashes
from git_starcoder.hashing.texts import (
    MIN_LINE_BYTES,
    MIN_QUOTED_SHARE,
    HashedLines,
    LineIndex,
    split_quotes,
    text_batches,
)
from git_starcoder.records import dataset_path, printable_path
from git_starcoder.row_layout import BASE
from git_starcoder.text.clean import CleanText, clean_file, max_file_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset.read_blocks import RowBlock
    from git_starcoder.dataset.samples import RebuiltSample, Tokens
    from git_starcoder.records import Finding, Split

UNIT_KINDS = ("file", "group", "row")
"""What must not be in two splits; also the words of findings."""
CANARY = re.compile(rb"(?i)canary\W{0,3}(?:guid)?\W{0,3}([0-9a-f](?:-?[0-9a-f]){15,63})")
"""`canary` and 16 hexadecimal digits or more, as in `canary GUID 26b5c67b-86a1-…` (BIG-bench, Srivastava et al., 2022,
arXiv 2206.04615). Authors write it into files that models should not learn from."""
HISTORY_TECHNIQUES = ("git_diff", "temporal_context")
"""Techniques whose samples show earlier versions of files."""
RANDOM_SPLITS = 20
"""How often files are held out at random, to see how much overlap is usual."""
MAX_SAMPLED_RUNS = 1 << 21
"""About how many runs are compared. In a larger dataset one in 2, 4, 8, … is chosen by its hash."""
OVERLAP_MARGIN = 0.05
"""How far the overlap must be above that of all random splits to be a finding. Their standard deviation would be a
worse limit: leaked text also raises the overlap of those random splits that hold out the file it came from."""
MIN_LINES_WITHOUT_REPOSITORY = 3
"""Without the repository a change is a finding if it shows so many lines that only held-out code has."""


class LeakCheck(Check):
    """Reports each file, group, row or canary in two splits. The figure is how many are held out.

    A canary is a word like `canary 26b5c67b86a14b4d`. Planted in a file that is held out, it shows whether anything
    made from that file or its history is in the training split.
    """

    name = "leak"
    promise = "No file, leak group, row or canary (a planted test string) is in two splits."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._owners: dict[str, dict[str | bytes, Split]] = {kind: {} for kind in UNIT_KINDS}
        """Kind → file, group or row → the held-out split that it is in."""
        self._crossing: set[tuple[str, str | bytes]] = set()

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Remember what is in held-out rows, which come first, and look for it in training rows."""
        paths, groups = (list(map(itemgetter(key), block.metadata)) for key in ("source_file", "group"))
        columns: list[list[str | bytes]] = [paths, groups, [row.content_hash for row in block.rows]]
        owners = list(self._owners.values())
        if split == "train" and all(owned.keys().isdisjoint(keys) for owned, keys in zip(owners, columns, strict=True)):
            return
        for row, *keys in zip(block.rows, *columns, strict=True):
            for kind, owned, key in zip(UNIT_KINDS, owners, keys, strict=True):
                if kind != "group" and "scored" in row.metadata:
                    continue  # of a file that commits changed only lines are held out: see `held_out_lines`
                owner = _owning_split(owned, key, split)
                if owner != split and (kind, key) not in self._crossing:
                    self._crossing.add((kind, key))
                    label = f"{kind} {key}" if isinstance(key, str) else kind
                    yield self.row_finding(split, row, f"{label} is in {owner} too")

    def finish(self) -> Iterator[Finding]:
        """Look for canaries in all samples."""
        owners: dict[str | bytes, Split] = {}
        crossing: set[bytes] = set()
        for sample in sorted(self.samples.by_id.values(), key=lambda sample: READING_ORDER.index(sample.split)):
            for canary in self._find_canaries(sample):
                owner = _owning_split(owners, canary, sample.split)
                if owner != sample.split and canary not in crossing:
                    crossing.add(canary)
                    yield self.sample_finding(sample, f"canary {canary.decode()} is in {owner} too")
        crossing_kinds = [kind for kind, _ in self._crossing]
        for kind, owned in self._owners.items():
            self.certificate[f"{kind}s"] = {"held_out": len(owned), "crossing": crossing_kinds.count(kind)}
        self.certificate["canaries"] = {"held_out": len(owners), "crossing": len(crossing)}
        counts = (f"{entry['held_out']:,} {name}" for name, entry in self.certificate.items())
        self.figure = f"held out: {', '.join(counts)}"

    def _find_canaries(self, sample: RebuiltSample) -> Iterator[bytes]:
        texts = self.samples.held_out_texts(sample)
        for text in (self.samples.prefix_and_runs(sample)[0], *texts):
            if b"canary" in text.lower():
                yield from (match[1].lower().replace(b"-", b"") for match in CANARY.finditer(text))


class NearFilesCheck(Check):
    """Reports each two files of different splits that are alike. The figure is how many files were compared.

    Two files are alike from the recipe's threshold on (`split.near`). It is applied to the Jaccard similarity of their
    5-token shingles, and to the share of one file that the other contains, by tokens or by the words of lines (which
    finds copies with something added to every line). Files are compared if rows show all of their text. Files of which
    commits changed only a part are alike to what they were before: see `held_out_lines`.
    """

    name = "near_files"
    promise = "No held-out file is a near-duplicate of a training file or contained in one."
    in_background = True

    def finish(self) -> Iterator[Finding]:
        """Compare all files."""
        files, pairs = self.context.similar_files
        crossing: dict[tuple[int, int], float] = {}
        indices: list[list[int]] = np.column_stack((pairs.left, pairs.right)).tolist()
        for (left, right), share in zip(indices, pairs.share.tolist(), strict=True):
            is_partial = any(files[index].scored is not None for index in (left, right))
            if files[left].split != files[right].split and not is_partial:
                pair = min(left, right), max(left, right)
                crossing[pair] = max(share, crossing.get(pair, 0.0))
        for (left, right), share in sorted(crossing.items()):
            held_out, other = files[left], files[right]
            if held_out.split == "train":
                held_out, other = other, held_out
            place = self.dataset.row_location(other.split, other.first_row)
            other_file = f"{other.metadata['source_file']} in {other.split} ({place})"
            yield self.sample_finding(held_out, f"{held_out.metadata['source_file']} is {share:.0%} like {other_file}")
        file_count = sum(_technique(sample) == BASE for sample in self.samples.by_id.values())
        threshold = self.context.recipe.split.near
        self.certificate = {
            "files": file_count, "compared": len(files), "threshold": threshold, "crossing": len(crossing)
        }  # fmt: skip
        self.figure = f"{len(files):,} of {file_count:,} files compared, alike from {threshold:g}"


class OverlapCheck(Check):
    """Reports held-out code that repeats more of the training split than chance explains.

    The figure is the share of held-out 32-token runs that are in training. Held-out runs are those of base samples, and
    each different run counts once; training runs are those of all rows with their context. For comparison, as many
    files are held out at random, without history. Files that are alike are held out together.
    """

    name = "overlap"
    promise = "Held-out files share no more code with training files than randomly chosen files would."
    in_background = True

    def finish(self) -> Iterator[Finding]:
        """Compare the overlap with that of random splits."""
        if self.context.recipe.split.holdout == "commits":
            self.skip_reason = "what commits added is compared by its lines (`held_out_lines`), not with random splits"
            return
        samples = self.samples.by_id.values()
        token_count, rate = sum(sample.length for sample in samples), 1
        while token_count > rate * MAX_SAMPLED_RUNS:
            rate *= 2
        file_numbers: dict[str, int] = {}
        is_held_out: dict[int, bool] = {}
        pieces: list[FileRuns] = []
        history_hashes, training_hashes = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.uint64)]
        tasks = (
            ([(sample.context_prefix, sample.tokens[: sample.length]) for sample in batch], rate)
            for batch in sample_batches(samples)
        )
        hashes_of_samples = chain.from_iterable(self.context.run_safe_tasks(sampled_run_hashes, tasks))
        for sample, hashes in zip(samples, hashes_of_samples, strict=True):
            technique = _technique(sample)
            if technique in HISTORY_TECHNIQUES:
                if sample.split == "train":
                    history_hashes.append(hashes)
                continue
            if sample.split == "train":
                training_hashes.append(hashes)
            number = file_numbers.setdefault(sample.metadata["source_file"], len(file_numbers))
            is_held_out[number] = is_held_out.get(number, False) or sample.split != "train"
            pieces.append(FileRuns(number, hashes, technique == BASE))
        all_runs = RunIndex.from_files(pieces)
        held_out = np.array([is_held_out[number] for number in range(len(file_numbers))], dtype=bool)
        if not held_out.any() or held_out.all():
            self.skip_reason = "nothing is held out" if not held_out.any() else "nothing is learned from"
            return
        # A file that is in two splits counts as held out, so its training samples are added by themselves.
        learned = all_runs.find_runs(np.concatenate(training_hashes))
        overlap_without_changes = all_runs.overlap_share(held_out, learned)
        overlap = all_runs.overlap_share(held_out, learned, all_runs.find_runs(np.concatenate(history_hashes)))
        groups = self._similarity_groups(file_numbers)
        random_overlaps = all_runs.random_overlap_shares(held_out, RANDOM_SPLITS, groups) or [1.0]
        mean, deviation = fmean(random_overlaps), pstdev(random_overlaps)
        run_count = int(np.count_nonzero(np.bincount(all_runs.measured[0][held_out[all_runs.measured[1]]])))
        self.certificate = {
            "run": RUN_TOKENS, "one_in": rate, "runs": run_count, "overlap": overlap,
            "without_changes": overlap_without_changes, "floor": mean, "deviation": deviation, "draws": random_overlaps,
        }  # fmt: skip
        result = f"{overlap:.1%} of held-out {RUN_TOKENS}-token runs are in training; "
        result += f"of files held out at random {mean:.1%}"
        runs = f"all {run_count:,} runs" if rate == 1 else f"{run_count:,} runs, one in {rate}"
        self.figure = f"{result} ± {deviation:.1%} ({runs})"
        if overlap > max(random_overlaps) + OVERLAP_MARGIN:
            first = next(sample for sample in samples if sample.split != "train")
            yield self.finding(self.dataset.files(first.split)[0].name, result)

    def _similarity_groups(self, file_numbers: dict[str, int]) -> NDArray[np.int64]:
        """For each file, by its number, a number that all files share which are alike; shape (files,)."""
        files, pairs = self.context.similar_files
        numbers = np.array([file_numbers[sample.metadata["source_file"]] for sample in files], dtype=np.int64)
        return connect_components(np.arange(len(file_numbers)), numbers[pairs.left], numbers[pairs.right])


class HeldOutLinesCheck(Check):
    """Reports training rows that show a line that only held-out code has, or a held-out file in their context.

    The figure is how many changes show such a line. Lines are compared by their words, whatever they are wrapped in,
    if they span 16 bytes or more from their first to their last word. A line that training files also have is allowed.
    With the repository, training files are all its files that are not held out. Without it, files that were dropped as
    copies are unknown, and their lines look as if only held-out code had them; so three such lines are required.

    If commits are held out (`split.holdout`), the lines that they added are compared with all training rows instead. A
    single line that training knows is only counted, because people write such lines again and again. Three in a row are
    a finding: they were moved or copied. Shorter lines do not end such a run.
    """

    name = "held_out_lines"
    promise = (
        "No training row made from history or other files shows a line that only held-out files have, "
        "and none knows three successive lines that held-out commits added."
    )

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._has_all_files = context.repository is not None

    def finish(self) -> Iterator[Finding]:
        """Compare the lines of all samples that show history, and the paths in all contexts."""
        held_out = [sample for sample in self.samples.by_id.values() if sample.split != "train"]
        training = [sample for sample in self.samples.by_id.values() if sample.split == "train"]
        if not held_out:
            self.skip_reason = "nothing is held out"
            return
        if self.context.recipe.split.holdout == "commits":
            yield from self._find_known_runs(held_out, training)
            return
        changes = [sample for sample in training if _technique(sample) in HISTORY_TECHNIQUES]
        secret_lines = self._find_secret_lines(held_out, training)
        line_counts = self._count_secret_lines(changes, secret_lines)
        for sample, count in zip(changes, line_counts, strict=True):
            if count >= (1 if self._has_all_files else MIN_LINES_WITHOUT_REPOSITORY):
                lines = "a line" if count == 1 else f"{count} lines"
                yield self.sample_finding(sample, f"{lines} that only held-out code has")
        contexts = [sample for sample in training if _technique(sample) == "cross_file_context"]
        split_of_path = {str(sample.metadata["source_file"]): sample.split for sample in held_out}
        paths_with_newline = [path for path in split_of_path if "\n" in path]
        for sample in contexts:
            shown = self._shown_paths(sample, paths_with_newline)
            paths = {dataset_path(str(sample.metadata.get("repository", "")), path) for path in shown}
            for path in sorted(split_of_path.keys() & paths):
                yield self.sample_finding(sample, f"its context shows {path}, which is in {split_of_path[path]}")
        changes_with_a_line = sum(count > 0 for count in line_counts)
        self.certificate = {
            "lines": len(secret_lines), "changes": len(changes), "changes_with_a_line": changes_with_a_line,
            "contexts": len(contexts), "with_repository": self._has_all_files,
        }  # fmt: skip
        result = f"{changes_with_a_line:,} of {len(changes):,} changes have one of {len(secret_lines):,} such lines"
        if self.context.repository and not self._has_all_files:
            result += ", files of the repository being missing"
        self.figure = f"{result} (from {MIN_LINE_BYTES} bytes); {len(contexts):,} contexts"

    def _find_known_runs(self, held_out: list[RebuiltSample], training: list[RebuiltSample]) -> Iterator[Finding]:
        """Compare the lines that commits added with all text of training rows."""
        added = [
            (sample, text.splitlines())
            for sample in held_out
            if _technique(sample) == BASE
            for text in self.samples.held_out_texts(sample)
        ]
        paths = {str(sample.metadata["source_file"]) for sample in (*held_out, *training)}
        texts = (
            text
            for sample in training
            for text in (*self._context_texts(sample, paths), *self.samples.run_texts(sample))
        )
        asked = HashedLines.from_texts(line for _, lines in added for line in lines)
        known = KnownLines.find(asked, (HashedLines.from_texts(batch) for batch in text_batches(texts)))
        line_count = known_count = run_count = 0
        for sample, lines in added:
            hashed = HashedLines.from_texts(lines)
            marks, is_in_run = known.mark(hashed), known.mark_runs(hashed)
            line_count += sum(mark is not None for mark in marks)
            known_count += marks.count(True)
            run_count += sum(mark is True and inside for mark, inside in zip(marks, is_in_run, strict=True))
            if any(is_in_run):
                first = lines[is_in_run.index(True)].decode("utf-8", "replace").strip()
                yield self.sample_finding(sample, f"training knows {sum(is_in_run)} of its lines, from {first!r} on")
        self.certificate = {"lines": line_count, "known": known_count, "in_runs": run_count}
        self.figure = (
            f"training knows {known_count:,} of {line_count:,} lines that commits added (from {MIN_LINE_BYTES} bytes), "
            f"{run_count:,} of them in a row"
        )

    def _context_texts(self, sample: RebuiltSample, paths: set[str]) -> Iterator[bytes]:
        """The texts in a sample's context prefix, without the paths before them.

        A held-out list of files is no copy of the headers of these files.
        """
        for _, text in self.samples.context_parts(sample):
            first, _, others = text.partition(b"\n")
            path = dataset_path(str(sample.metadata.get("repository", "")), first.decode("utf-8", "replace"))
            yield others if path in paths else text

    def _find_secret_lines(self, held_out: list[RebuiltSample], training: list[RebuiltSample]) -> LineIndex:
        """The lines of held-out code, without those that training files have."""
        shown = {BASE, *HISTORY_TECHNIQUES}
        held_out_texts = (self._code_texts(sample) for sample in held_out if _technique(sample) in shown)
        secret_lines = LineIndex.from_lines(HashedLines.from_texts(chain.from_iterable(held_out_texts)))
        unchanged = (sample for sample in training if _technique(sample) not in HISTORY_TECHNIQUES)
        training_texts = chain.from_iterable(map(self.samples.run_texts, unchanged))
        all_texts = chain(training_texts, self._repository_texts(held_out))
        known_lines = [secret_lines.find_in(HashedLines.from_texts(batch)).entry for batch in text_batches(all_texts)]
        return secret_lines.without(np.concatenate(known_lines))

    def _count_secret_lines(self, changes: list[RebuiltSample], secret_lines: LineIndex) -> list[int]:
        """How many secret lines each sample shows, in its code and in quotes of its commit message."""
        code = HashedLines.from_texts(map(self._shown_code, changes))
        quotes = HashedLines.from_texts(map(self._shown_quotes, changes))
        in_code = code.count_per_text(secret_lines.find_in(code).line)
        in_quotes = quotes.count_per_text(secret_lines.find_in(quotes, MIN_QUOTED_SHARE).line)
        return (in_code + in_quotes).tolist()

    def _code_texts(self, sample: RebuiltSample) -> list[bytes]:
        """All code that a sample shows."""
        parts = self.samples.context_parts(sample)
        return [*_texts_after(parts, "<commit_before>", "<commit_after>"), *self.samples.run_texts(sample)]

    def _shown_code(self, sample: RebuiltSample) -> bytes:
        """The code of changes that a sample shows. The text behind a temporal context is the file, and no change."""
        parts = self.samples.context_parts(sample)
        texts = _texts_after(parts, "<commit_before>")
        if _technique(sample) == "git_diff":
            texts += [*_texts_after(parts, "<commit_after>"), *self.samples.run_texts(sample)]
        return b"\n".join(texts)

    def _shown_quotes(self, sample: RebuiltSample) -> bytes:
        """What the commit messages that a sample shows quote."""
        return b"\n".join(map(split_quotes, _texts_after(self.samples.context_parts(sample), "<commit_msg>")))

    def _shown_paths(self, sample: RebuiltSample, paths_with_newline: list[str]) -> Iterator[str]:
        """The paths that a context shows: the first line of each part, or several for a path with a newline."""
        for _, text in self.samples.context_parts(sample):
            yield text.partition(b"\n")[0].decode("utf-8", "replace")
            yield from (path for path in paths_with_newline if text.startswith(f"{path}\n".encode()))

    def _repository_texts(self, held_out: list[RebuiltSample]) -> Iterator[bytes]:
        """The texts of all files of the repository that are not held out."""
        repository = self.context.repository
        if repository is None:
            return
        options = self.context.recipe.read
        held_out_paths = {sample.metadata["source_file"] for sample in held_out}
        entries = [entry for entry in repository.entries() if printable_path(entry.path) not in held_out_paths]
        self._has_all_files = not any(
            entry.size is None and entry.mode & MODE_TYPE_MASK in {FILE_MODE, FOLDER_MODE} for entry in entries
        )
        readable = (entry for entry in entries if entry.size is not None)
        blobs = {entry.blob for entry in readable if (entry.size or 0) <= max_file_bytes(entry.path, options)}
        for _, data in repository.read_blobs(sorted(blobs)):
            text = clean_file(data, options) if isinstance(data, bytes) else None
            if isinstance(text, CleanText):
                yield text.text


def _technique(sample: RebuiltSample) -> str:
    return sample.metadata["augmentation_type"]


def _owning_split(owners: dict[str | bytes, Split], key: str | bytes, split: Split) -> Split:
    """The held-out split that a key was first seen in, or the given split. Keys of training rows are not remembered."""
    return owners.setdefault(key, split) if split != "train" else owners.get(key, split)


def _texts_after(parts: list[tuple[str, bytes]], *control_tokens: str) -> list[bytes]:
    """The texts of a context prefix that follow one of some control tokens."""
    return [text for control_token, text in parts if control_token in control_tokens]


def sampled_run_hashes(task: tuple[list[tuple[Tokens, Tokens]], int]) -> list[NDArray[np.uint64]]:
    """The hashes of one in `rate` of each text's runs, each once. Runs in workers, too.

    The texts are context prefixes and tokens, with `UNKNOWN` in gaps. A run may begin in the context prefix, if the
    text behind it is known from its first token on.
    """
    texts, rate = task
    hashes_of_texts: list[NDArray[np.uint64]] = []
    for head, tokens in texts:
        parts = [run_hashes(np.concatenate((head, run)) if start == 0 else run) for start, run in known_runs(tokens)]
        hashes_of_texts.append(sample_hashes(np.concatenate((np.empty(0, dtype=np.uint64), *parts)), rate))
    return hashes_of_texts

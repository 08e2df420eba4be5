"""The read step: reads the files of the commit (tree entry → Source) and the changes of its history (→ Change).

Links, submodules, pointers, binary, huge and undecodable files are dropped, and so is our own output that somebody
committed; each is counted with its reason. The size of a file is asked first, so a huge one is never read. Secrets are
redacted before a text is stored anywhere. `read_changes` reads the history.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.errors import RepositoryError
from git_starcoder.git.attributes import read_attributes
from git_starcoder.git.history import LastChange
from git_starcoder.git.objects import FILE_MODE, MODE_TYPE_MASK, SUBMODULE_MODE, SYMLINK_MODE, Unreadable
from git_starcoder.memo import Memo
from git_starcoder.parse import own_output
from git_starcoder.parse.language import detect_language
from git_starcoder.records import NO_DECLARED_ROLES, Source, Span, content_id
from git_starcoder.stages.read_changes import cleaning_settings, read_changes
from git_starcoder.text.clean import CleanText, clean_file, find_refusal, max_file_bytes
from git_starcoder.text.secrets import secret_file_reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import Repo, TreeEntry
    from git_starcoder.memo import Inputs
    from git_starcoder.parse.own_output import OwnOutput
    from git_starcoder.recipe import ReadOptions
    from git_starcoder.records import Change
    from git_starcoder.text.encoding import Refusal


class StoredText(NamedTuple):
    """A text in the text store; the other fields are those of `text.clean.Clean`."""

    span: Span
    decoding_changes: tuple[str, ...]
    secrets: Counter[str]
    secret_share: float
    skipped: Counter[str]


def read_repository(build: BuildState, options: ReadOptions, repo: Repo) -> tuple[list[Source], list[Change]]:
    """Every text file at the commit, sorted by the bytes of its path, and the changes of the history, newest first.

    Raises:
        RepositoryError: no file can be used.

    """
    entries = repo.entries()
    attributes = read_attributes(repo)
    with build.count_step("read", None if options.changes else len(entries)) as step:
        if options.changes:
            last_changes, changes = read_changes(build, step, options, repo, attributes)
        else:
            last_changes, changes = repo.last_changes(), []
        drops_of_history = step.dropped.copy()
        refusals = _refuse_unread(entries, options, repo)
        # Equal files share one text: a million names for one file do not fill the disk.
        wanted = dict.fromkeys(entry.blob for entry, refusal in zip(entries, refusals, strict=True) if refusal is None)
        texts, own = _read_texts(build, options, repo, list(wanted))
        own_paths = {entry.path: own[entry.blob] for entry in entries if entry.blob in own}
        parts_of_own = own_output.find_companions(own_paths, ((entry.path, entry.size) for entry in entries))
        sources: list[Source] = []
        secrets: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        for entry, refusal in zip(entries, refusals, strict=True):
            text = refusal or texts[entry.blob]
            if entry.path in parts_of_own:
                text = Unreadable(own_output.DROP_REASON, "belongs to output of ours beside it")
            if not isinstance(text, StoredText):
                step.drop(entry.path, text.reason, text.detail)
                continue
            content = CleanText(build.texts.get(text.span), *text[1:])
            if problem := find_refusal(entry.path, content, options):
                step.drop(entry.path, problem.reason, problem.detail)
                continue
            last_change = last_changes.get(entry.path) or LastChange("", repo.committed_at)
            sources.append(
                Source(
                    id=content_id(entry.blob, entry.path),
                    path=entry.path,
                    blob=entry.blob,
                    commit=last_change.commit,
                    changed_at=last_change.committed_at,
                    former_paths=last_change.former_paths,
                    language=detect_language(entry.path, content.text),
                    text=text.span,
                    decoding_changes=text.decoding_changes,
                    declared_roles=attributes.declared_roles(entry.path),
                )
            )
            secrets.update(text.secrets)
            skipped.update(text.skipped)
            step.keep()
        step.figures["entries"] = len(entries)
        step.figures["bytes"] = sum(source.text.stop - source.text.start for source in sources)
        if marked := sum(source.declared_roles != NO_DECLARED_ROLES for source in sources):
            step.figures["marked"] = marked
        step.figures["renamed"] = sum(bool(source.former_paths) for source in sources)
        step.figures.update({f"secrets_{kind.lower()}": count for kind, count in sorted(secrets.items())})
        step.figures.update(sorted(skipped.items()))
    for note in repo.notes:
        build.progress.note(note)
    if not sources:
        drops = sorted((step.dropped - drops_of_history).items())
        reasons = ", ".join(f"{count} {reason}" for reason, count in drops)
        hint = f"of {len(entries)} files: {reasons}" if entries else "the commit has no files"
        raise RepositoryError(
            f"no file in '{repo.path}' can be used: a dataset needs at least one text file",
            where=f"commit {repo.commit}",
            hint=hint,
        )
    return sources, changes


def _read_texts(
    build: BuildState, options: ReadOptions, repo: Repo, blobs: Sequence[str]
) -> tuple[dict[str, StoredText | Unreadable | Refusal], dict[str, OwnOutput]]:
    """The text of each blob, or why there is none; and what each blob is that is our own output.

    A blob that an earlier build found to be its own text, with nothing to decode or redact, is not cleaned again.
    """
    memo: Memo[bool] = Memo(build.cache, "clean", bool)
    settings = cleaning_settings(options)
    cached = memo.get([(blob, settings) for blob in blobs])
    new: list[tuple[Inputs, bool]] = []
    texts: dict[str, StoredText | Unreadable | Refusal] = {}
    own: dict[str, OwnOutput] = {}
    for is_clean, (blob, data) in zip(cached, repo.read_blobs(blobs), strict=True):
        text: CleanText | Unreadable | Refusal
        if isinstance(data, Unreadable):
            text = data
        elif found := own_output.recognise_own_output(data):
            own[blob] = found
            text = Unreadable(own_output.DROP_REASON, found.description)
        elif is_clean:
            text = CleanText(data, (), Counter(), 0.0, Counter())
        else:
            text = clean_file(data, options)
            new.append(((blob, settings), isinstance(text, CleanText) and text.text == data and not text.changed))
        texts[blob] = StoredText(build.texts.put(text.text), *text[1:]) if isinstance(text, CleanText) else text
    memo.put(new)
    return texts, own


def _refuse_unread(entries: list[TreeEntry], options: ReadOptions, repo: Repo) -> list[Unreadable | None]:
    """For each entry the reason why it is not even read, or None."""
    refusals = [_refuse_entry(entry, options, repo) for entry in entries]
    for index in range(1, len(entries)):
        if entries[index].path == entries[index - 1].path:
            refusals[index] = Unreadable("repeated", "the same path is listed twice")
    return refusals


def _refuse_entry(entry: TreeEntry, options: ReadOptions, repo: Repo) -> Unreadable | None:
    kind = entry.mode & MODE_TYPE_MASK
    if entry.unreadable is not None:
        return entry.unreadable
    if kind == SYMLINK_MODE:
        return Unreadable("symlink")
    if kind == SUBMODULE_MODE:
        return Unreadable("submodule", f"commit {entry.blob} of another repository")
    if kind != FILE_MODE:
        return Unreadable("odd_mode", f"{entry.mode:o}")
    if options.secrets != "off" and (what := secret_file_reason(entry.path)):
        return Unreadable("secret_file", what)
    if entry.size is None:
        return repo.explain_unreadable(entry.blob)
    if entry.size > max_file_bytes(entry.path, options):
        return Unreadable("too_large", f"{entry.size} bytes")
    return None

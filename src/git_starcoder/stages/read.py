"""read: entries of the commit's tree → Source, and changes of its history → Change.

Links, submodules, pointers, binary, huge and undecodable files go no further, nor does output of ours that somebody
committed; each is counted with its reason. Sizes are asked before contents, so a huge file is never read. Secrets are
taken out before a text is kept anywhere. How changes are read: `read_changes`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.errors import RepositoryError
from git_starcoder.git.attributes import attributes_of
from git_starcoder.git.history import LastChange
from git_starcoder.git.objects import FILE, KIND, SUBMODULE, SYMLINK, Fault
from git_starcoder.memo import Memo
from git_starcoder.parse import own_output
from git_starcoder.parse.language import language_of
from git_starcoder.records import NO_DECLARED_ROLES, Source, Span, content_id
from git_starcoder.stages.read_changes import read_changes
from git_starcoder.text.clean import Clean, clean, most_bytes, unfit
from git_starcoder.text.secrets import only_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import Entry, Repo
    from git_starcoder.memo import Inputs
    from git_starcoder.parse.own_output import Own
    from git_starcoder.recipe import ReadOptions
    from git_starcoder.records import Change
    from git_starcoder.text.encoding import Refusal


def read_repository(build: BuildState, options: ReadOptions, repo: Repo) -> tuple[list[Source], list[Change]]:
    """Every file at the commit that is text, sorted by the bytes of its path, and what commits did, newest first.

    Raises:
        RepositoryError: no file can be used.
    """
    entries = repo.entries()
    attributes = attributes_of(repo)
    with build.count_step("read", None if options.changes else len(entries)) as step:
        if options.changes:
            lasts, changes = read_changes(build, step, options, repo, attributes)
        else:
            lasts, changes = repo.last_changes(), []
        history = step.dropped.copy()
        unknown = LastChange("", repo.committed_at)
        refused = _refused(entries, options, repo)
        wanted = dict.fromkeys(entry.blob for entry, refusal in zip(entries, refused, strict=True) if refusal is None)
        # Equal files share one text: a million names for one file fill no disk.
        texts, own = _texts(build, options, repo, list(wanted))
        output = {entry.path: own[entry.blob] for entry in entries if entry.blob in own}
        beside = own_output.company(output, ((entry.path, entry.size) for entry in entries))
        sources: list[Source] = []
        secrets: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        for entry, refusal in zip(entries, refused, strict=True):
            text = refusal or texts[entry.blob]
            if entry.path in beside:
                text = Fault(own_output.REASON, "belongs to output of ours beside it")
            if not isinstance(text, Kept):
                step.drop(entry.path, text.reason, text.because)
                continue
            whole = Clean(build.texts.get(text.span), *text[1:])
            if refusal := unfit(entry.path, whole, options):
                step.drop(entry.path, refusal.reason, refusal.because)
                continue
            last = lasts.get(entry.path, unknown)
            sources.append(
                Source(
                    id=content_id(entry.blob, entry.path),
                    path=entry.path,
                    blob=entry.blob,
                    commit=last.commit,
                    changed_at=last.at,
                    former_paths=last.former,
                    language=language_of(entry.path, whole.text),
                    text=text.span,
                    decoding_changes=text.changed,
                    declared_roles=attributes.said(entry.path),
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
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted((step.dropped - history).items()))
        hint = f"of {len(entries)} files: {reasons}" if entries else "the commit has no files"
        raise RepositoryError(f"nothing in '{repo.path}' can be used", where=f"commit {repo.commit}", hint=hint)
    return sources, changes


class Kept(NamedTuple):
    """A text in the run's store, what decoding altered, and what redacting took out."""

    span: Span
    changed: tuple[str, ...]
    secrets: Counter[str]
    share: float
    skipped: Counter[str]


def _texts(
    run: BuildState, options: ReadOptions, repo: Repo, blobs: Sequence[str]
) -> tuple[dict[str, Kept | Fault | Refusal], dict[str, Own]]:
    """The text of each blob, or why there is none, and what each is that is output of ours.

    What an earlier build found to be clean is not looked at again.
    """
    memo: Memo[bool] = Memo(run.cache, "clean", bool)
    settings = repr((options.max_bytes, options.max_line, options.mean_line, options.secrets))
    known = memo.get([(blob, settings) for blob in blobs])
    found: list[tuple[Inputs, bool]] = []
    texts: dict[str, Kept | Fault | Refusal] = {}
    output: dict[str, Own] = {}
    for was_clean, (blob, data) in zip(known, repo.read(blobs), strict=True):
        text: Clean | Fault | Refusal
        if isinstance(data, Fault):
            text = data
        elif own := own_output.recognise(data):
            output[blob] = own
            text = Fault(own_output.REASON, own.what)
        elif was_clean:
            text = Clean(data, (), Counter(), 0.0, Counter())
        else:
            text = clean(data, options)
            found.append(((blob, settings), isinstance(text, Clean) and text.text == data and not text.changed))
        texts[blob] = Kept(run.texts.put(text.text), *text[1:]) if isinstance(text, Clean) else text
    memo.put(found)
    return texts, output


def _refused(entries: list[Entry], options: ReadOptions, repo: Repo) -> list[Fault | None]:
    """For each entry why it is not even read, or None."""
    refused = [_refusal(entry, options, repo) for entry in entries]
    for at in range(1, len(entries)):
        if entries[at].path == entries[at - 1].path:
            refused[at] = Fault("repeated", "the same path is listed twice")
    return refused


def _refusal(entry: Entry, options: ReadOptions, repo: Repo) -> Fault | None:
    """Why an entry is not even read."""
    kind = entry.mode & KIND
    if entry.fault is not None:
        return entry.fault
    if kind == SYMLINK:
        return Fault("symlink")
    if kind == SUBMODULE:
        return Fault("submodule", f"commit {entry.blob} of another repository")
    if kind != FILE:
        return Fault("odd_mode", f"{entry.mode:o}")
    if options.secrets != "off" and (what := only_secrets(entry.path)):
        return Fault("secret_file", what)
    if entry.size is None:
        return repo.why_unread(entry.blob)
    if entry.size > most_bytes(entry.path, options):
        return Fault("too_large", f"{entry.size} bytes")
    return None

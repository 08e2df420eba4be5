"""The augment step: makes samples from units and changes (Unit, Change → Sample).

Each unit gives one sample with its text as it is, its variations, and texts with a context prefix (see
`git_starcoder.augmentations`). A result that its augmentation's `verify` rejects is dropped.

Which augmentations a file gets is drawn from its content. So a file has the same variations whatever else the
repository contains and in whatever order files arrive. A training file is only shown other training files; a held-out
file is also shown files of its own split, but none of a later commit.
"""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from git_starcoder import augmentations
from git_starcoder.augmentations import ChangeTexts, FramedText, FrameInput, header_parts
from git_starcoder.build_state import FAULTS
from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.parse.structure import window_starts
from git_starcoder.parse.tree import Code, parse
from git_starcoder.protocols import Failure
from git_starcoder.records import Change, ContextPart, Sample, Span, Unit, content_id
from git_starcoder.row_layout import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.recipe import AugmentationOptions, Recipe

VARIATIONS_TIMEOUT_SECONDS = 60.0
"""Time limit for all variations of one file. Every step of them is bounded by the file's size; this is for hangs."""
FILES_PER_CACHE_QUERY = 128
"""Files whose variations are looked up in the cache together."""
MAX_HISTORY_CHANGES = 8
"""Changes of a file that an augmentation can use as its history, the newest first."""


class VariationResult(NamedTuple):
    """A verified variation, or the reason why there is none. Workers send it and the cache stores it."""

    text: bytes | None
    """None if there is no variation."""
    masked_spans: tuple[Span, ...] = ()
    window_starts: bytes = b""
    """See `Sample.window_starts`."""
    reason: str = ""
    detail: str = ""


class FramesResult(NamedTuple):
    """The verified framed texts of a file or change, or the reason why there are none. The cache stores it."""

    frames: list[FramedText]
    reason: str = ""
    detail: str = ""


def _no_variation(reason: str, detail: str = "") -> VariationResult:
    return VariationResult(None, reason=reason, detail=detail)


class DrawnVariation(NamedTuple):
    """An augmentation that was drawn for a file."""

    key: str
    """The name of the augmentation."""
    seed: int
    """The seed of the random numbers for this copy."""


class VariationTask(NamedTuple):
    """Variations that a worker is to make of one file."""

    text: bytes
    language: str
    drawn: list[DrawnVariation]


def make_samples(build: BuildState, recipe: Recipe, units: Sequence[Unit], changes: Sequence[Change]) -> list[Sample]:
    """The samples of all units, then those of all changes.

    Each unit gives its own text first (`base`), then the results of its augmentations in the order of the recipe. The
    step counts as seen: for each unit its own text and every copy of every augmentation for files; for each change
    every augmentation for changes.
    """
    options = recipe.augment
    for_files = {key: option for key, option in options.items() if augmentations.input_kind(key) != "change"}
    for_changes = {key: option for key, option in options.items() if augmentations.input_kind(key) == "change"}
    total = len(units) * (1 + sum(option.copies for option in for_files.values())) + len(changes) * len(for_changes)
    samples: list[Sample] = []
    with build.count_step("augment", total) as step:
        frame_file = _file_framer(build, units, changes)
        for unit, drawn, results in _make_all_variations(build, units, for_files):
            samples.append(_base_sample(build, unit, recipe.window.header))
            step.keep()
            for key, option in for_files.items():
                copies = [variation for variation in drawn if variation.key == key]
                if augmentations.input_kind(key) in {"text", "tree"}:
                    made = [results[variation] for variation in copies]
                    made += [_no_variation("not_drawn")] * (option.copies - len(copies))
                    samples += _variation_samples(build, step, unit, key, made)
                else:
                    result = frame_file(unit, key) if copies else FramesResult([], "not_drawn")
                    samples += _framed_samples(build, step, unit, key, result)
        for key, option in for_changes.items():
            for change in changes:
                result = FramesResult([], "not_drawn")
                if build.uniform("augment", key, change.id) < option.share:
                    result = _frame(key, FrameInput(change.path, b"", changes=(_load_change(build, change),)))
                samples += _framed_samples(build, step, change, key, result)
        for key in options:
            step.figures[key] = sum(sample.technique == key for sample in samples)
    return samples


def _base_sample(build: BuildState, unit: Unit, repository: str | None) -> Sample:
    """A file as it is, with the name of the repository and the file's path as context prefix if there is a name."""
    names = () if repository is None else header_parts(repository, unit.path)
    edges = (edge for span in unit.scored_spans for edge in span)
    return Sample(
        content_id(unit.id, BASE, *(part.text for part in names), *edges),
        unit,
        BASE,
        unit.source.text,
        context_prefix=tuple(ContextPart(part.control_token, build.texts.put(part.text)) for part in names),
        window_starts=unit.window_starts,
    )


def draw_variations(build: BuildState, options: Mapping[str, AugmentationOptions], unit: Unit) -> list[DrawnVariation]:
    """The augmentations that a unit gets, in the order of `options`; those for changes are left out.

    A file of which only a part is held out gets none, because the part would stand elsewhere in a variation.
    """
    if unit.scored_spans:
        return []
    drawn: list[DrawnVariation] = []
    for key, option in options.items():
        if augmentations.input_kind(key) != "change" and build.uniform("augment", key, unit.id) < option.share:
            generator = build.rng("augment", key, unit.id)
            drawn += [DrawnVariation(key, generator.getrandbits(64)) for _ in range(option.copies)]
    return drawn


def make_variations(task: VariationTask) -> list[VariationResult]:
    """Make and verify the variations of one file. Runs in a worker."""
    before = parse(task.text, task.language)
    return [_make_variation(before, drawn) for drawn in task.drawn]


def _make_variation(before: Code, drawn: DrawnVariation) -> VariationResult:
    augmentation = augmentations.load_variation(drawn.key)
    if augmentation.NEEDS == "tree" and not before.is_clean:
        return _no_variation("not_clean")
    if not augmentations.supports_language(drawn.key, before.language):
        return _no_variation(augmentations.NOTHING_TO_CHANGE)
    variant = augmentation.vary(before, random.Random(drawn.seed))  # noqa: S311 - not for secrets
    if isinstance(variant, str):
        return _no_variation(variant)
    if variant.text == before.data and not variant.masked_spans:
        return _no_variation("same_text")
    after = before
    if augmentation.NEEDS == "tree" and before.language is not None:
        after = parse(variant.text, before.language.key)
        if not after.is_clean:
            return _no_variation("unverified", "it does not parse")
    problem = augmentation.verify(before, variant, after)
    if problem:
        return _no_variation("unverified", problem)
    return VariationResult(variant.text, variant.masked_spans, window_starts(after))


def _make_all_variations(
    build: BuildState, units: Sequence[Unit], options: Mapping[str, AugmentationOptions]
) -> Iterator[tuple[Unit, list[DrawnVariation], dict[DrawnVariation, VariationResult]]]:
    """Each unit with the augmentations that were drawn for it and the results of those that are variations.

    What needs a tree is made in workers, if the file has one without errors; the rest here.
    """
    memo: Memo[list[VariationResult]] = Memo(build.cache, "variations", list[VariationResult])
    for some_units in batch_by_size(units, lambda _: 1, FILES_PER_CACHE_QUERY):
        drawn_for = [draw_variations(build, options, unit) for unit in some_units]
        for_workers = [
            [one for one in drawn if unit.parse_status == "clean" and augmentations.input_kind(one.key) == "tree"]
            for unit, drawn in zip(some_units, drawn_for, strict=True)
        ]
        tasks = [
            VariationTask(build.texts.get(unit.source.text), unit.language, variations)
            for unit, variations in zip(some_units, for_workers, strict=True) if variations
        ]  # fmt: skip
        answers = memo.map(
            tasks,
            lambda task: (task.language, task.text, repr(task.drawn)),
            lambda missing: _run_tasks(build, missing),
            lambda _, results: not any(result.reason in FAULTS for result in results),
        )
        for unit, drawn, variations in zip(some_units, drawn_for, for_workers, strict=True):
            results = dict(zip(variations, next(answers) if variations else (), strict=True))
            for variation in drawn:
                kind = augmentations.input_kind(variation.key)
                if kind == "text":
                    text = Code(build.texts.get(unit.source.text), None, None, is_clean=False)
                    results[variation] = _make_variation(text, variation)
                elif kind == "tree" and variation not in results:
                    results[variation] = _no_variation("no_tree" if unit.parse_status == "none" else "not_clean")
            yield unit, drawn, results


def _run_tasks(build: BuildState, tasks: list[VariationTask]) -> Iterator[list[VariationResult]]:
    answers = build.engine.map(make_variations, tasks, limit=VARIATIONS_TIMEOUT_SECONDS)
    for task, answer in zip(tasks, answers, strict=True):
        if isinstance(answer, Failure):
            yield [_no_variation(f"parser_{answer.kind}", answer.detail)] * len(task.drawn)
        else:
            yield answer


def _variation_samples(
    build: BuildState, step: StepCounts, unit: Unit, key: str, results: list[VariationResult]
) -> Iterator[Sample]:
    """The samples of the copies that one augmentation made of a unit; equal copies give one sample."""
    seen: set[tuple[bytes, tuple[Span, ...]]] = set()
    for result in results:
        text, masked_spans = result.text, result.masked_spans
        if text is None:
            step.drop(unit.path, result.reason, f"{key}: {result.detail}" if result.detail else key)
        elif (text, masked_spans) in seen:
            step.drop(unit.path, "same_text", f"{key}: another copy came out the same")
        else:
            seen.add((text, masked_spans))
            step.keep()
            yield Sample(
                content_id(unit.id, key, text, *(edge for span in masked_spans for edge in span)),
                unit,
                key,
                unit.source.text if masked_spans else build.texts.put(text),
                masked_spans,
                window_starts=build.texts.put(result.window_starts),
            )


def _file_framer(
    build: BuildState, units: Sequence[Unit], changes: Sequence[Change]
) -> Callable[[Unit, str], FramesResult]:
    """A function that adds context prefixes to a file: from the files it imports, or from its latest changes.

    Framed texts from imports are cached, because they take a search through the symbols of many files.
    """
    # Of two versions of a file, training knows the past one only, which is never shown the other.
    unit_of_path = {unit.path: unit for unit in sorted(units, key=lambda unit: unit.source.added is None)}
    history: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if len(history[change.current_path]) < MAX_HISTORY_CHANGES:
            history[change.current_path].append(change)
    memo: Memo[FramesResult] = Memo(build.cache, "frames", FramesResult)

    @cache
    def symbols_digest(path: str) -> str:
        return content_id(msgspec.msgpack.encode(unit_of_path[path].symbols))

    def frame(unit: Unit, key: str) -> FramesResult:
        text = build.texts.get(unit.source.text)
        if augmentations.input_kind(key) == "history":
            latest = tuple(_load_change(build, change) for change in history[unit.path])
            return _frame(key, FrameInput(unit.path, text, changes=latest))
        imported = (unit_of_path.get(path) for path in unit.imports)
        splits = {"train", unit.split} if unit.source.added is None else {"train"}
        visible = [other for other in imported if other is not None and other.split in splits]
        symbols = tuple((other.path, other.symbols) for other in visible)
        inputs = FrameInput(unit.path, text, symbols, symbols=unit.symbols)
        names = (part for other in (unit, *visible) for part in (other.path, symbols_digest(other.path)))
        [result] = memo.map([(key, text, *names)], lambda inputs: inputs, lambda _: [_frame(key, inputs)])
        return result

    return frame


def _load_change(build: BuildState, change: Change) -> ChangeTexts:
    edits = tuple((build.texts.get(edit.before), build.texts.get(edit.after)) for edit in change.edits)
    return ChangeTexts(change.path, build.texts.get(change.message), edits, change.is_whole_file)


def _frame(key: str, inputs: FrameInput) -> FramesResult:
    """The verified framed texts of one file or change; one that does not verify rejects them all."""
    framing = augmentations.load_framing(key)
    frames = framing.frame(inputs)
    if isinstance(frames, str):
        return FramesResult([], frames)
    problem = next(filter(None, (framing.verify(inputs, frame) for frame in frames)), "")
    return FramesResult([], "unverified", problem) if problem else FramesResult(frames)


def _framed_samples(
    build: BuildState, step: StepCounts, origin: Unit | Change, key: str, result: FramesResult
) -> Iterator[Sample]:
    """The samples of the framed texts of one file or change. Together they count as one thing kept."""
    if result.reason:
        name = origin.path if isinstance(origin, Unit) else f"{origin.path}@{origin.commit}"
        step.drop(name, result.reason, f"{key}: {result.detail}" if result.detail else key)
        return
    step.keep()
    store = cache(build.texts.put)  # the frames of one change repeat the same hunks
    for frame in result.frames:
        prefix = tuple(ContextPart(control_token, store(text)) for control_token, text in frame.prefix)
        content = b"\0".join((frame.text, *(part.text for part in frame.prefix)))
        name = content_id(origin.id, key, frame.kind, content, *(part.control_token for part in frame.prefix))
        if isinstance(origin, Unit):
            yield Sample(name, origin, key, origin.source.text, (), prefix, frame.kind, origin.window_starts)
        else:
            yield Sample(name, origin, key, store(frame.text), (), prefix, frame.kind)

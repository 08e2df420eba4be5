"""Augment: what was drawn, made and verified becomes a sample; everything else is counted with its reason."""

from __future__ import annotations

from collections import Counter

import pytest

from git_starcoder import augmentations
from git_starcoder.augmentations import Variant
from git_starcoder.build_state import BuildState
from git_starcoder.engine.local import LocalEngine
from git_starcoder.parse.tree import parse
from git_starcoder.protocols import Failure
from git_starcoder.recipe import AugmentationOptions, Recipe
from git_starcoder.records import Source, Unit, content_id
from git_starcoder.stages import augment

ALL = {"comment_toggle": 1.0, "format_variation": 1.0, "token_masking": 1.0, "variable_renaming": 1.0}
RUST = b"// a\nfn f(a: u8) -> u8 {\n    let b = a; // b\n\n    a + b\n}\n"
FILES = {
    "a.rs": ("rust", RUST, "clean"),
    "b.rs": ("rust", b"struct S;\n", "clean"),
    "c.rs": ("rust", b"fn (\n", "errors"),
    "d.md": ("text", b"# Title\n\nA text.\n", "none"),
    "e.md": ("text", b"\n", "none"),
}


class Here:
    """An engine that works in this process."""

    jobs = 1

    def map(self, function, tasks, *, limit):
        assert limit > 0
        return map(function, tasks)


class Broken:
    """An engine whose workers die."""

    jobs = 1

    def __init__(self, kind):
        self.kind = kind

    def map(self, _function, tasks, **_):
        return (Failure(self.kind, "it fell") for _ in tasks)


def run_on(folder, files=FILES, shares=ALL, engine=None, seed=0):
    with BuildState(folder, seed, engine or Here()) as run:
        units = []
        for path, (language, text, tree) in files.items():
            source = Source(content_id(path, text), path, content_id(text), "c", 0, (), language, run.texts.put(text))
            units.append(Unit(source, tree, "core", 0.0))
        options = {
            key: share if isinstance(share, AugmentationOptions) else AugmentationOptions(share)
            for key, share in shares.items()
        }
        samples = augment.make_samples(run, Recipe(augment=options), units, [])
        texts = [run.texts.get(sample.text) for sample in samples]
        return samples, texts, run.steps[0], run.drops


def test_base_first_then_the_variations_in_the_order_of_the_recipe(tmp_path):
    samples, texts, step, drops = run_on(tmp_path)
    made = [(sample.origin.path, sample.technique) for sample in samples]
    assert made == [
        ("a.rs", "base"), ("a.rs", "comment_toggle"), ("a.rs", "format_variation"), ("a.rs", "token_masking"),
        ("a.rs", "variable_renaming"), ("b.rs", "base"), ("b.rs", "token_masking"), ("c.rs", "base"),
        ("c.rs", "token_masking"), ("d.md", "base"), ("d.md", "token_masking"), ("e.md", "base"),
    ]  # fmt: skip
    assert texts[0] == RUST
    assert len({sample.id for sample in samples}) == len(samples)
    assert (step.seen, step.kept) == (25, 12)
    assert step.dropped == {"nothing_to_change": 4, "not_clean": 3, "no_tree": 6}
    assert {(drop.id, drop.detail) for drop in drops if drop.reason == "not_clean"} == {
        ("c.rs", key) for key in ALL if key != "token_masking"
    }
    assert step.figures == {"comment_toggle": 1, "format_variation": 1, "token_masking": 4, "variable_renaming": 1}


def test_copies_differ_or_are_dropped(tmp_path):
    samples, texts, step, drops = run_on(
        tmp_path,
        {"a.rs": ("rust", RUST.replace(b" // b", b""), "clean")},
        {"format_variation": AugmentationOptions(1.0, 16)},
    )
    assert len(set(texts)) == len(samples) == step.kept > 8
    assert step.seen == 17
    assert {drop.detail for drop in drops if drop.reason == "same_text"} == {
        "format_variation: another copy came out the same"
    }
    samples, _, step, _ = run_on(
        tmp_path / "b", {"b.rs": FILES["b.rs"]}, {"comment_toggle": AugmentationOptions(0.0, 3)}
    )
    assert (step.seen, step.dropped) == (4, {"not_drawn": 3})


def test_variations_are_verified_ones(tmp_path):
    samples, texts, *_ = run_on(tmp_path)
    before = parse(RUST, "rust")
    for sample, text in zip(samples, texts, strict=True):
        if sample.origin.path == "a.rs" and sample.technique != "base":
            module = augmentations.load_variation(sample.technique)
            assert module.verify(before, Variant(text, sample.masked_spans), parse(text, "rust")) == ""
            assert (text != RUST) == (sample.technique != "token_masking")


def test_masked_samples_share_their_text(tmp_path):
    samples, *_ = run_on(tmp_path)
    masked = [sample for sample in samples if sample.technique == "token_masking"]
    assert all(sample.masked_spans and sample.text == sample.origin.source.text for sample in masked)
    assert not any(sample.masked_spans for sample in samples if sample.technique != "token_masking")


def test_shares_are_drawn_by_content(tmp_path):
    files = {f"{index}.rs": ("rust", RUST + b"// %d\n" % index, "clean") for index in range(200)}
    shares = {**ALL, "comment_toggle": 0.25, "variable_renaming": 0.0}
    samples, _, step, _ = run_on(tmp_path / "a", files, shares)
    counts = Counter(sample.technique for sample in samples)
    assert 25 < counts["comment_toggle"] < 75
    assert (counts["base"], counts["format_variation"], counts["variable_renaming"]) == (200, 200, 0)
    assert step.dropped["not_drawn"] == 400 - counts["comment_toggle"]
    backwards, *_ = run_on(tmp_path / "b", dict(reversed(files.items())), shares)
    assert {sample.id for sample in backwards} == {sample.id for sample in samples}
    other, *_ = run_on(tmp_path / "c", files, shares, seed=1)
    assert {sample.id for sample in other} != {sample.id for sample in samples}


@pytest.mark.parametrize("kind", ["crash", "timeout", "error"])
def test_a_parser_that_fails_costs_variations_and_no_base(tmp_path, kind):
    samples, _, step, drops = run_on(tmp_path, engine=Broken(kind))
    assert [sample.technique for sample in samples].count("base") == len(FILES)
    assert step.dropped[f"parser_{kind}"] == 6
    assert ("a.rs", "comment_toggle: it fell") in {(drop.id, drop.detail) for drop in drops}


@pytest.mark.parametrize(
    ("text", "problem"),
    [(b"fn (", "it does not parse"), (RUST.replace(b"fn f", b"fn g"), "something else than safe names differs")],
)
def test_a_variation_that_does_not_verify_is_not_kept(tmp_path, monkeypatch, text, problem):
    from git_starcoder.augmentations import variable_renaming

    monkeypatch.setattr(variable_renaming, "vary", lambda *_: Variant(text))
    samples, _, step, drops = run_on(tmp_path, {"a.rs": FILES["a.rs"]}, {"variable_renaming": 1.0})
    assert [sample.technique for sample in samples] == ["base"]
    assert [(drop.reason, drop.detail) for drop in drops] == [("unverified", f"variable_renaming: {problem}")]
    assert (step.seen, step.kept) == (2, 1)


def test_the_same_text_is_no_variation(tmp_path, monkeypatch):
    from git_starcoder.augmentations import variable_renaming

    monkeypatch.setattr(variable_renaming, "vary", lambda code, _: Variant(code.data))
    _, _, step, _ = run_on(tmp_path, {"a.rs": FILES["a.rs"]}, {"variable_renaming": 1.0})
    assert step.dropped == {"same_text": 1}


def test_no_augmentations_no_work(tmp_path):
    samples, texts, step, _ = run_on(tmp_path, shares={}, engine=Broken("crash"))
    assert texts == [text for _, text, _ in FILES.values()]
    assert (step.seen, step.kept, len(samples)) == (5, 5, 5)


def test_any_number_of_workers_gives_the_same(tmp_path):
    here = run_on(tmp_path / "a")
    with LocalEngine(2) as engine:
        there = run_on(tmp_path / "b", engine=engine)
    assert [(sample.id, sample.text, sample.masked_spans) for sample in here[0]] == [
        (sample.id, sample.text, sample.masked_spans) for sample in there[0]
    ]
    assert here[1] == there[1]

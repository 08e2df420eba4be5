"""Pins: files keep the split of an earlier dataset, whatever seed and sizes say, and held-out text stays held out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from git_starcoder import recipe
from git_starcoder.build_state import NO_PINS, BuildState, Pins
from git_starcoder.protocols import NO_PROGRESS
from git_starcoder.records import Source, Unit, content_id, printable_path
from git_starcoder.stages import split


class NoEngine:
    jobs = 1


def words(seed, count=60):
    """Text like no other."""
    chance = random.Random(seed)
    return " ".join(f"w{chance.randrange(10**9)}" for _ in range(count)).encode()


def parted(folder, files, pins=NO_PINS, seed=0):
    """The split of files (path → text, or (text, former paths))."""
    with BuildState(folder, seed, NoEngine(), NO_PROGRESS, pins=pins) as run:
        units = []
        for path, content in files.items():
            text, former = content if isinstance(content, tuple) else (content, ())
            span = run.texts.put(text)
            source = Source(content_id(path, text), path, content_id(text), "c", 0, tuple(former), "text", span)
            units.append(Unit(source, "none", "core", 0.0))
        whole = recipe.Recipe(window=recipe.WindowOptions(size=64))
        done, _ = split.assign_splits(run, whole, units, [])
        return {unit.source.path: unit.split for unit in done}


FILES = {f"{number}.txt": words(number) for number in range(30)}


def test_files_keep_the_split_of_an_earlier_dataset(tmp_path):
    first = parted(tmp_path / "a", FILES)
    assert set(first.values()) == {"train", "val", "test"}
    assert parted(tmp_path / "b", FILES, seed=1) != first
    assert parted(tmp_path / "c", FILES, Pins(first), seed=1) == first


def test_files_that_are_not_pinned_are_split_as_ever(tmp_path):
    plain = parted(tmp_path / "a", FILES)
    path = next(path for path, of in plain.items() if of == "train")
    pinned = parted(tmp_path / "b", FILES, Pins({path: "val"}))
    assert pinned == {**plain, path: "val"}


def test_a_renamed_file_keeps_its_split(tmp_path):
    moved = {f"new/{path}": (text, ("between.txt" if path == "0.txt" else path, path)) for path, text in FILES.items()}
    first = parted(tmp_path / "a", FILES)
    turned = {path: "test" if of == "train" else "train" for path, of in first.items()}
    assert parted(tmp_path / "b", moved, Pins(turned)) == {f"new/{path}": of for path, of in turned.items()}


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ({"1.txt": "train", "copy.txt": "test"}, "test"),
        ({"1.txt": "val", "copy.txt": "train"}, "val"),
        ({"1.txt": "val", "copy.txt": "test"}, "test"),
        ({"copy.txt": "test"}, "test"),
    ],
)
def test_a_group_of_several_splits_stays_held_out(tmp_path, pins, expected):
    found = parted(tmp_path / "a", {**FILES, "copy.txt": FILES["1.txt"]}, Pins(pins))
    assert (found["1.txt"], found["copy.txt"]) == (expected, expected)


def test_paths_are_those_of_rows(tmp_path):
    odd = "caf\udce9.txt"
    found = parted(tmp_path / "a", {**FILES, odd: words(99)}, Pins({printable_path(odd): "test"}))
    assert found[odd] == "test"


def test_digests_tell_pins_apart(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    every = [NO_PINS, Pins({"a": "val"}), Pins({"a": "test"}), Pins({"a": "val", "b": "val"}), Pins({}, Path(tmp_path))]
    assert NO_PINS.digests() == ()
    assert len({pins.digests() for pins in every}) == len(every)
    assert Pins({"a": "val", "b": "test"}).digests() == Pins({"b": "test", "a": "val"}).digests()

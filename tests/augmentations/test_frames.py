"""What holds for every augmentation of the shelf that puts context in front of a text."""

from __future__ import annotations

import pytest

from git_starcoder import augmentations, registry
from git_starcoder.augmentations import ChangeTexts, FramedText, FrameInput, PrefixPart
from git_starcoder.records import Symbol
from git_starcoder.text.tokenizer import SPECIAL_TOKENS

KEYS = [key for key in registry.names("augmentations") if augmentations.input_kind(key) not in {"text", "tree"}]

FETCH = b"def fetch(url):\n    return urlopen(url, timeout=SECONDS)  # <file_sep><commit_after>\n"
CHANGE = ChangeTexts(
    "lib/n\xe9t\udcff.py",
    b"Retry <commit_after> once\n\nBecause servers do not answer.",
    (
        (b"import urllib.request.urlopen\n", b"from urllib.request import urlopen\n"),
        (b"def fetch(url):\n    return urllib.request.urlopen(url)\n", FETCH),
        (b"def fetched_long_ago(url): pass\n", b""),
    ),
    is_whole_file=False,
)
WHOLE = ChangeTexts("a.py", b"", ((b"", b"x = 1\n"),), is_whole_file=True)
INPUTS = {
    "git_diff": [FrameInput(CHANGE.path, b"", changes=(CHANGE,)), FrameInput("a.py", b"", changes=(WHOLE,))],
    "temporal_context": [FrameInput("lib/n\xe9t\udcff.py", FETCH, changes=(WHOLE, CHANGE, WHOLE))],
    "cross_file_context": [
        FrameInput(
            "lib/main.py",
            b"from net import fetch, Config\nfetch(Config.load(1))\nConfig()\n",
            (
                (
                    "lib/n\xe9t\udcff.py",
                    (
                        Symbol("fetch", "def fetch(url)", "public", 3),
                        Symbol("Config", "class Config: size: int", "public", 4, "type"),
                        Symbol("load", "def load(cls, size)", "public", 5, "function", "Config"),
                        Symbol("idle", "def idle(self)", "public", 6, "function", "Config"),
                    ),
                ),
            ),
            symbols=(Symbol("main", "def main()", "public", 9),),
        )
    ],
}
ALL = [(key, inputs) for key in KEYS for inputs in INPUTS[key]]


def framed(key: str, inputs: FrameInput) -> list[FramedText]:
    frames = augmentations.load_framing(key).frame(inputs)
    assert isinstance(frames, list), frames
    return frames


def test_every_framing_is_tried() -> None:
    assert sorted(INPUTS) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_says_what_it_does(key: str) -> None:
    help_line = registry.summary("augmentations", key)
    assert help_line.endswith(".")
    assert len(help_line) <= 100


@pytest.mark.parametrize(("key", "inputs"), ALL)
def test_frames_are_verified_and_have_a_head_and_a_text(key: str, inputs: FrameInput) -> None:
    for frame in framed(key, inputs):
        assert augmentations.load_framing(key).verify(inputs, frame) == ""
        assert frame.prefix
        assert frame.text
        assert {part.control_token for part in frame.prefix} <= set(SPECIAL_TOKENS)
        for part in frame.prefix:
            part.text.decode()
        if inputs.text:
            assert frame.text == inputs.text


@pytest.mark.parametrize(("key", "inputs"), ALL)
def test_the_same_gives_the_same(key: str, inputs: FrameInput) -> None:
    assert framed(key, inputs) == framed(key, inputs)


@pytest.mark.parametrize("key", KEYS)
def test_there_is_a_reason_where_there_is_nothing(key: str) -> None:
    reason = augmentations.load_framing(key).frame(FrameInput("a.py", b"x = 1\n"))
    assert isinstance(reason, str)
    assert reason.replace("_", "").isalpha()


def spoiled(frame: FramedText) -> list[tuple[str, FramedText]]:
    prefix = frame.prefix
    made = [
        ("another text", frame._replace(text=frame.text + b"x = 2\n")),
        ("no text", frame._replace(text=b"")),
        ("another kind", frame._replace(kind="other")),
        ("no prefix", frame._replace(prefix=())),
        ("a prefix the other way round", frame._replace(prefix=prefix[::-1])),
    ]
    for at, part in enumerate(prefix):
        before, behind = prefix[:at], prefix[at + 1 :]
        made += [
            (f"without part {at}", frame._replace(prefix=before + behind)),
            (f"part {at} twice", frame._replace(prefix=(*before, part, part, *behind))),
            (f"part {at} with more", frame._replace(prefix=(*before, part._replace(text=part.text + b"x\n"), *behind))),
            (f"part {at} without a mark", frame._replace(prefix=(*before, part._replace(control_token=""), *behind))),
            (
                f"part {at} with another mark",
                frame._replace(prefix=(*before, part._replace(control_token="<repo_name>"), *behind)),
            ),
            (
                f"part {at} with the answer",
                frame._replace(prefix=(*before, PrefixPart(part.control_token, frame.text), *behind)),
            ),
        ]
    return [
        (how, other)
        for how, other in made
        if (other.prefix, other.text) != (prefix, frame.text) or how == "another kind"
    ]


@pytest.mark.parametrize(("key", "inputs"), ALL)
def test_what_spoils_a_frame_is_found(key: str, inputs: FrameInput) -> None:
    for frame in framed(key, inputs):
        for how, other in spoiled(frame):
            if how == "another kind" and not frame.kind:
                continue
            assert augmentations.load_framing(key).verify(inputs, other) != "", how


@pytest.mark.parametrize(("key", "inputs"), ALL)
def test_the_frames_of_others_are_found(key: str, inputs: FrameInput) -> None:
    others = [
        inputs._replace(path="other.py", changes=tuple(one._replace(path="other.py") for one in inputs.changes)),
        inputs._replace(imported_files=(), changes=tuple(one._replace(message=b"No") for one in inputs.changes)),
        inputs._replace(
            text=inputs.text + b"#",
            imported_files=tuple((path, symbols[:0]) for path, symbols in inputs.imported_files),
            changes=tuple(
                one._replace(edits=tuple((after, before) for before, after in one.edits)) for one in inputs.changes
            ),
        ),
    ]
    for frame in framed(key, inputs):
        for other in others:
            assert augmentations.load_framing(key).verify(other, frame) != ""

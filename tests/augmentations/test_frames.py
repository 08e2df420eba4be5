"""What holds for every augmentation of the shelf that puts context in front of a text."""

from __future__ import annotations

import pytest

from git_starcoder import augmentations, registry
from git_starcoder.augmentations import Around, Frame, Part, Shown
from git_starcoder.records import Symbol
from git_starcoder.text.tokenizer import SPECIAL_TOKENS

KEYS = [key for key in registry.names("augmentations") if augmentations.needs(key) not in {"text", "tree"}]

FETCH = b"def fetch(url):\n    return urlopen(url, timeout=SECONDS)  # <file_sep><commit_after>\n"
CHANGE = Shown(
    "lib/n\xe9t\udcff.py",
    b"Retry <commit_after> once\n\nBecause servers do not answer.",
    (
        (b"import urllib.request.urlopen\n", b"from urllib.request import urlopen\n"),
        (b"def fetch(url):\n    return urllib.request.urlopen(url)\n", FETCH),
        (b"def fetched_long_ago(url): pass\n", b""),
    ),
    whole=False,
)
WHOLE = Shown("a.py", b"", ((b"", b"x = 1\n"),), whole=True)
AROUND = {
    "git_diff": [Around(CHANGE.path, b"", changes=(CHANGE,)), Around("a.py", b"", changes=(WHOLE,))],
    "temporal_context": [Around("lib/n\xe9t\udcff.py", FETCH, changes=(WHOLE, CHANGE, WHOLE))],
    "cross_file_context": [
        Around(
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
ALL = [(key, around) for key in KEYS for around in AROUND[key]]


def framed(key: str, around: Around) -> list[Frame]:
    frames = augmentations.framing(key).frame(around)
    assert isinstance(frames, list), frames
    return frames


def test_every_framing_is_tried() -> None:
    assert sorted(AROUND) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_says_what_it_does(key: str) -> None:
    help_line = registry.summary("augmentations", key)
    assert help_line.endswith(".")
    assert len(help_line) <= 100


@pytest.mark.parametrize(("key", "around"), ALL)
def test_frames_are_verified_and_have_a_head_and_a_text(key: str, around: Around) -> None:
    for frame in framed(key, around):
        assert augmentations.framing(key).verify(around, frame) == ""
        assert frame.head
        assert frame.text
        assert {part.mark for part in frame.head} <= set(SPECIAL_TOKENS)
        for part in frame.head:
            part.text.decode()
        if around.text:
            assert frame.text == around.text


@pytest.mark.parametrize(("key", "around"), ALL)
def test_the_same_gives_the_same(key: str, around: Around) -> None:
    assert framed(key, around) == framed(key, around)


@pytest.mark.parametrize("key", KEYS)
def test_there_is_a_reason_where_there_is_nothing(key: str) -> None:
    reason = augmentations.framing(key).frame(Around("a.py", b"x = 1\n"))
    assert isinstance(reason, str)
    assert reason.replace("_", "").isalpha()


def spoiled(frame: Frame) -> list[tuple[str, Frame]]:
    head = frame.head
    made = [
        ("another text", frame._replace(text=frame.text + b"x = 2\n")),
        ("no text", frame._replace(text=b"")),
        ("another kind", frame._replace(kind="other")),
        ("no head", frame._replace(head=())),
        ("a head the other way round", frame._replace(head=head[::-1])),
    ]
    for at, part in enumerate(head):
        before, behind = head[:at], head[at + 1 :]
        made += [
            (f"without part {at}", frame._replace(head=before + behind)),
            (f"part {at} twice", frame._replace(head=(*before, part, part, *behind))),
            (f"part {at} with more", frame._replace(head=(*before, part._replace(text=part.text + b"x\n"), *behind))),
            (f"part {at} without a mark", frame._replace(head=(*before, part._replace(mark=""), *behind))),
            (
                f"part {at} with another mark",
                frame._replace(head=(*before, part._replace(mark="<repo_name>"), *behind)),
            ),
            (f"part {at} with the answer", frame._replace(head=(*before, Part(part.mark, frame.text), *behind))),
        ]
    return [
        (how, other) for how, other in made if (other.head, other.text) != (head, frame.text) or how == "another kind"
    ]


@pytest.mark.parametrize(("key", "around"), ALL)
def test_what_spoils_a_frame_is_found(key: str, around: Around) -> None:
    for frame in framed(key, around):
        for how, other in spoiled(frame):
            if how == "another kind" and not frame.kind:
                continue
            assert augmentations.framing(key).verify(around, other) != "", how


@pytest.mark.parametrize(("key", "around"), ALL)
def test_the_frames_of_others_are_found(key: str, around: Around) -> None:
    others = [
        around._replace(path="other.py", changes=tuple(one._replace(path="other.py") for one in around.changes)),
        around._replace(neighbours=(), changes=tuple(one._replace(message=b"No") for one in around.changes)),
        around._replace(
            text=around.text + b"#",
            neighbours=tuple((path, symbols[:0]) for path, symbols in around.neighbours),
            changes=tuple(
                one._replace(edits=tuple((after, before) for before, after in one.edits)) for one in around.changes
            ),
        ),
    ]
    for frame in framed(key, around):
        for other in others:
            assert augmentations.framing(key).verify(other, frame) != ""

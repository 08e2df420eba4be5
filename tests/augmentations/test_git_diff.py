from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_starcoder.augmentations import ChangeTexts, FramedText, FrameInput, PrefixPart, git_diff
from git_starcoder.text.diff import find_hunks, is_small


def of(*edits: tuple[bytes, bytes], whole: bool = False, message: bytes = b"Why") -> FrameInput:
    return FrameInput("a.py", b"", changes=(ChangeTexts("a.py", message, edits, whole),))


def frames(inputs: FrameInput) -> list[FramedText]:
    made = git_diff.frame(inputs)
    assert isinstance(made, list), made
    assert [git_diff.verify(inputs, one) for one in made] == [""] * len(made)
    return made


def written(frame: FramedText) -> bytes:
    return b"".join(part.control_token.encode() + part.text for part in frame.prefix) + b"|" + frame.text


def test_a_small_file_is_shown_whole() -> None:
    (frame,) = frames(of((b"x = 1\n", b"x = 2\n"), whole=True))
    assert frame.kind == "file"
    assert written(frame) == b"<file_sep>a.py\n<commit_before>x = 1\n<commit_msg>Why<commit_after>|x = 2\n"


def test_a_file_that_a_commit_adds_has_nothing_before() -> None:
    (frame,) = frames(of((b"", b"x = 2\n"), whole=True))
    assert written(frame) == b"<file_sep>a.py\n<commit_before><commit_msg>Why<commit_after>|x = 2\n"


def test_every_hunk_is_shown_alone_and_behind_those_before_it() -> None:
    made = frames(of((b"a\n", b"A\n"), (b"b\n", b"B\n"), (b"c\n", b"C\n")))
    first = b"<commit_before>a\n<commit_msg>Why<commit_after>"
    then = b"A\n<commit_before>b\n<commit_msg><commit_after>"
    assert [(one.kind, written(one).removeprefix(b"<file_sep>a.py\n")) for one in made] == [
        ("hunk", first + b"|A\n"),
        ("hunk", b"<commit_before>b\n<commit_msg>Why<commit_after>|B\n"),
        ("next_edit", first + then + b"|B\n"),
        ("hunk", b"<commit_before>c\n<commit_msg>Why<commit_after>|C\n"),
        ("next_edit", first + then + b"B\n<commit_before>c\n<commit_msg><commit_after>|C\n"),
    ]


def test_what_is_only_taken_away_is_shown_before_the_next_edit_but_is_no_answer() -> None:
    made = frames(of((b"a\n", b" \n"), (b"b\n", b"B\n")))
    assert [one.kind for one in made] == ["hunk", "next_edit"]
    assert PrefixPart("<commit_after>", b" \n") in made[1].prefix
    assert git_diff.frame(of((b"a\n", b""), (b"b\n", b"\n"))) == "blank"


@pytest.mark.parametrize("inputs", [of(), of((b"a\n", b"a\n")), FrameInput("a.py", b"")])
def test_no_change_gives_no_frame(inputs: FrameInput) -> None:
    assert git_diff.frame(inputs) == "no_change"


def test_no_more_hunks_are_shown_than_there_is_room_for() -> None:
    many = frames(of(*((b"%d\n" % at, b"-%d\n" % at) for at in range(9))))
    assert max(len(one.prefix) for one in many) == 1 + 3 * (git_diff.MAX_EARLIER_HUNKS + 1)
    half = b"x" * (git_diff.MAX_EARLIER_BYTES // 2)
    (*_, last) = frames(of((b"", half), (b"", half + b"y"), (b"", b"z")))
    assert [part.text for part in last.prefix if part.control_token == "<commit_after>"] == [half + b"y", b""]
    assert last.kind == "next_edit"
    assert [one.kind for one in frames(of((half, half + b"y"), (b"", b"z")))] == ["hunk", "hunk"]


def test_giants_are_left_out() -> None:
    giant = b"x" * git_diff.MAX_ROW_BYTES
    assert git_diff.frame(of((b"", giant))) == "too_long"
    assert [one.text for one in frames(of((b"", giant), (b"y", b"z")))] == [b"z"]


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (FramedText((PrefixPart("<file_sep>", b"a.py\n"),), b"B", "hunk"), "the prefix has other parts"),
        (("b", b"Why", b"a", b"", b"A", "hunk"), "the path is another"),
        (("a.py", b"why", b"a", b"", b"A", "hunk"), "the message is another"),
        (("a.py", b"Why", b"A", b"", b"a", "hunk"), "the change is another"),
        (("a.py", b"Why", b"a", b"A", b"A", "hunk"), "the prefix holds the answer"),
        (("a.py", b"Why", b"s", b"", b"s", "hunk"), "nothing changes"),
        (("a.py", b"Why", b"b", b"", b"", "hunk"), "the answer is blank"),
        (("a.py", b"Why", b"a", b"", b"A", "file"), "the kind is another"),
    ],
)
def test_what_is_wrong_is_said(frame: FramedText | tuple[str, bytes, bytes, bytes, bytes, str], wrong: str) -> None:
    if not isinstance(frame, FramedText):
        path, message, before, after, text, kind = frame
        head = (("<file_sep>", path.encode() + b"\n"), ("<commit_before>", before), ("<commit_msg>", message))
        frame = FramedText((*(PrefixPart(*part) for part in head), PrefixPart("<commit_after>", after)), text, kind)
    assert git_diff.verify(of((b"a", b"A"), (b"s", b"s"), (b"b", b"")), frame) == wrong


LINES = st.lists(st.sampled_from([b"", b"\t", b"a", b"b", b"<commit_after>", "é".encode()]), max_size=150)


@settings(deadline=None, max_examples=100)
@given(before=LINES, after=LINES, message=st.text(max_size=20))
def test_frames_of_any_two_texts_show_what_changed(before: list[bytes], after: list[bytes], message: str) -> None:
    old, new = b"\n".join(before), b"\n".join(after)
    found = find_hunks(old, new)
    assert found is not None
    whole = is_small(old) and is_small(new)
    inputs = of(*((one.before, one.after) for one in found), whole=whole, message=message.encode())
    if isinstance(git_diff.frame(inputs), str):
        assert not any(one.after.strip() for one in found)
        return
    alone = [one for one in frames(inputs) if one.kind != "next_edit"]
    assert [one.text for one in alone] == [one.after for one in found if one.after.strip()]
    for frame in alone:
        assert frame.kind == ("file" if whole else "hunk")
        assert frame.text in new
        assert frame.prefix[1].text in old

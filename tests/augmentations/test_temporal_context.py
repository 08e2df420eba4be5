from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_starcoder.augmentations import ChangeTexts, FramedText, FrameInput, PrefixPart, temporal_context
from git_starcoder.augmentations.temporal_context import MAX_COMMITS, MAX_PREFIX_BYTES, MIN_REVEALING_CHARACTERS
from git_starcoder.text.diff import find_hunks

NOW = b"def fetch(url, seconds):\n    return urlopen(url, timeout=seconds)\n"
OLD = b"def fetch(url):\n    return urllib.request.urlopen(url)\n"


def change(before: bytes, after: bytes, message: bytes = b"Why") -> ChangeTexts:
    return ChangeTexts("a.py", message, ((before, after),), is_whole_file=False)


def head(text: bytes, *changes: ChangeTexts) -> bytes:
    """Changes from the newest."""
    around = FrameInput("a.py", text, changes=changes)
    made = temporal_context.frame(around)
    assert isinstance(made, list), made
    (frame,) = made
    assert temporal_context.verify(around, frame) == ""
    assert frame.text == text
    return b"".join(part.control_token.encode() + part.text for part in frame.prefix)


def reason(text: bytes, *changes: ChangeTexts) -> str:
    made = temporal_context.frame(FrameInput("a.py", text, changes=changes))
    assert isinstance(made, str)
    return made


def test_what_is_gone_is_shown_with_the_subject_and_what_came_is_not() -> None:
    assert head(NOW, change(OLD, NOW, b"Wait no longer\n\nFor servers.")) == (
        b"<commit_before>" + OLD + b"<commit_msg>Wait no longer<commit_after><file_sep>a.py\n"
    )


def test_the_newest_stands_last() -> None:
    first, second = b"old_of_all = read_all(source)\n", b"old_of_few = read_few(source)\n"
    assert head(NOW, change(second, NOW, b"Two"), change(first, second, b"One")) == (
        b"<commit_before>" + first + b"<commit_msg>One<commit_before>" + second + b"<commit_msg>Two"
        b"<commit_after><file_sep>a.py\n"
    )


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(b"", id="only added"),
        pytest.param(b"}\n", id="too short to say anything"),
        pytest.param(b"        return urlopen(url, timeout=seconds)  \n", id="indented"),
        pytest.param(b"x" * (MAX_PREFIX_BYTES + 1) + b"\n", id="too long for the budget"),
        pytest.param(b"y\n" * temporal_context.MAX_HUNK_BYTES, id="too long to look at"),
    ],
)
def test_a_commit_that_took_nothing_away_is_not_enough(before: bytes) -> None:
    assert reason(NOW, change(before, b"")) == "only_new"


def test_a_file_without_changes_has_no_history() -> None:
    assert reason(NOW) == "no_history"


def test_such_a_commit_is_shown_among_others() -> None:
    assert head(NOW, change(b"", NOW, b"Add"), change(OLD, b"", b"Take")) == (
        b"<commit_before>" + OLD + b"<commit_msg>Take<commit_before><commit_msg>Add<commit_after><file_sep>a.py\n"
    )


def test_a_run_ends_where_a_line_stands_in_the_file() -> None:
    before = b"gone = 'gone for good, one'\n    return urlopen(url, timeout=seconds)\n}\nx\n"
    assert head(NOW, change(before, b"")).startswith(b"<commit_before>gone = 'gone for good, one'\n<commit_msg>")


def test_a_run_is_shown_once_and_ends_with_a_line_break() -> None:
    shown = ChangeTexts(
        "a.py", b"", ((b"the line that is gone", b"!"), (b"the line that is gone\n", b"?")), is_whole_file=False
    )
    assert head(NOW, shown) == (b"<commit_before>the line that is gone\n<commit_msg><commit_after><file_sep>a.py\n")


def test_a_subject_that_the_file_quotes_is_left_out_with_its_commit() -> None:
    quoted = b"Wait for servers no longer"
    assert reason(b"# Changes\n- " + quoted + b"\n", change(OLD, b"", quoted)) == "only_new"


def test_the_newest_commits_have_the_budget_and_there_is_an_end() -> None:
    lines = [b"%d: %s\n" % (at, b"x" * (MAX_PREFIX_BYTES // 3)) for at in range(4)]
    assert head(NOW, *(change(line, b"", b"%d" % at) for at, line in enumerate(lines))).count(b"x" * 99) > 0
    shown = head(NOW, *(change(b"%d: gone for good, I say\n" % at, b"", b"") for at in range(MAX_COMMITS + 1)))
    assert shown.count(b"gone for good") == MAX_COMMITS
    assert b"%d: gone" % MAX_COMMITS not in shown


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ([(b"", b"Why")], "nothing was removed"),
        ([(NOW, b"Why")], "the prefix reveals lines of the text"),
        ([(OLD, b"return urlopen(url, timeout=seconds)")], "the prefix reveals lines of the text"),
        ([(b"another line that is gone\n", b"Why")], "no change removed this, or not in this order"),
        ([(OLD, b"Why"), (OLD, b"Why")], "no change removed this, or not in this order"),
        ([(OLD, b"Why not")], "no change removed this, or not in this order"),
        ([(b"x" * MAX_PREFIX_BYTES, b"Why")], "the prefix is too long"),
        ([], "the prefix has other parts"),
    ],
)
def test_what_is_wrong_is_said(parts: list[tuple[bytes, bytes]], wrong: str) -> None:
    around = FrameInput("a.py", NOW, changes=(change(OLD, NOW),))
    shown = [
        PrefixPart(*part) for gone, subject in parts for part in (("<commit_before>", gone), ("<commit_msg>", subject))
    ]
    frame = FramedText((*shown, PrefixPart("<commit_after>", b""), PrefixPart("<file_sep>", b"a.py\n")), NOW)
    assert temporal_context.verify(around, frame) == wrong


WORDS = st.sampled_from([b"short", b"}", b"", *(b"line number %d of all the lines" % at for at in range(12))])
TEXTS = st.lists(st.builds(b"\n".join, st.lists(WORDS, max_size=20)), min_size=2, max_size=6)


@settings(deadline=None, max_examples=100)
@given(texts=TEXTS, messages=st.lists(WORDS, min_size=6, max_size=6))
def test_the_head_never_gives_a_line_of_the_text_away(texts: list[bytes], messages: list[bytes]) -> None:
    changes = [
        ChangeTexts(
            "a.py", message, tuple((one.before, one.after) for one in find_hunks(old, new) or ()), is_whole_file=False
        )
        for old, new, message in zip(texts, texts[1:], messages, strict=False)
    ]
    around = FrameInput("a.py", texts[-1], changes=tuple(reversed(changes)))
    made = temporal_context.frame(around)
    if isinstance(made, str):
        assert made == "only_new"
        return
    assert temporal_context.verify(around, made[0]) == ""
    shown = {line.strip() for part in made[0].prefix for line in part.text.splitlines()}
    assert not [
        line
        for line in texts[-1].splitlines()
        if len(line.strip()) >= MIN_REVEALING_CHARACTERS and line.strip() in shown
    ]


def test_a_line_with_a_cr_inside_is_one_line() -> None:
    gone = b"old_name = 'first\rsecond part of it'\n"
    now = NOW + b"kept = 'first line of all\rand more of it'\n"
    assert gone in head(now, change(gone + NOW, now))
    assert reason(now, change(now, NOW), change(NOW, now)) == "only_new"

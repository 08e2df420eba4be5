"""The engine on a tiny model: what it writes, from what it knows, and that nothing it keeps changes the text."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from itertools import pairwise
from threading import Event, Thread

import pytest

import finished
from git_starcoder.errors import UsageError
from git_starcoder.model.generation import Sampling
from git_starcoder.model.loading import SERVING_FILE, SERVING_SCHEMA
from git_starcoder.serve import follow
from git_starcoder.serve.confidence import DEFAULT_THRESHOLD
from git_starcoder.serve.cursor import CancelledError, Cursor, Wishes
from git_starcoder.serve.engine import KEPT_TEXTS, Engine, EngineParts
from git_starcoder.serve.fields import DEFAULT_TOKENS
from git_starcoder.serve.prompt import make_prompt, text_tokens
from git_starcoder.serve.words import WordEnd
from serving import FILES, let_write, replace_file, wait_until
from shell import HUNG

PATH = "src/file_0.py"
TEXT = FILES[PATH]
PLACE = TEXT.index("return total") + len("return")
ALL = Wishes(min_confidence=0)


def complete(engine, prefix, suffix="", path="new.py", wishes=ALL, **options):
    return engine.complete(Cursor(prefix, suffix, path), wishes, **options)


def test_a_cursor_inside_a_token_is_healed(shared_engine):
    for begun in ("retu", "ret", "r", ""):
        before = TEXT[: PLACE - len("return")] + begun
        found = complete(shared_engine, before, TEXT[PLACE + len(" total") :], PATH)
        assert begun + found.text == "return total", begun
        assert found.confidence > 0.1


def test_a_name_that_only_the_disk_knows_is_completed_and_forgotten_with_its_branch(engine, work_tree, git):
    prefix = "def other():\n    return only_the_"

    def text():
        return complete(engine, prefix).text

    assert "disk_knows" not in text()
    git(work_tree, "checkout", "-q", "-b", "other")
    line = "    return only_the_disk_knows_this_name(4711)\n"
    replace_file(work_tree / "src" / "file_1.py", f"def other():\n{line}\n\ndef more():\n{line}")
    wait_until(lambda: text() == "disk_knows_this_name(4711)")
    git(work_tree, "commit", "-q", "-a", "-m", "other")
    git(work_tree, "checkout", "-q", "main")
    wait_until(lambda: "disk_knows" not in text())


def test_unsaved_text_of_another_file_is_completed(shared_engine):
    open_texts = {"other.py": "value = unsaved_thing_of_somebody(12)\n" * 2}
    cursor = Cursor("value = unsaved_", path="new.py", open_texts=open_texts)
    assert shared_engine.complete(cursor, ALL).text == "thing_of_somebody(12)"
    assert "somebody" not in complete(shared_engine, "value = unsaved_").text


def test_excerpts_count(shared_engine):
    wishes = ALL._replace(top_count=1, ending="none", max_tokens=1)
    excerpt = "value = excerpt_order_of_a_file(99)\n" * 3
    found = [
        shared_engine.complete(Cursor("value = excerpt_", path="new.py", excerpts=excerpts), wishes).tokens[0].top[0]
        for excerpts in ((), (excerpt,))
    ]
    assert found[0] != found[1]


def test_the_suffix_changes_what_is_written(shared_engine):
    before = "def find_order(items: list[int], limit: int) -> int:\n    total = 3\n    for "
    after = "\n        if {0} > limit:\n            total += {0}\n    return total\n"
    starts = [before, before.removesuffix("for "), before + "o", before + "par"]
    texts = [{complete(shared_engine, start, after.format(name)).text for name in finished.WORDS} for start in starts]
    assert max(map(len, texts)) > 1
    wishes = ALL._replace(top_count=1)
    tops = [complete(shared_engine, before, after.format(name), wishes=wishes).tokens[0] for name in finished.WORDS]
    assert len({token.probability for token in tops}) > len(finished.WORDS) // 2


def test_a_completion_does_not_repeat_what_follows(shared_engine):
    found = complete(shared_engine, TEXT[:PLACE], TEXT[PLACE:], PATH)
    assert (found.text, found.reason) in {("", "suffix"), ("", "line"), ("", "empty")}


def test_below_the_threshold_nothing_is_shown_and_the_reason_is_told(shared_engine):
    found = complete(shared_engine, "zq = ", wishes=Wishes(min_confidence=1))
    assert (found.text, found.reason) == ("", "unsure")
    assert found.explain().startswith("nothing is shown: the confidence is below the threshold (confidence 0.")
    assert found.threshold == 1
    assert found.cut_at(1) == ""
    sure = complete(shared_engine, TEXT[: PLACE - 3], TEXT[PLACE + 6 :], PATH, Wishes(min_confidence=0.05))
    assert sure.text
    assert sure.explain() == f"the line is complete (confidence {sure.confidence:.2f}, shown from 0.05)"


def test_a_completion_ends_before_the_word_that_is_too_uncertain(shared_engine):
    # Where the model is not quite sure: in an own text, or after a line that it does not know.
    prefixes = [TEXT[: TEXT.index("\n", len(TEXT) // part) + 1] for part in (3, 2, 4, 5, 6)]
    prefixes += [f"{prefix}def of_something_new(value, other):\n    " for prefix in prefixes]
    found = ((prefix, complete(shared_engine, prefix, wishes=ALL._replace(ending="line"))) for prefix in prefixes)
    is_unsure = (each for each in found if len(each[1].ends) > 1 and each[1].ends[-1].confidence > each[1].confidence)
    prefix, whole = next(is_unsure)
    assert all(earlier.confidence >= later.confidence for earlier, later in pairwise(whole.ends))
    for end, after in pairwise([*whole.ends, WordEnd(len(whole.text), whole.confidence)]):
        if end.confidence == after.confidence:
            continue
        threshold = (end.confidence * after.confidence) ** 0.5
        found = complete(shared_engine, prefix, wishes=Wishes(min_confidence=threshold, ending="line"))
        assert found.text == whole.text[: end.place] == whole.cut_at(threshold)
        assert found.reason == "word"
        assert found.confidence == pytest.approx(end.confidence, rel=1e-3)
        assert not (found.text[-1:].isalnum() and whole.text[end.place : end.place + 1].isalnum())


def test_the_layout_is_the_one_of_the_folder(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    for reads_suffix in (True, False):
        values = {"schema": SERVING_SCHEMA, "threshold": 0.5, "reads_suffix": reads_suffix}
        (folder / SERVING_FILE).write_text(json.dumps(values))
        with Engine.open(folder) as engine:
            assert (engine.model.fills_gaps, engine.threshold) == (reads_suffix, 0.5)


def test_the_threshold_is_the_one_of_the_folder(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    with Engine.open(folder) as engine:
        assert engine.threshold == DEFAULT_THRESHOLD
    (folder / SERVING_FILE).write_text('{"schema": "git-starcoder/serving/1", "threshold": 0.75}')
    with Engine.open(folder) as engine:
        assert engine.threshold == 0.75
        assert complete(engine, "zq = ", wishes=Wishes()).threshold == 0.75
        assert complete(engine, "zq = ", wishes=Wishes(ending="none")).threshold == 0


def typing_trace(start=300, count=24):
    """Cursors of somebody who types on, then moves the cursor and deletes something."""
    cursors = [Cursor(TEXT[: start + typed], TEXT[start + 60 :], PATH) for typed in range(count)]
    cursors += [Cursor(TEXT[:place], TEXT[place:], PATH) for place in (200, 310, 250)]
    return [*cursors, Cursor(TEXT[:100] + TEXT[120:260], TEXT[260:], PATH), Cursor(TEXT[:40], "", "other.py")]


@pytest.mark.parametrize("parts", [EngineParts(drafts=False), EngineParts(cache=False), EngineParts(False, False)])
def test_drafts_and_caches_change_nothing_but_the_work(model_folder, shared_engine, parts):
    tree = shared_engine.follower.tree.root
    with Engine.open(model_folder, repository=tree, parts=parts) as plain:
        assert plain.follower.wait(HUNG)
        cached = drafted = 0
        for cursor in typing_trace():
            kept, anew = (engine.complete(cursor, ALL) for engine in (shared_engine, plain))
            assert (kept.text, kept.reason) == (anew.text, anew.reason)
            assert kept.confidence == pytest.approx(anew.confidence, rel=1e-3)
            cached += kept.cached_tokens - anew.cached_tokens
            drafted += kept.drafted - anew.drafted
        assert (cached > 1000) == (not parts.cache)
        assert (drafted > 0) == (not parts.drafts)


def test_a_long_text_is_cut_in_steps_so_that_its_beginning_stays(shared_engine):
    longer = "\n".join(FILES.values())
    shares = []
    for typed in range(40):
        found = complete(shared_engine, longer[: 9000 + typed], "", "long.py", ALL._replace(max_tokens=2))
        assert found.prompt_tokens <= shared_engine.network.context
        shares.append(found.cached_tokens / found.prompt_tokens)
    assert sum(share < 0.5 for share in shares[1:]) <= 1
    huge = longer * 30
    found = complete(shared_engine, huge, huge, "long.py", ALL._replace(max_tokens=2))
    assert found.prompt_tokens <= shared_engine.network.context


@pytest.mark.parametrize("path", ["", PATH, *("é" * size for size in (6, 20, 100, 101))])
@pytest.mark.parametrize("max_tokens", [1, 16, 400])
def test_a_prompt_of_any_size_fits_and_ends_with_the_text_before_the_cursor(shared_engine, path, max_tokens):
    model, composer, budget, table = (
        getattr(shared_engine, name) for name in ("model", "_composer", "_budget", "_table")
    )
    texts = text_tokens(model, Cursor(TEXT[:PLACE], TEXT[PLACE:] * 9, path))
    for size in (*range(16, 80), 131, 192, 500):
        prompt = make_prompt(model, texts, path, composer, budget, table, max_tokens, size + budget)
        assert len(prompt.tokens) + prompt.limit < size + budget
        end = model.tokenizer.decode(prompt.tokens[-1:]) + prompt.healed
        assert TEXT[:PLACE].encode().endswith(end)
        shown = model.tokenizer.decode(prompt.tokens).decode("utf-8", "replace")
        assert (f"<file_sep>{path}\n" in shown) == ("<file_sep>" in shown)
        assert "<file_sep>" in shown or size < 192 or len(path) in {0, 100, 101}


def test_the_parts_of_a_stream_are_the_text(shared_engine):
    for ending in ("auto", "none"):
        parts = []
        wishes = ALL._replace(ending=ending, max_tokens=40)
        found = complete(shared_engine, "def find_", wishes=wishes, on_text=parts.append)
        assert "".join(parts) == found.text != ""
    assert len(parts) > 3


@pytest.mark.parametrize(
    ("suffix", "text", "shown", "reason"),
    [
        ("", "Flask, ", "Flask", "repetition"),
        (")\n", "0, ", "0", "repetition"),
        ("", "[\n    order,\n    total,\n", "[\n    order,\n    total,", "block"),
        ("", "if a:\n    order()\n    order()\n", "if a:\n    order()", "repetition"),
    ],
)
def test_a_completion_does_not_repeat_itself_whole_or_as_a_stream(
    shared_engine, monkeypatch, suffix, text, shown, reason
):
    let_write(monkeypatch, shared_engine, text)
    parts = []
    found = complete(shared_engine, "", suffix, on_text=parts.append)
    assert (found.text, found.reason, "".join(parts)) == (shown, reason, shown)
    assert len(found.tokens) < ALL.max_tokens, "it was written on for nothing"


def test_a_control_token_ends_the_text(shared_engine, monkeypatch):
    for token in shared_engine.model.tokenizer.control_tokens:
        let_write(monkeypatch, shared_engine, "order", token)
        for ending in ("auto", "none"):
            found = complete(shared_engine, "", wishes=ALL._replace(ending=ending))
            assert (found.text, found.reason) == ("order", "end")
        assert shared_engine.model.complete("") == "order"


def test_a_line_that_is_cut_off_by_the_largest_number_of_tokens_is_left_out(shared_engine, monkeypatch):
    let_write(monkeypatch, shared_engine, "if total:\n    order(first, second, third, fourth)\n")
    for size in range(1, 20):
        found = complete(shared_engine, "", wishes=ALL._replace(max_tokens=size))
        assert found.reason == "length"
        first, *others = found.text.split("\n")
        assert "if total:".startswith(first)
        assert others in ([], ["    order(first, second, third, fourth)"])
    assert complete(shared_engine, "", wishes=ALL._replace(max_tokens=12, ending="none")).text.count("\n") == 1


def test_nothing_is_streamed_that_is_not_shown(shared_engine):
    parts = []
    complete(shared_engine, "zq = ", wishes=Wishes(min_confidence=1), on_text=parts.append)
    assert parts == []


def test_sampling_depends_on_the_seed_alone(shared_engine):
    def text(seed, **options):
        sampling = Sampling(temperature=1.5, seed=seed, **options)
        return complete(shared_engine, "def find_", wishes=ALL._replace(sampling=sampling, max_tokens=12)).text

    assert len({text(seed) for seed in range(6)}) > 1
    assert text(3) == text(3)
    assert len({text(seed, top_k=1) for seed in range(4)}) == 1
    assert len({text(seed, top_p=0.0) for seed in range(4)}) == 1


def test_a_stop_text_and_the_largest_number_of_tokens_end_it(shared_engine):
    before, after = TEXT[: PLACE - 3], TEXT[PLACE + 6 :]
    found = complete(shared_engine, before, after, PATH, ALL._replace(stop=("tot",)))
    assert (found.text, found.reason) == ("urn ", "stop")
    found = complete(shared_engine, "def find_", "", PATH, ALL._replace(max_tokens=3))
    assert (found.reason, len(found.tokens)) == ("length", 3)
    found = complete(shared_engine, "def find_", "", PATH, ALL._replace(seconds=0))
    assert (found.reason, len(found.tokens)) == ("time", 1)


def test_after_the_time_for_lines_a_block_ends_with_its_line(shared_engine):
    before = TEXT[: TEXT.index("\n", TEXT.index("def ")) + 1]
    block = complete(shared_engine, before, "", PATH)
    lines = block.text.split("\n")
    assert len(lines) > 1
    assert block.reason != "time"
    found = complete(shared_engine, before, "", PATH, ALL._replace(line_seconds=0))
    assert (found.text, found.reason) == (lines[0], "time")
    assert found.confidence == pytest.approx(block.confidence, rel=1e-3)
    assert complete(shared_engine, before, "", PATH, ALL._replace(line_seconds=60)).text == block.text


def test_a_cancelled_completion_ends_at_once_and_leaves_the_engine_usable(shared_engine):
    before = complete(shared_engine, TEXT[:200], "", PATH)
    passes = []

    def cancelled():
        passes.append(1)
        return len(passes) > 3

    with pytest.raises(CancelledError):
        complete(shared_engine, TEXT[:150], "", PATH, ALL._replace(max_tokens=60), is_cancelled=cancelled)
    assert len(passes) == 4
    assert complete(shared_engine, TEXT[:200], "", PATH).text == before.text


def test_the_engine_may_be_used_from_several_threads(shared_engine):
    expected = {start: complete(shared_engine, TEXT[:start], "", PATH).text for start in (100, 200, 300)}
    found, begin = [], Event()

    def ask(start):
        begin.wait()
        found.append((start, complete(shared_engine, TEXT[:start], "", PATH).text))

    threads = [Thread(target=ask, args=(start,)) for start in (*expected, *expected)]
    for thread in threads:
        thread.start()
    begin.set()
    for thread in threads:
        thread.join(HUNG)
    assert sorted(found) == sorted([*expected.items()] * 2)


def test_the_file_is_found_where_the_client_does_not_say_it(shared_engine):
    shared_engine.follower.knowledge("", {})
    found = [complete(shared_engine, TEXT[: 400 + typed], TEXT[400:], "") for typed in range(3)]
    assert [each.path for each in found] == [PATH] * 3
    assert complete(shared_engine, "zq = ", "", "").path == ""


def test_any_causal_model_is_served_without_memory(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "other", ignore=shutil.ignore_patterns("training.json", "memory"))
    with Engine.open(str(folder)) as engine:
        assert engine.model.memory is None
        assert engine.name == "other"
        found = complete(engine, "def find_", "\n    return total\n", wishes=ALL._replace(max_tokens=DEFAULT_TOKENS))
        assert found.tokens
    with Engine.open(model_folder) as engine:
        assert engine.name == f"{model_folder.parent.name}/model"
    with pytest.raises(UsageError):
        Engine.open(str(tmp_path / "none"))


@pytest.mark.parametrize("text", ["a\0b", "\ufeffa", "\ud800", "a\r\nb", "\U0001f468\u200d", ""])
def test_any_text_is_completed(shared_engine, text):
    found = complete(shared_engine, text, text)
    found.text.encode()


def test_two_editors_in_turns_keep_what_was_computed_for_each(shared_engine):
    places = [(path, FILES[path]) for path in ("src/file_1.py", "src/file_2.py")]
    first = [complete(shared_engine, text[:400], text[401:], path) for path, text in places]
    updates = shared_engine.follower.updates
    again = [complete(shared_engine, text[:401], text[401:], path) for path, text in places]
    assert shared_engine.follower.updates == updates
    for before, found in zip(first, again, strict=True):
        assert found.cached_tokens > before.prompt_tokens // 2
    without_paths = [
        complete(shared_engine, text[:typed], text[401:], "") for typed in (400, 401) for _, text in places
    ]
    assert [found.path for found in without_paths] == [path for path, _ in places] * 2
    assert all(found.cached_tokens > found.prompt_tokens // 2 for found in without_paths[2:])


def test_large_memories_are_kept_for_the_newest_file_only(shared_engine, monkeypatch):
    monkeypatch.setattr(follow, "KEPT_BYTES", 0)
    kept = []
    for path in ("src/file_1.py", "src/file_2.py"):
        complete(shared_engine, FILES[path][:400], FILES[path][400:], path)
        gc.collect()
        kept.append([weakref.ref(each.memory.index) for each in shared_engine.follower._memories.values()])
    (first,), (second,) = kept
    assert first() is None
    assert second() is not None


def test_only_the_newest_texts_are_kept(shared_engine):
    first = complete(shared_engine, TEXT[:400], TEXT[400:], "first.py")
    assert complete(shared_engine, TEXT[:400], TEXT[400:], "first.py").cached_tokens == first.prompt_tokens - 1
    for number in range(KEPT_TEXTS):
        complete(shared_engine, TEXT[:400], TEXT[400:], f"{number}.py")
    assert complete(shared_engine, TEXT[:400], TEXT[400:], "first.py").cached_tokens == 0

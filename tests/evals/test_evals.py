from __future__ import annotations

import json
import lzma
import re
from dataclasses import replace
from itertools import pairwise
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import finished
from git_starcoder.dataset.held_out import (
    Document,
    draw_documents,
    draw_rows,
    limit_rows,
    load_documents,
    max_piece_tokens,
)
from git_starcoder.engine.local import LocalEngine
from git_starcoder.evals import (
    MEASURE_UNITS,
    EvalInput,
    Score,
    bootstrap_ratio,
    compare,
    completion,
    load_evals,
    mean_over_groups,
)
from git_starcoder.evals.bits_per_byte import document_bits, identifier_shares
from git_starcoder.evals.completion import CompletionTask, grade_answers, next_line_prompt
from git_starcoder.evals.compressors import PPM, PPM_GOING_ON, XZ
from git_starcoder.protocols import Failure
from git_starcoder.text import tokenizer as tokenizers


class Fixed:
    """A model that needs as many bits for every token, and writes what it is told to."""

    def __init__(self, bits=1.0, answers=(), context=16):
        self.needs = bits
        self.answers = answers
        self.context = context
        self.asked = []

    def sequence_bits(self, sequences, first_scored, *, headers=(), parts=4):  # noqa: ARG002
        self.asked += zip(sequences, first_scored, [parts] * len(sequences), strict=True)
        return [
            np.full(len(tokens) - first, self.needs, dtype=np.float32)
            for tokens, first in zip(sequences, first_scored, strict=True)
        ]

    def generate(self, prompts, limit, *, stop):  # noqa: ARG002
        self.prompts = prompts
        return [np.array(answer, dtype=np.int32) for answer in self.answers or [[]] * len(prompts)]


class Knowing(Fixed):
    """A model that knows the files by heart, and needs the fewer bits for a token the larger its number."""

    def __init__(self, texts, tokenizer, context=8192):
        super().__init__(context=context)
        self.texts = [tokens.tolist() for tokens in texts]
        self.tokenizer = tokenizer

    def sequence_bits(self, sequences, first_scored, *, headers=(), parts=4):  # noqa: ARG002
        return [
            (1 / (1 + tokens[first:])).astype(np.float32) for tokens, first in zip(sequences, first_scored, strict=True)
        ]

    def generate(self, prompts, limit, *, stop):
        return [np.array(self.stopped(self.after(prompt.tolist()), limit, stop), dtype=np.int32) for prompt in prompts]

    def after(self, prompt):
        prefix, middle, suffix = self.tokenizer.fim_ids
        hole = prompt[0] == prefix
        before, behind = prompt[prompt[0] == self.tokenizer.end_id :], []
        if hole:
            assert prompt[-1] == middle
            before, behind = prompt[1 : prompt.index(suffix)], prompt[prompt.index(suffix) + 1 : -1]
        for text in self.texts:
            for at in range(len(before), len(text) + 1):
                if text[at - len(before) : at] == before:
                    ends = [end for end in range(at, len(text)) if text[end : end + len(behind)] == behind]
                    if ends:
                        return [*text[at : ends[0]], self.tokenizer.end_id] if hole else text[at:]
        raise AssertionError

    @staticmethod
    def stopped(tokens, limit, stop):
        ends = [at + 1 for at, token in enumerate(tokens) if stop[token]]
        return tokens[: min([limit, *ends])]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def tokenizer(dataset):
    return tokenizers.load_tokenizer(dataset.tokenizer_folder)


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(2) as engine:
        yield engine


@pytest.fixture
def model():
    return Fixed(1.0)


@pytest.fixture
def exam(dataset, tokenizer, engine, model):
    held_out = load_documents(dataset, "test")
    rows = draw_rows(dataset, "test", 4096, tokenizer.end_id)
    training = load_documents(dataset, "train")
    return EvalInput({"network": model}, Fixed(2.0), tokenizer, training, held_out, engine, rows, seed=0)


@pytest.fixture
def knowing(exam):
    model = Knowing([document.tokens for document in exam.held_out], exam.tokenizer)
    return replace(exam, models={"network": model}, line_count=40, hole_count=40)


def spoiled(path, tokens, start=0):
    return Document(path, "python", "core", path, start, np.array(tokens, dtype=np.int32))


def by_measure(scores):
    """The scores of the first subject."""
    return {score.measure: score for score in reversed(scores) if not score.by}


@pytest.mark.parametrize("name", list(load_evals()))
def test_every_eval_keeps_the_contract_of_the_shelf(exam, name):
    scores = load_evals()[name](exam)
    assert len(scores) > 0
    for score in scores:
        assert isinstance(score, Score)
        assert score.eval == name
        assert score.measure in MEASURE_UNITS
        assert score.low is None or score.low <= score.value <= score.high
        assert score.over > 0
        assert (score.files, score.groups) == (2, 2)
        assert (score.by, score.group) == ("", "") or score.by in {"kind", "language", "role"}
        json.dumps(score._asdict())
    assert len(load_evals()[name].__doc__.partition("\n")[0]) > 20


def test_documents_are_the_texts_again(dataset, exam):
    found = load_documents(dataset, "train")
    assert [document.path for document in found] == sorted(f"src/file_{number}.py" for number in range(20))
    for document in found:
        assert exam.decode(document.tokens) == finished.source(int(document.path[9:-3]))
        assert document.tokens[-1] == exam.tokenizer.end_id
        assert document.language == "python"


def test_documents_break_where_rows_are_missing_and_know_no_variations(tmp_path):
    dataset = finished.write(
        tmp_path / "d", {"train": {"a.py": finished.source(1)}, "test": {"b.py": finished.source(2)}}
    )
    whole = load_documents(dataset, "test")[0].tokens
    lines = dataset.files("test")[0].read_text().splitlines()
    assert len(lines) > 12
    renamed = lines[0].replace('"base"', '"variable_renaming"')
    dataset.files("test")[0].write_text("\n".join([*reversed(lines[:3]), *lines[9:], renamed]) + "\n")
    first, second = load_documents(dataset, "test")
    assert (first.start, second.start) == (0, 9 * 32)
    assert np.array_equal(first.tokens, whole[: 2 * 32 + 128])
    assert np.array_equal(second.tokens, whole[9 * 32 :])


def test_a_beginning_follows_the_end_of_text_token_and_what_is_only_read_is_not_scored():
    model = Fixed(0.5)
    whole, piece = spoiled("a", range(1, 8)), replace(spoiled("b", range(1, 8), start=90), context_length=3)
    assert document_bits(model, [whole, piece], 0, parts=2).tolist() == [3.5, 2.0]
    assert [(tokens.tolist(), first, parts) for tokens, first, parts in model.asked] == [
        ([0, *range(1, 8)], 1, 2), ([*range(1, 8)], 3, 2),
    ]  # fmt: skip


def test_bits_are_over_the_bytes_of_the_text(exam):
    scores = {
        score.subject: score
        for score in load_evals()["bits_per_byte"](exam)
        if score.measure == "bits per byte" and not score.by
    }
    tokens = sum(len(document.tokens) for document in exam.held_out)
    size = sum(len(finished.source(number)) for number in (23, 24))
    assert scores["network"].over == size
    assert scores["network"].value == pytest.approx(tokens / size)
    assert scores["network"].document_bits == tuple(len(document.tokens) for document in exam.held_out)
    assert scores["untrained network"].value == pytest.approx(2 * tokens / size)


def test_identifiers_and_the_rest_add_up_and_every_model_has_both(exam):
    other = Knowing([document.tokens for document in exam.held_out], exam.tokenizer)
    scores = load_evals()["bits_per_byte"](replace(exam, models={**exam.models, "other": other}))
    for subject in ("network", "other", "untrained network"):
        whole, names, rest = (
            next(score for score in scores if (score.measure, score.subject, score.by) == (measure, subject, ""))
            for measure in ("bits per byte", "bits per byte of identifiers", "bits per byte of the rest")
        )
        assert names.over + rest.over == whole.over
        assert names.value * names.over + rest.value * rest.over == pytest.approx(whole.value * whole.over)
    found = re.findall(rb"[a-z_]+", b"".join(finished.source(number) for number in (23, 24)).replace(b"Generated", b""))
    keywords = {b"def", b"for", b"in", b"if", b"return", b"from", b"import", b"__future__"}
    assert names.over == sum(len(word) for word in found if word not in keywords)


@pytest.mark.parametrize("language", ["python", "text"])
def test_the_bits_of_a_token_are_spread_over_its_bytes(exam, language):
    tokens = exam.tokenizer.encode([b"    total = 3\n    return total\n"])[0]
    document = replace(spoiled("a.py", tokens), language=language)
    (shares,) = identifier_shares(replace(exam, held_out=[document]))
    sizes = exam.tokenizer.token_byte_counts[tokens]
    assert sizes @ shares == pytest.approx(10 if language == "python" else 16)
    texts = [exam.tokenizer.decode([token]) for token in tokens]
    spaced = next(index for index, text in enumerate(texts) if index and text.startswith(b" ") and shares[index])
    assert shares[spaced] == pytest.approx(1 - 1 / len(texts[spaced]))
    (cut,) = identifier_shares(replace(exam, held_out=[replace(document, context_length=spaced)]))
    assert cut.tolist() == shares[spaced:].tolist()


def compressors(exam):
    return {score.subject: score for score in load_evals()["compressors"](exam)}


def test_compressors_gain_from_the_training_text(exam):
    alone, known = (compressors(replace(exam, training=training)) for training in ([], exam.held_out))
    for subject, score in compressors(exam).items():
        assert known[subject].value < 0.2
        assert score.value < 0.7 * alone[subject].value


def test_a_training_text_that_is_too_long_is_cut_and_that_is_said(exam):
    cut = compressors(replace(exam, compressor_bytes=2000))
    for subject, score in compressors(exam).items():
        assert (score.note, cut[subject].note) == ("", "given the first 0.0 MiB of it")
        assert cut[subject].value > score.value


def ppm_size(texts):
    import pyppmd

    encoder = pyppmd.Ppmd7Encoder(24, 1 << 28)
    return len(b"".join(map(encoder.encode, texts)) + encoder.flush())


def xz_size(texts):
    size = len(b"".join(texts))
    options = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": max(4096, size),
        "nice_len": 273,
    }
    return len(lzma.compress(b"".join(texts), lzma.FORMAT_RAW, filters=[options]))


def test_compressors_measure_what_separate_compressions_do(exam):
    found = compressors(exam)
    training = [exam.decode(each.tokens) + b"\0" for each in exam.training]
    texts = [exam.decode(each.tokens) + b"\0" for each in exam.held_out]
    for subject, size in {PPM: ppm_size, XZ: xz_size}.items():
        added = [8.0 * (size([*training, text]) - size(training)) for text in texts]
        assert found[subject].document_bits == tuple(added)
    added = ppm_size([*training, *texts]) - ppm_size(training)
    assert sum(found[PPM_GOING_ON].document_bits) / 8 == pytest.approx(added, abs=8)
    again = compressors(replace(exam, training=[], held_out=[exam.held_out[0]] * 2))
    assert again[PPM_GOING_ON].document_bits[1] < 0.2 * again[PPM].document_bits[1]


def test_compressors_read_what_stands_before_a_piece(exam):
    document = exam.held_out[0]
    piece = replace(document, context_length=200)
    (bits,) = compressors(replace(exam, held_out=[piece]))[PPM].document_bits
    training = [exam.decode(each.tokens) + b"\0" for each in exam.training]
    read, scored = exam.decode(document.tokens[:200]), exam.decode(document.tokens[200:]) + b"\0"
    assert bits == 8.0 * (ppm_size([*training, read, scored]) - ppm_size([*training, read]))
    assert exam.scored_text(replace(piece, tokens=piece.tokens[:-1])) == exam.decode(document.tokens[200:])


class FailingEngine:
    """An engine whose workers crash on every task."""

    jobs = 1

    def map(self, function, tasks, *, limit):  # noqa: ARG002
        return (Failure("crash", "out of memory") for _ in tasks)


def test_a_worker_that_crashes_costs_the_compressors_and_makes_words_of_identifiers(exam):
    broken = replace(exam, engine=FailingEngine())
    assert load_evals()["compressors"](broken) == "xz failed: crash out of memory"
    words = replace(exam, held_out=[replace(document, language="text") for document in exam.held_out])
    assert by_measure(load_evals()["bits_per_byte"](broken)) == by_measure(load_evals()["bits_per_byte"](words))


def test_a_tokenizer_whose_bytes_are_not_known_has_no_scores_of_identifiers(exam, tokenizer):
    blind = Blind(tokenizer)
    blind.token_byte_counts = None
    found = by_measure(load_evals()["bits_per_byte"](replace(exam, tokenizer=blind)))
    assert list(found) == ["perplexity", "bits per byte"]


def at(exam, question):
    """The text of the file of a question, and what stands before it."""
    text = finished.source(int(question.document.path[9:-3]))
    before = exam.decode(question.before)
    assert text.startswith(before)
    return text, before


def test_questions_are_lines_with_what_stands_before(exam):
    asked = completion.next_line_tasks(exam)
    assert len(asked) == len({(question.document.path, len(question.before)) for question in asked}) > 50
    for question in asked:
        text, before = at(exam, question)
        assert len(question.before) >= completion.MIN_LINE_CONTEXT
        assert not before.rpartition(b"\n")[2].strip()
        above = before.rpartition(b"\n")[0].rpartition(b"\n")[2].strip()
        assert question.lines_above == above
        answer = text[len(before) :].lstrip(b" ").partition(b"\n")[0]
        assert question.answer == answer != b""
    assert asked[0].answer == completion.next_line_tasks(exam)[0].answer


def test_holes_are_lines_with_what_stands_around(exam):
    asked = completion.fill_in_tasks(exam)
    assert len(asked) == len({(question.document.path, len(question.before)) for question in asked}) == 100
    assert {question.answer.count(b"\n") for question in asked} == {0, 1, 2, 3}
    assert 30 < sum(b"\n" not in question.answer for question in asked) < 70
    for question in asked:
        text, before = at(exam, question)
        assert exam.tokenizer.end_id not in question.after  # no prompt of training or of an editor has it
        after = exam.decode(question.after)
        assert text.endswith(after)
        assert after.startswith(b"\n")
        assert not before.rpartition(b"\n")[2].strip()
        assert text[len(before) : len(text) - len(after)].strip() == question.answer != b""
        assert before.rstrip().endswith(question.lines_above.rpartition(b"\n")[2])
        assert question.lines_above.count(b"\n") <= question.answer.count(b"\n")


@pytest.mark.parametrize(
    ("draw_tasks", "key"), [(completion.next_line_tasks, "line_count"), (completion.fill_in_tasks, "hole_count")]
)
def test_fewer_questions_are_some_of_the_same(exam, draw_tasks, key):
    every, few = ([len(question.before) for question in draw_tasks(each)] for each in (exam, replace(exam, **{key: 7})))
    assert every[:7] == few
    assert every == [len(question.before) for question in draw_tasks(replace(exam, seed=1))]


def test_what_is_only_read_is_not_asked_for(exam):
    held_out = [replace(document, context_length=len(document.tokens) - 200) for document in exam.held_out]
    for draw_tasks in (completion.next_line_tasks, completion.fill_in_tasks):
        tasks = draw_tasks(replace(exam, held_out=held_out))
        assert tasks
        assert all(len(task.before) >= task.document.context_length for task in tasks)


def test_the_beginning_of_a_file_in_a_prompt_follows_the_end_of_text_token(exam):
    task = completion.next_line_tasks(exam)[0]
    end, length = exam.tokenizer.end_id, len(task.before)
    assert next_line_prompt(task, end, length + 1 + completion.MAX_LINE_TOKENS).tolist() == [end, *task.before]
    assert next_line_prompt(task, end, length + completion.MAX_LINE_TOKENS).tolist() == task.before.tolist()
    later = task._replace(document=replace(task.document, start=9))
    assert next_line_prompt(later, end, 10_000).tolist() == task.before.tolist()


def test_every_model_writes_lines(knowing):
    exam = replace(knowing, models={**knowing.models, "silent": Fixed(context=8192)})
    for name in ("next_line", "fill_in_the_middle"):
        exact = [score for score in load_evals()[name](exam) if score.measure.endswith("exact match")]
        assert [(score.subject, score.value) for score in exact] == [("network", 1.0), ("silent", 0.0)]


def test_a_model_that_knows_the_files_is_right_everywhere(knowing):
    for name, task in (("next_line", "next line"), ("fill_in_the_middle", "fill in the middle")):
        found = by_measure(load_evals()[name](knowing))
        assert set(found) == {f"{task}, exact match", f"{task}, edit similarity"}
        for score in found.values():
            assert (score.value, score.low, score.high, score.over, score.files) == (1.0, 1.0, 1.0, 40, 2)


def test_a_prompt_is_in_the_format_of_training_and_fits(exam):
    prefix, middle, suffix = exam.tokenizer.fim_ids
    question = completion.fill_in_tasks(exam)[0]
    room = 100
    for before, after in ((5, 7), (500, 7), (5, 500), (500, 500)):
        asked = question._replace(before=np.arange(1000, 1000 + before), after=np.arange(2000, 2000 + after))
        tokens = completion.fim_prompt(asked, exam.tokenizer.fim_ids, room + completion.MAX_HOLE_TOKENS).tolist()
        assert len(tokens) == min(room, before + min(after, (room - 3) // 2) + 3)
        assert (tokens[0], tokens[-1]) == (prefix, middle)
        split = tokens.index(suffix)
        assert tokens[1:split] == list(range(1000, 1000 + before))[-(split - 1) :]
        assert tokens[split + 1 : -1] == list(range(2000, 2000 + after))[: len(tokens) - split - 2]
        other = completion.fim_prompt(
            asked, exam.tokenizer.fim_ids, room + completion.MAX_HOLE_TOKENS, suffix_first=True
        ).tolist()
        assert other == [prefix, suffix, *tokens[split + 1 : -1], middle, *tokens[1:split]]


def test_what_is_written_behind_the_missing_lines_does_not_count():
    assert completion.first_lines(b"\n  a = 1\n  b = 2\nc", 2) == b"a = 1\n  b = 2"
    assert completion.first_lines(b"a", 3) == b"a"
    assert completion.first_lines(b"", 1) == b""


def test_a_model_that_cannot_fill_in_is_not_asked(exam, tokenizer):
    untaught = replace(exam, no_fim_reason="not trained to")
    without = replace(exam, tokenizer=Blind(tokenizer))
    assert load_evals()["fill_in_the_middle"](untaught) == "not trained to"
    assert "no fill-in-the-middle tokens" in load_evals()["fill_in_the_middle"](without)
    for each in (untaught, without):
        assert {score.measure for score in load_evals()["lines_above"](each)} == {
            "next line, exact match", "next line, edit similarity",
        }  # fmt: skip


class Blind:
    """A tokenizer without fill-in-the-middle tokens."""

    fim_ids = None

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def test_next_line_counts_exact_answers_only(exam, model):
    asked = completion.next_line_tasks(exam)
    right = [exam.tokenizer.encode([b"  " + question.answer + b"\nmore"])[0] for question in asked]
    model.answers = right
    assert load_evals()["next_line"](exam)[0].value == 1.0
    wrong = [exam.tokenizer.encode([question.answer + b"x\n"])[0] for question in asked]
    model.answers = [*wrong[: len(wrong) // 2], *right[len(wrong) // 2 :]]
    exact, similar = load_evals()["next_line"](exam)
    assert exact.value == pytest.approx(0.5, abs=0.01)
    lengths = [len(question.answer) for question in asked[: len(asked) // 2]]
    assert similar.value == pytest.approx(1 - sum(1 / (length + 1) for length in lengths) / len(asked))
    assert max(map(len, model.prompts)) <= model.context
    model.answers = [np.concatenate((tokens, [exam.tokenizer.end_id])) for tokens in right]
    assert load_evals()["next_line"](exam)[0].value == 1.0


@pytest.mark.parametrize(
    ("answer", "wanted", "similarity"),
    [
        ("return x", "return x", 1.0), ("", "return x", 0.0), ("kitten", "sitting", 1 - 3 / 7), ("abc", "xyz", 0.0),
        ("größe", "grösse", 1 - 2 / 6), ("return x", "return y", 7 / 8),
    ],
)  # fmt: skip
def test_edit_similarity_is_that_of_levenshtein_in_characters(answer, wanted, similarity):
    question = CompletionTask(spoiled("a", []), np.zeros(0), np.zeros(0), b"", wanted.encode())
    exact, similar = grade_answers("key", "next line", "who", [question], [answer.encode()], 0)
    assert exact.value == float(answer == wanted)
    assert similar.value == pytest.approx(similarity)
    assert (similar.low, similar.high, similar.files, similar.groups) == (None, None, 1, 1)


def test_the_most_frequent_next_line_is_counted(exam):
    exact, similar = load_evals()["frequent_line"](exam)
    asked = completion.next_line_tasks(exam)
    sure = np.mean([question.answer == b"return total" for question in asked])
    assert similar.value > exact.value >= sure > 0
    assert [score.value for score in load_evals()["frequent_line"](replace(exam, training=[]))] == [0.0, 0.0]


def test_no_line_to_ask_for_is_said(exam):
    exam = replace(exam, held_out=[spoiled("a", exam.tokenizer.encode([b"x\ny\n"])[0])])
    for name in ("next_line", "frequent_line", "fill_in_the_middle", "lines_above"):
        assert "long enough" in load_evals()[name](exam)


def test_an_even_model_needs_the_logarithm_of_the_vocabulary(exam):
    size = exam.tokenizer.vocab_size
    found = by_measure(load_evals()["bits_per_byte"](replace(exam, models={"network": Fixed(log2(size))})))
    tokens = sum(len(document.tokens) for document in exam.held_out)
    perplexity, per_byte = found["perplexity"], found["bits per byte"]
    assert perplexity.over == tokens
    assert [perplexity.value, perplexity.low, perplexity.high] == pytest.approx([size] * 3, rel=1e-4)
    assert per_byte.value * per_byte.over == pytest.approx(log2(size) * tokens)


def test_groups_add_up_to_all_of_it(knowing):
    different = [("rust", "core"), ("python", "test")]
    held_out = [
        replace(each, language=language, role=role)
        for each, (language, role) in zip(knowing.held_out, different, strict=True)
    ]
    scores = load_evals()["bits_per_byte"](replace(knowing, held_out=held_out))
    total = by_measure(scores)["bits per byte"]
    for by, names in (("language", {"rust", "python"}), ("role", {"core", "test"})):
        of = [score for score in scores if score.by == by]
        assert {score.group for score in of} == names
        assert sum(score.over for score in of) == total.over
        assert sum(score.files for score in of) == total.files
        assert sum(score.value * score.over for score in of) == pytest.approx(total.value * total.over)
        assert len({score.value for score in of}) == 2
        assert all(score.low is score.high is None for score in of)


def row(number, kind, tokens, **about):
    values = {"augmentation_type": kind, "length": len(tokens), "token_start": 0, "row_id": f"{number:016x}"}
    values |= {
        "source_file": f"{number % 4}.py",
        "group": f"{number % 2}",
        "language": "python",
        "role": "core",
        **about,
    }
    return json.dumps({"tokens": [*tokens, 0, 0], "metadata": values}) + "\n"


@pytest.fixture
def kinds_of_rows(tmp_path, tokenizer):
    dataset = finished.write(tmp_path / "d", {"train": {"a.py": finished.source(1)}})
    text = tokenizer.encode([b"def find_order(items):\n"])[0].tolist()
    prefix, middle, suffix = tokenizer.fim_ids
    hole = [prefix, *text[:2], suffix, *text[4:], middle, *text[2:4], tokenizer.end_id]
    lines = [row(number, "base", text) for number in range(12)]
    lines += [row(20 + number, "git_diff", [*range(300, 310), *text], context=10) for number in range(3)]
    lines += [row(30, "token_masking", hole, hole=[2, 4]), row(40, "comment_toggle", text, token_start=5)]
    lines += [row(50, "base", text, copy=1), row(60, "type_annotations", text[:1], token_start=9)]
    dataset.files("test")[0].write_text("".join(lines))
    return dataset, text


def test_rows_are_shown_as_in_training(kinds_of_rows, tokenizer):
    dataset, text = kinds_of_rows
    found = {example.technique: example for example in draw_rows(dataset, "test", 10_000, tokenizer.end_id)}
    assert list(found) == ["base", "comment_toggle", "git_diff", "token_masking"]
    shown = {
        kind: (example.tokens.tolist(), example.context_length, example.technique_count)
        for kind, example in found.items()
    }
    assert shown["base"] == ([tokenizer.end_id, *text], 1, 12)
    assert shown["comment_toggle"] == (text, 1, 1)
    assert shown["git_diff"] == ([*range(300, 310), *text], 10, 3)
    assert shown["token_masking"][1:] == (1, 1)


def test_a_head_costs_nothing_and_each_kind_has_its_figure(exam, kinds_of_rows, tokenizer):
    dataset, text = kinds_of_rows
    rows = draw_rows(dataset, "test", 10_000, tokenizer.end_id)
    model = Fixed(1.0, context=64)
    scores = {
        score.group: score for score in load_evals()["kinds"](replace(exam, models={"network": model}, rows=rows))
    }
    size = len(b"def find_order(items):\n")
    asked = {"base": len(text), "git_diff": len(text), "token_masking": len(text) + 3, "comment_toggle": len(text) - 1}
    rest = size - len(tokenizer.decode(text[:1]))
    for kind, tokens in asked.items():
        each = rest if kind == "comment_toggle" else size
        assert scores[kind].value == pytest.approx(tokens / each)
        assert scores[kind].over % each == 0
    assert {kind: (score.files, score.groups, score.note) for kind, score in scores.items()} == {
        "base": (4, 2, "12 of 12 rows"), "git_diff": (3, 2, "3 of 3 rows"), "token_masking": (1, 1, "1 of 1 rows"),
        "comment_toggle": (1, 1, "1 of 1 rows"),
    }  # fmt: skip


def test_rows_are_drawn_from_all_files_first_and_fewer_are_some_of_them(kinds_of_rows, tokenizer):
    dataset, text = kinds_of_rows
    every = draw_rows(dataset, "test", 10_000, tokenizer.end_id)
    some = draw_rows(dataset, "test", 6 * len(text), tokenizer.end_id)
    base = [example for example in some if example.technique == "base"]
    assert len(base) == 6
    assert {example.path for example in base[:4]} == {"0.py", "1.py", "2.py", "3.py"}
    assert [key(example) for example in some] == [key(example) for example in limit_rows(every, 6 * len(text))]
    assert {example.technique for example in limit_rows(every, 1)} == {example.technique for example in every}


def key(example):
    return example.technique, example.path, example.tokens.tolist()


def shown(document):
    return document.path, document.start, document.context_length, document.tokens.tolist()


def lengths_of(documents):
    return [len(document.scored) for document in documents]


def test_text_that_fits_is_scored_whole(exam):
    total = sum(lengths_of(exam.training))
    assert [*map(shown, draw_documents(exam.training, total))] == [*map(shown, exam.training)]
    assert draw_documents([], 100) == []


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=60), st.integers(1, 60_000))
def test_a_draw_keeps_to_its_limit_and_no_file_has_much_of_it(lengths, limit):
    documents = [spoiled(f"{number}", range(length)) for number, length in enumerate(lengths)]
    drawn = draw_documents(documents, limit)
    found = lengths_of(drawn)
    assert sum(found) <= limit
    if sum(lengths) > limit:
        most = max_piece_tokens(lengths, limit)
        assert max(found) <= most
        # As much as is possible is drawn: the rest of a division is lost at most.
        assert sum(found) > limit - len(lengths) or most in {256, limit // 32}
        assert most <= max(256, limit // 32) or sum(min(length, most) for length in lengths) <= limit
    for document in drawn:
        assert document.tokens.tolist() == list(range(document.start, document.start + len(document.tokens)))
        assert document.context_length == min(document.start + document.context_length, 4096)


def test_a_short_limit_on_files_as_in_the_docstring():
    assert max_piece_tokens([10_000, 50_000, 90_000], 100_000) == 45_000
    assert max_piece_tokens([10_000] * 100, 64_000) == 2000
    assert max_piece_tokens([10_000] * 100, 2048) == 256


def test_pieces_come_from_everywhere_and_runs_of_one_file_count_together():
    documents = [spoiled(f"{number}.py", range(4096)) for number in range(64)]
    drawn = draw_documents(documents, 32 * 1024)
    begins = [document.start + document.context_length for document in drawn]
    assert {*begins} == {0, 1024, 2048, 3072}
    assert lengths_of(drawn) == [1024] * 32
    few, again = (draw_documents(each, 32 * 1024, 5) for each in (documents, documents[::-1]))
    assert len(few) == 5
    assert [*map(shown, few)] == [*map(shown, again)]
    runs = [spoiled("a.py", range(4096), start) for start in range(0, 10**6, 5000)]
    assert sum(lengths_of(draw_documents([*runs, *documents], 64 * 1024))) == 64 * 1024
    assert (
        sum(len(each.scored) for each in draw_documents([*runs, *documents], 32 * 1024) if each.path == "a.py") <= 1024
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=2, max_size=20))
def test_an_interval_holds_its_value_and_no_more_than_the_extremes(pairs):
    above, below = np.array(pairs, dtype=np.float64).T
    value, low, high = bootstrap_ratio(above, below, 0)
    each = above / below
    assert each.min() - 1e-9 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= each.max() + 1e-9
    assert value == pytest.approx(above.sum() / below.sum())


def test_intervals_shrink_with_files_and_are_the_extremes_of_two():
    chance = np.random.default_rng(3)
    widths = []
    for files in (2, 8, 32, 128, 512):
        above = chance.normal(2.0, 0.5, files)
        _, low, high = bootstrap_ratio(above, np.ones(files), 0)
        widths.append(high - low)
        if files == 2:
            assert (low, high) == pytest.approx((above.min(), above.max()))
    assert all(much > 1.5 * little for much, little in pairwise(widths[1:]))
    assert widths[-1] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(512), rel=0.15)


@pytest.mark.parametrize("files", [3, 6, 20])
def test_intervals_hold_what_is_true_as_often_as_they_say(files):
    chance = np.random.default_rng(4)
    draws = chance.normal(1.0, 0.3, (200, files))
    hits = [low <= 1.0 <= high for _, low, high in (bootstrap_ratio(draw, np.ones(files), 0) for draw in draws)]
    assert np.mean(hits) > (0.7 if files == 3 else 0.9)


def test_a_figure_is_over_groups_not_over_their_parts():
    whole = mean_over_groups(["a", "b", "c"], [3.0, 5.0, 1.0], [3, 4, 5], 0)
    parts = mean_over_groups(["a", "b", "a", "c"], [1.0, 5.0, 2.0, 1.0], [1, 4, 2, 5], 0)
    assert parts == whole
    assert whole.groups == 3
    assert mean_over_groups(["a", "a"], [1.0, 3.0], [2, 2], 0) == (1.0, None, None, 1)


def test_subjects_are_compared_in_pairs_and_far_more_surely_than_alone():
    chance = np.random.default_rng(5)
    hard = chance.lognormal(0, 1, 40)  # some texts are far harder than others, for both
    groups = [str(number // 2) for number in range(40)]
    bits = {"network": 100 * hard, "both": 90 * hard * chance.normal(1, 0.02, 40), "xz": 120 * hard}
    scores = [
        Score("key", "bits per byte", name, 1.0, None, None, 20, 40, 99, document_bits=tuple(values))
        for name, values in bits.items()
    ]
    scores.append(scores[0]._replace(measure="perplexity", document_bits=()))
    found = compare(scores, ["network", "both"], groups, 0)
    assert [(each.subject, each.reference, each.groups) for each in found] == [
        ("network", "xz", 20), ("both", "network", 20), ("both", "xz", 20),
    ]  # fmt: skip
    assert found[0][2:5] == pytest.approx((100 / 120,) * 3)
    pair = found[1]
    assert pair.low < pair.ratio < pair.high < 1
    alone = mean_over_groups(groups, bits["network"], [100] * 40, 0)
    assert pair.high - pair.low < 0.1 * (alone.high - alone.low)

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import finished
from git_starcoder import shelf
from git_starcoder.evals import Document, Exam, Score, documents, frequent_line, next_line, ratio, sample, surprise
from git_starcoder.text import tokenizer as tokenizers


class Fixed:
    """A model that needs as many bits for a token as the table says, and writes what it is told to."""

    def __init__(self, bits=1.0, answers=(), context=16):
        self.needs = bits
        self.answers = answers
        self.context = context
        self.asked = []

    def bits(self, windows):
        self.asked += windows
        return iter([np.full(len(window) - 1, self.needs, dtype=np.float32) for window in windows])

    def write(self, prompts, limit, *, stop):  # noqa: ARG002
        self.prompts = prompts
        return [np.array(answer, dtype=np.int32) for answer in self.answers]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def tokenizer(dataset):
    return tokenizers.load(dataset.tokenizer_folder)


@pytest.fixture
def exam(dataset, tokenizer):
    held_out = documents(dataset, "test")
    return Exam(Fixed(1.0), Fixed(2.0), tokenizer, documents(dataset, "train"), held_out, seed=0)


def spoiled(path, tokens):
    return Document(path, "python", 0, np.array(tokens, dtype=np.int32))


@pytest.mark.parametrize("name", shelf.names("evals"))
def test_every_eval_keeps_the_contract_of_the_shelf(exam, name):
    if name == "next_line":
        exam.model.answers = [[] for _ in next_line.questions(exam)]
    score = shelf.load("evals", name).evaluate(exam)
    assert isinstance(score, Score)
    assert score.eval == name
    assert score.measure in {"bits per byte", "next line"}
    assert score.low <= score.value <= score.high
    assert score.over > 0
    assert len(shelf.describe("evals", name)) > 20


def test_documents_are_the_texts_again(dataset, exam):
    found = documents(dataset, "train")
    assert [document.path for document in found] == sorted(f"src/file_{number}.py" for number in range(20))
    for document in found:
        assert exam.text(document.tokens) == finished.source(int(document.path[9:-3]))
        assert document.tokens[-1] == exam.tokenizer.end
        assert document.language == "python"


def test_documents_break_where_rows_are_missing_and_know_no_variations(tmp_path):
    dataset = finished.write(
        tmp_path / "d", {"train": {"a.py": finished.source(1)}, "test": {"b.py": finished.source(2)}}
    )
    whole = documents(dataset, "test")[0].tokens
    lines = dataset.files("test")[0].read_text().splitlines()
    assert len(lines) > 12
    renamed = lines[0].replace('"base"', '"variable_renaming"')
    dataset.files("test")[0].write_text("\n".join([*reversed(lines[:3]), *lines[9:], renamed]) + "\n")
    first, second = documents(dataset, "test")
    assert (first.start, second.start) == (0, 9 * 32)
    assert np.array_equal(first.tokens, whole[: 2 * 32 + 128])
    assert np.array_equal(second.tokens, whole[9 * 32 :])


@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.integers(4, 40))
def test_every_token_is_scored_once_with_the_context_that_there_is(lengths, context):
    model = Fixed(0.5, context=context)
    found = [spoiled(str(number), range(1, length + 1)) for number, length in enumerate(lengths)]
    assert surprise(model, found, 0).tolist() == [length / 2 for length in lengths]
    for window in model.asked:
        assert len(window) <= context + 1
        assert window[0] == 0 or len(window) > 1


def test_later_tokens_see_three_quarters_of_the_context():
    model = Fixed(context=16)
    surprise(model, [spoiled("a", range(1, 101))], 0)
    assert [window[0] for window in model.asked] == list(range(0, len(model.asked) * 4, 4))
    assert all(len(window) == 17 for window in model.asked[:-1])
    assert model.asked[-1][-1] == 100


def test_bits_are_over_the_bytes_of_the_text(exam):
    score = shelf.load("evals", "bits_per_byte").evaluate(exam)
    tokens = sum(len(document.tokens) for document in exam.heldout)
    size = sum(len(finished.source(number)) for number in (23, 24))
    assert score.over == size
    assert score.value == pytest.approx(tokens / size)
    assert shelf.load("evals", "untrained").evaluate(exam).value == pytest.approx(2 * tokens / size)


@pytest.mark.parametrize("name", ["xz", "ppm"])
def test_compressors_gain_from_the_training_text(exam, name):
    given_all = shelf.load("evals", name).evaluate(exam)
    alone = Exam(exam.model, exam.untrained, exam.tokenizer, [], exam.heldout)
    assert given_all.value < 0.7 * shelf.load("evals", name).evaluate(alone).value
    known = Exam(exam.model, exam.untrained, exam.tokenizer, exam.heldout, exam.heldout)
    assert shelf.load("evals", name).evaluate(known).value < 0.2


@pytest.mark.parametrize("name", ["xz", "ppm"])
def test_a_training_text_that_is_too_long_is_cut_and_that_is_said(exam, name):
    module = shelf.load("evals", name)
    whole = module.evaluate(exam)
    cut = module.evaluate(replace(exam, given=2000))
    assert (whole.note, cut.note) == ("", "given the first 0.0 MiB of it")
    assert cut.value > whole.value


def test_ppm_measures_what_a_separate_compression_does(exam):
    import pyppmd

    def size(found):
        encoder = pyppmd.Ppmd7Encoder(24, 1 << 28)
        return len(b"".join(encoder.encode(exam.text(each.tokens) + b"\0") for each in found) + encoder.flush())

    added = size([*exam.training, *exam.heldout]) - size(exam.training)
    score = shelf.load("evals", "ppm").evaluate(exam)
    assert score.value * score.over / 8 == pytest.approx(added, abs=8)


def test_questions_are_lines_with_what_stands_before(exam):
    asked = next_line.questions(exam)
    assert len(asked) == len({(question.document, len(question.before)) for question in asked}) > 50
    for question in asked:
        text = finished.source(int(exam.heldout[question.document].path[9:-3]))
        before = exam.text(question.before)
        assert text.startswith(before)
        assert len(question.before) >= next_line.CONTEXT
        assert not before.rpartition(b"\n")[2].strip()
        above = before.rpartition(b"\n")[0].rpartition(b"\n")[2].strip()
        assert question.above == above
        answer = text[len(before) :].lstrip(b" ").partition(b"\n")[0]
        assert question.answer == answer != b""
    assert asked[0].answer == next_line.questions(exam)[0].answer


def test_fewer_questions_are_some_of_the_same(exam):
    every, few = (
        [len(question.before) for question in next_line.questions(each)] for each in (exam, replace(exam, lines=7))
    )
    assert every[:7] == few


def test_next_line_counts_exact_answers_only(exam):
    asked = next_line.questions(exam)
    right = [exam.tokenizer.encode([b"  " + question.answer + b"\nmore"])[0] for question in asked]
    exam.model.answers = right
    assert next_line.evaluate(exam).value == 1.0
    wrong = [exam.tokenizer.encode([question.answer + b"x\n"])[0] for question in asked]
    exam.model.answers = [*wrong[: len(wrong) // 2], *right[len(wrong) // 2 :]]
    assert next_line.evaluate(exam).value == pytest.approx(0.5, abs=0.01)
    assert max(map(len, exam.model.prompts)) <= exam.model.context
    exam.model.answers = [np.concatenate((tokens, [exam.tokenizer.end])) for tokens in right]
    assert next_line.evaluate(exam).value == 1.0


def test_the_most_frequent_next_line_is_counted(exam):
    score = frequent_line.evaluate(exam)
    asked = next_line.questions(exam)
    sure = np.mean([question.answer == b"return total" for question in asked])
    assert score.value >= sure > 0
    empty = Exam(exam.model, exam.untrained, exam.tokenizer, [], exam.heldout)
    assert frequent_line.evaluate(empty).value == 0.0


def test_no_line_to_ask_for_is_said(tokenizer):
    document = spoiled("a", tokenizer.encode([b"x\ny\n"])[0])
    exam = Exam(Fixed(), Fixed(), tokenizer, [], [document])
    score = next_line.evaluate(exam)
    assert (score.over, score.value) == (0, 0.0)
    assert "long enough" in score.note


def test_a_sample_is_whole_files_and_one_cut(exam):
    found = exam.training
    total = sum(len(document.tokens) for document in found)
    assert [len(each.tokens) for each in sample(found, total, 0)] == [len(each.tokens) for each in found]
    drawn = sample(found, total // 2 + 5, 0)
    assert sum(len(document.tokens) for document in drawn) == total // 2 + 5
    by_path = {document.path: document for document in found}
    cut = [document for document in drawn if len(document.tokens) < len(by_path[document.path].tokens)]
    assert len(cut) == 1
    assert [document.path for document in drawn] != [document.path for document in sample(found, total // 2 + 5, 1)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=20))
def test_an_interval_holds_its_value_and_no_more_than_the_extremes(pairs):
    above, below = np.array(pairs, dtype=np.float64).T
    value, low, high = ratio(above, below, 0)
    each = above / below
    assert each.min() - 1e-9 <= low <= high <= each.max() + 1e-9
    assert value == pytest.approx(above.sum() / below.sum())

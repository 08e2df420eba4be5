from __future__ import annotations

import json
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

import finished
from git_starcoder.model import complete
from git_starcoder.model.config import Config
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.explain import explain
from git_starcoder.model.pack import fills, laid, packed, suffix_first
from git_starcoder.model.plan import Plan
from git_starcoder.text import tokenizer as tokenizers


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"), weights={"src/file_3.py": 2.5}, strategy="curriculum")


@pytest.fixture(scope="module")
def corpus(dataset):
    return Corpus.read(dataset, tokenizers.load(dataset.tokenizer_folder))


def test_every_row_of_a_step_is_named_with_its_place(dataset, corpus):
    plan = Plan.of(corpus, Config(batch=1500, fim=0.5), 90, curriculum=True)
    lines = dataset.files("train")[0].read_text().splitlines()
    drawn, fills = Counter(), Counter()
    for number in range(plan.steps):
        step, found = plan.step(number), explain(plan, corpus, dataset, number)
        assert (found.step, found.steps, found.stage, found.stages) == (number + 1, 90, number // 30 + 1, 3)
        pieces = packed(corpus, plan, step, 10_000)
        assert found.tokens == sum(len(piece.tokens) + len(piece.places) for piece in pieces)
        assert sum(row.tokens - row.given for row in found.rows) == sum((each.targets >= 0).sum() for each in pieces)
        for row in found.rows:
            name, line = row.place.split(":")
            about = json.loads(lines[int(line) - 1])["metadata"]
            assert name == "training_data_train.jsonl"
            assert (row.source_file, row.technique, row.weight) == (about["source_file"], "base", about["weight"])
            drawn[row.place] += 1
            assert row.draw == drawn[row.place] <= row.draws
            fills[row.fill] += 1
        json.dumps(found.as_values())
    assert drawn == {
        dataset.row_location("train", row): times for row, times in enumerate(plan.drawn.tolist()) if times
    }
    assert np.mean([fills["PSM"] / fills.total(), fills["SPM"] / fills.total()]) == pytest.approx(0.25, abs=0.03)
    with pytest.raises(IndexError):
        explain(plan, corpus, dataset, 90)


def test_a_middle_is_asked_for_in_training_as_in_use(dataset, corpus, tmp_path, monkeypatch):
    tokenizer = tokenizers.load(dataset.tokenizer_folder)
    asked = []

    class Asked:
        context = 4096
        end = tokenizer.end
        torch = SimpleNamespace(manual_seed=int)

        def generate(self, prompts, *_, **__):
            asked.append(prompts[0].tolist())
            return [np.zeros(0, dtype=np.int32)]

    monkeypatch.setattr(complete, "load", lambda _: (Asked(), tokenizer))
    plan = Plan.of(corpus, Config(batch=1500, fim=0.9), 3, curriculum=False)
    found = 0
    for step in plan.begin():
        filled = fills(corpus, plan, step.rows, step.draws)
        spm = suffix_first(plan, step.rows, step.draws)
        for row, fill, suffix, read in zip(step.rows, filled, spm, laid(corpus, plan, step), strict=True):
            text = tokenizer.decode(read)
            if not fill or suffix:
                continue
            form = rb"<fim_prefix>(.*)<fim_suffix>(.*)<fim_middle>(.*)<\|endoftext\|>"
            before, after, middle = re.fullmatch(form, text, re.DOTALL).groups()
            assert tokenizer.decode(corpus.text(row)).removesuffix(b"<|endoftext|>") == before + middle + after
            complete.complete(tmp_path, before.decode(), suffix=after.decode())
            assert tokenizer.decode(asked[-1]) == text[: text.index(b"<fim_middle>") + len(b"<fim_middle>")]
            found += 1
    assert found > 5

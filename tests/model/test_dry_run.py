from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import finished
from git_starcoder.model import complete
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.dry_run import describe_step
from git_starcoder.model.packing import fim_mask, input_rows, pack_step, spm_mask
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.text import tokenizer as tokenizers


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return finished.toy(tmp_path_factory.mktemp("dataset"), weights={"src/file_3.py": 2.5}, strategy="curriculum")


@pytest.fixture(scope="module")
def corpus(dataset):
    return Corpus.read(dataset, tokenizers.load_tokenizer(dataset.tokenizer_folder))


@pytest.mark.parametrize("begin", [None, 5])
def test_every_row_of_a_step_is_named_with_its_place(dataset, corpus, begin):
    corpus = replace(corpus, begin_token=begin)
    plan = TrainingPlan.build(corpus, TrainConfig(batch=1500, fim=0.5), 90, is_curriculum=True)
    lines = dataset.files("train")[0].read_text().splitlines()
    drawn, fills = Counter(), Counter()
    for number in range(plan.step_count):
        step, found = plan.step(number), describe_step(plan, corpus, dataset, number)
        assert (found.step, found.steps, found.stage, found.stages) == (number + 1, 90, number // 30 + 1, 3)
        micro_batches = pack_step(corpus, plan, step, 10_000)
        assert found.tokens == sum(len(packed.tokens) + len(packed.row_indices) for packed in micro_batches)
        assert sum(row.tokens - row.given for row in found.rows) == sum(
            (each.targets >= 0).sum() for each in micro_batches
        )
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
        dataset.row_location("train", row): times for row, times in enumerate(plan.draw_counts.tolist()) if times
    }
    assert np.mean([fills["PSM"] / fills.total(), fills["SPM"] / fills.total()]) == pytest.approx(0.25, abs=0.03)
    with pytest.raises(IndexError):
        describe_step(plan, corpus, dataset, 90)


def test_fill_in_the_middle_has_the_same_form_in_training_and_in_use(dataset, corpus, tmp_path, monkeypatch):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    prompts_seen = []

    class FakeNetwork:
        context = 4096
        end_token = tokenizer.end_id
        torch = SimpleNamespace(manual_seed=int)

        def generate(self, prompts, *_, **__):
            prompts_seen.append(prompts[0].tolist())
            return [np.zeros(0, dtype=np.int32)]

    monkeypatch.setattr(complete, "load_reader", lambda _: (FakeNetwork(), tokenizer))
    monkeypatch.setattr(complete, "read_training_record", lambda _: {})
    plan = TrainingPlan.build(corpus, TrainConfig(batch=1500, fim=0.9), 3, is_curriculum=False)
    found = 0
    for step in plan.steps_from():
        filled = fim_mask(corpus, plan, step.rows, step.draw_numbers)
        spm = spm_mask(plan, step.rows, step.draw_numbers)
        for row, fill, suffix, read in zip(step.rows, filled, spm, input_rows(corpus, plan, step), strict=True):
            text = tokenizer.decode(read)
            if not fill or suffix:
                continue
            form = rb"<fim_prefix>(.*)<fim_suffix>(.*)<fim_middle>(.*)<\|endoftext\|>"
            before, after, middle = re.fullmatch(form, text, re.DOTALL).groups()
            assert (
                tokenizer.decode(corpus.dataset_tokens(row)).removesuffix(b"<|endoftext|>") == before + middle + after
            )
            complete.complete(tmp_path, before.decode(), suffix=after.decode())
            assert tokenizer.decode(prompts_seen[-1]) == text[: text.index(b"<fim_middle>") + len(b"<fim_middle>")]
            found += 1
    assert found > 5

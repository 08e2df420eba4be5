"""Packing on another thread: the same micro-batches in their order, and an end without anything left behind."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest

import finished
from git_starcoder.errors import StarcoderError
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.packing import TokenCounter, pack_step
from git_starcoder.model.packing_thread import STEPS_AHEAD, PackingThread
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.text import tokenizer as tokenizers

STEPS = 3 * STEPS_AHEAD


@pytest.fixture(scope="module")
def plan_and_corpus(tmp_path_factory):
    dataset = finished.toy(tmp_path_factory.mktemp("dataset"))
    corpus = Corpus.read(dataset, tokenizers.load_tokenizer(dataset.tokenizer_folder))
    config = TrainConfig(steps=STEPS, batch=512, fim=0.5, noise=0.1)
    return TrainingPlan.build(corpus, config, STEPS, is_curriculum=False), corpus


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "packing"]


def test_steps_are_those_that_are_packed_here_and_counted_up_to_each(plan_and_corpus):
    plan, corpus = plan_and_corpus
    pack = partial(pack_step, corpus, plan, limit=300)
    here = TokenCounter(plan, corpus)
    with PackingThread(plan.steps_from(), pack, TokenCounter(plan, corpus)) as packed_steps:
        numbers = []
        for packed in packed_steps:
            expected = pack(packed.step)
            here.add(packed.step, expected)
            assert len(expected) == len(packed.micro_batches) > 1
            for one, other in zip(expected, packed.micro_batches, strict=True):
                assert all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
            assert packed.counts == here.counts
            numbers.append(packed.step.number)
    assert numbers == list(range(STEPS))
    assert here.close().steps == STEPS
    assert threads() == []


def test_an_error_comes_at_its_step(plan_and_corpus):
    plan, corpus = plan_and_corpus

    def pack(step):
        if step.number == 2:
            raise StarcoderError("no", where="there")
        return pack_step(corpus, plan, step, 300)

    seen = []
    with pytest.raises(StarcoderError, match="no"), PackingThread(plan.steps_from(), pack, None) as packed_steps:
        for packed in packed_steps:
            seen.append(packed.step.number)
    assert seen == [0, 1]
    assert threads() == []


def test_a_miscounted_step_is_an_error(plan_and_corpus):
    plan, corpus = plan_and_corpus

    def pack(step):
        return pack_step(corpus, plan, step, 300)[:-1]

    with (
        pytest.raises(StarcoderError, match="the token budget does not add up"),
        PackingThread(plan.steps_from(), pack, TokenCounter(plan, corpus)) as packed_steps,
    ):
        list(packed_steps)


def test_the_thread_ends_though_nobody_takes_its_steps(plan_and_corpus):
    plan, corpus = plan_and_corpus
    packed = threading.Semaphore(0)

    def pack(step):
        packed.release()
        return pack_step(corpus, plan, step, 300)

    with pytest.raises(KeyboardInterrupt), PackingThread(plan.steps_from(), pack, None):
        for _ in range(STEPS_AHEAD + 1):  # the queue is full, and one more waits for room
            assert packed.acquire(timeout=60)
        raise KeyboardInterrupt
    assert threads() == []
    assert packed._value < STEPS - STEPS_AHEAD

"""Results of pure functions: computed once, in order, in batches, and failures are not stored."""

from __future__ import annotations

import doctest

import pytest

from git_starcoder import memo as module
from git_starcoder.engine.cache import SqliteCache
from git_starcoder.memo import RESULTS_PER_WRITE, Memo, batch_by_size
from git_starcoder.protocols import NO_CACHE, Failure


class Doubled:
    """Doubles numbers, and notes which it was asked for."""

    def __init__(self, *failing):
        self.failing = failing
        self.calls = []

    def __call__(self, numbers):
        self.calls.append(numbers)
        for number in numbers:
            yield Failure("timeout") if number in self.failing else 2 * number


class Stored(dict):
    """A cache in memory."""

    def __init__(self):
        self.writes = []

    def key(self, *parts):
        return repr(parts).encode()

    def get(self, keys):
        return [dict.get(self, key) for key in keys]

    def put(self, entries):
        self.writes.append(len(entries))
        self.update(entries)


def mapped(cache, items, compute, **options):
    return list(Memo(cache, "double", int).map(items, lambda number: (str(number),), compute, **options))


def mapped_in_batches(cache, items, compute, batch_size):
    for batch in batch_by_size(items, lambda _: 1, batch_size):
        yield from mapped(cache, batch, compute)


@pytest.mark.parametrize("cache", [Stored(), NO_CACHE])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_results_are_in_the_order_of_the_items(cache, batch_size):
    for _ in range(2):
        assert mapped(cache, range(10), Doubled()) == list(range(0, 20, 2))
        assert list(mapped_in_batches(cache, range(10), Doubled(), batch_size)) == list(range(0, 20, 2))


def test_only_what_is_not_stored_is_computed_and_in_one_call():
    cache, first, second = Stored(), Doubled(), Doubled()
    mapped(cache, [1, 3], first)
    assert mapped(cache, [4, 3, 2, 1], second) == [8, 6, 4, 2]
    assert (first.calls, second.calls) == ([[1, 3]], [[4, 2]])
    again = Doubled()
    mapped(cache, [1, 2, 3, 4], again)
    assert again.calls == []


def test_batches_are_drawn_and_computed_one_at_a_time():
    drawn, compute = [], Doubled()

    def items():
        for number in range(7):
            drawn.append(number)
            yield number

    results = mapped_in_batches(Stored(), items(), compute, 3)
    assert next(results) == 0
    assert drawn == [0, 1, 2]
    assert list(results) == [2, 4, 6, 8, 10, 12]
    assert compute.calls == [[0, 1, 2], [3, 4, 5], [6]]


def test_results_are_taken_as_they_are_computed():
    steps = []

    def compute(numbers):
        for number in numbers:
            steps.append(f"compute {number}")
            yield number

    for result in Memo(Stored(), "same", int).map([1, 2], lambda number: (str(number),), compute):
        steps.append(f"use {result}")
    assert steps == ["compute 1", "use 1", "compute 2", "use 2"]


def test_failures_come_in_their_place_and_are_computed_again():
    cache, again = Stored(), Doubled()
    results = mapped(cache, [1, 2, 3], Doubled(2), may_store=lambda _, result: not isinstance(result, Failure))
    assert results == [2, Failure("timeout"), 6]
    assert mapped(cache, [1, 2, 3], again) == [2, 4, 6]
    assert again.calls == [[2]]


def test_results_that_may_not_be_stored_are_not():
    cache, again = Stored(), Doubled()
    mapped(cache, [1, 2, 3], Doubled(), may_store=lambda _, result: result != 4)
    mapped(cache, [1, 2, 3], again)
    assert again.calls == [[2]]


@pytest.mark.parametrize("given", [[], [1], [1, 2, 3]])
def test_too_few_or_too_many_results_are_an_error(given):
    with pytest.raises(ValueError, match=r"zip\(\) argument 2 is (shorter|longer)"):
        mapped(Stored(), [1, 2], lambda _: given)


def test_results_are_written_together_and_not_only_at_the_end():
    cache = Stored()
    mapped(cache, range(RESULTS_PER_WRITE + 5), Doubled())
    assert cache.writes == [RESULTS_PER_WRITE, 5]
    mapped(cache, range(RESULTS_PER_WRITE + 5), Doubled())
    assert len(cache.writes) == 2


def test_results_are_stored_before_the_last_one_is_taken():
    cache = Stored()
    results = Memo(cache, "double", int).map([1, 2], lambda number: (str(number),), Doubled())
    assert [next(results), next(results)] == [2, 4]
    assert cache.writes == [2]


def test_results_are_found_by_the_next_build(tmp_path):
    with SqliteCache(tmp_path, 1 << 20) as cache:
        assert mapped(cache, [1, 2], Doubled()) == [2, 4]
    with SqliteCache(tmp_path, 1 << 20) as cache:
        again = Doubled()
        assert mapped(cache, [2, 1], again) == [4, 2]
    assert again.calls == []


def test_another_function_has_its_own_results():
    cache = Stored()
    mapped(cache, [1], Doubled())
    assert list(Memo(cache, "triple", int).map([1], lambda number: (str(number),), lambda _: [3])) == [3]


def test_the_example_runs():
    assert doctest.testmod(module) == (0, 4)

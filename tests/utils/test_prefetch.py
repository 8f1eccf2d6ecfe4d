"""Prefetching and background jobs: overlap, order, errors and bounded memory."""

import threading
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.prefetch import OrderedExecutor, prefetch


@given(st.lists(st.integers()))
def test_items_are_yielded_once_in_order(items: Any) -> None:
    assert list(prefetch(iter(items))) == items


@pytest.mark.parametrize("depth", [1, 3])
def test_number_of_prefetched_items_is_limited(depth: int) -> None:
    created, events = [], [threading.Event() for _ in range(5)]

    def items() -> Iterator[Any]:
        for number in range(5):
            created.append(number)
            events[number].set()
            yield number

    for number in prefetch(items(), depth):
        count = min(number + 1 + depth, 5)
        assert events[count - 1].wait(10)
        assert created == list(range(count))


def test_error_is_raised_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise UserError("a bad file")

    found: list[int] = []
    with pytest.raises(UserError, match="a bad file"):
        found.extend(prefetch(items()))
    taken = prefetch(iter([1, 2, 3]))
    assert next(taken) == 1
    assert isinstance(taken, Generator)
    taken.close()  # also stops the thread
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_job_runs_in_the_background_and_the_next_job_waits() -> None:
    started, release = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        started.set()
        release.wait(10)
        order.append("first")

    with OrderedExecutor() as writer:
        writer.submit(first)
        assert started.wait(10)
        assert order == []  # the first job still runs
        release.set()
        writer.submit(lambda: order.append("second"))
    assert order == ["first", "second"]


def test_jobs_run_in_parallel_and_complete_in_order() -> None:
    both = threading.Barrier(2, timeout=10)
    second_ran = threading.Event()
    order: list[str] = []

    def first() -> Any:
        both.wait()
        assert second_ran.wait(10)
        return lambda: order.append("first")

    def second() -> Any:
        both.wait()
        second_ran.set()
        return lambda: order.append("second")

    with OrderedExecutor(2) as writer:
        writer.submit(first)
        writer.submit(second)
    assert order == ["first", "second"]


def test_error_of_a_job_is_raised_in_the_caller() -> None:
    def fail() -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"), OrderedExecutor() as writer:
        writer.submit(fail)
    with pytest.raises(KeyboardInterrupt), OrderedExecutor() as writer:
        writer.submit(fail)
        raise KeyboardInterrupt  # takes precedence over the error of the job

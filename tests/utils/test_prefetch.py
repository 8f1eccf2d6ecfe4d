"""Prefetching and background jobs: overlap, order, errors and bounded memory."""

import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.prefetch import OrderedExecutor, map_ahead, prefetch


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


def test_results_are_computed_ahead_in_parallel_and_yielded_in_order() -> None:
    running, all_three = threading.Semaphore(3), threading.Event()

    def slow(number: int) -> int:
        with running:
            if not running.acquire(blocking=False):
                all_three.set()
            else:
                running.release()
            all_three.wait(0.02)
        return -number

    assert list(map_ahead(slow, range(11), 3)) == [-n for n in range(11)]
    assert all_three.is_set()


def test_slow_caller_and_cost_limit_the_results_ahead() -> None:
    started: list[int] = []

    def taken(count: int, workers: int, **options: Any) -> list[int]:
        """Return the number of started calls at each result, with a caller that waits for them."""
        started.clear()
        seen: list[int] = []
        for number in map_ahead(started.append, range(count), workers, **options):
            assert number is None
            while len(started) < min(len(seen) + 2, count):
                time.sleep(0.001)
            seen.append(len(started))
        return seen

    assert max(taken(6, 4)) == 6
    assert all(n <= 2 + k for k, n in enumerate(taken(6, 4, cost=lambda n: 1, limit=1)))
    taken_over_limit = taken(4, 4, cost=lambda n: 5, limit=1)  # one at a time
    assert all(n <= 2 + k for k, n in enumerate(taken_over_limit))


def test_closing_cancels_the_results_ahead() -> None:
    release, started = threading.Event(), threading.Semaphore(0)
    calls: list[int] = []

    def call(number: int) -> None:
        calls.append(number)
        started.release()
        if number > 0:
            release.wait(10)

    results = map_ahead(call, range(100), 2)
    assert isinstance(results, Generator)
    next(results)
    started.acquire()
    release.set()
    results.close()
    assert len(calls) <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_cost_limits_unfinished_jobs() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    with OrderedExecutor(4, limit=2) as executor:
        for _ in range(6):
            executor.submit(job, cost=1)
    assert most <= 2


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


@pytest.mark.parametrize("in_completion", [False, True])
def test_jobs_after_a_failed_one_are_not_completed(in_completion: bool) -> None:
    ran = threading.Event()
    order: list[str] = []

    def raise_error() -> None:
        raise UserError("the disk is full")

    def fail() -> Any:
        assert ran.wait(10)
        return raise_error if in_completion else raise_error()

    def later() -> Any:
        ran.set()
        return lambda: order.append("later")

    with pytest.raises(UserError, match="the disk is full"), OrderedExecutor(3) as writer:
        writer.submit(lambda: lambda: order.append("earlier"))
        writer.submit(fail)
        writer.submit(later)
    assert order == ["earlier"]

"""Reading ahead and writing behind: they overlap, in order, with bounded memory."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.prefetch import Behind, ahead


@given(st.lists(st.integers()))
def test_items_come_in_order_each_once(items):
    assert list(ahead(iter(items))) == items


def test_the_next_item_is_made_while_one_is_used_and_no_more():
    made, wanted = [], [threading.Event() for _ in range(5)]

    def items():
        for number in range(5):
            made.append(number)
            wanted[number].set()
            yield number

    for number in ahead(items()):
        if number < 4:
            assert wanted[number + 1].wait(10)  # without the user's asking for it
        assert made == list(range(min(number + 2, 5)))


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise UserError("a bad file")

    found = []
    with pytest.raises(UserError, match="a bad file"):
        found.extend(ahead(items()))
    taken = ahead(iter([1, 2, 3]))
    assert next(taken) == 1
    taken.close()  # stopped midway, it leaves no thread
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_a_job_runs_while_the_caller_goes_on_and_the_next_one_waits():
    begun, go, order = threading.Event(), threading.Event(), []
    with Behind() as behind:
        behind.run(lambda: (begun.set(), go.wait(10), order.append("first")))
        assert begun.wait(10)
        assert order == []  # the caller did not wait
        go.set()
        behind.run(lambda: order.append("second"))
    assert order == ["first", "second"]


def test_what_a_job_raises_is_not_lost():
    def fail():
        raise UserError("the disk is full")

    with pytest.raises(UserError, match="the disk is full"), Behind() as behind:
        behind.run(fail)
    with pytest.raises(KeyboardInterrupt), Behind() as behind:
        behind.run(fail)
        raise KeyboardInterrupt  # which matters more

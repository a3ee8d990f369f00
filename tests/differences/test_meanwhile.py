"""The thread beside the caller's."""

from __future__ import annotations

import os
import threading

import pytest

from fdfast.differences.meanwhile import meanwhile


def test_the_call_is_made_in_one_other_thread():
    first, second = (meanwhile(threading.get_ident) for _ in range(2))
    assert first.result() == second.result() != threading.get_ident()


def test_the_caller_goes_on():
    go_on = threading.Event()
    waiting = meanwhile(go_on.wait, 30)
    assert not waiting.done()
    go_on.set()
    assert waiting.result()


def test_what_is_raised_comes_with_the_result_and_ends_nothing():
    def wrong():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        meanwhile(wrong).result()
    assert meanwhile(pow, 2, 3).result() == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # there are threads: that is what is tested
def test_a_child_made_by_fork_has_a_thread_of_its_own():
    meanwhile(int).result()
    child = os.fork()
    if child == 0:
        os._exit(meanwhile(pow, 2, 3).result(timeout=30))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8

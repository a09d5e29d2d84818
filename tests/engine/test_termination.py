"""SIGTERM inside and outside of the block, in the main thread and beside it."""

import os
import signal
import threading

import pytest

from maskrcnn_lib.engine.termination import EXIT_CODE, Termination


def test_sigterm_raises_a_flag_and_nothing_else():
    before = signal.getsignal(signal.SIGTERM)
    with Termination() as termination:
        assert not termination.requested
        os.kill(os.getpid(), signal.SIGTERM)
        assert termination.requested
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_ends_at_once_where_nothing_is_left_to_save():
    with Termination() as termination:
        termination.at_once = True
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 0)  # lets Python run the handler
    assert caught.value.code == EXIT_CODE == 143


def test_other_threads_can_use_it_without_effect():
    results = []

    def enter():
        with Termination() as termination:
            results.append(termination.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert results == [False]

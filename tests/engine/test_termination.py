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


def test_ctrl_c_raises_a_flag_once_and_acts_the_second_time(capfd):
    with Termination() as termination:
        signal.raise_signal(signal.SIGINT)
        assert termination.requested
        assert "once more" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_acts_where_nothing_is_left_to_save():
    with Termination() as termination:
        termination.at_once = True
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stays_ignored_in_the_background_of_a_shell():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Termination() as termination:
            signal.raise_signal(signal.SIGINT)
            assert not termination.requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_the_end_is_of_the_signal_s_kind(number, kind):
    with Termination() as termination:
        signal.raise_signal(number)
    assert isinstance(termination.end("all is saved"), kind)


def test_other_threads_can_use_it_without_effect():
    results = []

    def enter():
        with Termination() as termination:
            results.append(termination.requested)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert results == [False]

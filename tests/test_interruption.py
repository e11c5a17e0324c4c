"""Signals wait where a run must not be left halfway."""

import os
import signal

import pytest

from kancl.interruption import Interrupted, Interruption


def test_what_must_be_whole_is_finished_before_a_signal_is_heeded():
    interruption, finished = Interruption(), []
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped, interruption.listening():
        with interruption.waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            finished.append(True)
    assert finished and stopped.value.exit_code == 143 and not stopped.value.wrote
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_signal_does_not_wait():
    interruption, finished = Interruption(), []
    with pytest.raises(Interrupted), interruption.listening():
        with interruption.waiting():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            finished.append(True)
    assert not finished

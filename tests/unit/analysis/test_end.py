"""A process that is asked to end hears it, whichever of its threads the signal is handed to."""

import signal
import subprocess
import sys
import time

import pytest

from services.analysis.end import EndBySignal

#: Blocks the signals in the main thread, so that the kernel hands them to the other one; tells when it listens.
PROCESS = """
import signal, sys, threading
from services.analysis.end import EndBySignal
end = EndBySignal()
end.listen()
if sys.argv[1] == "deaf":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
print("listens", end.is_set(), flush=True)
print("ends", end.wait(), end.is_set(), end.wait(60), flush=True)
"""
PATIENCE_S = 60


@pytest.mark.parametrize("main_thread", ["hears", "deaf"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting(main_thread, number):
    command = [sys.executable, "-c", PROCESS, main_thread]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "listens False\n"
            process.send_signal(number)
            told, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (told, process.returncode) == ("ends True True True\n", 0)


def test_without_a_signal_it_waits_as_long_as_it_is_told():
    end, began = EndBySignal(), time.monotonic()
    assert end.wait(0.7) is False
    assert time.monotonic() - began >= 0.7
    assert end.wait(0) is False

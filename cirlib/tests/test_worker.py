"""A worker does what is wanted now, nothing else, and never on the caller's thread."""

import time

from cirlib.demo.worker import Worker


def test_a_pause_ends_by_time_or_by_a_wish():
    pauses, times = [0.05, 60, None], []

    def step():
        times.append(time.monotonic())
        return pauses[len(times) - 1]

    worker = Worker(step)
    while len(times) < 2:
        time.sleep(0.001)
    assert times[1] - times[0] >= 0.05
    assert not worker.wait(0.05)
    worker.wake()
    assert worker.wait(5) and len(times) == 3
    worker.stop()


def test_a_stopped_worker_ends():
    worker = Worker(lambda: 60)
    worker.stop()
    assert worker.wait(5)
    worker._thread.join(5)
    assert not worker._thread.is_alive()

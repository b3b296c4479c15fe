"""A worker does what is wanted now, nothing else, and never on the caller's thread."""

import threading
import time

from cirlib.demo.worker import Worker


def test_a_wish_that_was_replaced_is_never_worked_on():
    wanted, done, began, release = [0], [], threading.Event(), threading.Event()

    def step():
        if done and done[-1] == wanted[0]:
            return None
        done.append(wanted[0])
        began.set()
        release.wait(5)
        return 0

    worker = Worker(step)
    assert began.wait(5)
    for wanted[0] in range(1, 50):
        worker.wake()
    release.set()
    assert worker.wait(5)
    assert done == [0, 49]
    worker.stop()


def test_steps_run_on_a_thread_of_their_own_until_nothing_is_left():
    left, threads = [3], set()

    def step():
        threads.add(threading.current_thread())
        left[0] -= 1
        return 0 if left[0] > 0 else None

    worker = Worker(step)
    assert worker.wait(5)
    assert left == [0] and threads != {threading.main_thread()} and len(threads) == 1
    worker.wake()
    assert worker.wait(5)
    assert left == [-1]
    worker.stop()


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

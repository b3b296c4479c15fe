"""Work beside the kernel's own threads, where only what is wanted now is ever done."""

import threading
from collections.abc import Callable


class Worker:
    """A thread that does one step after the other, and sleeps while there is nothing to do.

    step: does the most urgent piece of what is wanted at that moment. It returns 0 if there may be
    more, a number of seconds to wait for that (less if woken), or None for nothing more until
    woken. There is no queue: a wish that a newer one replaced before its step is never worked on.
    """

    def __init__(self, step: Callable[[], float | None]):
        self._step = step
        self._changed = threading.Condition()
        self._woken, self._idle, self._stopped = True, False, False
        self._thread = threading.Thread(target=self._run, name="cirlib-worker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that what is wanted has changed."""
        with self._changed:
            self._woken, self._idle = True, False
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is nothing more to do; False if that took longer than timeout (s)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle or self._stopped, timeout)

    def stop(self) -> None:
        """End after the present step."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _run(self) -> None:
        pause: float | None = 0
        while True:
            with self._changed:
                if pause is None and not self._woken:
                    self._idle = True
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._woken or self._stopped, pause)
                self._woken = False
                if self._stopped:
                    return
            pause = self._step()

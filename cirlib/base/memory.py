"""Large blocks of memory stay with the process from one layer to the next.

glibc's malloc hands every block of more than 32 MB back to the system as soon as it is free, and
the kernel clears its pages when they are asked for again. A thin convolution at 4K writes such a
block: a fifth of an effect's time went into page faults, on two threads almost half.
So the command line, the demo, trainings and benchmarks begin with keep_large_blocks; nothing else
calls it. Elsewhere than on glibc it and give_back do nothing.
"""

import ctypes
import platform
import resource
import sys
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h
# Bytes of a block that is kept. If larger ones were, the holes between them would take an effect at
# 4K to over 1.5 GB; a tile of it has none, even of the paper's CResMD (142 MB).
KEPT = 160_000_000


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep_large_blocks() -> None:
    """From now on keep freed blocks of up to KEPT bytes for the next that asks, process-wide."""
    libc = _glibc()
    # An older glibc refuses a threshold above 32 MB; without one, the second call would only harm.
    if libc and (libc.mallopt(_MMAP_THRESHOLD, KEPT) or libc.mallopt(_MMAP_THRESHOLD, 2**25)):
        libc.mallopt(_TRIM_THRESHOLD, 2**30)


def peak_bytes() -> int:
    """The most memory that this program has held, of its own: on Linux, getrusage begins with the
    peak of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def give_back() -> None:
    """Hand what is free to the system."""
    if libc := _glibc():
        libc.malloc_trim(0)

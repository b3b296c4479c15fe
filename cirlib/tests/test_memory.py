"""Large blocks are kept while an image is worked on, and given back after."""

import platform
import resource
import subprocess
import sys

import pytest

from cirlib.base import memory
from cirlib.base.memory import KEPT

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc only")

# A process of its own: the setting is process-wide, and other blocks would blur the count.
FAULTS = """
import resource, sys, torch
from cirlib.base import memory
if sys.argv[1] == "keep":
    memory.keep_large_blocks()
def work():
    for _ in range(10):
        torch.ones(16_000_000)  # 64 MB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
memory.give_back()
pages = int(open("/proc/self/statm").read().split()[1])
print(pages * resource.getpagesize())
"""


def faults_and_resident(mode: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    faults, resident = map(int, done.stdout.split())
    return faults, resident


@glibc
def test_kept_blocks_need_no_new_pages_and_can_be_given_back():
    pages = 10 * 64_000_000 // resource.getpagesize()
    without, baseline = faults_and_resident("as it is")
    kept, resident = faults_and_resident("keep")
    assert kept < pages / 100 < without / 10  # else glibc has learned it, and memory.py can go
    assert resident < baseline + 32_000_000


@pytest.mark.parametrize(
    "most, asked", [(2**30, [KEPT]), (2**25, [KEPT, 2**25]), (0, [KEPT, 2**25])]
)
def test_a_threshold_that_glibc_refuses_is_lowered_or_left(monkeypatch, most, asked):
    calls = []

    class Libc:
        def mallopt(self, what, size):
            calls.append((what, size))
            return what == memory._TRIM_THRESHOLD or size <= most

    monkeypatch.setattr(memory, "_glibc", Libc)
    memory.keep_large_blocks()
    assert [size for what, size in calls if what == memory._MMAP_THRESHOLD] == asked
    assert (memory._TRIM_THRESHOLD in dict(calls)) == (most > 0)  # alone it would do harm


def test_the_peak_of_a_program_is_its_own_not_that_of_the_process_that_started_it():
    held = bytearray(400_000_000)
    held[::4096] = b"1" * len(held[::4096])
    source = "from cirlib.base import memory; print(memory.peak_bytes())"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)
    assert 1e6 < int(done.stdout) < 2e8 < memory.peak_bytes()

"""Many photos on all cores: small ones side by side, a thread each, large ones one by one on all.

Threads, since torch and the codecs let go of Python's lock: they load the cores as processes do,
and weights are there once. A photo is small where its features fit into its thread's share of the
memory for tiles.
"""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import torch
from tqdm import tqdm

from cirlib.base.files import FullDisk, Tell, UserError, say
from cirlib.data.images import pixels_of
from cirlib.engine.modulator import Modulator, Progress
from cirlib.engine.tiles import tile_memory

BAR = "{desc}: {percentage:.0f}%|{bar}| {elapsed}<{remaining}"
SHOW_AFTER = 2  # seconds

Work = Callable[[Modulator, Path, Tell, Progress], None]  # what is done with a photo


@contextmanager
def shown(title: str, photos: int = 1) -> Iterator[Callable[[], Progress]]:
    """What makes the progress (0 to 1) of a photo; a terminal shows all, once it takes long."""
    with tqdm(total=photos, desc=title, bar_format=BAR, leave=False, file=sys.stderr,
              delay=SHOW_AFTER, disable=None) as bar:  # fmt: skip

        def of_a_photo() -> Progress:
            done = 0.0

            def told(share: float) -> None:
                nonlocal done
                with bar.get_lock():  # several threads tell
                    bar.update(share - done)
                done = share

            return told

        yield of_a_photo


def each_photo(
    modulator: Modulator, photos: Sequence[Path], work: Work, title: str, threads: int
) -> list[str]:
    """Do the work with each photo, on so many threads; returns what went wrong, a line a photo.

    Both that and what is told meanwhile, on stderr, come in the order of the photos.

    Raises UserError when the disk is full.
    """
    before, problems = torch.get_num_threads(), []
    over, own = threading.Event(), threading.local()
    memory = tile_memory(modulator.device, threads)
    side_by_side = threads > 1 and modulator.device.type == "cpu"

    def begin() -> None:
        own.modulator = Modulator(modulator.net, modulator.device, modulator.dtype, memory)

    def is_small(photo: Path) -> bool:
        return side_by_side and pixels_of(photo) * modulator.per_pixel <= memory

    def one(photo: Path, progress: Progress) -> tuple[list[str], UserError | None]:
        """What was told, and what went wrong."""
        told: list[str] = []

        def go_on(share: float) -> None:
            if over.is_set():
                raise CancelledError
            progress(share)

        try:
            work(getattr(own, "modulator", modulator), photo, told.append, go_on)
        except UserError as error:
            return told, error
        finally:
            progress(1)
        return told, None

    pool = ThreadPoolExecutor(threads, initializer=begin)
    try:
        with shown(title, len(photos)) as progress:
            for small, group in groupby(photos, is_small):
                # torch's number is that of the process: setting it in a thread sets it for all
                torch.set_num_threads(1 if small else threads)
                if small:
                    done = (
                        job.result()
                        for job in [pool.submit(one, photo, progress()) for photo in group]
                    )
                else:
                    done = (one(photo, progress()) for photo in group)
                for told, error in done:
                    for line in told:
                        say(line)
                    if isinstance(error, FullDisk):
                        raise UserError(str(error), *problems) from error
                    if error:
                        problems.append(str(error))
    finally:
        over.set()  # after Ctrl-C or on a full disk those that are begun end soon, too
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
    return problems

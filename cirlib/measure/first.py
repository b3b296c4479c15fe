"""From opening a photo to its first effect: what a user waits for, part by part, and the memory.

Each round is a process of its own, so that nothing is warm and the peak of its memory is its own:

    python -m cirlib.measure.first PHOTO MODEL PROFILE
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from cirlib.base.process import told_by
from cirlib.data.datasets import photographs

# Seconds of: Python, its modules and the weights; the file; what all effects share; the channels of
# a task; its effect, whose memory is new; a later one, with the features that are kept by then.
PARTS = ("start", "read", "trunk", "compaction", "effect", "later")
TASK = (0.5, 0.5, 0.0)


def once(photo: str, model: str, profile: str, began: float) -> dict[str, float]:
    """The parts in this process, which was begun at that time, and the peak of its memory until the
    first effect was there, peak_bytes.
    """
    from cirlib import checkpoints
    from cirlib.base import memory
    from cirlib.base.device import pick_device
    from cirlib.data.images import read_image
    from cirlib.engine.modulator import Modulator

    memory.keep_large_blocks()
    modulator = Modulator(checkpoints.load(model, profile), pick_device())
    times = [began, time.time()]
    image = read_image(photo)
    times.append(time.time())
    modulator.load(image)
    del image  # as `restore` does
    times.append(time.time())
    modulator.head(TASK)
    times.append(time.time())
    modulator.effect(TASK)
    times.append(time.time())
    peak = memory.peak_bytes()
    modulator.effect(TASK)
    again = time.time()
    modulator.effect(TASK)
    found = [*np.diff(times).tolist(), time.time() - again]
    return dict(zip(PARTS, found, strict=True)) | {"peak_bytes": peak}


def write_scaled(photo: Path, size: tuple[int, int]) -> None:
    """An embedded photo, scaled to (width, height)."""
    source = Image.fromarray(photographs("embedded")[0].read())
    source.resize(size, Image.Resampling.BICUBIC).save(photo, quality=95)


def bench(sizes: Sequence[tuple[int, int]], model: str, profile: str, rounds: int) -> list[dict]:
    """A row for each (width, height): medians of PARTS, of ``first`` (all but start and later) with
    its range, low and high, and of peak_bytes. The photo is an embedded one, scaled, as JPEG.

    Raises UserError when a process fails.
    """
    rows = []
    with TemporaryDirectory() as folder:
        for size in sizes:
            photo = Path(folder, f"{size[0]}x{size[1]}.jpg")
            write_scaled(photo, size)
            asked = "cirlib.measure.first", str(photo), model, profile
            found = [told_by(*asked, repr(time.time())) for _ in range(rounds)]
            firsts = [sum(one[part] for part in PARTS[1:-1]) for one in found]
            medians = {key: float(np.median([one[key] for one in found])) for key in found[0]}
            rows.append({"size": photo.stem, **medians, "first": float(np.median(firsts)),
                         "low": min(firsts), "high": max(firsts)})  # fmt: skip
    return rows


if __name__ == "__main__":
    *asked, launched = sys.argv[1:]
    print(json.dumps(once(*asked, float(launched))))

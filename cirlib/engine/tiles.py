"""How a large image is cut into overlapping tiles, so that an effect fits into memory."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from cirlib.base.device import free_memory
from cirlib.engine.program import Features

# Bytes that the features of a tile may take at most: most of what a large photo takes are then its
# own pixels, and on a GPU no tensor has more numbers than 32 bits count. With less than LEAST,
# tiles would be mostly seams.
WORK, WORK_ON_GPU, LEAST = 200e6, 4e9, 32e6


def tile_memory(device: torch.device, workers: int = 1) -> float:
    """Bytes for the features of a tile: a quarter of what is free, within WORK and LEAST.

    workers: how many work on tiles at the same time, and share that quarter.

    What else an effect needs, as images and shared features, has to find room beside them. Larger
    is faster: tiles as small as a cache cost more by their seams than they save (notebook 20).
    """
    most = WORK if device.type == "cpu" else WORK_ON_GPU
    return max(LEAST, min(most, free_memory(device) / 4 / workers))


def tiles(height: int, width: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles that cover an image: as few as possible, alike in size.

    most: pixels a side, an even number; all start at even positions.
    """
    down, across = (2 * math.ceil(n / math.ceil(n / most) / 2) for n in (height, width))
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield slice(top, min(top + down, height)), slice(left, min(left + across, width))


def widen(part: slice, halo: int, end: int) -> slice:
    """A range with its halo, as far as there is something."""
    return slice(max(0, part.start - halo), min(part.stop + halo, end))


def common(part: slice, other: slice) -> slice:
    """What two ranges have in common; an empty one where they are apart."""
    start = min(max(part.start, other.start), part.stop)
    return slice(start, max(start, min(part.stop, other.stop)))


def inside(part: slice, around: slice) -> slice:
    """Where a range lies within a larger one."""
    return slice(part.start - around.start, part.stop - around.start)


def window(features: Features, rows: slice, columns: slice, height: int) -> Features:
    """The part of features of an image of so many pixels in height that belongs to a window."""

    def cut(x: Tensor | None) -> Tensor | None:
        if x is None:
            return None
        scale = height // x.shape[2]  # 2 at half resolution, else 1
        top, bottom, left, right = (
            n // scale for n in (rows.start, rows.stop, columns.start, columns.stop)
        )
        return x[:, :, top:bottom, left:right]

    return Features(*(cut(x) for x in features))


def _room(x: Tensor | None, height: int, width: int) -> Tensor | None:
    """Empty features for a whole image, like those of a window of 2 x 2 pixels."""
    if x is None:
        return None
    scale = 2 // x.shape[2]
    size = (1, x.shape[1], height // scale, width // scale)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)

"""Section 3.1: one image in, its shared features once, then any number of effects.

modulator = Modulator(checkpoints.load("ta-tsnet", "compact"))
modulator.load(image)
sharper = modulator.effect((0.5, 0, 0))  # deblur, denoise, dejpeg, each from 0 to 1
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from cirlib import compact
from cirlib.degradation import task_to_levels
from cirlib.files import UserError
from cirlib.search import SearchNet

WHOLE_PIXELS = 3_000_000  # larger images are worked on in tiles
TILE = 1024  # pixels, even
HEADS_KEPT = 32  # compacted heads in memory; the least recently used goes first


class Modulator:
    """Effects of a trained network on one image at a time, by small dense networks."""

    def __init__(self, net: SearchNet, device: torch.device | str = "cpu"):
        self.net = net.to(device).eval()
        self.device = torch.device(device)
        self.trunk = compact.trunk(net)
        self.heads: OrderedDict[tuple[float, ...], compact.Head] = OrderedDict()
        self.halo = receptive_radius(net.net.blocks)
        self.image: np.ndarray | None = None
        self.state: compact.State | None = None

    def _head(self, task) -> compact.Head:
        try:
            task = tuple(float(t) for t in task)
            task_to_levels(task)
        except (TypeError, ValueError):
            raise UserError(f"a task is three numbers from 0 to 1, not {task!r}") from None
        if task not in self.heads:
            self.heads[task] = compact.head(self.net, task)
            if len(self.heads) > HEADS_KEPT:
                self.heads.popitem(last=False)
        self.heads.move_to_end(task)
        return self.heads[task]

    @torch.inference_mode()
    def load(self, image: np.ndarray) -> None:
        """Take an image (uint8 H x W x 3) and compute what all its effects share.

        Images of more than WHOLE_PIXELS are worked on in overlapping tiles, which changes nothing
        in the result; their shared features are computed anew for each effect, since they would
        not fit the memory.

        Raises UserError for an array that is no such image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"an image is a uint8 array H x W x 3, not {image.dtype} {image.shape}: "
                "cirlib.images.read_image makes one of any file"
            )
        self.image = np.ascontiguousarray(image)
        H, W, _ = image.shape
        whole = H * W <= WHOLE_PIXELS
        self.tiles = [(slice(0, H), slice(0, W))] if whole else list(tiles(H, W))
        self.state = self._features(slice(0, H), slice(0, W)) if whole else None

    def _features(self, rows: slice, columns: slice) -> compact.State:
        x = torch.from_numpy(self.image[rows, columns]).to(self.device).permute(2, 0, 1)[None]
        x = x.to(torch.float32, memory_format=torch.channels_last) / 255
        return self.trunk(compact.State(x))

    @torch.inference_mode()
    def effect(self, task) -> np.ndarray:
        """The loaded image restored by a task (deblur, denoise, dejpeg, each 0 to 1), as uint8.

        Raises UserError for another task, RuntimeError when no image is loaded.
        """
        if self.image is None:
            raise RuntimeError("load an image first")
        head, restored = self._head(task), np.empty_like(self.image)
        for rows, columns in self.tiles:
            state, (top, left) = self.state, (0, 0)
            if state is None:
                around = [widen(rows, self.halo), widen(columns, self.halo)]
                state, (top, left) = self._features(*around), (around[0].start, around[1].start)
            y = head(state)[0].mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
            y = y[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
            restored[rows, columns] = y.cpu().numpy()
        return restored

    def effects(self, tasks: Iterable) -> Iterator[np.ndarray]:
        """Effect after effect of the image that is loaded when each is computed."""
        return (self.effect(task) for task in tasks)


def receptive_radius(blocks: int) -> int:
    """How many pixels away the input can still influence an output pixel, rounded up to even.

    One pixel for each convolution at full resolution and for the first one, two for each at half.
    """
    return 2 * (2 * blocks + 1) + 2 + 2


def tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles that cover an image; they start at even pixels."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))


def widen(window: slice, halo: int) -> slice:
    """A window with its halo. What lies beyond the image is cut off by indexing, as it must."""
    return slice(max(0, window.start - halo), window.stop + halo)

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

HEADS_KEPT = 64  # compacted heads in memory; the least recently used goes first


class Modulator:
    """Effects of a trained network on one image at a time, by small dense networks."""

    def __init__(self, net: SearchNet, device: torch.device | str = "cpu"):
        self.net = net.to(device).eval()
        self.device = torch.device(device)
        self.trunk = compact.trunk(net)
        self.heads: OrderedDict[tuple[float, ...], compact.Head] = OrderedDict()
        self.state: compact.State | None = None

    def _head(self, task) -> compact.Head:
        task = tuple(float(t) for t in task)
        try:
            task_to_levels(task)
        except ValueError as error:
            raise UserError(str(error)) from None
        if task not in self.heads:
            self.heads[task] = compact.head(self.net, task)
            if len(self.heads) > HEADS_KEPT:
                self.heads.popitem(last=False)
        self.heads.move_to_end(task)
        return self.heads[task]

    @torch.inference_mode()
    def load(self, image: np.ndarray) -> None:
        """Take an image (uint8 H x W x 3) and compute what all its effects share."""
        x = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None]
        x = x.to(torch.float32, memory_format=torch.channels_last) / 255
        self.state = self.trunk(compact.State(x))

    @torch.inference_mode()
    def effect(self, task) -> np.ndarray:
        """The loaded image restored by a task (deblur, denoise, dejpeg, each 0 to 1), as uint8.

        Raises UserError for another task, RuntimeError when no image is loaded.
        """
        if self.state is None:
            raise RuntimeError("load an image first")
        y = self._head(task)(self.state)[0].mul(255).round().clamp(0, 255)
        return y.to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()

    def effects(self, tasks: Iterable) -> Iterator[np.ndarray]:
        """Effect after effect of the loaded image."""
        return (self.effect(task) for task in tasks)

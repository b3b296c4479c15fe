"""Section 3.1: one image in, its shared features once, then any number of effects.

modulator = Modulator(checkpoints.load("ta-tsnet"))
modulator.load(image)
sharper = modulator.effect((0.5, 0, 0))  # deblur, denoise, dejpeg, each from 0 to 1
task = modulator.suggest()  # what seems to fit the image
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cirlib import compact
from cirlib.base import memory
from cirlib.base.device import fast_dtype, free_memory
from cirlib.base.files import UserError
from cirlib.degradation import task_to_levels
from cirlib.engine import estimation
from cirlib.engine.border import margins
from cirlib.engine.program import Features, Program
from cirlib.engine.tiles import _room, common, inside, tile_memory, tiles, widen, window
from cirlib.search import SearchNet

Task = tuple[float, float, float]  # deblur, denoise, dejpeg, each from 0 to 1

HEADS_KEPT = 32  # compacted heads in memory; the least recently used goes first
# Bytes of shared features kept for an image as it is loaded. Above, its first effect computes them
# tile by tile; they are kept from the second on where they take this part of the free memory.
FEATURES_KEPT, PART_OF_FREE = 512e6, 1 / 8
DENOISE = (0.0, 0.03, 0.06, 0.1, 0.15, 0.22, 0.32)  # places of the slider, for the noise of cameras

Progress = Callable[[float], None]


def ignore(_share: float) -> None:
    pass


def between(progress: Progress, begin: float, end: float) -> Progress:
    """What tells the progress of a part of the work, whose whole is told to ``progress``."""
    return lambda share: progress(begin + (end - begin) * share)


class Modulator:
    """Effects of a trained network on one image at a time, by small dense networks.

    net: stays as and where it is; what an effect needs of it is copied to the device.
    dtype: of the arithmetic; default: the fastest on the device, which is bfloat16 where the
    hardware has it. Its effects are within 0.05 dB of those of float32.
    work: bytes that the features of a tile may take; default: see tile_memory. Smaller tiles cost
    more arithmetic at their seams.

    In a process of your own, memory.keep_large_blocks() takes a fifth off the time of an effect
    of a large photo.
    """

    def __init__(
        self,
        net: SearchNet,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        work: float | None = None,
    ):
        self.device = torch.device(device)
        self.dtype = dtype or fast_dtype(self.device)
        self.net, device, dtype = net, self.device, self.dtype
        self.work = work or tile_memory(self.device)
        self.per_pixel = 3 * net.net.channels * self.dtype.itemsize / 4  # bytes of that
        plan = self.plan = lru_cache(1024)(lambda task: compact.plan(net.architecture(task)))

        @lru_cache(HEADS_KEPT)  # it does not hold the modulator: a cycle would keep features alive
        def head(task: Task) -> Program:
            made = compact.head(net, plan(task), task).to(device)
            return Program(made.part, dtype, made.scale)

        self.head = head
        with torch.inference_mode():
            trunk = compact.trunk(net, plan((0.0, 0.0, 0.0)))
            self.trunk = Program(trunk.to(device), dtype)
        self.image: np.ndarray | None = None

    @torch.inference_mode()
    def load(self, image: np.ndarray, progress: Progress = ignore) -> None:
        """Take an image (uint8 H x W x 3) and compute what all its effects share.

        Large images are worked on in overlapping tiles, which changes nothing in the result. Where
        the shared features would take more than FEATURES_KEPT bytes (some 16 to 60 megapixels),
        the first effect computes them tile by tile. Flat sides are continued (border.py).

        progress: called with the share that is done, 0 to 1, from time to time; what it raises
        ends the work, and the image is not loaded.

        Raises UserError for an array that is no such image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"an image is a uint8 array H x W x 3, not {image.dtype} {image.shape}: "
                "cirlib.read_image makes one of any file"
            )
        before = None if self.image is None else self.image.shape
        self.image = self.shared = None  # until it is loaded whole
        if image.shape != before:  # the next of a video needs the same blocks again
            memory.give_back()
        H, W, _ = image.shape
        (top, bottom), (left, right) = margins(image)
        around = (top, bottom + H % 2), (left, right + W % 2), (0, 0)  # even sizes
        padded = np.pad(image, around, mode="edge")  # a copy: the caller may change what is his
        self.inner = slice(top, top + H), slice(left, left + W)
        self.pixels = torch.from_numpy(padded).to(self.device)
        side = 2 * max(1, int(math.sqrt(self.work / self.per_pixel) / 2))
        self.tiles = list(tiles(*padded.shape[:2], side))
        self.shared = self._shared_features(FEATURES_KEPT, progress)
        self.effects_begun = 0
        progress(1)
        self.image = padded[self.inner]

    def _shared_features(self, most: float, progress: Progress) -> Features | None:
        """The trunk's features of the whole image; None: they would take more bytes than that."""
        if len(self.tiles) == 1:
            return self._trunk_features(*self.tiles[0], progress)
        H, W, _ = self.pixels.shape
        corner = self._trunk_features(slice(0, 2), slice(0, 2), ignore)  # tells the size of all
        if H * W / 4 * sum(x.nbytes for x in corner if x is not None) > most:
            return None
        whole = Features(*(_room(x, H, W) for x in corner))
        for told, rows, columns in self._each_tile(progress):
            found = self._trunk_features(rows, columns, told)
            for x, place in zip(found, window(whole, rows, columns, H), strict=True):
                if x is not None:
                    place.copy_(x)
        return whole

    def _each_tile(self, progress: Progress) -> Iterator[tuple[Progress, slice, slice]]:
        """The tiles one after the other, each with what it tells its own progress to."""
        for k, tile in enumerate(self.tiles):
            if k:  # the next is of another size, for which the blocks of this one do not fit
                memory.give_back()
            told = between(progress, k / len(self.tiles), (k + 1) / len(self.tiles))
            told(0)
            yield told, *tile

    def _features(self, rows: slice, columns: slice, progress: Progress) -> Features:
        """What effects share of a window of the image, made now where it is not kept."""
        if self.shared is None:
            made = self._trunk_features(rows, columns, progress)
            memory.give_back()  # the head asks for blocks of other sizes
            return made
        return window(self.shared, rows, columns, len(self.pixels))

    def _trunk_features(self, rows: slice, columns: slice, progress: Progress) -> Features:
        """What the trunk makes of a window of the image."""
        if not self.trunk.body:
            return Features()
        H, W, _ = self.pixels.shape
        around = widen(rows, self.trunk.radius, H), widen(columns, self.trunk.radius, W)
        features = self.trunk.features(self._input(*around), Features(), progress)
        features = self.trunk.finish_features(features)
        height = around[0].stop - around[0].start
        return window(features, inside(rows, around[0]), inside(columns, around[1]), height)

    def _input(self, rows: slice, columns: slice) -> Tensor:
        x = self.pixels[rows, columns].permute(2, 0, 1)[None]
        return x.to(self.dtype, memory_format=torch.channels_last)

    def residuals(self, task, progress: Progress = ignore) -> Iterator[tuple[slice, slice, Tensor]]:
        """Piece by piece, what a task adds to the loaded image.

        Yields rows, columns and grey levels, rows x columns x 3. progress: as for effect.

        Raises UserError for a task that is none, RuntimeError when no image is loaded.
        """
        if self.image is None:
            raise RuntimeError("load an image first")
        head = self.head(plain_task(task))
        needs_image = bool(head.body) and head.body[0][0] == "first"
        H, W, _ = self.pixels.shape
        self.effects_begun += 1
        if self.shared is None and self.effects_begun == 2:
            most = free_memory(self.device) * PART_OF_FREE
            self.shared = self._shared_features(most, between(progress, 0, 1 / 2))
            progress = between(progress, 1 / 2, 1) if self.shared else progress
        for told, rows, columns in self._each_tile(progress):
            around = widen(rows, head.radius, H), widen(columns, head.radius, W)
            begin = 1 / 2 if self.shared is None else 0.0  # of the head's work in this tile's
            image = self._input(*around) if needs_image else None
            tail = (begin + 1) / 2
            features = head.features(  # which alone holds what the trunk has made for it
                image, self._features(*around, between(told, 0, begin)), between(told, begin, tail)
            )
            for top, (change,) in head.residual(features):
                first = around[0].start + top
                top, bottom = max(first, rows.start), min(first + len(change), rows.stop)
                if top < bottom:
                    piece = change[top - first : bottom - first, inside(columns, around[1])]
                    yield slice(top, bottom), columns, piece
                    told(tail + (1 - tail) * (bottom - rows.start) / (rows.stop - rows.start))

    def effect(self, task, progress: Progress = ignore) -> np.ndarray:
        """The loaded image restored by a task (deblur, denoise, dejpeg, each 0 to 1), as uint8.

        (0, 0, 0) returns the image as it is, and no network is run: its global scale is 0.

        progress: called with the share that is done, 0 to 1, from time to time; what it raises
        ends the work, and the image stays loaded.

        Raises UserError for another task, RuntimeError when no image is loaded.
        """
        task = plain_task(task)
        if self.image is not None and not any(task):
            return self.image.copy()
        return self.run(task, progress)

    @torch.inference_mode()
    def run(self, task, progress: Progress = ignore) -> np.ndarray:
        """As effect, but the network is run for (0, 0, 0), too: a benchmark counts on it."""
        restored = None
        for rows, columns, change in self.residuals(task, progress):
            if restored is None:
                restored = torch.empty(self.image.shape, dtype=torch.uint8, device=self.device)
            y = change.float().add_(self.pixels[rows, columns]).round_().clamp_(0, 255)
            down, across = common(rows, self.inner[0]), common(columns, self.inner[1])
            y = y[inside(down, rows), inside(across, columns)].int()  # straight to uint8 is slow
            restored[inside(down, self.inner[0]), inside(across, self.inner[1])] = y
        return restored.cpu().numpy()

    def effects(self, tasks: Iterable) -> Iterator[np.ndarray]:
        """Effect after effect of the image that is loaded when each is computed."""
        return map(self.effect, tasks)

    def suggest(self) -> Task:
        """The task that seems to fit the loaded image, as the sliders name it: 0 to 1 by 0.01.

        No effect is computed; notebook 41 says how good the guess is (estimation.py).

        Raises RuntimeError when no image is loaded.
        """
        if self.image is None:
            raise RuntimeError("load an image first")
        return estimation.suggest(self.image, self.device)


def plain_task(task) -> Task:
    """A task of numbers of any type as floats. Raises UserError unless three from 0 to 1."""
    try:
        task = tuple(float(t) for t in task)
        task_to_levels(task)
    except (TypeError, ValueError):
        raise UserError(f"a task is three numbers from 0 to 1, not {task!r}") from None
    return task


def task_text(task) -> str:
    """(0.5, 0.45652, 0) -> '0.5,0.4565,0', for metadata: --task understands it."""
    return ",".join(f"{t:.4g}" for t in task)


def task_metadata(about: dict[str, str], task) -> dict[str, str]:
    """What is written into the file of an effect: the network it comes from, and its task."""
    return about | {"task": task_text(task)}


def photo_effect(modulator: Modulator, task, *progress) -> np.ndarray:
    """An effect of the loaded photo; a grey photo's is grey, without the tint a network may add."""
    restored = modulator.effect(task, *progress)
    red, green, blue = np.moveaxis(modulator.image, 2, 0)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.asarray(Image.fromarray(restored).convert("L").convert("RGB"))
    return restored


def best_denoise(modulator: Modulator, clean: np.ndarray) -> Task:
    """Of the places of the denoise slider in DENOISE, the one that comes nearest to a clean image.

    For noise that the sliders cannot name. The other two sliders stay at 0.
    """
    tasks = [(0.0, t, 0.0) for t in DENOISE]
    errors = [np.square(effect - clean.astype(np.float32)).mean()
              for effect in modulator.effects(tasks)]  # fmt: skip
    return tasks[np.argmin(errors)]

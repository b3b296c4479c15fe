"""A session of the slider demo, without its page: what is wanted now, and what there is of it.

The page says what it wants; a worker thread does the most urgent piece that is lacking, looks
again, and so on. From urgent to idle: the effect at the size of the display, what is to be saved,
the effect at full resolution, a suggestion, thumbnails of the 27 effects, and the time that CResMD
takes for the same.
"""

import io
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from PIL import Image

from cirlib import checkpoints, degradation
from cirlib.architecture import full_architecture
from cirlib.base import memory
from cirlib.base.device import pick_device
from cirlib.base.files import UserError
from cirlib.cost import split_flops
from cirlib.data.images import Size, encode_png, read_image, read_kept, shrunk, size_of
from cirlib.data.metadata import Kept
from cirlib.degradation import CLEAN, TASKS, Levels, degrade, sample_generator
from cirlib.demo.tally import Facts, Tally
from cirlib.demo.worker import Worker
from cirlib.engine import estimation
from cirlib.engine.modulator import Modulator, Task, photo_effect
from cirlib.measure.metrics import psnr

DISPLAY = 400_000  # pixels of the preview: about what the viewer shows of a photo as a whole
LARGEST = 50_000_000  # pixels of a photo; a browser has to show it
WORK = 64e6  # bytes of features in a tile of a large photo: a new wish is heard soon
REST = 0.3  # seconds without a new wish, after which idle work begins
COLUMNS, THUMBNAIL = 9, 120  # of the strip; pixels of a thumbnail's longer side


class Source(Protocol):
    """Where a photo comes from: an own one, one of a data set (datasets.Photograph)."""

    name: str

    def read(self) -> np.ndarray: ...
    def kept(self) -> Kept: ...


@dataclass(frozen=True, eq=False)
class Pixels:
    """A photo in memory, uint8 H x W x 3."""

    name: str
    pixels: np.ndarray

    def read(self) -> np.ndarray:
        return self.pixels

    def kept(self) -> Kept:
        return Kept()


@dataclass(frozen=True, eq=False)
class File:
    """The bytes of an image file. words: what reading told."""

    name: str
    data: bytes
    words: list[str] = field(default_factory=list)

    def read(self) -> np.ndarray:
        """Raises UserError when they are no image."""
        file = io.BytesIO(self.data)
        file.name = self.name
        self.words.clear()
        return read_image(file, tell=self.words.append)

    def kept(self) -> Kept:
        return read_kept(io.BytesIO(self.data))


@dataclass(frozen=True)
class Wish:
    """What the page wants. held: a slider is being dragged, so a preview will do.

    suggestion: how often one was asked for.
    """

    source: Source
    damage: Levels
    model: str
    task: Task
    held: bool = False
    suggestion: int = 0

    @property
    def input(self) -> tuple:
        """What the degraded photo depends on."""
        return self.source, self.damage

    @property
    def prepared(self) -> tuple:
        """What the shared features depend on."""
        return self.source, self.damage, self.model

    @property
    def effect(self) -> tuple:
        """What the effect depends on."""
        return self.source, self.damage, self.model, self.task


class Page(Protocol):
    """What a session tells; called on its thread."""

    def show_input(self, image: np.ndarray, size: Size, wish: Wish) -> None: ...
    def show_effect(self, image: np.ndarray, wish: Wish) -> None: ...
    def show_progress(self, share: float) -> None: ...
    def show_facts(self, facts: Facts, tally: Tally) -> None: ...
    def show_strip(self, sheet: np.ndarray | None, ratio: float) -> None: ...
    def show_error(self, text: str) -> None: ...
    def opened(self, source: Source, damage: Levels) -> None: ...
    def suggested(self, task: Task) -> None: ...
    def saved(self, name: str, data: bytes) -> None: ...


class Abandoned(Exception):
    """Something else is wanted by now."""


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else traceback.format_exc()


def _read(source: Source) -> np.ndarray:
    photo = source.read()
    if (pixels := photo.shape[0] * photo.shape[1]) > LARGEST:
        raise UserError(
            f"{source.name} has {pixels / 1e6:.0f} megapixels, of {LARGEST / 1e6:.0f} that the "
            "demo takes: scale it down, or use `python -m cirlib restore`"
        )
    return photo


class Session:
    """Does what is wanted, on a thread of its own, and tells the page.

    Raises UserError when the profile has no trained network.
    """

    def __init__(self, profile: str, page: Page, wish: Wish):
        self.profile, self.page, self.wish = profile, page, wish
        self.tally = Tally()
        memory.keep_large_blocks()
        self.device = pick_device()
        self.facts: Facts | None = None
        self._cresmd = "cresmd" in checkpoints.available(profile)
        self._lock = threading.Lock()  # of the wish: each widget may have a thread in the kernel
        self._touched = time.monotonic()
        self._source: Source | None = None
        self._input = self._model = self._loaded = None  # done so far: parts of a wish
        self._shown = self._whole_shown = self._whole_input_shown = None
        self._thumbnails: tuple[tuple, list] = ((), [])
        self._rival: tuple[Size, Modulator] | None = None  # CResMD, with a photo of that size
        self._suggestion, self._failed = 0, None
        self._saves: deque[Wish] = deque()  # what is to be saved
        self._unsaved = ""  # why the last was not, until something new is wanted
        self.worker = Worker(self._step)

    def want(self, **changes) -> None:
        """Change parts of the wish. A task ends the wait for a suggestion asked for before."""
        with self._lock:
            if "task" in changes:
                changes = {"suggestion": self._suggestion} | changes
            before, self.wish = self.wish, replace(self.wish, **changes)
            self._touched = time.monotonic()
            if self.wish != before:  # the page says again what it was told
                self._unsaved = ""
        self.worker.wake()

    def save(self) -> None:
        """Have the effect that is wanted now saved, or the page told why not, whatever is wanted
        later."""
        self._saves.append(self.wish)
        self.worker.wake()

    def _step(self) -> float | None:
        wish, failed = self.wish, self.wish is self._failed
        if self._saves:
            wanted = self._saves[0]
            if failed or wanted.prepared != wish.prepared or wanted.prepared == self._loaded:
                self._save(self._saves.popleft())
                return 0
        if failed:
            return None
        try:
            return self._next(wish)
        except Abandoned:
            return 0
        except Exception as error:  # whatever it is, the reader must see it
            self._failed = wish
            self.page.show_progress(1)
            self.page.show_error(_told(error))
            return 0

    def _next(self, wish: Wish) -> float | None:
        """Do the most urgent piece."""
        if wish.source is not self._source:
            self._open(wish)
        elif wish.input != self._input:
            self._damage(wish)
        elif wish.model != self._model:
            self._use(wish.model)
        elif wish.prepared != self._loaded:
            self._load(wish)
        elif wish.effect != self._shown:
            self._preview(wish)
        elif wish.held:
            return None
        elif self.small is not self.image and wish.effect != self._whole_shown:
            self._show_whole(wish)
        elif wish.suggestion != self._suggestion:
            self._suggest(wish)
        else:
            return self._idle(wish)
        return 0

    def _idle(self, wish: Wish) -> float | None:
        """What can wait, once nothing has been wanted for a while."""
        rest = REST - (time.monotonic() - self._touched)
        if rest > 0:
            return rest
        key, made = self._thumbnails
        if key != self._loaded or len(made) < len(TASKS):
            self._thumbnail()
        elif self._cresmd and (size := self.tally.unmeasured()):
            self._measure(size, wish)
        else:
            return None
        return 0

    # From a file to an effect

    def _open(self, wish: Wish) -> None:
        try:
            photo = _read(wish.source)
        except Exception:
            if self._source is not None:  # stay with the photo that is there
                source, damage = self._input or (self._source, CLEAN)
                with self._lock:
                    if still := self.wish.source is wish.source:
                        self.wish = replace(self.wish, source=source, damage=damage)
                if still:  # else it would move the sliders of the next photo
                    self.page.opened(source, damage)
            raise
        self.photo, self._source = photo, wish.source
        self.page.show_strip(None, photo.shape[1] / photo.shape[0])  # until it is made
        self.page.opened(wish.source, wish.damage)

    def _damage(self, wish: Wish) -> None:
        self.image = degrade(self.photo, wish.damage, sample_generator(0, 0))
        self.small = shrunk(self.image, DISPLAY)
        self._input, self._whole_input_shown, self._loaded = wish.input, None, None
        self.page.show_input(self.small, size_of(self.image), wish)

    def _use(self, model: str) -> None:
        self.whole = self._modulator(model)
        self.quick = Modulator(self.whole.net, self.device)
        self._model, self._loaded = model, None

    def _modulator(self, model: str) -> Modulator:
        return Modulator(checkpoints.load(model, self.profile), self.device, work=WORK)

    def _load(self, wish: Wish) -> None:
        """Shared features: once for all effects."""
        self.whole.image = None  # belongs to another photo
        began = time.perf_counter()
        self.quick.load(self.small)
        self.tally.add(size_of(self.small), time.perf_counter() - began, effects=0)
        self._loaded = wish.prepared

    def _effect(self, modulator: Modulator, task: Task, *progress) -> tuple[np.ndarray, float]:
        """An effect and its seconds, which are counted."""
        began = time.perf_counter()
        effect = photo_effect(modulator, task, *progress)
        seconds = time.perf_counter() - began
        self.tally.add(size_of(effect), seconds, effects=1)
        return effect, seconds

    def _preview(self, wish: Wish) -> None:
        effect, seconds = self._effect(self.quick, wish.task)
        self._shown = wish.effect
        self.page.show_effect(effect, wish)
        self._tell(wish, effect, seconds)

    def _show_whole(self, wish: Wish) -> None:
        def progress(share: float) -> None:
            now = self.wish
            if now.effect != wish.effect or now.held:
                raise Abandoned
            self.page.show_progress(share)

        effect, seconds = self._whole_effect(wish.task, progress)
        if self._whole_input_shown != wish.input:
            self._whole_input_shown = wish.input
            self.page.show_input(self.image, size_of(self.image), wish)
        self.page.show_effect(effect, wish)
        self._whole_shown = wish.effect
        self.page.show_progress(1)
        self._tell(wish, effect, seconds)

    def _whole_effect(self, task: Task, *progress) -> tuple[np.ndarray, float]:
        """The effect at full resolution."""
        if self.small is self.image:
            return self._effect(self.quick, task, *progress)
        if self.whole.image is None:
            began = time.perf_counter()
            self.whole.load(self.image, *progress)
            self.tally.add(size_of(self.image), time.perf_counter() - began, effects=0)
        return self._effect(self.whole, task, *progress)

    def _tell(self, wish: Wish, effect: np.ndarray, seconds: float) -> None:
        size = size_of(effect)
        trunk, head = split_flops(self.quick.plan(wish.task).architecture, size)
        before = after = None
        if wish.damage != CLEAN:
            input_, truth = (shrunk(x, size[0] * size[1]) for x in (self.image, self.photo))
            before, after = psnr(input_, truth), psnr(effect, truth)
        net = self.quick.net.net
        everything = full_architecture(net.blocks, net.channels, net.tail)
        cresmd = sum(split_flops(everything, size)) if self._cresmd else None
        self.facts = Facts(wish.model, wish.task, size, seconds, head, trunk, cresmd, before, after)
        self.page.show_error(self._unsaved)
        self.page.show_facts(self.facts, self.tally)

    # On request

    def _save(self, wanted: Wish) -> None:
        """From what is loaded, or anew where the page shows another photo or network by now."""
        name = f"{wanted.source.name}_{degradation.task_name(wanted.task)}.png"
        about = {"model": wanted.model, "profile": self.profile}
        try:
            if wanted.prepared == self._loaded:
                effect, _ = self._whole_effect(wanted.task)
            else:
                image = degrade(_read(wanted.source), wanted.damage, sample_generator(0, 0))
                modulator = self._modulator(wanted.model)
                modulator.load(image)
                effect, _ = self._effect(modulator, wanted.task)
            told = degradation.task_metadata(about, wanted.task)
            data = encode_png(effect, metadata=told, kept=wanted.source.kept())
        except Exception as error:
            self._unsaved = f"{name} was not saved: {_told(error)}"
            self.page.show_error(self._unsaved)
            return
        self.page.saved(name, data)

    def _suggest(self, wish: Wish) -> None:
        self._suggestion = wish.suggestion
        task = estimation.suggest(self.image, self.device)  # a preview would hide noise
        with self._lock:
            if self.wish.effect != wish.effect:  # the reader has moved on
                if self.wish.task == wish.task:  # to a photo or network that waits for its own
                    self._suggestion = wish.suggestion - 1
                return
            self.wish = replace(self.wish, task=task)
        self.page.suggested(task)

    # While nothing else is wanted

    def _thumbnail(self) -> None:
        """One more of the 27; the sheet is shown row by row."""
        key, made = self._thumbnails
        if key != self._loaded:
            made = []
            self._thumbnails = self._loaded, made
        effect, _ = self._effect(self.quick, tuple(map(float, TASKS[len(made)])))
        thumbnail = Image.fromarray(effect)
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        made.append(np.asarray(thumbnail))
        if len(made) % COLUMNS == 0:
            height, width, _ = made[0].shape
            sheet = np.full((len(TASKS) // COLUMNS * height, COLUMNS * width, 3), 235, np.uint8)
            for k, cell in enumerate(made):
                top, left = k // COLUMNS * height, k % COLUMNS * width
                sheet[top : top + height, left : left + width] = cell
            self.page.show_strip(sheet, width / height)
            self.page.show_facts(self.facts, self.tally)

    def _measure(self, size: Size, wish: Wish) -> None:
        """Run CResMD once more on a photo of this size; what it shows does not matter for time."""

        def progress(_share: float) -> None:
            if self.wish is not wish:
                raise Abandoned

        if self._rival is None or self._rival[0] != size:
            modulator = self._rival[1] if self._rival else self._modulator("cresmd")
            shape = size[1], size[0], 3  # not flat, which would be continued (engine/border.py)
            modulator.load(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
            self._rival = size, modulator
        times = self.tally.cresmd.setdefault(size, [])
        task = tuple(map(float, TASKS[1 + len(times)]))  # another one each time, as from a slider
        began = time.perf_counter()
        self._rival[1].effect(task, progress)
        times.append(time.perf_counter() - began)
        self.page.show_facts(self.facts, self.tally)

"""A session of the slider demo, without its page: what is wanted now, and what there is of it.

The page says what it wants; a worker thread does the most urgent piece that is lacking, looks
again, and so on. From urgent to idle: what is to be saved, the effect at the size of the display, a
suggestion, the effect at full resolution, thumbnails of the 27 effects, and the time that CResMD
takes for the same.
"""

import threading
import time
import traceback
from collections import deque
from dataclasses import replace
from typing import Protocol

import numpy as np
from PIL import Image

from cirlib import checkpoints
from cirlib.architecture import full_architecture
from cirlib.base import memory
from cirlib.base.device import pick_device
from cirlib.base.files import UserError
from cirlib.cost import cost, split_flops
from cirlib.data.images import Size, encode_png, shrunk, size_of
from cirlib.degradation import CLEAN, TASKS, Levels, degrade, sample_generator
from cirlib.demo import photos
from cirlib.demo.photos import Network, Photo, Wish
from cirlib.demo.tally import Facts, Times
from cirlib.demo.worker import Worker
from cirlib.engine import estimation
from cirlib.engine.modulator import Modulator, Task, photo_effect, task_metadata
from cirlib.measure.metrics import psnr

DISPLAY = 400_000  # pixels of the preview: about what the viewer shows of a photo as a whole
TILE_BYTES = 64e6  # of features in a tile of a large photo: a new wish is heard soon
NOTHING: Task = (0.0, 0.0, 0.0)  # leaves the photo as it is
REST = 0.3  # seconds without a new wish, after which idle work begins
STRIP_COLUMNS, STRIP_SIDE = 9, 160  # of the sheet; pixels of a thumbnail's longer side


class Page(Protocol):
    """What a session tells; called on its thread."""

    def show_input(self, image: np.ndarray, size: Size, wish: Wish) -> None: ...
    def show_effect(self, image: np.ndarray, wish: Wish) -> None: ...
    def show_progress(self, share: float) -> None: ...
    def show_facts(self, facts: Facts, own: Times | None, cresmd: Times | None) -> None: ...
    def show_strip(self, sheet: np.ndarray | None, ratio: float) -> None: ...
    def show_error(self, text: str) -> None: ...
    def opened(self, photo: Photo, damage: Levels, task: Task) -> None: ...
    def suggested(self, task: Task) -> None: ...
    def saved(self, name: str, data: bytes) -> None: ...


class Abandoned(Exception):
    """Something else is wanted by now."""


def rival_of(network: Network) -> Network | None:
    """CResMD of the same size, if it is trained."""
    rival = Network("cresmd", network.profile)
    return rival if checkpoints.exists(*rival) else None


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else traceback.format_exc()


class Session:
    """Does what is wanted, on a thread of its own, and tells the page.

    times: of a network and a size of the photo, those of CResMD of the same size among them.
    """

    def __init__(self, page: Page, wish: Wish):
        self.page, self.wish = page, wish
        self.times: dict[tuple[Network, Size], Times] = {}
        memory.keep_large_blocks()
        self.device = pick_device()
        self.facts: Facts | None = None
        self._lock = threading.Lock()  # of the wish: each widget may have a thread in the kernel
        self._touched = time.monotonic()
        self._opened: Photo | None = None
        self._input = self._network = self._loaded = None  # done so far: parts of a wish
        self._shown = self._whole_shown = self._whole_input_shown = None
        self._last: tuple[tuple | None, np.ndarray | None] = None, None  # effect in full
        self._thumbnails: tuple[tuple, list, Times | None] = ((), [], None)
        self._rival: tuple[Network | None, Modulator | None] = (None, None)
        self._suggestion, self._failed = 0, None
        self._saves: deque[Wish] = deque()  # what is to be saved
        self._error = ""  # what went wrong last, until something new is wanted
        self.worker = Worker(self._step)

    def want(self, **changes) -> None:
        """Change parts of the wish. A new task ends the wait for a suggestion asked for before."""
        with self._lock:
            if changes.get("task", self.wish.task) != self.wish.task:
                changes = {"suggestion": self._suggestion} | changes
            before, self.wish = self.wish, replace(self.wish, **changes)
            self._touched = time.monotonic()
            if self.wish != before:  # the page says again what it was told
                self._error = ""
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
            self.page.show_progress(1)
            return 0
        except Exception as error:  # whatever it is, the reader must see it
            self._failed = wish
            self.page.show_progress(1)
            self.page.show_error(_told(error))
            return 0

    def _next(self, wish: Wish) -> float | None:
        """Do the most urgent piece."""
        if wish.photo is not self._opened:
            self._open(wish)
        elif wish.input != self._input:
            self._damage(wish)
        elif wish.network != self._network:
            self._use(wish.network)
        elif wish.prepared != self._loaded:
            self._load(wish)
        elif wish.effect != self._shown:
            self._preview(wish)
        elif wish.held:
            return None
        elif wish.suggestion != self._suggestion:
            self._suggest(wish)
        elif self.small is not self.image and wish.effect != self._whole_shown:
            self._show_whole(wish)
        else:
            return self._idle(wish)
        return 0

    def _idle(self, wish: Wish) -> float | None:
        """What can wait, once nothing has been wanted for a while."""
        rest = REST - (time.monotonic() - self._touched)
        if rest > 0:
            return rest
        key, made, _ = self._thumbnails
        if key != self._loaded or len(made) < len(TASKS):
            self._thumbnail(wish)
        elif rival_of(wish.network) and not self._rival_done(wish):
            self._measure(wish)
        else:
            return None
        return 0

    # From a file to an effect

    def _open(self, wish: Wish) -> None:
        try:
            pixels = photos.read(wish.photo)
        except Exception as error:
            if self._opened is not None:  # stay with the photo that is there
                photo, damage, _, task = self._last_shown()
                with self._lock:
                    if still := self.wish.photo is wish.photo:
                        self.wish = replace(
                            self.wish, photo=photo, damage=damage, task=task,
                            suggestion=self._suggestion,
                        )  # fmt: skip
                        self._error = _told(error)  # not wiped off by what is still to be done
                if still:  # else it would move the sliders of the next photo
                    self.page.opened(photo, damage, task)
            raise
        self.photo, self._opened = pixels, wish.photo
        self.page.show_error(self._error)
        self.page.show_strip(None, pixels.shape[1] / pixels.shape[0])  # until it is made
        self.page.opened(wish.photo, wish.damage, self.wish.task)

    def _last_shown(self) -> tuple:
        """The effect of the opened photo that is on the page; at 0 before the first one."""
        if self._shown and self._shown[0] is self._opened:
            return self._shown
        damage = self._input[1] if self._input and self._input[0] is self._opened else CLEAN
        return self._opened, damage, None, NOTHING

    def _damage(self, wish: Wish) -> None:
        self.image = degrade(self.photo, wish.damage, sample_generator(0, 0))
        self.small = shrunk(self.image, DISPLAY)
        self._input, self._whole_input_shown, self._loaded = wish.input, None, None
        self.page.show_input(self.small, size_of(self.image), wish)
        if not any(wish.task):  # leaves it as it is: there is nothing to wait for
            self.page.show_effect(self.small, wish)

    def _use(self, network: Network) -> None:
        self.whole = self._modulator(network)
        self.quick = Modulator(self.whole.net, self.device)
        self._network, self._loaded = network, None
        net, size, self._share = self.whole.net, size_of(self.small), None
        self._cresmd = full_architecture(net.net.blocks, net.net.channels)
        if rival_of(network):
            versions = cost(net.architectures(TASKS), size).per_effect(len(TASKS))
            self._share = versions / cost([self._cresmd], size).per_effect(1)

    def _modulator(self, network: Network) -> Modulator:
        return Modulator(network.load(), self.device, work=TILE_BYTES)

    def _load(self, wish: Wish) -> None:
        """Shared features: once for all effects."""
        self.whole.image = None  # belongs to another photo
        self.quick.load(self.small)
        self._loaded = wish.prepared

    def _preview(self, wish: Wish) -> None:
        effect = photo_effect(self.quick, wish.task)
        self._shown = wish.effect
        self.page.show_effect(effect, wish)
        self._tell(wish, effect)

    def _show_whole(self, wish: Wish) -> None:
        def progress(share: float) -> None:
            now = self.wish
            if now.effect != wish.effect or now.held:
                raise Abandoned
            self.page.show_progress(share)

        effect = self._whole_effect(wish, progress)
        if self._whole_input_shown != wish.input:
            self._whole_input_shown = wish.input
            self.page.show_input(self.image, size_of(self.image), wish)
        self.page.show_effect(effect, wish)
        self._whole_shown = wish.effect
        self.page.show_progress(1)
        self._tell(wish, effect)

    def _whole_effect(self, wish: Wish, *progress) -> np.ndarray:
        """The effect at full resolution, of what is loaded; the last one is kept."""
        if not any(wish.task):  # shared features are not needed
            return self.image
        if self._last[0] != wish.effect:
            modulator = self.quick if self.small is self.image else self.whole
            if modulator.image is None:
                modulator.load(self.image, *progress)
            self._last = wish.effect, photo_effect(modulator, wish.task, *progress)
        return self._last[1]

    def _tell(self, wish: Wish, effect: np.ndarray) -> None:
        size = size_of(effect)
        trunk, head = split_flops(self.quick.plan(wish.task).architecture, size)
        before = after = None
        if wish.damage != CLEAN:
            input_, truth = (shrunk(x, size[0] * size[1]) for x in (self.image, self.photo))
            before, after = psnr(input_, truth), psnr(effect, truth)
        cresmd = sum(split_flops(self._cresmd, size)) if rival_of(wish.network) else None
        self.facts = Facts(
            wish.network, wish.task, head, trunk, cresmd, self._share, before, after
        )  # fmt: skip
        self.page.show_error(self._error)
        self._tell_times()

    def _tell_times(self) -> None:
        size, network = size_of(self.small), self.facts.network
        own, cresmd = (self.times.get((each, size)) for each in (network, rival_of(network)))
        self.page.show_facts(self.facts, own, cresmd if cresmd and cresmd.effects else None)

    # On request

    def _save(self, wanted: Wish) -> None:
        """From what is loaded, or anew where the page shows another photo or network by now."""
        name = photos.restored_name(wanted.photo)
        try:
            if wanted.prepared == self._loaded:
                effect = self._whole_effect(wanted, self.page.show_progress)
            else:
                image = degrade(photos.read(wanted.photo), wanted.damage, sample_generator(0, 0))
                modulator = self._modulator(wanted.network)
                modulator.load(image)
                effect = photo_effect(modulator, wanted.task, self.page.show_progress)
            told = task_metadata(wanted.network._asdict(), wanted.task)
            data = encode_png(effect, metadata=told, kept=wanted.photo.kept())
        except Exception as error:
            self._error = f"{name} was not saved: {_told(error)}"
            self.page.show_error(self._error)
            return
        finally:
            self.page.show_progress(1)
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

    def _thumbnail(self, wish: Wish) -> None:
        """One more of the 27, timed; the sheet is shown row by row."""
        key, made, times = self._thumbnails
        if key != self._loaded:
            times = self._time_load(self.quick, self.small)  # the second time: warm
            made = []
            self._thumbnails = self._loaded, made, times
        thumbnail = Image.fromarray(self._timed(self.quick, times, TASKS[len(made)]))
        thumbnail.thumbnail((STRIP_SIDE, STRIP_SIDE))
        thumbnail.putalpha(255)  # those that are lacking can be seen through
        made.append(np.asarray(thumbnail))
        if len(made) == len(TASKS):
            self.times[wish.network, size_of(self.small)] = times
            self._tell_times()
        if len(made) % STRIP_COLUMNS == 0:
            height, width, _ = made[0].shape
            cells = made + [np.zeros_like(made[0])] * (len(TASKS) - len(made))
            starts = range(0, len(TASKS), STRIP_COLUMNS)
            sheet = np.vstack([np.hstack(cells[k : k + STRIP_COLUMNS]) for k in starts])
            self.page.show_strip(sheet, width / height)

    def _rival_done(self, wish: Wish) -> bool:
        times = self.times.get((rival_of(wish.network), size_of(self.small)))
        return times is not None and times.enough

    def _measure(self, wish: Wish) -> None:
        """Run CResMD once more on the photo, warm as the network in use is."""

        def progress(_share: float) -> None:
            if self.wish is not wish:
                raise Abandoned

        key = rival_of(wish.network), size_of(self.small)
        if self._rival[0] != key[0]:
            self._rival = key[0], self._modulator(key[0])
        rival = self._rival[1]
        if rival.image is None or size_of(rival.image) != key[1]:
            rival.load(self.small)
            try:
                rival.effect(TASKS[-1], progress)  # warm
            except Abandoned:
                rival.image = None  # so that it is done again
                raise
        if key not in self.times:
            self.times[key] = self._time_load(rival, self.small)
        task = TASKS[1 + len(self.times[key].effects)]  # the first leaves the photo as it is
        self._timed(rival, self.times[key], task, progress)
        self._tell_times()

    @staticmethod
    def _time_load(modulator: Modulator, image: np.ndarray) -> Times:
        began = time.perf_counter()
        modulator.load(image)
        return Times(size_of(image), time.perf_counter() - began)

    @staticmethod
    def _timed(modulator: Modulator, times: Times, task, *progress) -> np.ndarray:
        """An effect, and its seconds noted."""
        began = time.perf_counter()
        effect = photo_effect(modulator, task, *progress)
        times.effects.append(time.perf_counter() - began)
        return effect

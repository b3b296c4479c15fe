"""Sliders over an image: what Section 1 wants for users, an effect as soon as a slider moves."""

import asyncio
import html
import io
import time
import traceback

import ipywidgets as widgets
import numpy as np
from PIL import Image

from cirlib.files import UserError
from cirlib.modulation import Modulator

SLIDERS = ("deblur", "denoise", "dejpeg")  # the order of the task vector
PAUSE = 0.05  # seconds without a further move after which an effect is computed
GAP = 8  # white pixels between the two images


def encode(image: np.ndarray) -> bytes:
    """PNG of uint8 H x W x 3: lossless, because JPEG's artifacts are what the demo removes."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two images of one height (uint8 H x W x 3) with a white gap between them."""
    gap = np.full((left.shape[0], GAP, 3), 255, np.uint8)
    return np.hstack([left, gap, right])


class Panel(widgets.VBox):
    """Three sliders from 0 to 1 (deblur, denoise, dejpeg); under them the input and its effect.

    modulator: what computes the effects; the panel loads ``image`` (uint8 H x W x 3) into it.
    task: where the sliders start. height: of the image on the page, in pixels.

    The image widget is one for the panel's life and gets encoded bytes, and its place keeps its
    height, so nothing jumps. While a slider moves, only its last position is computed. An error
    appears under the image, which stays, instead of being lost in a log.
    """

    def __init__(self, modulator: Modulator, image: np.ndarray, task=(0.0, 0.0, 0.0), height=300):
        self.modulator, self.input, self._timer = modulator, image, None
        self.sliders = [
            widgets.FloatSlider(value, min=0, max=1, step=0.05, description=name)
            for name, value in zip(SLIDERS, task, strict=True)
        ]
        layout = widgets.Layout(height=f"{height}px", object_fit="contain", align_self="flex-start")
        self.view = widgets.Image(format="png", layout=layout)
        self.status = widgets.Label()
        # Not an Output widget: what a delayed callback raises comes too late for its capture.
        self.errors = widgets.HTML(layout=widgets.Layout(height="4em", overflow="auto"))
        super().__init__([widgets.HBox(self.sliders), self.view, self.status, self.errors])
        for slider in self.sliders:
            slider.observe(self._moved, names="value")
        modulator.load(image)
        self.update()

    def __repr__(self) -> str:
        return "Panel of three sliders: run the notebook to move them"

    @property
    def task(self) -> tuple[float, ...]:
        """The task vector the sliders stand at."""
        return tuple(slider.value for slider in self.sliders)

    def update(self) -> None:
        """Compute and show the effect of the sliders' task, or the error that it raises."""
        self.errors.value = ""
        try:
            began = time.perf_counter()
            effect = self.modulator.effect(self.task)
            seconds = time.perf_counter() - began
            self.view.value = encode(side_by_side(self.input, effect))
        except Exception as error:  # whatever it is, the user must see it
            text = str(error) if isinstance(error, UserError) else traceback.format_exc()
            self.errors.value = f"<pre style='color: #b00000'>{html.escape(text)}</pre>"
            return
        task = ", ".join(f"{t:.2f}" for t in self.task)
        self.status.value = f"input | effect of ({task}), {1000 * seconds:.0f} ms"

    def _moved(self, _change) -> None:
        """Update once the slider rests; at once where no event loop runs, as in a script."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.update()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(PAUSE, self.update)

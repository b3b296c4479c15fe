"""A page of the book that needs no Python: three sliders over effects computed beforehand."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cirlib import checkpoints
from cirlib.data.datasets import photographs
from cirlib.degradation import TASKS, Levels, degrade, sample_generator
from cirlib.engine.modulator import Modulator
from cirlib.profiles import get_model

PAGE = Path(__file__).with_suffix(".html")
PHOTOS = ("chelsea", "coffee")
DAMAGE = Levels(1.0, 25.0, 60)
CREDIT = (
    "Photos: chelsea by Stefan van der Walt, coffee by Rachel Michetti, both CC0, from "
    "scikit-image. They are damaged on purpose: blur r {:g}, noise sigma {:g}, JPEG quality {}."
).format(*DAMAGE)
SIDE, QUALITY = 450, 80  # pixels of the longer side; of WebP


def widget() -> str:
    """Sliders over the 27 effects of the damaged PHOTOS, as HTML. Raises UserError as load does.

    1.4 MB, of which the pictures are nearly all, and 20 s of a core without bfloat16.
    """
    model, profile = "ta-tsnet", "full"
    modulator, shown = Modulator(checkpoints.load(model, profile)), {}
    for photo in photographs("embedded"):
        if photo.name in PHOTOS:
            image = cut(photo.read())
            modulator.load(degrade(image, DAMAGE, sample_generator(0, 0)))
            shown[photo.name] = [modulator.image, *modulator.effects(TASKS)]
    return blended(shown, f"{get_model(model).label}, profile {profile}")


def blended(shown: dict[str, Sequence[np.ndarray]], told: str) -> str:
    """Sliders as HTML. shown: by a photo's name, it and its 27 effects; told: who made them."""
    photos = [
        {"name": name, "before": webp(before), "versions": [webp(effect) for effect in effects]}
        for name, (before, *effects) in shown.items()
    ]
    stops = [sorted({round(float(t), 6) for t in TASKS[:, axis]}) for axis in range(3)]
    html = PAGE.read_text(encoding="utf-8")
    html = html.replace("/*PHOTOS*/[]", json.dumps(photos)).replace("/*TOLD*/", told)
    return html.replace("/*STOPS*/[]", json.dumps(stops))


def cut(image: np.ndarray) -> np.ndarray:
    """The middle of a photo, at most SIDE pixels wide and two thirds as high."""
    height, width = min(SIDE * 2 // 3, image.shape[0]), min(SIDE, image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def webp(image: np.ndarray) -> str:
    """A picture as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", quality=QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

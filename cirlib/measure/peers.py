"""What would one use instead? One damage at a time, our networks beside scikit-image's filters.

All are told how strong the damage is: a network its task, a filter its width, or how far pixels
are off (standard deviation). The networks could restore mixtures as well, the filters could not.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from skimage import filters, restoration

from cirlib.data.datasets import Photograph
from cirlib.data.images import centre_crop
from cirlib.degradation import (
    RADIUS,
    Levels,
    degrade,
    gaussian_kernel,
    levels_to_task,
    sample_generator,
)
from cirlib.engine.modulator import Modulator
from cirlib.measure.metrics import psnr

DAMAGES = {
    "noise 25": Levels(0, 25, None),
    "noise 50": Levels(0, 50, None),
    "blur 2": Levels(2, 0, None),
    "JPEG 10": Levels(0, 0, 10),
}


def non_local_means(x: np.ndarray, deviation: float, _r: float) -> np.ndarray:
    """As scikit-image's gallery sets it, the fast variant."""
    return restoration.denoise_nl_means(
        x, patch_size=5, patch_distance=6, h=0.6 * deviation, sigma=deviation, fast_mode=True,
        channel_axis=-1,
    )  # fmt: skip


def total_variation(x: np.ndarray, deviation: float, _r: float) -> np.ndarray:
    """Chambolle's, with the deviation as its weight."""
    return restoration.denoise_tv_chambolle(x, weight=deviation, channel_axis=-1)


def unsharp_mask(x: np.ndarray, _deviation: float, r: float) -> np.ndarray:
    """What photo editors call sharpening, by its default amount."""
    return filters.unsharp_mask(x, radius=r, amount=1, channel_axis=2)  # takes -1 for rows


def richardson_lucy(x: np.ndarray, _deviation: float, r: float) -> np.ndarray:
    """30 iterations with the very kernel; edges are replicated, as the blur does."""
    taps = gaussian_kernel(r).numpy().astype(float)
    kernel, around = np.outer(taps, taps), ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0))
    planes = np.moveaxis(np.pad(x, around, mode="edge"), -1, 0)
    found = [restoration.richardson_lucy(plane, kernel, num_iter=30) for plane in planes]
    return np.stack(found, -1)[RADIUS:-RADIUS, RADIUS:-RADIUS]


Filter = Callable[[np.ndarray, float, float], np.ndarray]  # x, deviation, r: in [0, 1], pixels
DENOISERS: dict[str, Filter] = {
    "non-local means": non_local_means, "total variation": total_variation,
}  # fmt: skip
SHARPENERS: dict[str, Filter] = {"unsharp mask": unsharp_mask, "Richardson-Lucy": richardson_lucy}


def peers(
    modulators: Mapping[str, Modulator],
    photos: Sequence[Photograph],
    crop: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """A row each damage and method, the input itself first.

    modulators: of the networks by name. Columns: damage, method, photos, psnr (dB, their mean) and
    seconds (median over the photos; one effect of a photo, all that has to be done for it).
    """
    scores: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for i, photo in enumerate(photos):
        clean = centre_crop(photo.read(), crop)
        for k, (damage, levels) in enumerate(DAMAGES.items()):
            image = degrade(clean, levels, sample_generator(seed, i * len(DAMAGES) + k))
            scores.setdefault((damage, "input"), []).append((psnr(image, clean), np.nan))
            for method, restore in _methods(modulators, image, clean, levels):
                began = time.perf_counter()
                restored = restore()
                taken = time.perf_counter() - began
                scores.setdefault((damage, method), []).append((psnr(restored, clean), taken))
    rows = []
    for (damage, method), found in scores.items():
        decibels, seconds = np.array(found).T
        rows.append({"damage": damage, "method": method, "photos": len(found),
                     "psnr": decibels.mean(), "seconds": np.median(seconds)})  # fmt: skip
    return pd.DataFrame(rows)


def _methods(modulators: Mapping[str, Modulator], image: np.ndarray, clean: np.ndarray,
             levels: Levels):  # fmt: skip
    """Name -> what restores the image, of those that are meant for its damage."""
    x, deviation = image / 255, np.std(image / 255 - clean / 255)

    def filtered(chosen: Filter) -> np.ndarray:
        return np.rint(255 * chosen(x, deviation, levels.r).clip(0, 1)).astype(np.uint8)

    def restored(modulator: Modulator) -> np.ndarray:
        modulator.load(image)
        return modulator.effect(levels_to_task(levels))

    for name, chosen in (SHARPENERS if levels.r else DENOISERS).items():
        yield name, lambda chosen=chosen: filtered(chosen)
    for name, modulator in modulators.items():
        yield name, lambda modulator=modulator: restored(modulator)

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


def richardson_lucy(x: np.ndarray, r: float) -> np.ndarray:
    """30 iterations with the very kernel; edges are replicated, as the blur does."""
    taps = gaussian_kernel(r).numpy().astype(float)
    kernel, around = np.outer(taps, taps), ((RADIUS, RADIUS), (RADIUS, RADIUS), (0, 0))
    planes = np.moveaxis(np.pad(x, around, mode="edge"), -1, 0)
    found = [restoration.richardson_lucy(plane, kernel, num_iter=30) for plane in planes]
    return np.stack(found, -1)[RADIUS:-RADIUS, RADIUS:-RADIUS]


# x (H x W x 3, in [0, 1]), how far its pixels are off, r of the blur in pixels -> x restored
DENOISERS = {
    "non-local means": lambda x, off, r: restoration.denoise_nl_means(
        x, patch_size=5, patch_distance=6, h=0.6 * off, sigma=off, fast_mode=True,
        channel_axis=-1,
    ),  # as scikit-image's gallery sets it
    "total variation": lambda x, off, r: restoration.denoise_tv_chambolle(
        x, weight=off, channel_axis=-1
    ),
}  # fmt: skip
SHARPENERS = {
    "unsharp mask": lambda x, off, r: filters.unsharp_mask(
        x, radius=r, amount=1, channel_axis=2  # -1 would be rows to it
    ),
    "Richardson-Lucy": lambda x, off, r: richardson_lucy(x, r),
}  # fmt: skip


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
    rows = []
    for i, photo in enumerate(photos):
        clean = centre_crop(photo.read(), crop)
        for k, (damage, levels) in enumerate(DAMAGES.items()):
            image = degrade(clean, levels, sample_generator(seed, i * len(DAMAGES) + k))
            rows.append((damage, "input", psnr(image, clean), np.nan))
            for method, restore in _methods(modulators, image, clean, levels):
                began = time.perf_counter()
                restored = restore()
                taken = time.perf_counter() - began
                rows.append((damage, method, psnr(restored, clean), taken))
    found = pd.DataFrame(rows, columns=["damage", "method", "psnr", "seconds"])
    return found.groupby(["damage", "method"], sort=False, as_index=False).agg(
        photos=("psnr", "size"), psnr=("psnr", "mean"), seconds=("seconds", "median")
    )


def _methods(modulators: Mapping[str, Modulator], image: np.ndarray, clean: np.ndarray,
             levels: Levels):  # fmt: skip
    """Name -> what restores the image, of those that are meant for its damage."""
    x, off = image / 255, np.std(image / 255 - clean / 255)

    def filtered(chosen: Callable) -> np.ndarray:
        return np.rint(255 * chosen(x, off, levels.r).clip(0, 1)).astype(np.uint8)

    def restored(modulator: Modulator) -> np.ndarray:
        modulator.load(image)
        return modulator.effect(levels_to_task(levels))

    for name, chosen in (SHARPENERS if levels.r else DENOISERS).items():
        yield name, lambda chosen=chosen: filtered(chosen)
    for name, modulator in modulators.items():
        yield name, lambda modulator=modulator: restored(modulator)

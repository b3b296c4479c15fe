"""What the suggested task gives (section 1), on damages that lie between the 27 tasks."""

import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from cirlib.data.camera import photograph, sample_camera
from cirlib.data.datasets import Photograph
from cirlib.data.drawings import drawing
from cirlib.data.images import centre_crop
from cirlib.degradation import (
    BLUR_GRID,
    CLEAN,
    NOISE_GRID,
    QUALITY_GRID,
    TASKS,
    Levels,
    degrade,
    levels_to_task,
    randint,
    sample_generator,
)
from cirlib.engine.modulator import Modulator, best_denoise
from cirlib.measure import metrics

STREAM = 41_000_000  # added to the seed: other drawings, cameras and levels than of the fit
CEILING = 20 * math.log10(255)  # dB: off by one grey level; what is nearer counts as that near
# kind of damage -> which of blur, noise and JPEG there are
DAMAGES = {
    "blur": (1, 0, 0), "noise": (0, 1, 0), "JPEG": (0, 0, 1), "blur, JPEG": (1, 0, 1),
    "noise, JPEG": (0, 1, 1), "all three": (1, 1, 1),
}  # fmt: skip
UNHARMED = ("clean photo", "clean drawing")


def drawn_levels(there: Sequence[int], generator: torch.Generator) -> Levels:
    """Levels anywhere on the sliders, none of them 0, of the kinds of damage that are there."""
    r, sigma, q = (
        grid[1 + randint(len(grid) - 1, generator)] if wanted else grid[0]
        for grid, wanted in zip((BLUR_GRID, NOISE_GRID, QUALITY_GRID), there, strict=True)
    )
    return Levels(r, sigma, q)


def inputs(
    clean: np.ndarray, generator: torch.Generator
) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, float, float] | None]]:
    """Kind, clean image, degraded image, and the task of its damage, None where it has no name."""
    nothing = levels_to_task(CLEAN)
    yield "clean photo", clean, clean, nothing
    picture = drawing(min(clean.shape[:2]), generator)
    yield "clean drawing", picture, picture, nothing
    for kind, there in DAMAGES.items():
        levels = drawn_levels(there, generator)
        yield kind, clean, degrade(clean, levels, generator), levels_to_task(levels)
    for _ in range(2):
        yield "camera", clean, photograph(clean, sample_camera(generator), generator), None


def psnr(image: np.ndarray, clean: np.ndarray) -> float:
    return min(metrics.psnr(image, clean), CEILING)


def suggestion_scores(
    modulator: Modulator, photos: Sequence[Photograph], crop: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """PSNR (dB, CEILING at most) by several rules for picking a task; one row an input.

    Columns: image, kind, ``nothing`` (of the input), ``known damage`` (the task of what was done;
    for noise of cameras the best place of the denoise slider), ``suggested``, ``nearest of 27``
    (of the 27 tasks the one nearest to the suggestion).
    """
    rows = []
    for i, photo in enumerate(tqdm(photos, modulator.net.model.name, file=sys.stderr, leave=False)):
        generator = sample_generator(STREAM + seed, i)
        for kind, clean, image, known in inputs(centre_crop(photo.read(), crop), generator):
            modulator.load(image)
            suggested = modulator.suggest()
            tasks = {
                "known damage": known or best_denoise(modulator, clean),
                "suggested": suggested,
                "nearest of 27": TASKS[np.square(TASKS - np.array(suggested)).sum(1).argmin()],
            }
            effects = modulator.effects(tasks.values())
            rows.append(
                {"image": photo.name, "kind": kind, "nothing": psnr(image, clean)}
                | {rule: psnr(each, clean) for rule, each in zip(tasks, effects, strict=True)}
            )
    return pd.DataFrame(rows)

"""What a task costs along each slider, beside what it gains: Figure 5 by twentieths.

A photo has damage of one type at level t and is restored by that task. The 27 tasks of the
evaluation are at 0, 1/2 and 1; sliders stand in between as well.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from cirlib import checkpoints
from cirlib.cost import cost
from cirlib.data.datasets import Photograph
from cirlib.data.images import centre_crop
from cirlib.degradation import TASKS, degrade, sample_generator, task_to_levels
from cirlib.engine.modulator import Modulator
from cirlib.measure import metrics

SLIDERS = ("deblur", "denoise", "dejpeg")
LEVELS = [round(0.05 * k, 2) for k in range(21)]


def along_sliders(
    profile: str,
    models: Iterable[str],
    photos: Sequence[Photograph] = (),
    crop: int | None = 96,
    size: tuple[int, int] = (481, 321),
) -> pd.DataFrame:
    """A row for each model that is trained, slider and level.

    GFLOPs: of one effect alone on an image of ``size`` (width, height), 0 at level 0, where the
    image is returned and no network run. gain: dB of PSNR of the
    restored over the damaged photo, mean over the photos that are damaged at all; missing without
    any, so at level 0.
    """
    rows = []
    cleans = [centre_crop(photo.read(), crop) for photo in photos]
    for model in checkpoints.available(profile, models):
        modulator = Modulator(checkpoints.load(model, profile))
        for d, slider in enumerate(SLIDERS):
            for k, level in enumerate(LEVELS):
                task = tuple(level * (i == d) for i in range(3))
                gains = []
                for n, clean in enumerate(cleans):
                    number = (n * len(SLIDERS) + d) * len(LEVELS) + k
                    damaged = degrade(clean, task_to_levels(task), sample_generator(0, number))
                    if np.array_equal(damaged, clean):  # at level 0; a blur of 0.2 pixels
                        continue
                    modulator.load(damaged)
                    effect = modulator.effect(task)
                    gains.append(metrics.psnr(effect, clean) - metrics.psnr(damaged, clean))
                own = modulator.plan(task).architecture
                flops = cost([own], size).per_effect(1) if level else 0
                gain = np.mean(gains) if gains else np.nan
                rows.append((model, slider, level, flops / 1e9, gain))
    return pd.DataFrame(rows, columns=["model", "slider", "level", "GFLOPs", "gain"])


def bulge(frame: pd.DataFrame) -> pd.Series:
    """How far the costliest level between two of the grid (0, 1/2, 1) is above the dearer of them.

    frame: along_sliders. By model and slider; 0.1 is a tenth, 0 where none is above.
    """
    grid = sorted({round(float(t), 2) for t in TASKS[:, 0]})

    def of(part: pd.DataFrame) -> float:
        flops = part.set_index("level")["GFLOPs"]
        return max(flops[a:b].max() / max(flops[a], flops[b]) - 1 for a, b in pairwise(grid))

    return frame.groupby(["model", "slider"], sort=False)[["level", "GFLOPs"]].apply(of)

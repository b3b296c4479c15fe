"""What restoring does to flat colours, which photographs hardly have: it should be nothing."""

import numpy as np
import pandas as pd

from cirlib.degradation import CLEAN, TASK_LEVELS, TASKS, degrade, sample_generator
from cirlib.engine.modulator import Modulator

COLOURS = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128),
           "paper": (250, 246, 235), "night": (12, 10, 16), "sky": (110, 160, 220),
           "skin": (224, 172, 140), "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255),
           "cyan": (0, 255, 255), "magenta": (255, 0, 255), "yellow": (255, 255, 0)}  # fmt: skip


def shifts(modulator: Modulator, side: int = 64, seed: int = 0) -> pd.DataFrame:
    """A row for each of COLOURS, in grey levels; images are side x side.

    own: damaged in 26 ways and restored by their own tasks, how far the mean of the worst channel
    is off, mean over them. any: the largest error of a pixel of the clean colour, by any of the 27
    tasks, most of which do not fit it.
    """
    rows = []
    for name, colour in COLOURS.items():
        clean, off = np.full((side, side, 3), colour, np.uint8), []
        for k, levels in enumerate(TASK_LEVELS):
            if levels != CLEAN:
                modulator.load(degrade(clean, levels, sample_generator(seed, k)))
                restored = modulator.effect(TASKS[k])
                off.append(np.abs(restored.mean((0, 1)) - colour).max())
        modulator.load(clean)
        errors = [np.abs(effect - clean.astype(int)).max() for effect in modulator.effects(TASKS)]
        rows.append((name, np.mean(off), max(errors)))
    return pd.DataFrame(rows, columns=["colour", "own", "any"])

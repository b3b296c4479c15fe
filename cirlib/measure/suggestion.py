"""What picking one of 27 effects by a rule gives (section 1), input by input."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cirlib.data.datasets import Photograph
from cirlib.degradation import TASKS
from cirlib.engine.modulator import Modulator
from cirlib.measure.quality import Scores, degraded_inputs


def suggestion_scores(
    modulator: Modulator, photos: Sequence[Photograph], crop: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """What picking one effect by a rule gives: one row for each degraded input.

    Columns: image, r, sigma, q; ``psnr_0`` to ``psnr_26`` of the 27 effects (dB; the first is the
    input itself); and of each rule the number of its pick: ``known`` (the task of what was done to
    the photo), ``suggested`` (Modulator.suggest) and ``niqe`` (the effect with the least NIQE),
    which is missing where NIQE cannot be measured. ``rank``: the place of the effect with the best
    PSNR in the suggested order, from 1 to 27.
    """
    numbers = {tuple(map(float, task)): k for k, task in enumerate(TASKS)}
    score, rows = Scores(("psnr", "niqe")), []
    for each in degraded_inputs(photos, crop, seed, modulator.net.model.name):
        modulator.load(each.image)
        scores = score(list(modulator.effects(TASKS)), each.clean)
        niqe = np.array(scores.get("niqe", [math.nan]))
        order = [numbers[task] for task, _ in modulator.suggest()]
        rows.append(
            {"image": each.name, **each.levels._asdict()}
            | {f"psnr_{k}": value for k, value in enumerate(scores["psnr"])}
            | {"known": each.k, "suggested": order[0],
               "rank": 1 + order.index(int(np.argmax(scores["psnr"]))),
               "niqe": None if np.isnan(niqe).all() else int(np.nanargmin(niqe))}
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"niqe": "Int64"})

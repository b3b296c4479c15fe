"""Which task fits a photo (section 1): rules for picking one, side by side."""

from collections.abc import Mapping

import pandas as pd

from cirlib.measure.intervals import bootstrap
from cirlib.measure.suggestion import UNHARMED

RULES = ("known damage", "suggested", "nearest of 27")
WORSE = 0.1  # dB


def suggestion_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What picking a task by a rule gives, from suggestion_scores by model.

    A row a model, kind of input ("all damaged": those that are) and rule. Columns: model, kind,
    rule, psnr (mean, dB), gained (mean, dB over the input) with low and high (its 95% interval over
    photos), harmed (share of inputs whose PSNR falls by over 0.1 dB, %), worst (the largest fall,
    dB) and inputs.
    """
    rows = []
    for model, frame in frames.items():
        damaged = frame[~frame["kind"].isin(UNHARMED)]
        groups = [("all damaged", damaged), *frame.groupby("kind", sort=False)]
        for kind, part in groups:
            for rule in RULES:
                gained = part[rule] - part["nothing"]
                low, high = bootstrap(gained.groupby(part["image"]).mean().to_numpy())
                rows.append(
                    {"model": model, "kind": kind, "rule": rule, "psnr": part[rule].mean(),
                     "gained": gained.mean(), "low": low, "high": high,
                     "harmed": 100 * (gained < -WORSE).mean(),
                     "worst": max(0.0, -gained.min()), "inputs": len(part)}
                )  # fmt: skip
    return pd.DataFrame(rows)

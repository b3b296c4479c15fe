"""Which effect fits a photo (section 1): rules for picking one of 27, side by side."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cirlib.degradation import TASKS
from cirlib.measure.intervals import bootstrap


def suggestion_table(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How good a rule's pick of one effect is, from evaluation's suggestion_scores by model.

    A row a model and rule: ``best of 27`` (with the clean photo at hand), ``known damage``,
    ``suggested`` (Modulator.suggest), ``least NIQE`` of the 27 effects, ``always the same`` task
    (the best one for these inputs, with hindsight) and ``nothing``, the input as it is.
    Columns: model, rule, psnr (mean, dB), lost (dB below the best of 27) with low and high (its 95%
    interval over photos), best (share of inputs whose best effect it picks, %), best_of_3 (share
    of inputs whose best effect is among the first three; of an order only), gained (dB over the
    input), harmed (share of inputs whose PSNR falls, %) and inputs. A rule that could not be
    applied to all inputs has no numbers.
    """
    rows = []
    for model, frame in frames.items():
        psnr = frame[[f"psnr_{k}" for k in range(len(TASKS))]].to_numpy()
        picks = {
            "best of 27": psnr.argmax(1),
            "known damage": frame["known"],
            "suggested": frame["suggested"],
            "least NIQE": frame["niqe"],
            "always the same": np.full(len(psnr), psnr.mean(0).argmax()),
            "nothing": np.zeros(len(psnr), int),
        }
        for rule, pick in picks.items():
            row = {"model": model, "rule": rule, "inputs": len(psnr)}
            if not pd.isna(pick).any():
                got = psnr[np.arange(len(psnr)), np.asarray(pick, int)]
                lost = pd.Series(psnr.max(1) - got).groupby(frame["image"].to_numpy()).mean()
                low, high = bootstrap(lost.to_numpy())
                row |= {"psnr": got.mean(), "lost": (psnr.max(1) - got).mean(),
                        "low": low, "high": high, "best": 100 * (got == psnr.max(1)).mean(),
                        "gained": (got - psnr[:, 0]).mean(),
                        "harmed": 100 * (got < psnr[:, 0]).mean()}  # fmt: skip
            if rule == "suggested":
                row["best_of_3"] = 100 * (frame["rank"] <= 3).mean()
            rows.append(row)
    names = ["model", "rule", "psnr", "lost", "low", "high", "best", "best_of_3", "gained",
             "harmed", "inputs"]  # fmt: skip
    return pd.DataFrame(rows, columns=names)

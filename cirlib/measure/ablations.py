"""Section 5: quality and cost of the networks of Tables 3 and 4 and Figure 7."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cirlib import checkpoints
from cirlib.data.datasets import Photograph
from cirlib.measure.quality import evaluate
from cirlib.profiles import ABLATIONS, BALANCE, MODELS, SHORT, get_model
from cirlib.search import architecture_summary

COLUMNS = ("model", "label", "method", "steps", "lambda1", "lambda2", "shared_layers", "psnr",
           "drop", "share_m1", "share_m27")  # fmt: skip
MAIN = ("cresmd", "tsnet", "ta-tsnet")

# What each notebook measures.
PRESSED = tuple(name for name, model in ABLATIONS.items() if not model.shared)  # by growing lambda1
FIGURE7 = (*MAIN, *PRESSED, SHORT)
FIXED = tuple(name for name, model in ABLATIONS.items() if model.fixed is not None)
TABLES_3_4 = ("cresmd", "tsnet-abl-1", SHORT, *FIXED, *BALANCE)


def family(model: str) -> str:
    """The paper's name of the row, or group of rows, that a model belongs to."""
    if model in MODELS:
        return model
    if get_model(model).fixed is not None:
        return "ta-tsnet-abl"
    return "ta-tsnet" if get_model(model).shared else "tsnet-abl"


def score(
    profile: str,
    models: Sequence[str],
    photos: Sequence[Photograph],
    crop: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    keep: Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each of the models that is trained, and what each loses, photo by photo.

    First: columns as in COLUMNS. psnr: best of 27 effects, dB, mean over the inputs. drop: dB below
    CResMD on the same inputs. lambda1 and lambda2: those of the training. Second: the same drops,
    a row a photo, a column a model.

    keep: a folder that keeps the scores, model by model; dtype: see evaluate.
    """
    rows, photo_by_photo = [], {}
    for model in checkpoints.available(profile, models):
        net, card = checkpoints.load(model, profile), checkpoints.load_card(model, profile)
        kept = keep / model if keep else None
        scores = evaluate(net, photos, crop, seed, ["psnr"], device, kept, dtype=dtype)
        photo_by_photo[model] = scores.groupby("image", sort=False)["psnr"].mean()
        searched, shared = get_model(model).searched, get_model(model).shared
        found = architecture_summary(net)
        rows.append({
            "model": model, "label": get_model(model).label, "method": family(model),
            "steps": card["steps_done"], "lambda1": card["lambda1"] if searched else np.nan,
            "lambda2": card["lambda2"] if searched and shared else np.nan,
            "shared_layers": 100 * found["shared_layers"],
            "share_m1": 100 * found["flops_m1"], "share_m27": 100 * found["flops_m27"],
            "psnr": scores["psnr"].mean(),
        })  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["drop"] = frame.set_index("model")["psnr"].get("cresmd", np.nan) - frame["psnr"]
    levels = pd.DataFrame(photo_by_photo)
    base = levels["cresmd"] if "cresmd" in levels else pd.Series(np.nan, levels.index)
    return frame, -levels.sub(base, axis=0)

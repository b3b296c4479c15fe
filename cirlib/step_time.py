"""What a training step takes: models beside CResMD, and how long it waits for data."""

import time
from collections.abc import Sequence

import numpy as np
import torch

from cirlib import training
from cirlib.cost import cost, full_architecture
from cirlib.datasets import photographs
from cirlib.device import pick_device
from cirlib.files import UserError
from cirlib.patches import Patches, batches
from cirlib.profiles import get_model, get_profile

AT_A_TIME = 10  # steps of a model before it is the next one's turn


def step_times(
    profile: str, models: Sequence[str], images: str = "embedded", rounds: int = 6
) -> list[dict]:
    """Time models side by side, some steps of each at a time; one dict a model.

    The networks are untrained, the searched ones in their most costly phase, while layers become
    task-agnostic. All take their batches from one stream. Keys: model, seconds_per_step (median,
    without waiting), ratio (to the first model), gflops_per_second (what the super network's
    convolutions take, forward and twice that backward), waiting (share of the time, for data; in
    the second half of a model's turns, since the first uses up what was made during the one
    before).

    Raises UserError for wrong names or missing data.
    """
    if rounds < 1:
        raise UserError(f"{rounds} rounds: ask for one at least")
    chosen, device = get_profile(profile), pick_device()
    runs = [training.Training(get_model(model), chosen, 10**9, 0, {}, device) for model in models]
    for run in runs:
        run.step = int(run.steps * (chosen.share_from + chosen.freeze_from) / 2)
        run.net.train()
    pixels = [photo.read() for photo in photographs(images)]
    patches = Patches(pixels, chosen.patch, 0)
    samples = (rounds + 1) * AT_A_TIME * len(models) * chosen.batch
    stream = iter(batches(patches, range(samples), chosen.batch, training.default_workers()))
    busy, waiting = np.zeros((2, len(models), rounds + 1, AT_A_TIME))  # the first round warms up
    for k in range(rounds + 1):
        for m, run in enumerate(runs):
            for step in range(AT_A_TIME):
                began = time.perf_counter()
                batch = next(stream)
                ready = time.perf_counter()
                run.update(*training.to_device(*batch, device))
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                busy[m, k, step] = time.perf_counter() - ready
                waiting[m, k, step] = ready - began
    busy, waiting = busy[:, 1:], waiting[:, 1:]
    medians = np.median(busy, (1, 2))
    own = slice(AT_A_TIME // 2, None)
    waits, works = (times[..., own].sum((1, 2)) for times in (waiting, busy))
    shares = waits / (waits + works)
    whole = cost([full_architecture(chosen.blocks, chosen.channels)], (chosen.patch,) * 2)
    gflops = 3 * chosen.batch * whole.per_effect(1) / 1e9
    return [
        {"model": model, "seconds_per_step": float(median), "ratio": float(median / medians[0]),
         "gflops_per_second": float(gflops / median), "waiting": float(share)}
        for model, median, share in zip(models, medians, shares, strict=True)
    ]  # fmt: skip

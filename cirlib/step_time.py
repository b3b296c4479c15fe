"""What a training step takes: models beside CResMD, and how long it waits for data."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from cirlib import training
from cirlib.cost import cost, full_architecture
from cirlib.datasets import photographs
from cirlib.device import pick_device
from cirlib.files import UserError
from cirlib.patches import Patches, batches
from cirlib.profiles import get_model, get_profile

AT_A_TIME = 10  # steps of a model before it is the next one's turn, for each worker that makes data


class InTurn(Dataset):
    """Several streams of patches as one: sample (k, i) is number i of stream k."""

    def __init__(self, streams: Sequence[Patches]):
        self.streams = streams

    def __getitem__(self, index: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        stream, number = index
        return self.streams[stream][number]


def step_times(
    profile: str, models: Sequence[str], images: str = "embedded", rounds: int = 6
) -> list[dict]:
    """Time models side by side, some steps of each at a time; one dict a model.

    The networks are untrained, the searched ones in their most costly phase, while layers become
    task-agnostic. Each has the data that it is trained on, made by the same workers. Keys: model,
    seconds_per_step (median, without waiting), ratio (to the first model), gflops_per_second (what
    the super network's convolutions take, forward and twice that backward), waiting (share of the
    time, for data; in the second half of a model's turns, since the first uses up what was made
    during the one before: four batches a worker).

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
    workers, last = training.default_workers(), rounds + 1  # the first round warms up
    turn = AT_A_TIME * workers
    samples = turn * chosen.batch
    streams = [Patches(pixels, chosen.patch, 0, run.net.model.relative, run.config["schemes"])
               for run in runs]  # fmt: skip
    order = [(m, k * samples + i)
             for k in range(last) for m in range(len(runs)) for i in range(samples)]  # fmt: skip
    stream = iter(batches(InTurn(streams), order, chosen.batch, workers))
    busy, waiting = np.zeros((2, len(models), last, turn))
    for k in range(last):
        for m, run in enumerate(runs):
            for step in range(turn):
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
    own = slice(turn // 2, None)
    waits, works = (times[..., own].sum((1, 2)) for times in (waiting, busy))
    shares = waits / (waits + works)
    whole = cost([full_architecture(chosen.blocks, chosen.channels)], (chosen.patch,) * 2)
    gflops = 3 * chosen.batch * whole.per_effect(1) / 1e9
    return [
        {"model": model, "seconds_per_step": float(median), "ratio": float(median / medians[0]),
         "gflops_per_second": float(gflops / median), "waiting": float(share)}
        for model, median, share in zip(models, medians, shares, strict=True)
    ]  # fmt: skip

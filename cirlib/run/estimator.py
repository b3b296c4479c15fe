"""Fitting the estimator of engine/estimation.py: which task does a picture ask for?

python -m cirlib.run.estimator bsd432+clic-cid graphics    20 minutes of two cores

Each sample is the statistics of a degraded patch and the task that it asks for:

    photo     by the training's samplings, as the networks have seen them
    mild      a tenth to a quarter of the damage: where sliders stand for most files
    clean     nothing: (0, 0, 0)
    picture   graphics and drawings, mildly or fully damaged; a damage that has left no trace, as
              blur on a flat colour, asks for nothing
    camera    noise of cameras (data/camera.py), which the sliders cannot name: the place of the
              denoise slider that gives the best PSNR, found by trying them with TA+TSNet
"""

import functools
import sys

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from cirlib import checkpoints
from cirlib.base import paths
from cirlib.base.device import cores
from cirlib.base.files import UserError, say
from cirlib.base.provenance import save_facts
from cirlib.checkpoints import write_tensors
from cirlib.data.camera import photograph, sample_camera
from cirlib.data.datasets import fingerprint, photographs
from cirlib.data.drawings import drawing
from cirlib.degradation import (
    CLEAN,
    RADIUS,
    SEARCH_SCHEMES,
    Levels,
    degrade_with,
    levels_to_task,
    randint,
    sample_generator,
    sample_levels,
    standard_noise,
)
from cirlib.engine.estimation import FILE, fresh_estimator, statistics
from cirlib.engine.modulator import Modulator, best_denoise
from cirlib.patches import Patches

PATCH, BATCH = 128, 256  # of the fit: pixels a side, samples a step
RATE, DECAY = 2e-3, 0.1  # step size; of the weights
HELD_OUT = 10  # every tenth picture is kept apart, to tell the error
KINDS = (
    "photo", "mild", "photo", "picture", "photo", "clean", "photo", "mild", "picture", "camera"
)  # fmt: skip
TRACE = 0.3  # grey levels, on average: what changes a picture less cannot be seen


def mild_levels(generator: torch.Generator) -> Levels:
    """None or a little of each: blur to 1 pixel, noise to 12.5 grey levels, JPEG from 100 to 77."""
    some = [randint(2, generator) for _ in range(3)]
    r, sigma = torch.rand(2, generator=generator).tolist()
    q = 77 + randint(24, generator)
    return Levels(some[0] * r, some[1] * 12.5 * sigma, q if some[2] else None)


def asked(clean: np.ndarray, levels: Levels, noise: Tensor, degraded: np.ndarray) -> list[float]:
    """The task of a damage; 0 for blur or JPEG that has left no trace in this picture."""
    task = list(levels_to_task(levels))
    for kind, without in ((0, levels._replace(r=0.0)), (2, levels._replace(q=None))):
        if task[kind]:
            other = degrade_with(clean, without, noise, RADIUS).astype(np.float32)
            task[kind] *= bool(np.abs(other - degraded).mean() > TRACE)
    return task


class Samples(Dataset):
    """Statistics and task of each sample; one depends on the seed and its number alone."""

    def __init__(self, photos: list, graphics: list, seed: int):
        self.sources = [Patches(pictures, PATCH, seed) for pictures in (photos, graphics)]
        self.seed = seed

    @functools.cached_property
    def modulator(self) -> Modulator:  # one in each process
        return Modulator(checkpoints.load("ta-tsnet", "compact"))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = sample_generator(self.seed, index)
        kind = KINDS[index % len(KINDS)]
        drawn = kind == "picture" or (kind == "clean" and randint(2, generator))
        if drawn and randint(2, generator):
            clean = drawing(PATCH + 2 * RADIUS, generator)
        else:
            clean = self.sources[bool(drawn)].clean(generator)
        levels = CLEAN
        if kind == "mild" or (kind == "picture" and randint(2, generator)):
            levels = mild_levels(generator)
        elif kind in ("photo", "picture"):
            scheme = SEARCH_SCHEMES[randint(len(SEARCH_SCHEMES), generator)]
            levels, _ = sample_levels(scheme, generator)
        if kind == "camera":
            inner = clean[RADIUS:-RADIUS, RADIUS:-RADIUS]
            degraded = photograph(inner, sample_camera(generator), generator)
            self.modulator.load(degraded)
            task = best_denoise(self.modulator, inner)
        else:
            noise = standard_noise(PATCH, PATCH, generator)
            degraded = degrade_with(clean, levels, noise, RADIUS)
            drawn = kind in ("picture", "clean")
            task = asked(clean, levels, noise, degraded) if drawn else levels_to_task(levels)
        return statistics(torch.from_numpy(degraded).permute(2, 0, 1)[None]), torch.tensor(task)

    def at(self, indices: range) -> tuple[Tensor, Tensor]:
        """Statistics n x 448 and tasks n x 3, made on all cores."""
        loader = DataLoader(self, BATCH, sampler=indices, num_workers=cores())
        x, t = zip(*tqdm(loader, unit_scale=BATCH, unit="sample", file=sys.stderr), strict=True)
        return torch.cat(x), torch.cat(t)


def fit(
    images: str, graphics: str, count: int = 100_000, steps: int = 15_000, seed: int = 0
) -> None:
    """Fit the estimator and write it to the checkpoints, with how it was made beside it.

    images: a folder of photos or a data set, as for train; graphics: one of pictures that are no
    photographs. count: samples; as many more, a tenth, are made of the pictures kept apart.
    """
    sets = [photographs(name) for name in (images, graphics)]
    pictures = [[photo.read() for photo in photos] for photos in sets]
    held = [each[::HELD_OUT] for each in pictures]
    seen = [[p for k, p in enumerate(each) if k % HELD_OUT] or each for each in pictures]
    x, t = Samples(*seen, seed).at(range(count))
    x_held, t_held = Samples(*held, seed).at(range(count, count + count // 10))
    net = fresh_estimator(seed)
    net.mean.copy_(x.mean(0))
    net.deviation.copy_(x.std(0) + 1e-3)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), unit="step", file=sys.stderr):
        some = torch.randint(len(x), (BATCH,), generator=generator)
        error = (net(x[some]) - t[some]).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (net(x_held) - t_held).square()
    kinds = np.array([KINDS[(count + k) % len(KINDS)] for k in range(len(errors))])
    rms = {kind: [round(e, 4) for e in errors[kinds == kind].mean(0).sqrt().tolist()]
           for kind in dict.fromkeys(KINDS)}  # fmt: skip
    path = paths.CHECKPOINTS / FILE
    write_tensors(path, net.state_dict(), {})
    save_facts(path, {
        "images": images, "graphics": graphics, "photos": sum(map(len, sets)), "samples": count,
        "patch": PATCH, "fingerprint": fingerprint([photo for photos in sets for photo in photos]),
        "steps": steps, "batch": BATCH, "seed": seed, "device": "cpu",
        "rms_error_held_out_blur_noise_jpeg": rms,
    })  # fmt: skip
    say(f"written: {path}; root-mean-square errors {rms}")


if __name__ == "__main__":
    import tyro

    try:
        options = (tyro.conf.PositionalRequiredArgs,)
        tyro.cli(fit, prog="python -m cirlib.run.estimator", config=options)
    except UserError as error:
        sys.exit(f"error: {error}")

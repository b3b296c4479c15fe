"""Which effect fits a photo? Section 1 leaves that to the user; this proposes where to begin.

A small network looks at a degraded photo alone and estimates its task vector t = (blur, noise,
JPEG). It was fitted by least squares on the stream of training patches, so it gives about the mean
of t for photos that look alike, and among tasks the nearest has the least expected squared error.

    python -m cirlib.estimation bsd432+clic    fit it anew
"""

import functools
import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from cirlib import paths
from cirlib.checkpoints import read_tensors, write_tensors
from cirlib.files import UserError

FILE = "estimator.safetensors"  # under paths.CHECKPOINTS, or shipped
WIDTHS = (16, 32, 48, 48)
PATCH, BATCH, RATE = 96, 32, 2e-3  # of the fit: pixels, patches a step, Adam's first step size
WINDOW = 512  # pixels a side; of a larger photo 3 x 3 of them are looked at
GRID = 8  # pixels: windows keep the photo's JPEG blocks where they are


class Estimator(nn.Module):
    """Image -> task vector: four convolutions, the mean over all pixels, two linear layers."""

    def __init__(self):
        super().__init__()
        ends = zip((3, *WIDTHS[:-1]), WIDTHS, strict=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(n, m, 5 if n == 3 else 3, stride=2, padding=2 if n == 3 else 1)
            for n, m in ends
        )
        self.hidden = nn.Linear(WIDTHS[-1], WIDTHS[-1])
        self.out = nn.Linear(WIDTHS[-1], 3)

    def forward(self, x: Tensor) -> Tensor:
        """x: B x 3 x H x W in [0, 1] -> B x 3 in [0, 1]."""
        x = x - 0.5
        for conv in self.convs:
            x = F.relu(conv(x))  # B x C x H/2 x W/2, ... H/16 x W/16
        return torch.sigmoid(self.out(F.relu(self.hidden(x.mean((2, 3))))))


def build(seed: int) -> Estimator:
    """One with fresh weights; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Estimator()


@functools.cache
def load(device: torch.device) -> Estimator:
    """The fitted estimator: the user's own, else the shipped one. Raises UserError if damaged."""
    own, shipped = paths.CHECKPOINTS / FILE, paths.SHIPPED / FILE
    path = own if own.exists() else shipped
    net = build(seed=0)
    try:
        net.load_state_dict(read_tensors(path)[0])
    except (FileNotFoundError, RuntimeError) as error:
        raise UserError(
            f"{path} is missing or of another version: take it from the repository, or make it "
            "with `python -m cirlib.estimation bsd432`"
        ) from error
    return net.to(device).eval()


def windows(image: np.ndarray) -> np.ndarray:
    """Windows spread over a large image, n x h x w x 3; of one up to WINDOW a side, the whole."""

    def starts(extent: int) -> list[int]:
        count = min(3, math.ceil(extent / WINDOW))
        spare = max(0, extent - WINDOW)
        return [k * spare // max(1, count - 1) // GRID * GRID for k in range(count)]

    tops, lefts = (starts(extent) for extent in image.shape[:2])
    return np.stack([image[y : y + WINDOW, x : x + WINDOW] for y in tops for x in lefts])


@torch.inference_mode()
def estimate(image: np.ndarray, device: torch.device | str = "cpu") -> tuple[float, float, float]:
    """Estimated task vector (blur, noise, JPEG), each from 0 to 1, of an uint8 H x W x 3 image.

    The mean over its windows. Raises UserError when the estimator's weights are missing.
    """
    device = torch.device(device)
    x = torch.from_numpy(windows(image)).to(device).permute(0, 3, 1, 2).float() / 255
    blur, noise, jpeg = load(device)(x).mean(0).tolist()
    return blur, noise, jpeg


def fit(images: str, steps: int = 3000, seed: int = 0) -> None:
    """Fit the estimator and write it to the checkpoints, with how it was made beside it.

    images: a folder of photos or a data set, as for train.
    """
    from cirlib.datasets import fingerprint, photographs
    from cirlib.device import pick_device
    from cirlib.files import atomic
    from cirlib.patches import Patches, batches
    from cirlib.provenance import provenance
    from cirlib.training import default_workers

    device, photos = pick_device(), photographs(images)
    net = build(seed).to(device)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    patches = Patches([photo.read() for photo in photos], PATCH, seed)
    stream = batches(patches, range(steps * BATCH), BATCH, default_workers())
    errors = []
    for degraded, _, t in tqdm(stream, total=steps, unit="step", file=sys.stderr, mininterval=5):
        error = (net(degraded.to(device).float() / 255) - t.to(device)).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        errors.append(error.detach())
    rms = float(torch.stack(errors[-steps // 10 :]).mean().sqrt())
    facts = provenance(
        images=images, photos=len(photos), fingerprint=fingerprint(photos), steps=steps,
        batch=BATCH, patch=PATCH, seed=seed, device=device, rms_error=round(rms, 4),
    )  # fmt: skip
    path = paths.CHECKPOINTS / FILE
    write_tensors(path, net.state_dict(), {})
    with atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written: {path}; root-mean-square error at the end {rms:.3f}", file=sys.stderr)


if __name__ == "__main__":
    import tyro

    try:
        tyro.cli(
            fit, prog="python -m cirlib.estimation", config=(tyro.conf.PositionalRequiredArgs,)
        )
    except UserError as error:
        sys.exit(f"error: {error}")

"""Which effect fits a photo? Section 1 leaves that to the user; this proposes where to begin.

The task vector t = (blur, noise, JPEG) is estimated from the degraded photo alone, from how strong
each frequency of its 8 x 8 blocks is: blur takes the high ones away, noise lifts them all, JPEG
leaves fewer of them inside its own blocks than across their borders. A small network, fitted by
least squares on the stream of training patches, turns that into about the mean of t among photos
that look alike; so of several tasks the nearest has the least expected squared error.

    python -m cirlib.estimation bsd432+clic    fit it anew: some minutes
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
BLOCK = 8  # pixels a side, of JPEG's blocks
WINDOW = 512  # pixels a side; of a larger photo 3 x 3 of them are looked at
PATCH, BATCH, RATE = 96, 256, 2e-3  # of the fit: pixels a side, patches a step, step size


def dct_basis() -> Tensor:
    """The 64 orthonormal functions of the 8 x 8 discrete cosine transform, as 64 x 1 x 8 x 8."""
    x = torch.arange(BLOCK, dtype=torch.float64)
    rows = torch.cos(math.pi / BLOCK * (x + 0.5) * x[:, None]) * math.sqrt(2 / BLOCK)
    rows[0] /= math.sqrt(2)
    return torch.einsum("ux,vy->uvxy", rows, rows).reshape(-1, 1, BLOCK, BLOCK).float()


def statistics(images: Tensor) -> Tensor:
    """Log of the mean strength of each luma frequency: uint8 B x 3 x H x W -> float32 B x 128.

    Of the blocks on JPEG's grid, then of those shifted by half a block. H and W: 12 or more.
    """
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device)  # BT.601, as in JPEG
    y = torch.einsum("bchw,c->bhw", images.float(), weights)[:, None]
    basis = dct_basis().to(images.device)
    strengths = [
        F.conv2d(y[..., shift:, shift:], basis, stride=BLOCK).abs().mean((2, 3))
        for shift in (0, BLOCK // 2)
    ]
    return torch.cat(strengths, 1).add(0.1).log()  # grey levels; 0.1: flat is not minus infinity


class Estimator(nn.Module):
    """Statistics B x 128 -> task vectors B x 3 in [0, 1]."""

    def __init__(self):
        super().__init__()
        n = 2 * BLOCK**2
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("deviation", torch.ones(n))
        self.hidden = nn.ModuleList((nn.Linear(n, n), nn.Linear(n, n)))
        self.out = nn.Linear(n, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.deviation
        for layer in self.hidden:
            x = F.relu(layer(x))
        return torch.sigmoid(self.out(x))


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
        return [k * spare // max(1, count - 1) // BLOCK * BLOCK for k in range(count)]

    tops, lefts = (starts(extent) for extent in image.shape[:2])
    return np.stack([image[y : y + WINDOW, x : x + WINDOW] for y in tops for x in lefts])


@torch.inference_mode()
def estimate(image: np.ndarray, device: torch.device | str = "cpu") -> tuple[float, float, float]:
    """Estimated task vector (blur, noise, JPEG), each from 0 to 1, of an uint8 H x W x 3 image.

    The mean over its windows. Raises UserError when the estimator's weights are missing.
    """
    device = torch.device(device)
    lack = [(0, max(0, 2 * BLOCK - extent)) for extent in image.shape[:2]]
    image = np.pad(image, (*lack, (0, 0)), mode="edge")
    x = torch.from_numpy(windows(image)).to(device).permute(0, 3, 1, 2)
    blur, noise, jpeg = load(device)(statistics(x)).mean(0).tolist()
    return blur, noise, jpeg


def fit(images: str, samples: int = 60_000, steps: int = 6000, seed: int = 0) -> None:
    """Fit the estimator and write it to the checkpoints, with how it was made beside it.

    images: a folder of photos or a data set, as for train. samples: patches, each degraded once;
    a tenth of them is held out to tell the error.
    """
    from cirlib.datasets import fingerprint, photographs
    from cirlib.files import atomic
    from cirlib.patches import Patches, batches
    from cirlib.provenance import provenance
    from cirlib.training import default_workers

    photos = photographs(images)
    patches = Patches([photo.read() for photo in photos], PATCH, seed)
    stream = batches(patches, range(samples), BATCH, default_workers())
    parts = [(statistics(degraded), t) for degraded, _, t in tqdm(stream, file=sys.stderr)]
    x, t = (torch.cat(part) for part in zip(*parts, strict=True))
    held = max(1, samples // 10)
    net = build(seed)
    net.mean.copy_(x.mean(0))
    net.deviation.copy_(x.std(0) + 1e-3)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), unit="step", file=sys.stderr):
        some = torch.randint(held, samples, (BATCH,), generator=generator)
        error = (net(x[some]) - t[some]).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        errors = (net(x[:held]) - t[:held]).square().mean(0).sqrt()
    rms = dict(zip(("blur", "noise", "jpeg"), [round(e, 4) for e in errors.tolist()], strict=True))
    facts = provenance(
        images=images, photos=len(photos), fingerprint=fingerprint(photos), samples=samples,
        patch=PATCH, steps=steps, batch=BATCH, seed=seed, device="cpu", rms_error_held_out=rms,
    )  # fmt: skip
    path = paths.CHECKPOINTS / FILE
    write_tensors(path, net.state_dict(), {})
    with atomic(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written: {path}; root-mean-square errors {rms}", file=sys.stderr)


if __name__ == "__main__":
    import tyro

    try:
        options = (tyro.conf.PositionalRequiredArgs,)
        tyro.cli(fit, prog="python -m cirlib.estimation", config=options)
    except UserError as error:
        sys.exit(f"error: {error}")

"""Which effect fits a photo? Section 1 leaves that to the user; this proposes where to begin.

The task vector t = (blur, noise, JPEG) is estimated from the degraded photo alone, from how strong
each frequency of its 8 x 8 blocks is: blur takes the high ones away, noise lifts them all, JPEG
leaves fewer of them inside its own blocks than across their borders. A small network, fitted by
least squares on the stream of training patches, turns that into about the mean of t among photos
that look alike; so of several tasks the nearest has the least expected squared error.

run/estimator.py fits it.
"""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cirlib.base import paths
from cirlib.base.files import UserError
from cirlib.checkpoints import read_tensors

FILE = "estimator.safetensors"  # under paths.CHECKPOINTS, or shipped
BLOCK = 8  # pixels a side, of JPEG's blocks
WINDOW = 512  # pixels a side; of a larger photo 3 x 3 of them are looked at


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


def fresh_estimator(seed: int) -> Estimator:
    """One with fresh weights; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Estimator()


@functools.cache
def load_estimator(device: torch.device) -> Estimator:
    """The fitted estimator: the user's own, else the shipped one. Raises UserError if damaged."""
    own, shipped = paths.CHECKPOINTS / FILE, paths.SHIPPED / FILE
    path = own if own.exists() else shipped
    net = fresh_estimator(seed=0)
    try:
        net.load_state_dict(read_tensors(path)[0])
    except (FileNotFoundError, RuntimeError) as error:
        raise UserError(
            f"{path} is missing or of another version: take it from the repository, or make it "
            "with `python -m cirlib.run.estimator bsd432`"
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
    blur, noise, jpeg = load_estimator(device)(statistics(x)).mean(0).tolist()
    return blur, noise, jpeg

"""Which effect fits a photo? Section 1 leaves that to the user; this proposes where to begin.

The task vector t = (blur, noise, JPEG) is estimated from the degraded photo alone, from how strong
each frequency of its 8 x 8 blocks is: blur takes the high ones away, noise lifts them all, even in
the weakest blocks, JPEG leaves fewer of them inside its own blocks than across their borders. A
small network, fitted by least squares, turns that into about the mean of t among pictures that look
alike, which is the suggested task.

run/estimator.py fits it, on photographs, graphics and drawings, and on noise as cameras make it.
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
LEAST = 0.03  # of an estimate; less is what it finds in clean pictures
SMOOTH = 0.5  # grey levels; rounding to integers alone makes half of that
QUANTILES, HIDDEN = (0.1, 0.5), 512
YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])  # as JPEG


def dct_basis() -> Tensor:
    """The 64 orthonormal functions of the 8 x 8 discrete cosine transform, 64 x 64 pixels."""
    x = torch.arange(BLOCK, dtype=torch.float64)
    rows = torch.cos(math.pi / BLOCK * (x + 0.5) * x[:, None]) * math.sqrt(2 / BLOCK)
    rows[0] /= math.sqrt(2)
    return torch.einsum("ux,vy->uvxy", rows, rows).flatten(2).flatten(0, 1).float()


def statistics(windows: Tensor) -> Tensor:
    """Logs of how strong each frequency of a picture is: uint8 n x 3 x H x W -> float32 of 448.

    Of luma the mean, the weakest tenth and the median over all blocks of the n windows, on JPEG's
    grid and shifted by half a block: the mean cannot tell noise from a few sharp letters, the
    weakest blocks can. Of chroma the mean. H and W: 12 or more.
    """
    ycc = torch.einsum("kc,nchw->nkhw", YCC.to(windows.device), windows.float())
    basis, found = dct_basis().to(windows.device), []

    def strengths(x: Tensor) -> Tensor:  # n x H x W -> 64 x blocks
        blocks = x.unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK).reshape(-1, BLOCK**2)
        return (basis @ blocks.T).abs()

    for shift in (0, BLOCK // 2):
        luma = strengths(ycc[:, 0, shift:, shift:])
        weak, middle = (
            luma.kthvalue(1 + int(q * (luma.shape[1] - 1)), 1).values for q in QUANTILES
        )
        found += [luma.mean(1), weak, middle]
    found.append(strengths(ycc[:, 1:].flatten(0, 1)).mean(1))
    return torch.cat(found).add(0.1).log()  # grey levels; 0.1: flat is not minus infinity


class Estimator(nn.Module):
    """Statistics B x 448 -> task vectors B x 3 in [0, 1]."""

    def __init__(self):
        super().__init__()
        n = 7 * BLOCK**2
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("deviation", torch.ones(n))
        self.hidden = nn.ModuleList((nn.Linear(n, HIDDEN), nn.Linear(HIDDEN, HIDDEN)))
        self.out = nn.Linear(HIDDEN, 3)

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
            "with `python -m cirlib.run.estimator bsd432+clic-cid graphics`"
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

    Raises UserError when the estimator's weights are missing.
    """
    device = torch.device(device)
    lack = [(0, max(0, 2 * BLOCK - extent)) for extent in image.shape[:2]]
    image = np.pad(image, (*lack, (0, 0)), mode="edge")
    x = statistics(torch.from_numpy(windows(image)).to(device).permute(0, 3, 1, 2))
    if is_smooth(x):
        return 0.0, 0.0, 0.0
    blur, noise, jpeg = load_estimator(device)(x[None])[0].tolist()
    return blur, noise, jpeg


def is_smooth(x: Tensor) -> bool:
    """Whether statistics are of a flat colour or a gradient, blurred or not: nothing to restore."""
    strengths = x.view(-1, BLOCK, BLOCK)[[0, -1]].exp() - 0.1  # of luma and of chroma, the means
    u = torch.arange(BLOCK, device=x.device)
    return bool(strengths[:, u[:, None] + u > 1].max() < SMOOTH)


def suggest(image: np.ndarray, device: torch.device | str = "cpu") -> tuple[float, float, float]:
    """The estimate as the sliders name it, by 0.01; below LEAST nothing is asked for."""
    blur, noise, jpeg = (round(t, 2) if t >= LEAST else 0.0 for t in estimate(image, device))
    return blur, noise, jpeg

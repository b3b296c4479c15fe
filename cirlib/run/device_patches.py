"""Section 7.3's stream of patches, made in batches where the network is: nothing waits for workers.

Photographs are decoded once into the device's memory. Crops, flips, blur, noise and JPEG are done
for a batch at once: JPEG is libjpeg's without its entropy coding, which loses nothing (4:2:0, its
quantisation tables, "fancy" upsampling); the mean distance from Pillow's pixels is below half a
grey level. Batch number k depends on the seed and on k alone.
"""

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cirlib.degradation import (
    BLUR_GRID,
    BLUR_MAX,
    NOISE_GRID,
    NOISE_MAX,
    QUALITY_GRID,
    RADIUS,
    SCHEMES,
    Levels,
    gaussian_kernel,
    levels_to_task,
)

TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@cache
def quantisation(device: torch.device) -> Tensor:
    """libjpeg's tables for luma and chroma by quality from 0 to 100: 101 x 2 x 8 x 8."""

    def tables(quality: int) -> list[list[int]]:
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=max(quality, 1))
        found = Image.open(file).quantization
        return [found[0], found[1]]

    both = torch.tensor([tables(quality) for quality in range(101)], dtype=torch.float32)
    return both.reshape(101, 2, 8, 8).to(device)


def _dct(device: torch.device) -> Tensor:
    """The orthonormal 8 x 8 matrix of the discrete cosine transform."""
    x = torch.arange(8, dtype=torch.float64, device=device)
    rows = torch.cos(torch.pi / 8 * (x + 0.5) * x[:, None]) / 2
    rows[0] /= 2**0.5
    return rows.float()


def _quantised(plane: Tensor, table: Tensor) -> Tensor:
    """What is left of planes B x C x H x W, sides multiples of 8; table: B x 8 x 8."""
    B, C, H, W = plane.shape
    D, table = _dct(plane.device), table[:, None, None, :, None]  # B x 1 x 1 x 8 x 1 x 8
    blocks = plane.reshape(B, C, H // 8, 8, W // 8, 8) - 128
    blocks = torch.einsum("uy,bciyjx,vx->bciujv", D, blocks, D)
    blocks = (blocks / table).round() * table
    blocks = torch.einsum("uy,bciujv,vx->bciyjx", D, blocks, D)
    return (blocks + 128).round().clamp(0, 255).reshape(B, C, H, W)


def _halved(chroma: Tensor) -> Tensor:
    """libjpeg's means of 2 x 2: halves are rounded down and up in turns along a row."""
    bias = torch.tensor([1.0, 2.0], device=chroma.device).repeat(chroma.shape[-1] // 4)
    return ((4 * F.avg_pool2d(chroma, 2) + bias) / 4).floor()


def _doubled(chroma: Tensor) -> Tensor:
    """libjpeg's "fancy" upsampling: 3/4 of the nearest and 1/4 of the next, down and across."""
    B, C, H, W = chroma.shape
    x = F.pad(chroma, (0, 0, 1, 1), mode="replicate")
    up, down = 3 * chroma + x[:, :, :-2], 3 * chroma + x[:, :, 2:]
    x = torch.stack((up, down), 3).reshape(B, C, 2 * H, W)
    near = F.pad(x, (1, 1, 0, 0), mode="replicate")
    left, right = 3 * x + near[..., :-2] + 8, 3 * x + near[..., 2:] + 7
    return (torch.stack((left, right), 4).reshape(B, C, 2 * H, 2 * W) / 16).floor()


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """What libjpeg leaves of RGB images: B x 3 x H x W, whole numbers 0..255, sides of 16.

    quality: B numbers from 1 to 100. degradation.jpeg for a batch, up to rounding.
    """
    to_ycc, to_rgb = (torch.tensor(m, device=images.device) for m in (TO_YCC, TO_RGB))
    offset = torch.tensor([0.0, 128, 128], device=images.device)[:, None, None]
    ycc = torch.einsum("dc,bchw->bdhw", to_ycc, images).add(offset).round()
    tables = quantisation(images.device)[quality.long()]
    luma = _quantised(ycc[:, :1], tables[:, 0])
    chroma = _doubled(_quantised(_halved(ycc[:, 1:]), tables[:, 1]))
    ycc = torch.cat((luma, chroma), 1) - offset
    return torch.einsum("dc,bchw->bdhw", to_rgb, ycc).round().clamp(0, 255)


def _kernels() -> Tensor:
    """The blurs of BLUR_GRID as taps, 41 x 21; no blur leaves the middle one."""
    taps = torch.zeros(len(BLUR_GRID), 2 * RADIUS + 1)
    taps[0, RADIUS] = 1
    for k, r in enumerate(BLUR_GRID[1:], 1):
        taps[k] = gaussian_kernel(r)
    return taps


def blur(images: Tensor, taps: Tensor) -> Tensor:
    """B x 3 x H x W blurred by a kernel each, B x 21; RADIUS pixels are cut off each side."""
    B, C, H, W = images.shape
    x, taps = images.reshape(1, B * C, H, W), taps.repeat_interleave(C, 0)[:, None]
    x = F.conv2d(x, taps[:, :, None], groups=B * C)
    return F.conv2d(x, taps[..., None], groups=B * C).reshape(B, C, H - 2 * RADIUS, W - 2 * RADIUS)


class DevicePatches:
    """Batches number 0, 1, 2, ... of (input, target, task) on a device; see patches.Patches.

    input, target: uint8 B x 3 x patch x patch; task: float32 B x 3. patch: a multiple of 16.
    """

    def __init__(self, photos: Sequence[np.ndarray], patch: int, batch: int, seed: int = 0,
                 relative: bool = False, schemes: Sequence[str] = SCHEMES,
                 device: torch.device | str = "cpu"):  # fmt: skip
        self.patch, self.batch, self.seed, self.relative = patch, batch, seed, relative
        self.schemes, self.device = schemes, torch.device(device)
        flat = [torch.from_numpy(np.ascontiguousarray(photo)).reshape(-1, 3) for photo in photos]
        self.pixels = torch.cat([part.to(self.device) for part in flat])  # one after the other

        def known(values, dtype=torch.float32) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=self.device)

        self.sizes = known([photo.shape[:2] for photo in photos], torch.int64)  # photos x 2
        self.ends = self.sizes.prod(1).cumsum(0)
        self.grids = known([len(grid) for grid in (BLUR_GRID, NOISE_GRID, QUALITY_GRID)])
        half = BLUR_GRID.index(2.0), NOISE_GRID.index(25.0), QUALITY_GRID.index(60)
        self.steps = torch.stack((torch.zeros(3, device=self.device), known(half), self.grids - 1))
        self.kernels, self.sigmas = _kernels().to(self.device), known(NOISE_GRID)
        self.qualities = known([100, *QUALITY_GRID[1:]])  # the first is not used
        compressed = [levels_to_task(Levels(0, 0, q))[2] for q in QUALITY_GRID]
        self.tasks = known(BLUR_GRID) / BLUR_MAX, self.sigmas / NOISE_MAX, known(compressed)

    def clean(self, generator: torch.Generator) -> Tensor:
        """Random patches with a margin for the blur, B x 3 x (patch + 20) x (patch + 20)."""
        draw = torch.rand(3, self.batch, generator=generator, device=self.device).double()
        photo = torch.searchsorted(self.ends, (draw[0] * self.ends[-1]).long(), right=True)
        photo = photo.clamp(max=len(self.sizes) - 1)
        place = (draw[1:].T * ((self.sizes[photo] - self.patch).clamp(min=0) + 1)).long()
        window = torch.arange(-RADIUS, self.patch + RADIUS, device=self.device)
        last = self.sizes[photo] - 1  # B x 2; outside the photo its edge is replicated
        rows, columns = (
            (place[:, k, None] + window).clamp(min=0).minimum(last[:, k, None]) for k in (0, 1)
        )
        begin = self.ends[photo] - self.sizes[photo].prod(1)
        places = begin[:, None, None] + rows[:, :, None] * self.sizes[photo, 1][:, None, None]
        x = self.pixels[places + columns[:, None]].permute(0, 3, 1, 2)
        turn = torch.randint(8, (self.batch, 1, 1, 1), generator=generator, device=self.device)
        for bit, turned in (
            (1, lambda x: x.flip(2)),
            (2, lambda x: x.flip(3)),
            (4, lambda x: x.mT),
        ):
            x = torch.where((turn & bit) > 0, turned(x), x)
        return x

    def _levels(self, number: int, generator: torch.Generator) -> Tensor:
        """Grid indices of degradation, B x 3, the schemes in turns; with ``relative`` B x 3 x 2."""
        shape, device = (self.batch, 3, 1 + self.relative), self.device
        u = torch.rand(shape, generator=generator, device=device)
        only = torch.randint(3, (self.batch, 1, 1), generator=generator, device=device)
        anywhere = (u * self.grids[:, None]).floor()
        kinds = {
            "single": anywhere * (torch.arange(3, device=device)[:, None] == only),
            "binary": (self.grids[:, None] - 1) * (u >= 0.5),
            "ternary": self.steps[(3 * u).long(), torch.arange(3, device=device)[:, None]],
            "uniform": anywhere,
        }
        kinds["whole"] = kinds["ternary"] * (torch.arange(1 + self.relative, device=device) == 0)
        turns = (number * self.batch + torch.arange(self.batch, device=device)) % len(self.schemes)
        levels = torch.stack([kinds[scheme] for scheme in self.schemes])
        return levels[turns, torch.arange(self.batch, device=device)].long()

    def _degraded(self, x: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
        i, j, k = levels.unbind(1)
        x = blur(x, self.kernels[i]) + self.sigmas[j][:, None, None, None] * noise
        x = x.clamp(0, 255).round()
        compressed = jpeg(x, self.qualities[k])
        return torch.where((k > 0)[:, None, None, None], compressed, x).to(torch.uint8)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        state = np.random.SeedSequence((self.seed, number)).generate_state(1)
        generator = torch.Generator(self.device).manual_seed(int(state[0]))
        clean, levels = self.clean(generator).float(), self._levels(number, generator)
        shape = (self.batch, 3, self.patch, self.patch)
        noise = torch.randn(shape, generator=generator, device=self.device)
        source = levels.amax(2)
        target = levels.amin(2) if self.relative else torch.zeros_like(source)
        t = torch.stack([scale[a] - scale[b] for scale, a, b in
                         zip(self.tasks, source.T, target.T, strict=True)], 1)  # fmt: skip
        return self._degraded(clean, source, noise), self._degraded(clean, target, noise), t

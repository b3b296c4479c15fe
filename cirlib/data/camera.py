"""Noise as cameras make it, for the estimator: the paper's noise is white and knows no signal.

Raw values have variance a x + b (photons and read-out; Foi et al., IEEE TIP 2008), under a Bayer
mosaic. Interpolating the missing colours and the camera's own smoothing correlate the noise, white
balance lifts it in red and blue, the tone curve in the shadows; JPEG comes last.
"""

import io
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

GAMMA = 2.2  # of the tone curve
BILINEAR = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 4


class Camera(NamedTuple):
    """How a camera takes a picture.

    strength: standard deviation of the noise of mid-grey's raw values, in 1/255 of full scale.
    photons: share of its variance that grows with the signal, 0 to 1. red, blue: gains of the white
    balance. smooth: width of the Gaussian that the camera smooths noise by, in pixels. q:
    quality of the JPEG; full_colour: without chroma subsampling.
    """

    strength: float
    photons: float
    red: float
    blue: float
    smooth: float
    q: int
    full_colour: bool


def sample_camera(generator: torch.Generator) -> Camera:
    """One at random: from hardly any noise to that of a phone at night, quality 85 to 98."""
    u = torch.rand(6, generator=generator).tolist()
    q = int(torch.randint(85, 99, (), generator=generator))
    strength = 0.4 * 20 ** u[0]
    smooth = max(0.0, 1.2 * u[4] - 0.2)
    return Camera(strength, u[1], 1 + u[2], 1 + u[3], smooth, q, u[5] < 0.5)


def photograph(image: np.ndarray, camera: Camera, generator: torch.Generator) -> np.ndarray:
    """A clean image as the camera would have taken it: uint8 H x W x 3, in and out.

    The signal is left as it is, what is interpolated and smoothed is the noise alone.
    """
    H, W, _ = image.shape
    linear = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1) ** GAMMA
    gains = torch.tensor([camera.red, 1.0, camera.blue])[:, None, None]
    middle, raw = 0.5**GAMMA, linear / gains
    variance = 1 - camera.photons + camera.photons * raw / middle
    noise = torch.randn(3, H, W, generator=generator) * variance.sqrt()
    noise = demosaic(noise)
    if camera.smooth:
        x = torch.arange(-3.0, 4.0)
        taps = torch.exp(-0.5 * (x / camera.smooth) ** 2)
        taps = taps / taps.sum()
        noise = F.pad(noise[:, None], (3, 3, 3, 3), mode="replicate")
        noise = F.conv2d(F.conv2d(noise, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))[:, 0]
    seen = linear + camera.strength / 255 * noise * gains
    developed = 255 * seen.clamp(0, 1) ** (1 / GAMMA)
    pixels = developed.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    file, subsampling = io.BytesIO(), "4:4:4" if camera.full_colour else "4:2:0"
    Image.fromarray(pixels).save(file, "JPEG", quality=camera.q, subsampling=subsampling)
    return np.array(Image.open(file))


def demosaic(x: torch.Tensor) -> torch.Tensor:
    """What of 3 x H x W a Bayer mosaic (RGGB) keeps, its gaps filled bilinearly."""
    _, H, W = x.shape
    odd = torch.zeros(3, H, W)
    odd[0, ::2, ::2] = odd[2, 1::2, 1::2] = 1
    odd[1, ::2, 1::2] = odd[1, 1::2, ::2] = 1
    kernel = BILINEAR.view(1, 1, 3, 3)
    both = torch.stack([x * odd, odd])  # values, and how many of them a pixel sees
    values, seen = F.conv2d(both.view(6, 1, H, W), kernel, padding=1).view(2, 3, H, W)
    return values / seen

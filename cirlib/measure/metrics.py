"""Section 7.4: how good a restored image is, by the paper's four measures.

PSNR (dB) and SSIM compare with the clean image, the higher the better. LPIPS (Zhang et al., CVPR
2018) compares with it in the features of a trained network, the lower the better. NIQE (Mittal et
al., Signal Processing Letters 2013) needs no clean image: it measures how far the image's
statistics are from those of natural scenes, the lower the better.

Every image here is a uint8 array of shape (H, W, 3), RGB: network outputs are clamped and rounded
before they are measured, and no border is cropped. NIQE and LPIPS need trained parameters, which
are not part of the repository: ``computable()`` tells what can be measured on this machine.
"""

import warnings
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

import numpy as np
import torch

from cirlib.base.files import UserError
from cirlib.data.weights import NEEDS, weight_file

METRICS = {"psnr": True, "ssim": True, "niqe": False, "lpips": False}  # is more better?
SSIM_WINDOW = 11  # pixels a side


def computable(names: Iterable[str] = METRICS) -> dict[str, bool]:
    """Which of the metrics ``names`` can be computed: False where weights or lpips are missing.

    Constructing ``NIQE`` or ``LPIPS`` where this says False raises a UserError naming the cure.
    Raises UserError for a name that is not in METRICS.
    """
    found = {}
    for name in names:
        if name not in METRICS:
            raise UserError(f"no metric is called {name!r}: choose from {', '.join(METRICS)}")
        found[name] = name != "lpips" or find_spec("lpips") is not None
        if name in NEEDS:
            try:
                weight_file(NEEDS[name])
            except UserError:
                found[name] = False
    return found


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / MSE) over all pixels and channels, in dB.

    ``image``, ``reference``: (H, W, 3) uint8. Two images that differ by 1 everywhere: 48.13 dB;
    identical images: inf. Raises UserError for other types or unequal shapes.
    """
    _check(image, reference)
    difference = np.subtract(image, reference, dtype=np.int16)  # exact, as uint8 would wrap around
    mse = np.mean(np.square(difference, dtype=np.int32))
    return float(10 * np.log10(255**2 / mse)) if mse else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity (Wang et al., 2004), mean over pixels and channels; 1 when identical.

    The original's 11x11 Gaussian window (sigma 1.5) and population covariance. ``image``,
    ``reference``: (H, W, 3) uint8, both sides at least 11. Raises UserError otherwise.
    """
    return ssims([image], reference)[0]


def ssims(images: Sequence[np.ndarray], reference: np.ndarray) -> list[float]:
    """ssim of each of ``images``; two fifths faster, since the reference is filtered once.

    The digits are those of scikit-image's ``structural_similarity``, see ``ssim_of``.
    """
    _check(reference, *images)
    if min(reference.shape[:2]) < SSIM_WINDOW:
        raise UserError(f"SSIM's window is 11x11 pixels: the image has only {_size(reference)}")
    from scipy.ndimage import gaussian_filter

    def local_mean(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, truncate=3.5, axes=(1, 2))  # a radius of 5

    def planes(image: np.ndarray) -> np.ndarray:  # 3 x H x W
        return np.ascontiguousarray(image.transpose(2, 0, 1), float)

    c1, c2, found = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    y = planes(reference)
    mu_y = local_mean(y)
    var_y = local_mean(y * y) - mu_y * mu_y
    for x in map(planes, images):
        mu_x = local_mean(x)
        var_x = local_mean(x * x) - mu_x * mu_x
        covariance = local_mean(x * y) - mu_x * mu_y
        above = (2 * mu_x * mu_y + c1) * (2 * covariance + c2)
        below = (mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2)
        whole = (above / below)[:, 5:-5, 5:-5]  # windows within the image
        found.append(float(np.mean([plane.mean() for plane in whole])))
    return found


def ssim_of(
    image: np.ndarray, reference: np.ndarray, data_range: float, gaussian_weights: bool = True
) -> float:
    """SSIM of any two arrays of one shape, (H, W) or (H, W, 3), whose values span ``data_range``.

    gaussian_weights: the original's window (see ``ssim``), else a uniform one of 7x7.
    """
    from skimage.metrics import structural_similarity

    window = {"sigma": 1.5, "use_sample_covariance": False} if gaussian_weights else {}
    axis = -1 if image.ndim == 3 else None
    options = {"gaussian_weights": gaussian_weights, "channel_axis": axis} | window
    return float(structural_similarity(image, reference, data_range=data_range, **options))


class LPIPS:
    """Learned perceptual image patch similarity: AlexNet, version 0.1, as published.

    Raises UserError when the AlexNet features, or the package lpips, are not on this machine, and
    never measures with a random network instead.
    """

    SMALLEST = 31  # pixels a side that leave something of the image after AlexNet's two poolings
    PIXELS = 1_000_000  # in one forward pass: fastest on a CPU, and 0.2 GB of features at most

    def __init__(self, device: torch.device | str = "cpu"):
        path = weight_file(NEEDS["lpips"])  # before the slow imports
        try:
            import lpips
        except ImportError as error:
            raise UserError("LPIPS needs two packages: pip install lpips torchvision") from error
        from safetensors.torch import load_file

        # The package builds a random AlexNet first: that shall neither advance the caller's random
        # numbers nor pass on torchvision's deprecation of the arguments the package calls it with.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torchvision.models._utils")
            model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        # The package cuts the features into slices: slice2.3.weight is features.3.weight.
        features = load_file(path)
        model.net.load_state_dict(
            {key: features["features." + key.split(".", 1)[1]] for key in model.net.state_dict()}
        )
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)

    def __call__(self, images: Sequence[np.ndarray], reference: np.ndarray) -> list[float]:
        """The distance of each of ``images`` to ``reference``, from 0 (identical) to about 1.

        All (H, W, 3) uint8 of one size, both sides at least 31; UserError otherwise.
        """
        _check(reference, *images)
        if min(reference.shape[:2]) < self.SMALLEST:
            raise UserError(
                f"LPIPS needs {self.SMALLEST} pixels a side: the image has only {_size(reference)}"
            )
        H, W, _ = reference.shape
        batch, distances = max(1, self.PIXELS // (H * W)), []
        with torch.inference_mode():
            y = self._tensor([reference])  # broadcast over the images
            for start in range(0, len(images), batch):
                x = self._tensor(images[start : start + batch])
                distances += self.model(x, y).flatten().tolist()
        return distances

    def _tensor(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1], on the device."""
        pixels = torch.from_numpy(np.stack(images)).to(self.device)
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601 in studio range, 16 to 235, rounded as MATLAB's ``rgb2ycbcr`` does for uint8.

    ``image``: (H, W, 3) uint8, RGB. Returns (H, W) float64.
    """
    thousandths = image @ np.array([65481, 128553, 24966])  # integers: halves are exact, round up
    return 16.0 + (thousandths + 127500) // 255000


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]} (height x width)"


def _check(*images: np.ndarray) -> None:
    """Raise UserError unless all ``images`` are uint8 of one shape (H, W, 3)."""
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"metrics take uint8 images of shape (H, W, 3), not {image.dtype} {image.shape}"
            )
        if image.shape != images[0].shape:
            raise UserError(f"sizes differ: {_size(image)} and {_size(images[0])}; crop one")

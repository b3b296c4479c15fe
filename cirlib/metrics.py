"""Section 7.4: how good a restored image is, by the paper's four measures.

PSNR (dB) and SSIM compare with the clean image, the higher the better. LPIPS (Zhang et al., CVPR
2018) compares with it in the features of a trained network, the lower the better. NIQE (Mittal et
al., Signal Processing Letters 2013) needs no clean image: it measures how far the image's
statistics are from those of natural scenes, the lower the better.

Every image here is a uint8 array of shape (H, W, 3), RGB: network outputs are clamped and rounded
before they are measured, and no border is cropped. NIQE and LPIPS need trained parameters, which
are not part of the repository: ``available()`` tells what can be measured on this machine.
"""

import functools
import hashlib
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from cirlib import paths
from cirlib.files import UserError

METRICS = ("psnr", "ssim", "niqe", "lpips")
WEIGHT_FILES = {  # name under paths.WEIGHTS: SHA-256
    "niqe_modelparameters.mat": "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d",
    "alexnet_features.safetensors": (
        "9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9"
    ),
}
NEEDS = {"niqe": "niqe_modelparameters.mat", "lpips": "alexnet_features.safetensors"}


def weight_file(name: str) -> Path:
    """The path of ``name``, a key of WEIGHT_FILES, after its SHA-256 was checked.

    Raises UserError, with how to get the file, when it is missing or not the one expected.
    """
    path = paths.WEIGHTS / name
    cure = (
        "run `python -m cirlib data weights`, "
        f"or set CIRLIB_DATA to a folder that holds weights/{name}"
    )
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): {cure}") from error
    if digest != WEIGHT_FILES[name]:
        raise UserError(f"{path} is truncated or another file (its SHA-256 is wrong): {cure}")
    return path


def available(names: Iterable[str] = METRICS) -> dict[str, bool]:
    """Which of the metrics ``names`` can be computed: False where trained weights are missing.

    Constructing ``NIQE`` or ``LPIPS`` where this says False raises a UserError naming the cure.
    Raises UserError for a name that is not in METRICS.
    """
    found = {}
    for name in names:
        if name not in METRICS:
            raise UserError(f"no metric is called {name!r}: choose from {', '.join(METRICS)}")
        found[name] = True
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
    _check(image, reference)
    if min(image.shape[:2]) < 11:
        raise UserError(f"SSIM's window is 11x11 pixels: the image has only {_size(image)}")
    return ssim_of(image, reference, 255)


def ssim_of(
    image: np.ndarray, reference: np.ndarray, data_range: float, gaussian_weights: bool = True
) -> float:
    """SSIM of any two arrays of one shape, (H, W) or (H, W, 3), whose values span ``data_range``.

    gaussian_weights: the original's window (see ``ssim``), else a uniform one of 7x7.
    """
    from skimage.metrics import structural_similarity

    window = {"sigma": 1.5, "use_sample_covariance": False} if gaussian_weights else {}
    return float(
        structural_similarity(
            image,
            reference,
            data_range=data_range,
            gaussian_weights=gaussian_weights,
            channel_axis=-1 if image.ndim == 3 else None,
            **window,
        )
    )


class LPIPS:
    """Learned perceptual image patch similarity: AlexNet, version 0.1, as published.

    Raises UserError when the AlexNet features are not on this machine, and never measures with a
    random network instead.
    """

    SMALLEST = 31  # pixels a side that leave something of the image after AlexNet's two poolings
    PIXELS = 1_000_000  # in one forward pass: fastest on a CPU, and 0.2 GB of features at most

    def __init__(self, device: torch.device | str = "cpu"):
        path = weight_file(NEEDS["lpips"])  # before the slow imports
        import lpips
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
        for image in images:
            _check(image, reference)
        _check(reference)
        if min(reference.shape[:2]) < self.SMALLEST:
            raise UserError(
                f"LPIPS needs {self.SMALLEST} pixels a side: the image has only {_size(reference)}"
            )
        H, W, _ = reference.shape
        batch = max(1, self.PIXELS // (H * W))
        distances = []
        for start in range(0, len(images), batch):
            # A reference of batch size 1 is broadcast: its features are computed once a batch.
            with torch.inference_mode():
                distance = self.model(
                    self._tensor(images[start : start + batch]), self._tensor([reference])
                )
            distances += distance.flatten().tolist()  # (B, 1, 1, 1)
        return distances

    def _tensor(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack(images)).to(self.device)  # (B, H, W, 3) uint8
        return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, H, W) in [-1, 1]


class NIQE:
    """Natural image quality evaluator, with the pristine model of the LIVE release of 2012.

    The image's luma is cut into 96x96 patches; 18 statistics of each, at full and at half scale,
    make 36 features; NIQE is the distance of their Gaussian to that of natural images.
    Raises UserError when the model is not on this machine.
    """

    PATCH = 96

    def __init__(self):
        path = weight_file(NEEDS["niqe"])
        from scipy.io import loadmat

        model = loadmat(path)
        self.mean = model["mu_prisparam"].ravel()  # (36,)
        self.covariance = model["cov_prisparam"]  # (36, 36)

    def defined_for(self, height: int, width: int) -> bool:
        """Whether an image of this size holds the two whole patches that a covariance needs."""
        return (height // self.PATCH) * (width // self.PATCH) >= 2

    def __call__(self, image: np.ndarray) -> float:
        """NIQE of ``image``, (H, W, 3) uint8: about 2 to 5 for photographs, more when damaged.

        nan where the statistics do not exist, because fewer than two patches have any detail.
        Raises UserError when the image is smaller than two patches: see ``defined_for``.
        """
        _check(image)
        if not self.defined_for(*image.shape[:2]):
            raise UserError(
                f"NIQE needs two {self.PATCH}x{self.PATCH} patches, 96x192 pixels or more: "
                f"the image has only {_size(image)}"
            )
        return self.of_luma(luma(image))

    def of_luma(self, y: np.ndarray) -> float:
        """NIQE of one channel ``y``, (H, W) floats in 0 to 255, large enough for two patches."""
        H, W = (side // self.PATCH * self.PATCH for side in y.shape)
        y = y[:H, :W]  # whole patches only, before anything looks across their borders
        features = np.hstack(
            [
                patch_statistics(normalised(y), self.PATCH),
                patch_statistics(normalised(half_scale(y)), self.PATCH // 2),
            ]
        )  # (patches, 36)
        whole = features[~np.isnan(features).any(axis=1)]
        if len(whole) < 2:
            return float("nan")
        # As in the release: the mean over all that is defined, the covariance over whole rows.
        offset = np.nanmean(features, axis=0) - self.mean
        covariance = (self.covariance + np.cov(whole, rowvar=False)) / 2
        return float(np.sqrt(offset @ np.linalg.pinv(covariance) @ offset))


def luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601 in studio range, 16 to 235, rounded as MATLAB's ``rgb2ycbcr`` does for uint8.

    ``image``: (H, W, 3) uint8, RGB. Returns (H, W) float64.
    """
    thousandths = image @ np.array([65481, 128553, 24966])  # integers: halves are exact, round up
    return 16.0 + (thousandths + 127500) // 255000


def half_scale(y: np.ndarray) -> np.ndarray:
    """Half the size by bicubic interpolation, antialiased as by MATLAB's ``imresize(y, 0.5)``.

    ``y``: (H, W), even sides. The cubic kernel (a = -1/2) is stretched over twice the distance, so
    that every output is the same 8 taps of the input, mirrored at the borders.
    """
    d = np.abs(np.arange(-3.5, 4)) / 2  # from the output pixel's centre, in output pixels
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    taps = np.where(d <= 1, near, far) / 2  # their sum is 1
    for _ in range(2):  # down the rows, then, transposed, along the columns
        padded = np.pad(y, ((3, 3), (0, 0)), mode="symmetric")
        rows = len(y) // 2
        y = sum(tap * padded[k : k + 2 * rows : 2] for k, tap in enumerate(taps)).T
    return y


def normalised(y: np.ndarray) -> np.ndarray:
    """Mean-subtracted, contrast-normalised luma: (y - mu) / (sigma + 1), (H, W) float64.

    mu and sigma are local, under a 7x7 Gaussian window of standard deviation 7/6.
    """
    from scipy.ndimage import correlate1d

    window = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()

    def blur(x):
        return correlate1d(
            correlate1d(x, window, axis=0, mode="nearest"), window, axis=1, mode="nearest"
        )

    mu = blur(y)
    sigma = np.sqrt(np.abs(blur(y * y) - mu * mu))
    difference = y - mu
    # In a flat area only the rounding of floats is left, and its sign would be counted as texture.
    difference[np.abs(difference) < 1e-9] = 0
    return difference / (sigma + 1)


def patch_statistics(x: np.ndarray, patch: int) -> np.ndarray:
    """The 18 features of each ``patch`` x ``patch`` block of ``x``: (blocks, 18), row by row.

    Asymmetric generalised Gaussians are fitted to the values (shape, mean scale) and to the
    products of neighbours in four directions (shape, mean, left and right scale). nan where the
    values of a block are all of one sign, as in a flat one.
    """
    H, W = x.shape
    blocks = x.reshape(H // patch, patch, W // patch, patch).swapaxes(1, 2)
    blocks = np.ascontiguousarray(blocks).reshape(-1, patch, patch)
    alpha, _, left, right = asymmetric_fit(blocks)
    features = [alpha, (left + right) / 2]
    for shift in (0, 1), (1, 0), (1, 1), (-1, 1):
        features += asymmetric_fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
    return np.stack(features, axis=1)


def asymmetric_fit(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Fit an asymmetric generalised Gaussian to each of ``x``, (blocks, patch, patch), by moments.

    Its density falls as exp(-(|x| / scale)^alpha), with one scale left and another right of 0.
    Returns alpha (0.2 to 10), mean, left scale and right scale, each of shape (blocks,).
    """
    from scipy.special import gamma

    alphas, ratios = _shapes()
    x = x.reshape(len(x), -1)
    below, above = np.minimum(x, 0), np.maximum(x, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # nan where all values are of one sign
        left = np.sqrt(np.einsum("bi,bi->b", below, below) / np.count_nonzero(below, axis=1))
        right = np.sqrt(np.einsum("bi,bi->b", above, above) / np.count_nonzero(above, axis=1))
        skew = left / right
        ratio = np.abs(x).mean(axis=1) ** 2 / (np.einsum("bi,bi->b", x, x) / x.shape[1])
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    # The nearest of the grid; where there is no ratio, the first, as MATLAB's min does.
    nearest = np.searchsorted((ratios[1:] + ratios[:-1]) / 2, ratio)
    alpha = alphas[np.where(np.isnan(ratio), 0, nearest)]
    scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))  # of a density with unit variance
    left, right = left * scale, right * scale
    return alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right


@functools.cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """The grid of alpha, and (E|x|)^2 / E[x^2] of the symmetric density there: both rise."""
    from scipy.special import gamma

    alphas = np.arange(200, 10001) / 1000
    return alphas, gamma(2 / alphas) ** 2 / (gamma(1 / alphas) * gamma(3 / alphas))


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

"""NIQE (Mittal et al., Signal Processing Letters 2013), as its authors released it."""

import functools

import numpy as np

from cirlib.base.files import UserError
from cirlib.data.weights import NEEDS, weight_file
from cirlib.measure.metrics import _check, _size, luma


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
    from scipy.ndimage import gaussian_filter

    mu, square = (gaussian_filter(x, 7 / 6, radius=3, mode="nearest") for x in (y, y * y))
    sigma = np.sqrt(np.abs(square - mu * mu))
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

"""95% intervals over photographs, and what they allow to be said."""

from collections.abc import Iterable

import numpy as np


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 4000) -> tuple[float, float]:
    """95% interval of the mean, by drawing the images anew with replacement."""
    draw = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(values[draw].mean(1), [2.5, 97.5])
    return float(low), float(high)


def positive(values: np.ndarray) -> bool | None:
    """Whether the mean of a value an image is above 0.

    None where its 95% interval holds 0, a value is missing, or there is one image only.
    """
    low, high = bootstrap(values)
    return bool(low > 0) if len(values) > 1 and (low > 0 or high < 0) else None


def all_hold(answers: Iterable[bool | None]) -> bool | None:
    """Of several answers of positive(): False if one is, else None if one is, else True."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True

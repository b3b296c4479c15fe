"""95% intervals over photographs, what they allow to be said, and lines read off between points."""

from collections.abc import Iterable, Sequence

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


def at_cost(costs: Sequence[float], values: Sequence[float], target: float) -> float:
    """What a line of networks has at a cost, between two of them, costs logarithmic.

    Beyond its ends the last point counts; nan where a number is missing.
    """
    costs, values = np.array(costs, float), np.array(values, float)
    if np.isnan([target, *costs, *values]).any():
        return float("nan")
    order = np.argsort(costs)
    return float(np.interp(np.log(target), np.log(costs)[order], values[order]))


def all_hold(answers: Iterable[bool | None]) -> bool | None:
    """Of several answers of positive(): False if one is, else None if one is, else True."""
    answers = list(answers)
    return False if False in answers else None if None in answers else True

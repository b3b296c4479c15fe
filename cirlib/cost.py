"""Eqs. 1, 2, 4: FLOPs in closed form. Nothing is run.

A 3 x 3 convolution from m to n channels on an h x w output takes 2 * 9 * m * n * h * w FLOPs
(a multiplication and an addition). As in the paper, the first convolution and everything that is
not a convolution are left out; ``split_flops(..., count_first=True)`` adds the first one.

An image of odd size is padded to an even one, and that is what is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cirlib.architecture import Architecture, trunk_length


def conv_flops(architecture: Architecture, size: tuple[int, int]) -> np.ndarray:
    """FLOPs of each convolution of the chain; size is (width, height) in pixels."""
    half = ((size[0] + 1) // 2) * ((size[1] + 1) // 2)
    return np.array([
        2 * 9 * inputs * outputs * (half if conv.half else 4 * half)
        for conv, (inputs, outputs) in zip(architecture.chain, architecture.widths, strict=True)
    ], dtype=np.int64)  # fmt: skip


def split_flops(
    architecture: Architecture, size: tuple[int, int], count_first: bool = False
) -> tuple[int, int]:
    """FLOPs of the task-agnostic trunk f_a and of the task-specific head f_s of one task."""
    flops = conv_flops(architecture, size)
    if not count_first:
        flops[0] = 0
    k = trunk_length(architecture)
    return int(flops[:k].sum()), int(flops[k:].sum())


@dataclass(frozen=True)
class Cost:
    """FLOPs of a set of tasks on one image size."""

    trunk: float  # R(f_a), once an image
    heads: tuple[float, ...]  # R(f_s_m), one for each task

    @property
    def head_mean(self) -> float:
        return sum(self.heads) / len(self.heads)

    def per_effect(self, effects: int) -> float:
        """Eq. 4: R(f_a) / M + the mean over tasks of R(f_s_m); without a trunk Eqs. 1 and 2."""
        return self.trunk / effects + self.head_mean


def cost(architectures: Sequence[Architecture], size: tuple[int, int]) -> Cost:
    """Cost of searched architectures, one a task, on an image of (width, height)."""
    pairs = [split_flops(a, size) for a in architectures]
    return Cost(pairs[0][0], tuple(head for _, head in pairs))

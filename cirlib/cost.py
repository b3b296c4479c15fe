"""Eqs. 1, 2, 4: FLOPs in closed form. Nothing is run.

A 3 x 3 convolution from m to n channels on an h x w output takes 2 * 9 * m * n * h * w FLOPs
(a multiplication and an addition). As in the paper, the first convolution and everything that is
not a convolution are left out; ``split_flops(..., count_first=True)`` adds the first one.

An image of odd size is padded to an even one, and that is what is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cirlib.networks import Conv, conv_chain


@dataclass(frozen=True)
class Architecture:
    """Which channels one task uses, and which points it shares with all others.

    gates: N x C booleans, one row for each channel-selection point (see networks.py).
    phi: N booleans; the task-agnostic points come first (Eq. 10).
    """

    blocks: int
    channels: int
    gates: np.ndarray
    phi: np.ndarray
    tail: str = "paper"

    @property
    def chain(self) -> list[Conv]:
        return conv_chain(self.blocks, self.channels, self.tail)


def full_architecture(blocks: int, channels: int, tail: str = "paper") -> Architecture:
    """The super network itself: every channel on, nothing shared."""
    N = 3 * blocks + 3
    return Architecture(blocks, channels, np.ones((N, channels), bool), np.zeros(N, bool), tail)


def trunk_length(architecture: Architecture) -> int:
    """How many convolutions, from the first on, give the same result for every task.

    A convolution is shared when what it writes is task-agnostic; one whose outputs are not
    selectable (``up``, ``last``) when what it reads is.
    """
    phi = architecture.phi
    for k, conv in enumerate(architecture.chain):
        point = conv.reads if conv.writes is None else conv.writes
        if not phi[point]:
            return k
    return len(architecture.chain)


def live(architecture: Architecture) -> Architecture:
    """Switch off every channel that cannot matter; the network's output stays the same.

    In the residual stream a channel that nothing later reads need not be written, and one that
    nothing wrote before is zero and need not be read. A block that writes nothing needs no
    inner channels, and one without inner channels reads nothing. What the trunk computes is kept
    where only one task does without it: any other may read it.
    """
    gates, B = architecture.gates.copy(), architecture.blocks
    shared = architecture.phi
    before = None
    while before is None or (before != gates).any():
        before = gates.copy()
        written = gates[0].copy()
        for b in range(B):
            reads, inner, writes = gates[3 * b + 1], gates[3 * b + 2], gates[3 * b + 3]
            reads &= written
            if not writes.any() and (shared[3 * b + 3] or not shared[3 * b + 2]):
                inner[:] = False
            if not inner.any():
                reads[:] = False
            written |= writes
        gates[3 * B + 1] &= written
        if not gates[3 * B + 2].any() and (shared[3 * B + 2] or not shared[3 * B + 1]):
            gates[3 * B + 1] = False
        needed = gates[3 * B + 1].copy()
        for b in reversed(range(B)):
            if not shared[3 * b + 3]:
                gates[3 * b + 3] &= needed
            needed |= gates[3 * b + 1]
        if not shared[0]:
            gates[0] &= needed
    return Architecture(B, architecture.channels, gates, shared, architecture.tail)


def conv_flops(architecture: Architecture, size: tuple[int, int]) -> np.ndarray:
    """FLOPs of each convolution of the chain; size is (width, height) in pixels."""
    half = ((size[0] + 1) // 2) * ((size[1] + 1) // 2)
    selected = architecture.gates.sum(1)

    def width(point: int | None, without: int) -> int:
        return without if point is None else int(selected[point])

    return np.array([
        2 * 9 * width(conv.reads, conv.inputs) * width(conv.writes, conv.outputs)
        * (half if conv.half else 4 * half)
        for conv in architecture.chain
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


def shared_layers(architecture: Architecture) -> float:
    """The share of channel-selection points that are task-agnostic, 0 to 1 (SL of Table 3)."""
    return float(architecture.phi.mean())

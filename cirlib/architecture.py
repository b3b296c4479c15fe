"""Section 3.2: which channels a task uses and which points it shares, phi of Eq. 10.

A searched network is, for one task, a set of gates over the channel-selection points (networks.py)
and the points that all tasks have in common. What follows from that alone is here: how long the
trunk f_a is, and which channels cannot matter.
"""

from dataclasses import dataclass

import numpy as np

from cirlib.networks import Conv, conv_chain


@dataclass(frozen=True, eq=False)
class Architecture:
    """Which channels one task uses, and which points it shares with all others.

    gates: N x C booleans, one row for each channel-selection point (see networks.py).
    phi: N booleans; the task-agnostic points come first (Eq. 10).
    """

    blocks: int
    channels: int
    gates: np.ndarray
    phi: np.ndarray

    @property
    def chain(self) -> list[Conv]:
        return conv_chain(self.blocks, self.channels)

    @property
    def widths(self) -> list[tuple[int, int]]:
        """Selected input and output channels of each convolution of the chain."""
        selected = self.gates.sum(1)
        return [
            (
                conv.inputs if conv.reads is None else int(selected[conv.reads]),
                conv.outputs if conv.writes is None else int(selected[conv.writes]),
            )
            for conv in self.chain
        ]


def full_architecture(blocks: int, channels: int) -> Architecture:
    """The super network itself: every channel on, nothing shared."""
    N = 3 * blocks + 3
    return Architecture(blocks, channels, np.ones((N, channels), bool), np.zeros(N, bool))


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
    return Architecture(B, architecture.channels, gates, shared)


def shared_layers(architecture: Architecture) -> float:
    """The share of channel-selection points that are task-agnostic, 0 to 1 (SL of Table 3)."""
    return float(architecture.phi.mean())

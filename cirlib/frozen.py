"""Section 3.2, the architecture fixed: shared blocks are trained without what is closed.

A search multiplies channels by zero and computes them all the same, since they may open again.
From ``freeze_from`` on they do not. In the blocks that are task-agnostic a channel is then closed
for all samples of a batch: here it is not computed, and gates and task scales are folded into the
weights, as compact.py does for good. Outputs and gradients are those of the gated network up to
rounding.
"""

import torch.nn.functional as F
from torch import Tensor

from cirlib.networks import CResMD


class Trunk:
    """``first`` and the first ``blocks`` of a super network, with gates that stay as they are.

    gates: N x C of 0 and 1; phi: N booleans, which points are task-agnostic: the first ones.
    Blocks count whose three points, and all before them, are.
    """

    def __init__(self, net: CResMD, gates: Tensor, phi: Tensor):
        self.net, self.gates = net, gates
        self.blocks = max(0, (int(phi.sum()) - 1) // 3)
        inner = (gates[3 * b + 2] for b in range(self.blocks))
        # What is between the convolutions of each; of none at least one, which then counts 0.
        self.inner = [on.nonzero()[:, 0] if on.any() else on.new_zeros(1, dtype=int)
                      for on in inner]  # fmt: skip

    def __call__(self, x: Tensor) -> Tensor:
        """Images of even sizes, B x 3 x H x W, to the residual stream, B x C x H/2 x W/2."""
        net, gates = self.net, self.gates
        stream = _conv(x, net.first.weight, net.first.bias, gates[0], stride=2)
        for b, inner in enumerate(self.inner):
            read, between, written = gates[3 * b + 1 : 3 * b + 4]
            weight = net.conv1[b].weight.index_select(0, inner) * read[None, :, None, None]
            bias = net.conv1[b].bias.index_select(0, inner)
            h = F.relu(_conv(stream, weight, bias, between[inner]))
            weight = net.conv2[b].weight.index_select(1, inner)
            scale = net.scale[b](net.middle)[0] * written
            stream = stream + _conv(h, weight, net.conv2[b].bias, scale)
        return stream


def _conv(x: Tensor, weight: Tensor, bias: Tensor, written: Tensor, stride: int = 1) -> Tensor:
    """A 3 x 3 convolution whose outputs are multiplied by ``written``."""
    return F.conv2d(x, weight * written[:, None, None, None], bias * written, stride, padding=1)

"""Section 3.2, the architecture fixed: what is closed is not computed while the weights are tuned.

A search multiplies channels by zero and computes them all the same, since they may open again.
From ``freeze_from`` on they do not. Between the convolutions of a block a channel is then left out
where it is closed for all images of the batch. In blocks that are task-agnostic it is so for every
batch: there gates and task scales are folded into the weights as well, as compact.py does for good.
Outputs and gradients are those of the gated network up to rounding.
"""

import torch.nn.functional as F
from torch import Tensor

from cirlib.networks import CResMD


class Narrow:
    """The blocks of a super network, and what is before them, with gates that stay as they are.

    gates: N x C of 0 and 1, those of the task-agnostic points; phi: N booleans, which points are:
    the first ones. ``shared`` blocks count as such whose three points, and all before them, are.
    """

    def __init__(self, net: CResMD, gates: Tensor, phi: Tensor):
        self.net, self.gates = net, gates
        self.shared = max(0, (int(phi.sum()) - 1) // 3)
        self.inner = [_open(gates[3 * b + 2]) for b in range(self.shared)]

    def trunk(self, x: Tensor) -> Tensor:
        """Images of even sizes, B x 3 x H x W, to what the shared blocks make of them:
        the residual stream, B x C x H/2 x W/2.
        """
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

    def convolutions(self, b: int, x: Tensor, gates: Tensor) -> Tensor:
        """Those of block b, from what it reads of the stream, B x C x h x w, to the same shape.

        gates: B x C x 1 x 1 of 0 and 1, of the channels between them.
        """
        conv1, conv2, inner = self.net.conv1[b], self.net.conv2[b], _open(gates.amax((0, 2, 3)))
        weight, bias = conv1.weight.index_select(0, inner), conv1.bias.index_select(0, inner)
        h = F.relu(F.conv2d(x, weight, bias, padding=1)) * gates.index_select(1, inner)
        return F.conv2d(h, conv2.weight.index_select(1, inner), conv2.bias, padding=1)


def _open(gates: Tensor) -> Tensor:
    """Indices of the channels that C gates open; of none one, which then counts 0."""
    found = gates.nonzero()[:, 0]
    return found if len(found) else found.new_zeros(1)


def _conv(x: Tensor, weight: Tensor, bias: Tensor, written: Tensor, stride: int = 1) -> Tensor:
    """A 3 x 3 convolution whose outputs are multiplied by ``written``."""
    return F.conv2d(x, weight * written[:, None, None, None], bias * written, stride, padding=1)

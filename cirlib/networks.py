"""Section 7.3: the super network CResMD with its channel-selection points.

    first   conv 3 -> C, stride 2
    blocks  B times: conv C -> C, ReLU, conv C -> C, times the task's scale, plus the input
    up      conv C -> C and PixelShuffle(2), which leaves C/4 channels at full resolution
    post    conv C/4 -> C, ReLU
    last    conv C -> 3, times the task's scale, plus the input image

This is the network as the paper counts it: 1,124.3 GFLOPs at 1280 x 720 with B = 32, C = 64. With
the tail of the public CResMD code (up: C -> 4C, post: C -> C) it would be 9% more.

Channel-selection points n = 0 .. 3B+2, each over C channels:

    0             the stream after ``first``
    3b + 1        what the first conv of block b reads of the stream
    3b + 2        what is between its convs
    3b + 3        what its second conv adds to the stream
    3B + 1        what ``up`` reads of the stream
    3B + 2        what is between ``post`` and ``last``

The scales are linear in the task vector. Those of the blocks have a bias; the global one has
none, so that the task (0, 0, 0) returns the image as it is.

The paper removes the scale of a block whose output is task-agnostic. Here such a block has that of
the middle task, a constant that the compaction folds into its weights: the same small network, but
one that becomes shared without a jump (notebook 12 measures it).
"""

from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from cirlib.frozen import Narrow

MIDDLE = (0.5, 0.5, 0.5)  # of the tasks in [0, 1]^3
Kind = Literal["first", "conv1", "conv2", "up", "post", "last"]
READ_THE_STREAM: tuple[Kind, ...] = ("conv1", "up")  # these read the residual stream,
WRITE_THE_STREAM: tuple[Kind, ...] = ("first", "conv2")  # these write or add to it


class Conv(NamedTuple):
    """A 3 x 3 convolution of the super network, as the cost model and the compaction see it."""

    kind: Kind
    block: int | None  # of the residual blocks, None: in none
    reads: int | None  # selection point of its input channels, None: not selectable
    writes: int | None  # selection point of its output channels, None: not selectable
    inputs: int  # channels without selection
    outputs: int
    half: bool  # whether it works at half resolution


def conv_chain(blocks: int, channels: int) -> list[Conv]:
    """All convolutions in the order of execution; each needs only those before it."""
    B, C = blocks, channels
    chain = [Conv("first", None, None, 0, 3, C, True)]
    for b in range(B):
        chain.append(Conv("conv1", b, 3 * b + 1, 3 * b + 2, C, C, True))
        chain.append(Conv("conv2", b, 3 * b + 2, 3 * b + 3, C, C, True))
    chain.append(Conv("up", None, 3 * B + 1, None, C, C, True))
    chain.append(Conv("post", None, None, 3 * B + 2, C // 4, C, False))
    chain.append(Conv("last", None, 3 * B + 2, None, C, 3, False))
    return chain


def selection_points(blocks: int) -> int:
    """N, the number of channel-selection points."""
    return 3 * blocks + 3


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1)


def pad_even(x: Tensor) -> Tensor:
    """Replicate the last row or column of B x C x H x W where H or W is odd."""
    H, W = x.shape[-2:]
    return F.pad(x, (0, W % 2, 0, H % 2), mode="replicate") if H % 2 or W % 2 else x


class CResMD(nn.Module):
    """The super network. blocks: B, channels: C, a multiple of 4."""

    def __init__(self, blocks: int = 32, channels: int = 64):
        super().__init__()
        self.blocks, self.channels = blocks, channels
        self.first = conv3x3(3, channels, stride=2)
        self.conv1 = nn.ModuleList(conv3x3(channels, channels) for _ in range(blocks))
        self.conv2 = nn.ModuleList(conv3x3(channels, channels) for _ in range(blocks))
        self.scale = nn.ModuleList(nn.Linear(3, channels) for _ in range(blocks))
        self.up = conv3x3(channels, channels)
        self.post = conv3x3(channels // 4, channels)
        self.last = conv3x3(channels, 3)
        self.global_scale = nn.Linear(3, 3, bias=False)
        self.register_buffer("middle", torch.tensor([MIDDLE]), persistent=False)  # 1 x 3
        for scale in self.scale:
            nn.init.ones_(scale.bias)
        nn.init.ones_(self.global_scale.weight)

    def module(self, conv: Conv) -> nn.Conv2d:
        """The weights of a convolution of conv_chain."""
        found = getattr(self, conv.kind)
        return found if conv.block is None else found[conv.block]

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        gates: Tensor | None = None,
        phi: Tensor | None = None,
        narrow: "Narrow | None" = None,
    ) -> Tensor:
        """Restore x (B x 3 x H x W, in [0, 1]) by the tasks t (B x 3, in [0, 1]).

        gates: B x N x C of 0 and 1 (None: all channels), see the selection points above.
        phi: N booleans, which points are task-agnostic (None: none); a block whose output is
        task-agnostic has the scale of the MIDDLE task.
        narrow: leaves out what is closed, where gates stay as they are (None: all is computed).
        """
        H, W = x.shape[-2:]
        image, x = x, pad_even(x)
        shared = narrow.shared if narrow else 0
        stream = narrow.trunk(x) if narrow and shared else self.first(x)  # B x C x H/2 x W/2
        if gates is not None:  # cast and cut once: 3B + 3 times, forward and backward, adds up
            gates = gates.to(stream.dtype)[..., None, None].unbind(1)

        def gate(n: int, features: Tensor) -> Tensor:
            return features if gates is None else features * gates[n]

        if not shared:
            stream = gate(0, stream)
        for b in range(shared, self.blocks):
            h = gate(3 * b + 1, stream)
            if narrow is None or gates is None:
                h = self.conv2[b](gate(3 * b + 2, F.relu(self.conv1[b](h))))
            else:
                h = narrow.convolutions(b, h, gates[3 * b + 2])
            # The gate and the task scale of the block's output, as one multiplication.
            factor = self.scale[b](t)  # B x C
            if phi is not None:  # chosen on the device: a GPU is not waited for
                factor = torch.where(phi[3 * b + 3], self.scale[b](self.middle), factor)
            factor = factor[..., None, None].to(h.dtype)
            h = h * (factor if gates is None else factor * gates[3 * b + 3])
            stream = stream + h
        h = F.pixel_shuffle(self.up(gate(3 * self.blocks + 1, stream)), 2)  # B x C/4 x H x W
        h = gate(3 * self.blocks + 2, F.relu(self.post(h)))  # B x C x H x W
        residual = self.last(h)[..., :H, :W]  # B x 3 x H x W
        return image + self.global_scale(t)[:, :, None, None] * residual

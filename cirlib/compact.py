"""Section 3.1, Eq. 3: a searched network as physically small ones, f_m(x, t_m) = f_s_m(f_a(x)).

The super network multiplies channels by zero; here they are gone. Weights are cut to the live
channels (cost.live), task scales are folded into weights and biases, and the convolutions are
split into the trunk f_a, run once an image, and a head f_s_m for each task. The result equals
that of the gated super network up to rounding.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cirlib.architecture import Architecture, live, trunk_length
from cirlib.networks import MIDDLE, pad_even
from cirlib.search import SearchNet


class State(NamedTuple):
    """What is known of an image after some convolutions; each B x channels x height x width."""

    image: Tensor  # as given, in [0, 1]
    stream: Tensor | None = None  # residual stream at half resolution
    hidden: Tensor | None = None  # output of the last convolution that is not in the stream


class SmallConv(nn.Module):
    """A 3 x 3 convolution of any number of channels, none included.

    Without inputs it is its bias everywhere. scale: factors on the output, M x outputs, for M
    effects of one image; None: there are none, or they are folded into weight and bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, scale: Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.stride = stride
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.numel() == 0:
            B, _, H, W = x.shape
            size = (B, -1, H // self.stride, W // self.stride)
            y = self.bias.to(x.dtype)[None, :, None, None].expand(size)
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, padding=1)
        return y if self.scale is None else y * self.scale[:, :, None, None]


def take(x: Tensor, positions: Tensor | None) -> Tensor:
    """Some channels of B x C x H x W; None: all."""
    return x if positions is None else x[:, positions]


def place(x: Tensor, positions: Tensor | None, channels: int) -> Tensor:
    """B x C x H x W put among ``channels`` channels, zero elsewhere; None: they are the same."""
    if positions is None:
        return x
    B, _, H, W = x.shape
    wide = x.new_zeros(B, channels, H, W).to(memory_format=torch.channels_last)
    return wide.index_copy_(1, positions, x)


class Part(nn.Module):
    """A run of consecutive convolutions: the trunk or a head.

    kinds[k] says what convolution k is (first, conv1, conv2, up, post, last), channels[k] where
    in this part's stream it reads or writes. entry: what to take of the incoming stream, of
    ``incoming`` channels, and where to put it in the own one, of ``width``. Positions are buffers:
    they move with the part.

    This is the exact, portable form: it multiplies what the cost model counts and nothing else.
    engine.py runs the same part faster.
    """

    def __init__(self, incoming: int, width: int, entry: tuple[Tensor | None, Tensor | None]):
        super().__init__()
        self.incoming, self.width = incoming, width
        self.convs, self.kinds = nn.ModuleList(), []
        self.register_buffer("taken", entry[0], persistent=False)
        self.register_buffer("placed", entry[1], persistent=False)

    def append(self, kind: str, conv: SmallConv, channels: Tensor | None) -> None:
        self.register_buffer(f"channels{len(self.convs)}", channels, persistent=False)
        self.convs.append(conv)
        self.kinds.append(kind)

    def forward(self, state: State) -> State:
        image, stream, hidden = state
        if stream is not None:
            stream = place(take(stream, self.taken), self.placed, self.width)
        for k, (kind, conv) in enumerate(zip(self.kinds, self.convs, strict=True)):
            channels = getattr(self, f"channels{k}")
            match kind:
                case "first":
                    stream = place(conv(pad_even(image)), channels, self.width)
                case "conv1":
                    hidden = F.relu(conv(take(stream, channels)))
                case "conv2":  # a block whose inner channels are all gone adds a constant
                    h = conv(stream if hidden is None else hidden)
                    stream = stream.expand(len(h), -1, -1, -1)  # from here on one for each effect
                    stream = stream + h if channels is None else stream.index_add(1, channels, h)
                    hidden = None
                case "up":
                    hidden = F.pixel_shuffle(conv(take(stream, channels)), 2)
                case "post":
                    hidden = F.relu(conv(hidden))
                case "last":
                    hidden = conv(hidden)
        return State(image, stream, hidden)


class Head(nn.Module):
    """The task-specific part f_s_m: from the trunk's state to the restored image.

    scale: the global scales of the M tasks (M x 3), where the last convolution belongs to the trunk
    and so cannot contain them.
    """

    def __init__(self, part: Part, scale: Tensor | None):
        super().__init__()
        self.part = part
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, state: State) -> Tensor:
        """Restored images, B x 3 x H x W; M x 3 x H x W of one image by the head of M tasks."""
        H, W = state.image.shape[-2:]
        residual = self.part(state).hidden[..., :H, :W]
        if self.scale is not None:
            residual = residual * self.scale[:, :, None, None]
        return state.image + residual


def _positions(wanted: list[int], layout: list[int]) -> Tensor | None:
    """Where the wanted channels lie in a layout; None when they are all of it, in order."""
    return None if wanted == layout else torch.tensor([layout.index(c) for c in wanted], dtype=int)


def _stream_layouts(architecture: Architecture, start: int) -> tuple[list[int], list[int]]:
    """Channels of the stream that a trunk of ``start`` convolutions hands over, and that the head
    after it works on: all that were written, and all that it reads."""
    written, read = np.zeros((2, architecture.channels), bool)
    for k, conv in enumerate(architecture.chain):
        kind = conv.name.split(".")[-1]
        if k < start and kind in ("first", "conv2"):
            written |= architecture.gates[conv.writes]
        if k >= start and kind in ("conv1", "up"):
            read |= architecture.gates[conv.reads]
    return written.nonzero()[0].tolist(), read.nonzero()[0].tolist()


def _part(net: SearchNet, architecture: Architecture, tasks, start: int, stop: int) -> Part:
    """Convolutions start..stop-1 of a live architecture, for tasks that have it in common."""
    chain, supernet, cut = architecture.chain, net.net, trunk_length(architecture)
    selected = [row.nonzero()[0].tolist() for row in architecture.gates]
    trunk_layout, head_layout = _stream_layouts(architecture, cut)
    layout = head_layout if start == cut else trunk_layout
    kept = [c for c in trunk_layout if c in layout]
    entry = (_positions(kept, trunk_layout), _positions(kept, layout))
    part = Part(len(trunk_layout), len(layout), entry)
    t = torch.tensor(np.array(tasks), dtype=torch.float32, device=supernet.up.weight.device)
    middle = torch.tensor([MIDDLE], device=t.device)
    for conv in chain[start:stop]:
        ins = list(range(conv.inputs)) if conv.reads is None else selected[conv.reads]
        outs = list(range(conv.outputs)) if conv.writes is None else selected[conv.writes]
        block, _, kind = conv.name.rpartition(".")
        if not outs and kind != "first":  # the stream needs its height and width
            continue
        b = int(block.removeprefix("block")) if block else None
        module = getattr(supernet, kind) if b is None else getattr(supernet, kind)[b]
        weight, bias, channels = module.weight[outs][:, ins], module.bias[outs], None
        scale = None
        if kind in ("conv1", "up"):
            channels = _positions(ins, layout)
        elif kind in ("first", "conv2"):
            channels = _positions(outs, layout)
        if kind == "conv2":
            scale = supernet.scale[b](middle if architecture.phi[conv.writes] else t)[:, outs]
        if kind == "last" and start == cut:
            scale = supernet.global_scale(t)
        if scale is not None and len(scale) == 1:
            weight, bias, scale = weight * scale[0][:, None, None, None], bias * scale[0], None
        part.append(kind, SmallConv(weight, bias, 2 if kind == "first" else 1, scale), channels)
    return part.to(t.device, memory_format=torch.channels_last)


def selection(net: SearchNet, task) -> bytes:
    """The architecture of a task as something that can be compared."""
    architecture = net.architecture(task)
    return architecture.gates.tobytes() + architecture.phi.tobytes()


@torch.no_grad()
def trunk(net: SearchNet) -> Part:
    """The task-agnostic part f_a: State(image) -> State. Empty for a network without sharing."""
    architecture = live(net.architecture((0.0, 0.0, 0.0)))
    return _part(net, architecture, [(0.0, 0.0, 0.0)], 0, trunk_length(architecture))


@torch.no_grad()
def head(net: SearchNet, *tasks) -> Head:
    """The task-specific part f_s_m of a task (three numbers in [0, 1]): State -> image.

    Of several tasks, which must have one architecture in common: State of one image -> a batch of
    their effects. Their scales are then factors on features instead of being folded into weights.

    Raises ValueError for tasks of several architectures.
    """
    if len({selection(net, task) for task in tasks}) > 1:
        raise ValueError("a batch is of tasks that have one architecture in common")
    architecture = live(net.architecture(tasks[0]))
    start = trunk_length(architecture)
    part = _part(net, architecture, tasks, start, len(architecture.chain))
    whole = start == len(architecture.chain)
    t = torch.tensor(np.array(tasks), dtype=torch.float32, device=net.net.up.weight.device)
    return Head(part, net.net.global_scale(t) if whole else None)

"""Section 3.1, Eq. 3: a searched network as physically small ones, f_m(x, t_m) = f_s_m(f_a(x)).

The super network multiplies channels by zero; here they are gone. Weights are cut to the live
channels (architecture.live), task scales are folded into weights and biases, and the convolutions
are split into the trunk f_a, run once an image, and a head f_s_m for each task. The result equals
that of the gated super network up to rounding.

    plan = compact.plan(net.architecture(task))
    restored = compact.head(net, plan, task)(compact.trunk(net, plan)(compact.State(x)))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cirlib.architecture import Architecture, live, trunk_length
from cirlib.networks import MIDDLE, READ_THE_STREAM, WRITE_THE_STREAM, Kind, pad_even
from cirlib.search import SearchNet


@dataclass(frozen=True)
class Plan:
    """How the network of a task is cut: found once, and handed on to all that work by it.

    architecture: the task's, with the channels that are live.
    cut: how many convolutions, from the first on, are the trunk's.
    written, read: the channels of the residual stream that the trunk hands over, and those that
    the head works on.
    """

    architecture: Architecture
    cut: int
    written: tuple[int, ...]
    read: tuple[int, ...]


def plan(architecture: Architecture) -> Plan:
    """The plan of an architecture."""
    architecture = live(architecture)
    cut, gates = trunk_length(architecture), architecture.gates
    written, read = np.zeros((2, architecture.channels), bool)
    for k, conv in enumerate(architecture.chain):
        if k < cut and conv.kind in WRITE_THE_STREAM:
            written |= gates[conv.writes]
        if k >= cut and conv.kind in READ_THE_STREAM:
            read |= gates[conv.reads]
    return Plan(architecture, cut, *(tuple(on.nonzero()[0].tolist()) for on in (written, read)))


class State(NamedTuple):
    """What is known of an image after some convolutions; each B x channels x height x width."""

    image: Tensor  # as given, in [0, 1]
    stream: Tensor | None = None  # residual stream at half resolution
    hidden: Tensor | None = None  # output of the last convolution that is not in the stream


class Step(nn.Module):
    """A 3 x 3 convolution of any number of channels, none included, and its place in a part.

    Without inputs it is its bias everywhere. channels: which ones of its part's stream it reads or
    writes; None: all, or none of them.
    """

    def __init__(self, kind: Kind, weight: Tensor, bias: Tensor, channels: Tensor | None):
        super().__init__()
        self.kind, self.stride = kind, 2 if kind == "first" else 1
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.register_buffer("channels", channels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.numel():
            return F.conv2d(x, self.weight, self.bias, self.stride, padding=1)
        B, _, H, W = x.shape
        size = (B, -1, H // self.stride, W // self.stride)
        return self.bias.to(x.dtype)[None, :, None, None].expand(size)


def gather(x: Tensor, positions: Tensor | None) -> Tensor:
    """Some channels of B x C x H x W; None: all."""
    return x if positions is None else x[:, positions]


def scatter(x: Tensor, positions: Tensor | None, channels: int) -> Tensor:
    """B x C x H x W put among ``channels`` channels, zero elsewhere; None: they are the same."""
    if positions is None:
        return x
    B, _, H, W = x.shape
    wide = x.new_zeros(B, channels, H, W).to(memory_format=torch.channels_last)
    return wide.index_copy_(1, positions, x)


class Part(nn.Module):
    """A run of consecutive convolutions, its ``steps``: the trunk or a head.

    Of the incoming stream, of ``incoming`` channels, it takes those at ``taken`` and puts them at
    ``placed`` in its own one, of ``width``. Positions are buffers: they move with the part.

    This is the exact, portable form: it multiplies what the cost model counts and nothing else.
    engine/program.py runs the same part faster.
    """

    def __init__(self, incoming: Sequence[int], own: Sequence[int], steps: Sequence[Step]):
        super().__init__()
        self.incoming, self.width = len(incoming), len(own)
        kept = [c for c in incoming if c in own]
        self.register_buffer("taken", _positions(kept, incoming), persistent=False)
        self.register_buffer("placed", _positions(kept, own), persistent=False)
        self.steps = nn.ModuleList(steps)

    def forward(self, state: State) -> State:
        image, stream, hidden = state
        if stream is not None:
            stream = scatter(gather(stream, self.taken), self.placed, self.width)
        for step in self.steps:
            channels = step.channels
            match step.kind:
                case "first":
                    stream = scatter(step(pad_even(image)), channels, self.width)
                case "conv1":
                    hidden = F.relu(step(gather(stream, channels)))
                case "conv2":  # a block whose inner channels are all gone adds a constant
                    h = step(stream if hidden is None else hidden)
                    stream = stream + h if channels is None else stream.index_add(1, channels, h)
                    hidden = None
                case "up":
                    hidden = F.pixel_shuffle(step(gather(stream, channels)), 2)
                case "post":
                    hidden = F.relu(step(hidden))
                case "last":
                    hidden = step(hidden)
        return State(image, stream, hidden)


class Head(nn.Module):
    """The task-specific part f_s_m: from the trunk's state to the restored image.

    scale: the global scale of the task (1 x 3), where the last convolution belongs to the trunk and
    so cannot contain it.
    """

    def __init__(self, part: Part, scale: Tensor | None):
        super().__init__()
        self.part = part
        self.register_buffer("scale", scale, persistent=False)

    def forward(self, state: State) -> Tensor:
        """Restored images, B x 3 x H x W."""
        H, W = state.image.shape[-2:]
        residual = self.part(state).hidden[..., :H, :W]
        if self.scale is not None:
            residual = residual * self.scale[:, :, None, None]
        return state.image + residual


def _positions(wanted: Sequence[int], layout: Sequence[int]) -> Tensor | None:
    """Where the wanted channels lie in a layout; None when they are all of it, in order."""
    if list(wanted) == list(layout):
        return None
    return torch.tensor([layout.index(c) for c in wanted], dtype=int)


def _part(net: SearchNet, plan: Plan, t: Tensor | None) -> Part:
    """The trunk of a plan, or for a task t (1 x 3) its head."""
    supernet, phi, chain = net.net, plan.architecture.phi, plan.architecture.chain
    selected = [row.nonzero()[0].tolist() for row in plan.architecture.gates]
    own = plan.written if t is None else plan.read
    middle, steps = torch.tensor([MIDDLE], device=supernet.up.weight.device), []
    for conv in chain[: plan.cut] if t is None else chain[plan.cut :]:
        ins = list(range(conv.inputs)) if conv.reads is None else selected[conv.reads]
        outs = list(range(conv.outputs)) if conv.writes is None else selected[conv.writes]
        if not outs and conv.kind != "first":  # the stream needs its height and width
            continue
        module, channels, scale = supernet.module(conv), None, None  # scale: 1 x outputs
        weight, bias = module.weight[outs][:, ins], module.bias[outs]
        if conv.kind in READ_THE_STREAM:
            channels = _positions(ins, own)
        elif conv.kind in WRITE_THE_STREAM:
            channels = _positions(outs, own)
        if conv.kind == "conv2":
            scale = supernet.scale[conv.block](middle if phi[conv.writes] else t)[:, outs]
        if conv.kind == "last" and t is not None:
            scale = supernet.global_scale(t)
        if scale is not None:
            weight, bias = weight * scale[0][:, None, None, None], bias * scale[0]
        steps.append(Step(conv.kind, weight, bias, channels))
    part = Part(plan.written, own, steps)
    return part.to(middle.device, memory_format=torch.channels_last)


@torch.no_grad()
def trunk(net: SearchNet, plan: Plan) -> Part:
    """The task-agnostic part f_a, the same by the plan of any task: State(image) -> State.

    Empty for a network without sharing. Like a head it is where the network is, with weights of
    its own.
    """
    return _part(net, plan, None)


@torch.no_grad()
def head(net: SearchNet, plan: Plan, task) -> Head:
    """The task-specific part f_s_m of a task (three numbers in [0, 1]): State -> image."""
    t = torch.tensor(np.array([task]), dtype=torch.float32, device=net.net.up.weight.device)
    whole = plan.cut == len(plan.architecture.chain)
    return Head(_part(net, plan, t), net.net.global_scale(t) if whole else None)

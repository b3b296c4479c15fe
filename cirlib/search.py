"""Section 3.2: the search for task-specific channels and task-agnostic layers (Eqs. 5 to 12).

The symbols are the paper's: m = 1..M tasks, n = 1..N channel-selection points, c = 1..C channels;
z_s (M x N x C) and z_a (N x C) are preferences, g the gate, s (N) the accumulated agreement,
phi (N) the decision which points are task-agnostic.

Eqs. 7 to 12 ask the tasks what they prefer. The paper asks those of the mini-batch. We ask the 27
of the evaluation as well, at every step, which costs next to nothing (the controller is small).

What is shared (Eqs. 7 to 10) hangs on the 27 alone, not on chance: with the 16 tasks of a small
mini-batch phi jumped between no layer and all of them. R1 and R2 press on both, half on the 27 and
half on the tasks that are restored: where nothing presses, between the 27, costs bulge, and that
is where sliders stand.
"""

from copy import deepcopy
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cirlib.architecture import Architecture, full_architecture, live, shared_layers
from cirlib.cost import cost
from cirlib.degradation import TASKS
from cirlib.frozen import Narrow
from cirlib.networks import CResMD, conv_chain, selection_points
from cirlib.profiles import Model, Profile

PAPER_BATCH = 64  # M of Eq. 12 in the paper: R2 is scaled to it, so that lambda2 means the paper's


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx, gradient):
        sigmoid = torch.sigmoid(ctx.saved_tensors[0])
        return gradient * sigmoid * (1 - sigmoid)


def gate(z: Tensor) -> Tensor:
    """Eq. 5: 1 where z > 0, else 0; backward the derivative of the sigmoid."""
    return _Gate.apply(z)


class Controller(nn.Module):
    """Eq. 6: z_s = f_c(t), three fully connected layers with two ReLUs.

    Starts with every channel on: the last bias is positive.
    """

    def __init__(self, points: int, channels: int, hidden: int = 64):
        super().__init__()
        self.shape = (points, channels)
        self.layers = nn.Sequential(
            nn.Linear(3, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, points * channels),
        )  # fmt: skip
        nn.init.ones_(self.layers[-1].bias)

    def forward(self, t: Tensor) -> Tensor:
        """Tasks M x 3 -> preferences M x N x C, in float32 also where the network is in bfloat16.

        In bfloat16, preferences near 0 would open other gates than after the training, and sums of
        FLOPs would be right to two digits only.
        """
        with torch.autocast(t.device.type, enabled=False):
            return self.layers(t).unflatten(-1, self.shape)

    def exactly(self, t: Tensor) -> Tensor:
        """forward in float64: which gates are open does not hang on the processor.

        Sums in float32 differ from one to another by some 1e-6, and trained preferences have come
        within 2e-7 of 0.
        """
        return deepcopy(self).double()(t.double())  # a copy: other threads may be asking, too


def gather_preference(z_a: Tensor, z_s: Tensor, alpha: float) -> Tensor:
    """Eq. 7: z_a <- (1 - alpha) z_a + alpha * mean over the tasks of z_s."""
    return (1 - alpha) * z_a + alpha * z_s.mean(0)


def agreement(g_s: Tensor, g_a: Tensor, gamma: float) -> Tensor:
    """Eq. 8: eta_n, whether the tasks agree on point n; g_s M x N x C, g_a N x C -> N bools."""
    return (g_s * g_a).sum(-1).mean(0) > gamma * g_a.sum(-1)


def accumulate(s: Tensor, eta: Tensor, alpha: float) -> Tensor:
    """Eq. 9: s <- (1 - alpha) s + alpha * I[eta]."""
    return (1 - alpha) * s + alpha * eta.to(s.dtype)


def task_agnostic(s: Tensor, gamma: float, phi: Tensor) -> Tensor:
    """Eq. 10: phi_n = 1 when s_i > gamma for all i up to n.

    A point that is task-agnostic already stays so while s_i > 1/2: else a few steps of dispute at
    an early point would undo all the layers after it.
    """
    threshold = torch.where(phi, min(gamma, 0.5), gamma)
    return (s > threshold).cumprod(0).bool()


def shared_gate(g_a: Tensor, g_s: Tensor) -> Tensor:
    """The gate of a task-agnostic point: forward g_a, backward straight through to g_s.

    Without the second half a shared layer would hear the tasks only through their mean and could
    never learn that one of them disagrees.
    """
    return g_a.detach() + (g_s - g_s.detach())


@cache
def _convolutions(
    blocks: int, channels: int, patch: int, device: torch.device
) -> tuple[Tensor, ...]:
    """What resource asks of the convolutions: a value for each of them, made once.

    The points that they read and write (0 where there is none), whether there is one, their inputs
    and outputs without selection, and the pixels of their output.
    """
    chain = conv_chain(blocks, channels)[1:]
    half = ((patch + 1) // 2) ** 2
    values = (
        [conv.reads or 0 for conv in chain],
        [conv.reads is not None for conv in chain],
        [conv.inputs for conv in chain],
        [conv.writes or 0 for conv in chain],
        [conv.writes is not None for conv in chain],
        [conv.outputs for conv in chain],
        [half if conv.half else 4 * half for conv in chain],
    )
    return tuple(torch.tensor(value, device=device) for value in values)


def resource(g_s: Tensor, g_a: Tensor, phi: Tensor, M: int, net: CResMD, patch: int) -> Tensor:
    """R1: Eq. 4 in FLOPs for a square patch, differentiable in the gates.

    Convolutions that all tasks share count 1 / M, the others the mean over the tasks of what is
    selected. As everywhere, the first convolution is not counted.
    """
    read, has_read, inputs, written, has_written, outputs, pixels = _convolutions(
        net.blocks, net.channels, patch, phi.device
    )
    on = torch.where(phi, g_a.sum(-1), g_s.sum(-1))  # M x N
    reads = torch.where(has_read, on[:, read], inputs)  # M x convolutions
    writes = torch.where(has_written, on[:, written], outputs)
    flops = 18 * pixels * (reads * writes).mean(0)
    shared = phi[torch.where(has_written, written, read)]
    return torch.where(shared, flops / M, flops).sum()


def disagreement(g_s: Tensor, g_a: Tensor, phi: Tensor) -> Tensor:
    """R2, Eq. 12: sum over n of phi_{n-1} * sum over c and m of |g(z_s) - g(z_a)|, phi_0 = 1.

    It pulls at the task-agnostic points and at the first one after them.
    """
    previous = torch.cat([phi.new_ones(1), phi[:-1]])
    return ((g_s - g_a).abs().sum((0, 2)) * previous).sum()


class Searched(NamedTuple):
    """What one search step yields: images B x 3 x H x W, R1 in FLOPs, R2 in gates."""

    output: Tensor
    R1: Tensor
    R2: Tensor


class SearchNet(nn.Module):
    """A model: the super network and, if it is searched, its controller and z_a, s, phi.

    ``sharing`` says whether layers may become task-agnostic now; ``frozen`` that the architecture
    is fixed (see freeze). All selection points but the last may become task-agnostic: were it
    shared too, tasks would differ by a scale alone.

    In a long search the profile's ``share_at_most`` of them, until a pilot shows another end: R2
    always pulls at the next point (Eq. 12), and in `compact` 5% more were shared in 100 steps as
    long as they might.
    """

    def __init__(self, model: Model, profile: Profile):
        super().__init__()
        self.model, self.profile = model, profile
        self.net = CResMD(profile.blocks, profile.channels)
        self.sharing = False
        self.narrow: Narrow | None = None  # once frozen, what trains faster than by gates
        N, C = selection_points(profile.blocks), profile.channels
        self.shareable = N - 1 if model.short else int(profile.share_at_most * N)
        if not model.searched:
            phi = torch.arange(N) < round((model.fixed or 0) * N)
            self.register_buffer("phi", phi, persistent=False)
        else:
            self.controller = Controller(N, C)
            self.register_buffer("tasks", torch.from_numpy(TASKS), persistent=False)
            self.register_buffer("z_a", torch.zeros(N, C))
            self.register_buffer("s", torch.zeros(N))
            self.register_buffer("phi", torch.zeros(N, dtype=torch.bool))
            self.register_buffer("frozen", torch.tensor(False))

    @property
    def is_frozen(self) -> bool:
        """Whether the architecture is fixed: the controller learns no more.

        The buffer ``frozen`` says so on disk; a GPU would be waited for to look at it.
        """
        return self.model.searched and not self.controller.layers[0].weight.requires_grad

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Restore x (B x 3 x H x W, in [0, 1]) by the tasks t (B x 3)."""
        if not self.model.searched:
            return self.net(x, t, phi=self.phi if self.model.shared else None)
        g_s, g_a = gate(self.controller(t)), gate(self.z_a)
        return self.net(x, t, torch.where(self.phi[:, None], g_a, g_s), self.phi)

    def search_step(self, x: Tensor, t: Tensor) -> Searched:
        """One step of the search: updates z_a, s and phi, restores x by t, and costs the result."""
        profile = self.profile
        z_s = self.controller(self.tasks)
        z_a, g_s = self.z_a, gate(z_s)
        if self.model.shared and not self.is_frozen:
            z_a = gather_preference(self.z_a, z_s, profile.alpha)
            eta = agreement(g_s.detach(), gate(z_a.detach()), profile.gamma)
            self.s.copy_(accumulate(self.s, eta, profile.alpha_s))
            if self.sharing:
                k = self.shareable
                self.phi[:k] = task_agnostic(self.s[:k], profile.gamma, self.phi[:k])
            self.z_a.copy_(z_a.detach())
        g_a, own = gate(z_a), gate(self.controller(t))
        gates = torch.where(self.phi[:, None], shared_gate(g_a, own), own)
        output = self.net(x, t, gates, self.phi, self.narrow)
        M, k, R1, R2 = len(self.tasks), self.shareable, 0, 0
        for g in (g_s, own):  # a mean of means: a batch may be split over processes
            R1 = R1 + resource(g, g_a, self.phi, M, self.net, profile.patch) / 2
            difference = disagreement(g[:, :k], g_a[:k], self.phi[:k])
            R2 = R2 + difference * PAPER_BATCH / len(g) / 2
        return Searched(output, R1, R2)

    @torch.no_grad()
    def freeze(self) -> None:
        """Fix the architecture: phi and the controller as they are, z_a the mean of the tasks."""
        if self.model.shared:
            self.z_a.copy_(self.controller(self.tasks).mean(0))
        if self.z_a.device.type == "cpu":  # on a GPU not measured yet
            self.narrow = Narrow(self.net, gate(self.z_a), self.phi)
        self.frozen.fill_(True)
        self.controller.requires_grad_(False)

    @torch.no_grad()
    def architectures(self, tasks) -> list[Architecture]:
        """Which channels each of M tasks uses, M x 3 in [0, 1], and what it shares.

        (0, 0, 0), whose output is the photo, is no exception: in the paper's counting it is one of
        the 27 that FLOPs are averaged over, for CResMD too.
        """
        B, C = self.net.blocks, self.net.channels
        gates = torch.ones(len(tasks), selection_points(B), C, dtype=torch.bool)
        if self.model.searched:
            t = torch.as_tensor(np.array(tasks), dtype=torch.float32, device=self.z_a.device)
            z_s = self.controller.exactly(t)
            gates = torch.where(self.phi[:, None], self.z_a, z_s) > 0
        phi = self.phi.cpu().numpy().copy()  # on a CPU the array would change with the buffer
        return [Architecture(B, C, own, phi) for own in gates.cpu().numpy()]

    def architecture(self, task) -> Architecture:
        """That of one task, three numbers in [0, 1]."""
        return self.architectures([task])[0]


def build(model: Model, profile: Profile, seed: int) -> SearchNet:
    """A model with fresh weights; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs as well
        return SearchNet(model, profile)


def lambda1_of(lambda1: float, net: CResMD) -> float:
    """lambda1 per FLOP of this super network, given that per FLOP of the paper's.

    R1 of the untouched network times its lambda1 is the same for both.
    """
    ours = cost([full_architecture(net.blocks, net.channels)], (64, 64))
    paper = cost([full_architecture(32, 64)], (64, 64))
    return lambda1 * paper.per_effect(1) / ours.per_effect(1)


def architecture_summary(net: SearchNet) -> dict[str, float]:
    """Shared layers (0..1) and FLOPs relative to CResMD at M = 1 and 27, over the 27 tasks."""
    architectures = [live(one) for one in net.architectures(TASKS)]
    size = (net.profile.patch,) * 2
    ours = cost(architectures, size)
    full = cost([full_architecture(net.net.blocks, net.net.channels)], size)
    return {
        "shared_layers": shared_layers(architectures[0]),
        "flops_m1": ours.per_effect(1) / full.per_effect(1),
        "flops_m27": ours.per_effect(27) / full.per_effect(1),
    }

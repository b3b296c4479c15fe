"""Eq. 11 and section 7.3: what one training step of any model does.

    min over theta, psi of  L + lambda1 * R1 + lambda2 * R2,   L = l1 distance in 0..255 units

CResMD is trained with L alone, from fresh weights or as a grown one (run/growth.py). A searched
model starts from the trained CResMD and goes through three phases (profiles.py): task-specific
channels, task-agnostic layers, frozen architecture with fine-tuned weights.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
import torch.distributed as dist
from torch import Tensor

from cirlib.base.device import bfloat16_helps
from cirlib.base.files import UserError
from cirlib.base.provenance import provenance
from cirlib.degradation import RELATIVE_SCHEMES, SCHEMES, SEARCH_SCHEMES
from cirlib.profiles import Model, Profile
from cirlib.search import architecture_summary, build, lambda1_of

REOPENED = 0.5  # times the controller's rate, in a search that is opened again


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 arithmetic where it helps, over float32 weights."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_helps(device))


def halved(done: float, halve_at: tuple[float, ...]) -> float:
    """The super network's factor on its learning rate: halved at each given part of the training.

    done: the part of the steps that is done, 0..1.
    """
    return 0.5 ** sum(done >= fraction for fraction in halve_at)


def annealed(done: float, since: float) -> float:
    """A factor on a rate: 1 up to the part ``since``, then half a cosine down to 0.

    ``since`` 1: it never falls.
    """
    if done <= since:
        return 1.0
    return (1 + math.cos(math.pi * (done - since) / (1 - since))) / 2


def schedule(steps: int, continued: Sequence[Mapping]) -> int:
    """The steps that the phases of a training are parts of.

    One that was finished and has had further steps keeps those that it was begun with.
    """
    finished = [part["step"] for part in continued
                if part["step"] >= part["until_then"]["steps"]]  # fmt: skip
    return min([steps, *finished])


def reopened(continued: Sequence[Mapping]) -> tuple[int, int] | None:
    """The first and the last step of a search that was opened once more; None: it was not."""
    spans = [(part["step"], part["step"] + part["again"]) for part in continued if "again" in part]
    return spans[-1] if spans else None


def distance(output: Tensor, target: Tensor) -> Tensor:
    """L: the mean distance of images in [0, 1], in grey levels, 0..255."""
    return 255 * (output.float() - target).abs().mean()


def trouble(L: float, *others: float) -> str | None:
    """What is wrong with losses: one is not finite, or L is more than two images can differ by."""
    if not all(map(math.isfinite, (L, *others))):
        return "the loss is not finite"
    return "the loss has exploded" if L > 255 else None


def diverged(what: str, step: int, batch: int) -> UserError:
    """The error of a training that went wrong at a step, with the samples of its batch.

    Steps are counted from 1, as in the log, samples from 0, as in patches.Patches.
    """
    return UserError(
        f"{what} at step {step} (samples {(step - 1) * batch} to {step * batch - 1}); "
        "the last saved state is kept: "
        "lower the learning rate of the profile and train with --fresh"
    )


class Training:
    """One model in training: network, optimiser, step and log (run/state.py keeps them on disk)."""

    def __init__(self, model: Model, profile: Profile, steps: int, seed: int, data: dict,
                 device: torch.device, press: float = 1):  # fmt: skip
        schemes = SEARCH_SCHEMES if model.fine_tuned else SCHEMES
        schemes = RELATIVE_SCHEMES if model.relative else schemes
        one, self.lambda2 = profile.pressure(model)
        one *= press
        settings = asdict(profile) | {
            "lambda1": one, "lambda2": self.lambda2, "fixed": model.fixed,
        }  # fmt: skip
        unused = ["search", "short"]  # nothing of this training hangs on it
        unused += [] if model.searched else ["share_from", "share_at_most"]
        for name in unused:
            del settings[name]
        self.config = {"model": model.name, **settings, "profile": profile.name,
                       "schemes": schemes, "steps": steps, "seed": seed, **data}  # fmt: skip
        self.profile, self.device, self.steps = profile, device, steps
        self.net = build(model, profile, seed)
        self.net.to(device, memory_format=torch.channels_last)
        self.step, self.seconds, self.rows = 0, 0.0, []
        facts = provenance()
        self.began = {key: facts[key] for key in ("commit", "date", "device")}
        self.continued = []  # the same, and the step, wherever it went on from shipped weights
        self.batch = None  # that of the last step
        weights = profile.search_rate if model.fine_tuned else profile.learning_rate
        groups = [{"params": list(self.net.net.parameters()), "base": weights}]
        if model.searched:
            controller = list(self.net.controller.parameters())
            groups.append({"params": controller, "base": profile.controller_rate})
        cuda = device.type == "cuda"  # there rates are tensors, which a graph reads anew
        rate = torch.tensor(0.0, device=device) if cuda else 0.0
        groups = [group | {"lr": rate.clone() if cuda else rate} for group in groups]
        self.optimizer = torch.optim.Adam(groups, fused=True, capturable=cuda)
        self.names = {id(p): name for name, p in self.net.named_parameters()}
        self.lambda1 = lambda1_of(one, self.net.net)

    @property
    def log(self) -> str:
        """The log as CSV text."""
        text = io.StringIO()
        if self.rows:
            writer = csv.DictWriter(text, self.rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return text.getvalue()

    def add_row(self, means: dict[str, float]) -> None:
        """A row of the log: means since the last row, and the architecture as it is now."""
        row = means | architecture_summary(self.net)
        rate = float(self.optimizer.param_groups[0]["lr"])
        row |= {"learning_rate": rate, "seconds": self.seconds}
        rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
        self.rows.append({"step": self.step} | rounded)

    @torch.no_grad()
    def check(self) -> None:
        """Raises UserError unless the network, as the last update left it, restores that batch.

        The loss of a step is that of the weights before its update.
        """
        if not all(bool(p.isfinite().all()) for p in self.net.parameters()):
            raise diverged("the weights are not finite", self.step, self.profile.batch)
        x, target, t = self.batch
        with autocast(self.device):
            output = self.net(x, t)
        if what := trouble(float(distance(output, target))):
            raise diverged(what, self.step, self.profile.batch)

    def set_phase(self) -> None:
        """Learning rates and the phase of the search that belong to this step."""
        model, profile, done = self.net.model, self.profile, self.step / self.steps
        if model.fine_tuned:
            factor = annealed(done, profile.freeze_from if model.searched else 0.0)
        else:
            factor = halved(done, profile.halve_at) * annealed(done, profile.anneal_from)
        factors = [factor]
        if model.searched:
            searching, self.net.sharing, rate = self.search()
            factors.append(rate)
            if reopened(self.continued):  # a dispute at an early point would end all after it
                self.net.s.masked_fill_(self.net.phi, 1)  # what is shared counts as agreed
        since = self.continued[-1]["step"] if self.continued else 0
        warm = min(1.0, (self.step - since + 1) / profile.warm_up) if profile.warm_up else 1.0
        groups = zip(self.optimizer.param_groups, factors, strict=True)
        rates = [group["base"] * factor * warm for group, factor in groups]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if model.searched and not searching and not self.net.is_frozen:
            self.net.freeze()

    def search(self) -> tuple[bool, bool, float]:
        """Of the search at this step: whether it goes on, whether layers may come to be
        task-agnostic, and the factor on the controller's rate, 0 at its end.
        """
        profile, span = self.profile, reopened(self.continued)
        if span is not None:
            part = (self.step - span[0]) / (span[1] - span[0])
            return part < 1, self.net.model.shared, REOPENED * annealed(min(1.0, part), 0)
        done = self.step / schedule(self.steps, self.continued)
        part, since = done / profile.freeze_from, profile.share_from / profile.freeze_from
        sharing = self.net.model.shared and done >= profile.share_from
        return part < 1, sharing, annealed(min(1.0, part), since)

    def update(self, x: Tensor, target: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """One step of Eq. 11; x and target in [0, 1]. Returns the loss, L, R1, R2 and the PSNR."""
        self.set_phase()
        found = self.learn(x, target, t)
        self.step += 1
        return found

    def learn(self, x: Tensor, target: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """What of a step is done on the device: forward, backward, new weights. As update."""
        with autocast(self.device):
            if self.net.model.searched:
                output, R1, R2 = self.net.search_step(x, t)
            else:
                output, R1, R2 = self.net(x, t), x.new_zeros(()), x.new_zeros(())
        self.batch, output = (x, target, t), output.float()
        L = distance(output, target)
        loss = L + self.lambda1 * R1 + self.lambda2 * R2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.net)
        self.optimizer.step()
        error = (output.detach().clamp(0, 1) - target).square().mean((1, 2, 3))
        psnr = -10 * error.clamp_min(1e-5).log10().mean()  # 50 dB at most: some inputs are clean
        return loss, L, R1, R2, psnr


def to_device(degraded: Tensor, wanted: Tensor, t: Tensor, device) -> tuple[Tensor, ...]:
    """A batch of patches.batches as Training.update takes it: images in [0, 1], tasks."""
    x, target = (
        image.to(device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
        / 255
        for image in (degraded, wanted)
    )
    return x, target, t.to(device, non_blocking=True)


def average_gradients(net: torch.nn.Module) -> None:
    """Mean of the gradients over the processes of torchrun; nothing to do in a single one."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))

"""Eq. 11 and section 7.3: one training loop for all five models.

    min over theta, psi of  L + lambda1 * R1 + lambda2 * R2,   L = l1 distance in 0..255 units

CResMD is trained from fresh weights with L alone. A searched model starts from the trained CResMD
and goes through three phases (profiles.py): task-specific channels, task-agnostic layers, frozen
architecture with fine-tuned weights.

The loop resumes bit for bit on a CPU: samples depend on their number alone, and the state on disk
holds weights, Adam's moments and the step. Under ``torchrun`` the batch is split over the
processes and their gradients are averaged.
"""

import csv
import io
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from cirlib import checkpoints, paths
from cirlib.cost import cost, full_architecture, shared_layers
from cirlib.datasets import fingerprint, photographs
from cirlib.degradation import TASKS
from cirlib.files import UserError, atomic
from cirlib.patches import Patches, batches
from cirlib.profiles import Model, Profile, get_model, get_profile
from cirlib.provenance import provenance
from cirlib.search import SearchNet, build, lambda1_of

SAVE_EVERY = 120.0  # seconds between two states on disk, at least


def pick_device() -> torch.device:
    """The GPU of this process if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def autocast(device: torch.device):
    """bfloat16 arithmetic where the hardware has it; elsewhere it would be slower than float32."""
    if device.type == "cuda":
        helps = torch.cuda.is_bf16_supported()
    else:
        helps = torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if helps else nullcontext()


def rate(step: int, steps: int, halve_at: tuple[float, ...]) -> float:
    """The factor on the learning rates at a step: halved at each given fraction."""
    return 0.5 ** sum(step >= fraction * steps for fraction in halve_at)


def architecture_summary(net: SearchNet) -> dict[str, float]:
    """Shared layers (0..1) and FLOPs relative to CResMD at M = 1 and 27, over the 27 tasks."""
    architectures = [net.architecture(task) for task in TASKS]
    size = (net.profile.patch,) * 2
    ours = cost(architectures, size)
    full = cost([full_architecture(net.net.blocks, net.net.channels, net.net.tail)], size)
    return {
        "shared_layers": shared_layers(architectures[0]),
        "flops_m1": ours.per_effect(1) / full.per_effect(1),
        "flops_m27": ours.per_effect(27) / full.per_effect(1),
    }


class Meter:
    """Losses of the steps since the last row of the log, fetched from the device only then."""

    def __init__(self, first_step: int):
        self.first_step, self.values = first_step, []

    def add(self, *values: Tensor) -> None:
        self.values.append(torch.stack([value.detach().float() for value in values]))

    def means(self) -> Tensor:
        """Means of what was added; raises UserError naming the first step that was not finite."""
        values = torch.stack(self.values).cpu()
        bad = (~values.isfinite()).any(1)
        if bad.any():
            step = self.first_step + int(bad.int().argmax())
            raise UserError(
                f"the loss is not finite at step {step} (batch {step} of the stream): the last "
                "saved state is kept; lower the learning rate of the profile and train with --fresh"
            )
        return values.mean(0)


class Training:
    """One model in training: network, optimiser, step and log, which go to disk together."""

    def __init__(self, model: Model, profile: Profile, steps: int, seed: int, data: dict,
                 device: torch.device):  # fmt: skip
        self.config = {"model": model.name, **asdict(profile), "profile": profile.name,
                       "steps": steps, "seed": seed, **data}  # fmt: skip
        self.profile, self.device, self.steps = profile, device, steps
        self.net = build(model, profile, seed)
        self.net.to(device, memory_format=torch.channels_last)
        self.step, self.seconds, self.rows = 0, 0.0, []
        groups = [{"params": list(self.net.net.parameters()), "base": profile.learning_rate}]
        if model.searched:
            controller = list(self.net.controller.parameters())
            groups.append({"params": controller, "base": profile.controller_rate})
        self.optimizer = torch.optim.Adam(groups, fused=device.type == "cuda")
        self.names = {id(p): name for name, p in self.net.named_parameters()}
        self.lambda1 = lambda1_of(profile, self.net.net)
        self.folder = paths.RUNS / profile.name / model.name

    def start_from_super_network(self) -> None:
        """Copy theta of the trained CResMD."""
        trained = checkpoints.load("cresmd", self.profile.name)
        self.net.net.load_state_dict(trained.net.state_dict())

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
        row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], "seconds": self.seconds}
        rounded = {name: float(f"{value:.6g}") for name, value in row.items()}
        self.rows.append({"step": self.step} | rounded)

    def save_state(self) -> None:
        tensors = self.net.state_dict() | checkpoints.optimizer_tensors(self.optimizer, self.names)
        header = {"config": self.config, "step": self.step, "seconds": self.seconds,
                  "rows": self.rows}  # fmt: skip
        checkpoints.write_tensors(self.folder / "state.safetensors", tensors, header)
        with atomic(self.folder / "log.csv") as temporary:
            temporary.write_text(self.log)

    def resume(self) -> None:
        """Go on from the state on disk, if there is one."""
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        tensors, header = checkpoints.read_tensors(path)
        wanted, found = _plain(self.config), header["config"]
        changed = [key for key in wanted if wanted[key] != found.get(key)]
        if changed:
            raise UserError(
                f"{path.parent} holds a training with other settings ("
                + ", ".join(f"{key} {found.get(key)} there, {wanted[key]} here" for key in changed)
                + "): use the same, or start anew with --fresh"
            )
        own = {name: value for name, value in tensors.items() if not name.startswith("adam.")}
        self.net.load_state_dict(own)
        checkpoints.restore_optimizer(self.optimizer, self.names, tensors)
        if self.net.model.searched and self.net.frozen:
            self.net.controller.requires_grad_(False)
        self.step, self.seconds, self.rows = header["step"], header["seconds"], header["rows"]

    def set_phase(self) -> None:
        """Learning rates and the phase of the search that belong to this step."""
        factor = rate(self.step, self.steps, self.profile.halve_at)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        if self.net.model.searched:
            done = self.step / self.steps
            self.net.sharing = self.net.model.shared and done >= self.profile.share_from
            if done >= self.profile.freeze_from and not self.net.frozen:
                self.net.freeze()

    def update(self, x: Tensor, target: Tensor, t: Tensor, all_t: Tensor) -> tuple[Tensor, ...]:
        """One step of Eq. 11; x and target in [0, 1]. Returns the loss, L, R1, R2 and the PSNR."""
        self.set_phase()
        with autocast(self.device):
            if self.net.model.searched:
                output, R1, R2 = self.net.search_step(x, t, all_t)
            else:
                output, R1, R2 = self.net(x, t), x.new_zeros(()), x.new_zeros(())
        output = output.float()
        L = 255 * (output - target).abs().mean()
        loss = L + self.lambda1 * R1
        if self.net.model.shared:
            loss = loss + self.profile.lambda2 * R2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.net)
        self.optimizer.step()
        self.step += 1
        error = (output.detach().clamp(0, 1) - target).square().mean((1, 2, 3))
        psnr = -10 * error.clamp_min(1e-5).log10().mean()  # 50 dB at most: some inputs are clean
        return loss, L, R1, R2, psnr


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


def _plain(value):
    """As JSON gives it back: tuples become lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _all_tasks(t: Tensor) -> Tensor:
    """The tasks of the mini-batch of all processes."""
    if not dist.is_initialized():
        return t
    parts = [torch.empty_like(t) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, t)
    return torch.cat(parts)


def _sample_numbers(first: int, last: int, batch: int, rank: int, world: int) -> np.ndarray:
    """Numbers of the samples this process takes in steps first..last-1."""
    numbers = np.arange(first * batch, last * batch).reshape(-1, world, batch // world)
    return numbers[:, rank].reshape(-1)


def default_workers() -> int:
    """Processes that make data: all cores but the one that trains, 16 at most."""
    return max(1, min(16, (os.cpu_count() or 2) - 1))


def train(
    model: str,
    profile: str,
    images: str = "embedded",
    *,
    steps: int | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    fresh: bool = False,
    ship: bool = True,
) -> Path:
    """Train a model, or go on with it, and write it to the checkpoints; returns the weights' path.

    images: see datasets.photographs, e.g. "bsd432+clic".
    steps: instead of the profile's. max_minutes: stop then, with the state saved.
    fresh: forget an unfinished training. ship: also write the checkpoint, card and log.
    Raises UserError for wrong names, missing data or super network, a loss that is not finite.
    """
    began = time.monotonic()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    world = dist.get_world_size() if dist.is_initialized() else 1
    kind, chosen = get_model(model), get_profile(profile)
    if chosen.batch % world:
        raise UserError(
            f"a batch of {chosen.batch} cannot be split over {world} processes: "
            "start a number of them that divides it"
        )
    device = pick_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    photos = photographs(images)
    data = {"images": images, "photos": len(photos), "fingerprint": fingerprint(photos)}
    total = steps or (chosen.search_steps if kind.searched else chosen.steps)
    training = Training(kind, chosen, total, seed, data, device)
    if not fresh:
        training.resume()
    if training.step == 0 and kind.searched:
        training.start_from_super_network()
    if training.step < total:
        _loop(training, [photo.read() for photo in photos], began, max_minutes, rank, world,
              default_workers() if workers is None else workers)  # fmt: skip
    place = checkpoints.files(model, profile)["weights"]
    if rank == 0 and ship:
        facts = provenance(
            **training.config,
            steps_done=training.step,
            hours=round(training.seconds / 3600, 3),
            parameters=sum(p.numel() for p in training.net.parameters()),
            **{key: round(value, 4) for key, value in architecture_summary(training.net).items()},
        )
        checkpoints.save(training.net, facts, training.log)
    return place


def log_interval(steps: int) -> int:
    """Steps between two rows of the log; states are saved, and runs stop, at a row only."""
    return max(1, min(500, steps // 200))


def _loop(training: Training, photos, began, max_minutes, rank, world, workers) -> None:
    """Steps until the last one or until the time is over; saves states and log rows on the way."""
    batch, device = training.profile.batch, training.device
    seed, relative = training.config["seed"], training.net.model.relative
    patches = Patches(photos, training.profile.patch, seed, relative)
    numbers = _sample_numbers(training.step, training.steps, batch, rank, world)
    meter, saved, started = Meter(training.step), time.monotonic(), time.monotonic()
    spent = training.seconds
    title = f"{training.profile.name} {training.net.model.name}"
    bar = tqdm(total=training.steps, initial=training.step, disable=rank > 0, file=sys.stderr,
               desc=title, mininterval=1)  # fmt: skip
    training.net.train()
    for degraded, wanted, t in batches(patches, numbers, batch // world, workers):
        t = t.to(device, non_blocking=True)
        x, target = (
            image.to(device, non_blocking=True)
            .to(torch.float32, memory_format=torch.channels_last) / 255
            for image in (degraded, wanted)
        )  # fmt: skip
        meter.add(*training.update(x, target, t, _all_tasks(t)))
        bar.update()
        last = training.step == training.steps
        if training.step % log_interval(training.steps) and not last:
            continue
        means = dict(zip(("loss", "L", "R1", "R2", "psnr"), meter.means().tolist(), strict=True))
        meter = Meter(training.step)
        training.seconds = spent + time.monotonic() - started
        training.add_row(means)
        bar.set_postfix(L=f"{means['L']:.2f}", psnr=f"{means['psnr']:.2f}", refresh=False)
        minutes = (time.monotonic() - began) / 60
        over = _agree(max_minutes is not None and minutes >= max_minutes, device)
        if last or over or time.monotonic() - saved > SAVE_EVERY:
            if rank == 0:
                training.save_state()
            saved = time.monotonic()
        if over:
            break
    bar.close()


def _agree(flag: bool, device: torch.device) -> bool:
    """Whether any process says so, known to all: they must stop at the same step."""
    if not dist.is_initialized():
        return flag
    votes = torch.tensor(float(flag), device=device)
    dist.all_reduce(votes)
    return bool(votes > 0)

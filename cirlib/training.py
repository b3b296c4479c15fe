"""Eq. 11 and section 7.3: one training loop for all five models.

    min over theta, psi of  L + lambda1 * R1 + lambda2 * R2,   L = l1 distance in 0..255 units

CResMD is trained from fresh weights with L alone. A searched model starts from the trained CResMD
and goes through three phases (profiles.py): task-specific channels, task-agnostic layers, frozen
architecture with fine-tuned weights.

The loop resumes bit for bit on a CPU (with as many threads as before): samples depend on their
number alone, and the state on disk holds weights, Adam's moments, the step and the log. Under
``torchrun`` the batch is split over the processes and their gradients are averaged.
"""

import atexit
import csv
import io
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from cirlib import checkpoints, memory, paths
from cirlib.cost import cost, full_architecture, live, shared_layers
from cirlib.datasets import fingerprint, photographs
from cirlib.degradation import SCHEMES, SEARCH_SCHEMES, TASKS
from cirlib.device import bfloat16_helps, pick_device
from cirlib.files import UserError, atomic, remove_leftovers
from cirlib.patches import Patches, batches
from cirlib.profiles import (
    ABLATIONS,
    Model,
    Profile,
    get_model,
    get_profile,
    pressure_of,
    share_from_of,
    steps_of,
)
from cirlib.provenance import provenance
from cirlib.search import SearchNet, build, lambda1_of

SAVE_EVERY = 120.0  # seconds between two states on disk, at least
# What the paper says most of comes first; CResMD before all, since the others start from it.
QUEUE = ("cresmd", "ta-tsnet", "tsnet", "tsnet-m", "ta-tsnet-m", *ABLATIONS)
TELL_EVERY = 60.0  # seconds between two lines on progress where no terminal can show a bar


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


def architecture_summary(net: SearchNet) -> dict[str, float]:
    """Shared layers (0..1) and FLOPs relative to CResMD at M = 1 and 27, over the 27 tasks."""
    architectures = [live(net.architecture(task)) for task in TASKS]
    size = (net.profile.patch,) * 2
    ours = cost(architectures, size)
    full = cost([full_architecture(net.net.blocks, net.net.channels, net.net.tail)], size)
    return {
        "shared_layers": shared_layers(architectures[0]),
        "flops_m1": ours.per_effect(1) / full.per_effect(1),
        "flops_m27": ours.per_effect(27) / full.per_effect(1),
    }


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


class Meter:
    """Losses of the steps since the last row of the log, fetched from the device only then."""

    def __init__(self, first_step: int, batch: int):
        self.first_step, self.batch, self.values = first_step, batch, []

    def add(self, *values: Tensor) -> None:
        self.values.append(torch.stack([value.detach().float() for value in values]))

    def means(self) -> Tensor:
        """Means of what was added, over all processes.

        Raises UserError naming the first step at which something was not finite, or L more than
        two images can differ by.
        """
        values = torch.stack(self.values)  # steps x 5
        if dist.is_initialized():  # all processes learn of a failure of one
            dist.all_reduce(values)
            values /= dist.get_world_size()
        for step, (loss, L, *rest) in enumerate(values.tolist(), self.first_step + 1):
            if what := trouble(L, loss, *rest):
                raise diverged(what, step, self.batch)
        return values.mean(0).cpu()


class Training:
    """One model in training: network, optimiser, step and log, which go to disk together."""

    def __init__(self, model: Model, profile: Profile, steps: int, seed: int, data: dict,
                 device: torch.device):  # fmt: skip
        schemes = SEARCH_SCHEMES if model.fine_tuned else SCHEMES
        settings = asdict(profile)
        one, two = pressure_of(model, profile)
        settings["lambda1"] *= one
        settings["lambda2"] *= two
        settings |= {"share_at_most": model.share_at_most, "fixed": model.fixed}
        if model.settles:  # said only then: states of other models keep their format
            settings["settles"] = True
        settings["share_from"] = share_from_of(model, profile)
        for name in ("ablation_share_from", "tsnet_lambda1", "balance_lambda1", "balance_lambda2"):
            del settings[name]
        self.config = {"model": model.name, **settings, "profile": profile.name,
                       "schemes": schemes, "steps": steps, "seed": seed, **data}  # fmt: skip
        self.profile, self.device, self.steps = profile, device, steps
        memory.keep_large_blocks()  # a CPU's step takes an eighth less time
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
        self.optimizer = torch.optim.Adam(groups, fused=device.type == "cuda")
        self.names = {id(p): name for name, p in self.net.named_parameters()}
        self.lambda1 = one * lambda1_of(profile, self.net.net)
        self.lambda2, self.share_from = settings["lambda2"], settings["share_from"]
        self.folder = paths.RUNS / profile.name / model.name
        self.state, self.log_file = self.folder / "state.safetensors", self.folder / "log.csv"

    def start_from_super_network(self) -> None:
        """Copy theta of the trained CResMD."""
        trained = checkpoints.load("cresmd", self.profile.name)
        self.net.net.load_state_dict(trained.net.state_dict())
        self.began["started_from"] = checkpoints.digest(trained)

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

    def save_state(self) -> None:
        """Write the state, and the log beside it for people to look at.

        Raises UserError when the last update has spoilt the network: the state before it is the
        better one.
        """
        self.check()
        tensors = self.net.state_dict() | checkpoints.optimizer_tensors(self.optimizer, self.names)
        header = {"config": self.config, "began": self.began, "continued": self.continued,
                  "step": self.step, "seconds": self.seconds, "rows": self.rows}  # fmt: skip
        checkpoints.write_tensors(self.state, tensors, header)
        with atomic(self.log_file) as temporary:
            temporary.write_text(self.log)

    @property
    def saved(self) -> int:
        """The step of the state on disk, 0 where there is none.

        Read from there: Ctrl-C may come just after the state was written.
        """
        return checkpoints.read_tensors(self.state)[1]["step"] if self.state.exists() else 0

    def forget(self) -> None:
        """Delete the state on disk and its log."""
        for file in (self.state, self.log_file):
            file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete what killed runs left of writing the files of this training."""
        shipped = checkpoints.files(self.net.model.name, self.profile.name)
        for file in (self.state, self.log_file, *shipped.values()):
            remove_leftovers(file)

    def resume(self) -> None:
        """Go on from the state on disk, else from the checkpoint of an unfinished training.

        Raises UserError when it is damaged, belongs to other settings, or is further on already.
        """
        if not self.state.exists():
            self._resume_from_checkpoint()
            return
        tensors, header = checkpoints.read_tensors(self.state)
        if not {"config", "began", "continued", "step", "seconds", "rows"} <= header.keys():
            raise self._foreign_state()
        self._check_settings(header, self.folder)
        own = {name: value for name, value in tensors.items() if not name.startswith("adam.")}
        try:
            self.net.load_state_dict(own)
            checkpoints.restore_optimizer(self.optimizer, self.names, tensors)
        except (RuntimeError, KeyError) as error:
            raise self._foreign_state() from error
        if self.net.is_frozen:
            self.net.controller.requires_grad_(False)
        self.step, self.seconds, self.rows = header["step"], header["seconds"], header["rows"]
        self.began, self.continued = header["began"], header["continued"]

    def _resume_from_checkpoint(self) -> None:
        """Go on from shipped weights where their card says that their training is not over.

        Adam's moments are not shipped: they begin anew, and the rate is warmed up again.
        """
        name, profile = self.net.model.name, self.profile.name
        if not checkpoints.exists(name, profile):
            return
        card = checkpoints.load_card(name, profile)
        if card["steps_done"] >= card["steps"]:
            return
        place = checkpoints.find(name, profile)["weights"]
        self._check_settings({"config": card, "step": card["steps_done"]}, place)
        self.net.load_state_dict(checkpoints.load(name, profile).state_dict())
        self.step, self.seconds = card["steps_done"], 3600 * card["hours"]
        with open(checkpoints.find(name, profile)["log"], newline="") as log:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(log)
            ]
        self.rows = [row | {"step": int(row["step"])} for row in rows]
        self.continued = [*card["continued"], self.began | {"step": self.step}]
        self.began = card["began"]
        if self.net.is_frozen and self.step < self.profile.freeze_from * self.steps:
            self.net.frozen.fill_(False)  # what stopped early was frozen to be shipped

    def _foreign_state(self) -> UserError:
        return UserError(f"{self.state} is of another version: start anew with --fresh")

    def _check_settings(self, header: dict, place: Path) -> None:
        """Raises UserError unless the state with this header can be gone on with.

        The number of steps may change as long as nothing has hung on it.
        """
        wanted, found = _plain(self.config), header["config"]
        if wanted["steps"] < header["step"]:
            raise UserError(
                f"{place} holds a training that has done {header['step']} of "
                f"{found.get('steps')} steps, more than the {wanted['steps']} asked for: "
                "ask for as many as it was begun with, or start anew with --fresh"
            )
        changed = [key for key in wanted if wanted[key] != found.get(key)]
        if not self.net.model.fine_tuned:
            constant = min(self.profile.halve_at + (self.profile.anneal_from,))
            if header["step"] <= constant * min(wanted["steps"], found.get("steps", 0)):
                changed = [key for key in changed if key != "steps"]
        if changed:
            raise UserError(
                f"{place} holds a training with other settings ("
                + ", ".join(f"{key} {found.get(key)} there, {wanted[key]} here" for key in changed)
                + "): use the same, or start anew with --fresh"
            )

    def set_phase(self) -> None:
        """Learning rates and the phase of the search that belong to this step."""
        model, profile, done = self.net.model, self.profile, self.step / self.steps
        if model.fine_tuned:
            factor = annealed(done, profile.freeze_from if model.searched else 0.0)
        else:
            factor = halved(done, profile.halve_at) * annealed(done, profile.anneal_from)
        if profile.warm_up:
            since = self.continued[-1]["step"] if self.continued else 0
            factor *= min(1.0, (self.step - since + 1) / profile.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        if model.settles:
            part = done / profile.freeze_from
            rate = annealed(min(1.0, part), self.share_from / profile.freeze_from)
            self.optimizer.param_groups[1]["lr"] *= rate
        if model.searched:
            self.net.sharing = model.shared and done >= self.share_from
            if done >= profile.freeze_from and not self.net.is_frozen:
                self.net.freeze()

    def update(self, x: Tensor, target: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """One step of Eq. 11; x and target in [0, 1]. Returns the loss, L, R1, R2 and the PSNR."""
        self.set_phase()
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
        self.step += 1
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


def _plain(value):
    """As JSON gives it back: tuples become lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _sample_numbers(first: int, last: int, batch: int, rank: int, world: int) -> Iterator[int]:
    """Numbers of the samples that this process takes in steps first..last-1.

    A generator: the paper's training has 64 million of them.
    """
    share = batch // world
    for step in range(first, last):
        start = step * batch + rank * share
        yield from range(start, start + share)


def default_workers() -> int:
    """Processes that make data: the cores of this process but the one that trains, 16 at most.

    The processes that torchrun starts on a machine share its cores.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux; counts a container's cores only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(16, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


def _join_processes() -> tuple[int, int]:
    """Rank and number of the processes that torchrun started; (0, 1) without it."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


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
    steps: instead of the profile's. max_minutes: stop at the first row of the log after that,
    with the state saved. workers: processes that make data, 0 for none.
    fresh: forget an unfinished training. ship: also write the checkpoint, card and log.

    A finished training is not trained again, but its checkpoint is written anew. Ctrl-C raises
    KeyboardInterrupt with a message that says what is saved: at most SAVE_EVERY seconds, or what
    one row of the log takes if that is longer, are lost.

    Raises UserError for wrong names, missing data or super network, a state of other settings, a
    loss that explodes or is not finite, a full disk.
    """
    began = time.monotonic()
    kind, chosen = get_model(model), get_profile(profile)
    total = steps if steps is not None else steps_of(kind, chosen)
    if total < 1:
        raise UserError(f"a training of {total} steps: ask for one at least")
    rank, world = _join_processes()
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
    training = Training(kind, chosen, total, seed, data, device)
    if not fresh:
        training.resume()
    if training.step == 0 and kind.fine_tuned:
        training.start_from_super_network()
    if training.step < total:
        pixels = [photo.read() for photo in photos]
        if rank == 0:
            if fresh:
                training.forget()  # not before all that can fail has gone well
            training.tidy()
        _run(training, pixels, began, max_minutes, rank, world,
             default_workers() if workers is None else workers)  # fmt: skip
    elif rank == 0:
        print(f"{profile} {model}: all {total} steps are done already", file=sys.stderr)
    if rank == 0 and ship:
        _ship(training, world)
    if dist.is_initialized():
        dist.barrier()  # the next training may start from this one's checkpoint
    return checkpoints.files(model, profile)["weights"]


def train_queue(
    profile: str,
    images: str,
    *,
    steps: int | None = None,
    max_minutes: float | None = None,
    **options,
) -> list[str]:
    """Train all models in the order of QUEUE, each until it is done; returns what was worked on.

    Models whose checkpoint has all steps are passed over (one that the repository ships counts
    where it would be written over), an unfinished one is gone on with, and after max_minutes the
    queue stops with the state saved: the same call goes on later.
    steps: of each model, instead of the profile's. options: those of train that fit every model.
    """
    began, worked_on = time.monotonic(), []
    for model in QUEUE:
        left = None if max_minutes is None else max_minutes - (time.monotonic() - began) / 60
        if _agree(left is not None and left <= 0, pick_device()):
            break
        if _is_done(model, profile, steps):
            continue
        worked_on.append(model)
        train(model, profile, images, steps=steps, max_minutes=left, **options)
    return worked_on


def _is_done(model: str, profile: str, steps: int | None) -> bool:
    """Whether it is trained as long as asked for, here and not in what is shipped."""
    if not checkpoints.files(model, profile)["weights"].exists():
        return False
    try:
        card = checkpoints.load_card(model, profile)
    except UserError:
        return False
    return card["steps_done"] >= (steps or steps_of(get_model(model), get_profile(profile)))


def _ship(training: Training, world: int) -> None:
    """Write the checkpoint, card and log."""
    net = training.net
    if net.sharing and not net.is_frozen:
        net.freeze()  # stopped early
    facts = provenance(
        **training.config,
        began=training.began,
        continued=training.continued,
        steps_done=training.step,
        log=checkpoints.files(net.model.name, net.profile.name)["log"].name,
        hours=round(training.seconds / 3600, 4),
        processes=world,
        precision="bfloat16" if bfloat16_helps(training.device) else "float32",
        parameters=sum(p.numel() for p in net.parameters()),
        **{key: round(value, 6) for key, value in architecture_summary(net).items()},
    )
    checkpoints.save(net, facts, training.log)


def log_interval(steps: int) -> int:
    """Steps between two rows of the log; states are saved, and runs stop, at a row only."""
    return max(1, min(100, steps // 200))


def _run(training: Training, *arguments) -> None:
    """_loop, with the end of its processes on an error or Ctrl-C, and a word on the latter."""
    atexit.unregister(dist.destroy_process_group)
    interrupted = False
    try:
        _loop(training, *arguments)
    except KeyboardInterrupt:
        # Raised again outside this block: the first one's traceback, which a notebook keeps, would
        # keep the data workers running too.
        interrupted = True
    if interrupted:
        saved = training.saved
        cure = (f"step {saved} is saved: train again, not fresh, to go on from there"
                if saved else "nothing was saved yet")  # fmt: skip
        raise KeyboardInterrupt(f"stopped at step {training.step} of {training.steps}; {cure}")
    if dist.is_initialized():
        atexit.register(dist.destroy_process_group)  # only then: after a failure it may hang


def _loop(training: Training, photos, began, max_minutes, rank, world, workers) -> None:
    """Steps until the last one or until the time is over; saves states and log rows on the way."""
    batch, device = training.profile.batch, training.device
    seed, relative = training.config["seed"], training.net.model.relative
    schemes = training.config["schemes"]
    patches = Patches(photos, training.profile.patch, seed, relative, schemes)
    numbers = _sample_numbers(training.step, training.steps, batch, rank, world)
    meter, saved, started = Meter(training.step, batch), time.monotonic(), time.monotonic()
    spent, told = training.seconds, started
    title = f"{training.profile.name} {training.net.model.name}"
    terminal = sys.stderr.isatty()  # elsewhere (a notebook, a file) a bar would pile up
    training.net.train()
    with tqdm(total=training.steps, initial=training.step, desc=title, file=sys.stderr,
              mininterval=1, disable=rank > 0 or not terminal) as bar:  # fmt: skip
        for degraded, wanted, t in batches(patches, numbers, batch // world, workers):
            meter.add(*training.update(*to_device(degraded, wanted, t, device)))
            bar.update()
            last = training.step == training.steps
            if training.step % log_interval(training.steps) and not last:
                continue
            names = ("loss", "L", "R1", "R2", "psnr")
            means = dict(zip(names, meter.means().tolist(), strict=True))
            meter, now = Meter(training.step, batch), time.monotonic()
            training.seconds = spent + now - started
            training.add_row(means)
            over = _agree(max_minutes is not None and now - began >= 60 * max_minutes, device)
            if rank == 0 and (last or over or now - saved > SAVE_EVERY):
                training.save_state()
                saved = time.monotonic()
            bar.set_postfix(L=f"{means['L']:.2f}", psnr=f"{means['psnr']:.2f}", refresh=False)
            if rank == 0 and not terminal and (last or over or now - told > TELL_EVERY):
                print(f"{title}: step {training.step} of {training.steps}, "
                      f"{training.seconds:.0f} s, L {means['L']:.2f}, PSNR {means['psnr']:.2f} dB",
                      file=sys.stderr, flush=True)  # fmt: skip
                told = now
            if over:
                break


def _agree(flag: bool, device: torch.device) -> bool:
    """Whether any process says so, known to all: they must stop at the same step."""
    if not dist.is_initialized():
        return flag
    votes = torch.tensor(float(flag), device=device)
    dist.all_reduce(votes)
    return bool(votes > 0)

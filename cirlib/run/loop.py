"""Section 7.3: the training loop, from photographs to a checkpoint, and the queue of all models.

It resumes bit for bit on a CPU (with as many threads as before): samples depend on their number
alone, and run/state.py holds weights, Adam's moments, the step and the log. Under ``torchrun`` the
batch is split over the processes and their gradients are averaged.
"""

import atexit
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from cirlib import checkpoints
from cirlib.base import memory
from cirlib.base.device import bfloat16_helps, cores, pick_device
from cirlib.base.files import UserError, say
from cirlib.base.provenance import provenance
from cirlib.data.datasets import fingerprint, photographs
from cirlib.data.drawings import drawings
from cirlib.patches import Patches, batches
from cirlib.profiles import ABLATIONS, get_model, get_profile
from cirlib.run.device_patches import DevicePatches
from cirlib.run.graph import GraphedUpdate
from cirlib.run.growth import start
from cirlib.run.state import TrainingState
from cirlib.search import architecture_summary
from cirlib.training import Training, diverged, to_device, trouble

# Drawings beside the photographs, for a pixel of these: photographs have hardly any flat, saturated
# colours, and networks that have seen none shift them.
DRAWN = 1 / 16
SAVE_EVERY = 120.0  # seconds between two states on disk, at least
# What the paper says most of comes first; CResMD before all, since the others start from it.
QUEUE = ("cresmd", "ta-tsnet", "tsnet", "tsnet-m", "ta-tsnet-m", *ABLATIONS)
TELL_EVERY = 60.0  # seconds between two lines on progress where no terminal can show a bar


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


def _sample_numbers(first: int, last: int, batch: int, rank: int, world: int) -> Iterator[int]:
    """Numbers of the samples that this process takes in steps first..last-1.

    A generator: the paper's training has 64 million of them.
    """
    share = batch // world
    for step in range(first, last):
        start = step * batch + rank * share
        yield from range(start, start + share)


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
    batch: int | None = None,
    workers: int | None = None,
    on_device: bool | None = None,
    fresh: bool = False,
    further: bool = False,
    again: int = 0,
    press: float = 1,
) -> Path:
    """Train a model, or go on with it, and write it to the checkpoints; returns the weights' path.

    images: see datasets.photographs, e.g. "bsd432+clic".
    steps, batch: instead of the profile's. max_minutes: stop at the first row of the log after
    that, with the state saved. workers: processes that make data, 0 for none. on_device: data are
    made where the network is (device_patches.py); default: on a single GPU.
    fresh: forget an unfinished training. further: give a finished network more steps, ``steps`` in
    all. again: in so many of these the search is open once more, with lambda1 times ``press``.

    A finished training is not trained again, but its checkpoint is written anew. Ctrl-C raises
    KeyboardInterrupt with a message that says what is saved: at most SAVE_EVERY seconds and
    what one row of the log takes are lost.

    Raises UserError for wrong names, missing data or super network, a state of other settings, a
    loss that explodes or is not finite, a full disk.
    """
    began = time.monotonic()
    kind, chosen = get_model(model), get_profile(profile)
    chosen = replace(chosen, batch=batch or chosen.batch)
    total = steps if steps is not None else chosen.steps_of(kind)
    if total < 1:
        raise UserError(f"a training of {total} steps: ask for one at least")
    if again and not kind.searched:
        raise UserError(f"{model} has no search that could be opened --again")
    rank, world = _join_processes()
    if chosen.batch % world:
        raise UserError(
            f"a batch of {chosen.batch} cannot be split over {world} processes: "
            "start a number of them that divides it"
        )
    memory.keep_large_blocks()  # a CPU's step takes an eighth less time
    device = pick_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    photos = photographs(images)
    data = {"images": images, "photos": len(photos), "fingerprint": fingerprint(photos),
            "drawn": DRAWN}  # fmt: skip
    training = Training(kind, chosen, total, seed, data, device, press)
    state = TrainingState(training)
    if not fresh:
        state.resume(further, again)
    if training.step == 0:
        start(training)
    if training.step < total:
        pixels = [photo.read() for photo in photos]
        pixels += drawings(int(DRAWN * sum(image[..., 0].size for image in pixels)), seed)
        if rank == 0:
            if fresh:
                state.forget()  # not before all that can fail has gone well
            state.tidy()
        if on_device or (on_device is None and device.type == "cuda" and world == 1):
            workers = None
        elif workers is None:
            each = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of torchrun's here
            workers = max(1, min(16, each - 1))  # one trains
        _run(state, pixels, began, max_minutes, rank, world, workers)
    elif rank == 0:
        say(f"{profile} {model}: all {total} steps are done already")
    if rank == 0:
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
    further: bool = False,
    **options,
) -> list[str]:
    """Train all models in the order of QUEUE, each until it is done; says, and returns, which.

    Models whose checkpoint has all steps are passed over, an unfinished one is gone on with, and
    after max_minutes the queue stops with the state saved: the same call goes on later. What the
    repository ships is trained anew, from the beginning, or with ``further`` gone on with, too.
    steps: of each model, instead of the profile's. options: those of train that fit every model.
    """
    began, worked_on = time.monotonic(), []
    for model in QUEUE:
        left = None if max_minutes is None else max_minutes - (time.monotonic() - began) / 60
        if _agree(left is not None and left <= 0, pick_device()):
            break
        if _is_trained(model, profile, steps, further):
            continue
        worked_on.append(model)
        train(model, profile, images, steps=steps, max_minutes=left, further=further, **options)
    say(f"worked on: {', '.join(worked_on) or 'nothing, all is done'}")
    return worked_on


def _is_trained(model: str, profile: str, steps: int | None, shipped: bool) -> bool:
    """Whether it is trained as long as asked for, here or, if that counts, in what is shipped."""
    if not shipped and not checkpoints.files(model, profile)["weights"].exists():
        return False
    try:
        card = checkpoints.load_card(model, profile)
    except UserError:
        return False
    wanted = steps or get_profile(profile).steps_of(get_model(model))
    return card["steps_done"] >= wanted


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


def _run(state: TrainingState, *arguments) -> None:
    """_loop, with the end of its processes on an error or Ctrl-C, and a word on the latter."""
    atexit.unregister(dist.destroy_process_group)
    interrupted = False
    try:
        _loop(state, *arguments)
    except KeyboardInterrupt:
        # Raised again outside this block: the first one's traceback, which a notebook keeps, would
        # keep the data workers running too.
        interrupted = True
    if interrupted:
        training, saved = state.training, state.saved
        cure = (f"step {saved} is saved: train again, not fresh, to go on from there"
                if saved else "nothing was saved yet")  # fmt: skip
        raise KeyboardInterrupt(f"stopped at step {training.step} of {training.steps}; {cure}")
    if dist.is_initialized():
        atexit.register(dist.destroy_process_group)  # only then: after a failure it may hang


def _loop(state: TrainingState, photos, began, max_minutes, rank, world, workers) -> None:
    """Steps until the last one or until the time is over; saves states and log rows on the way.

    workers: processes that make data; None: they are made on the device.
    """
    training = state.training
    batch, device = training.profile.batch, training.device
    seed, relative = training.config["seed"], training.net.model.relative
    schemes = training.config["schemes"]
    size = training.profile.patch
    if workers is None:
        patches = DevicePatches(photos, size, batch, seed, relative, schemes, device)
        stream = (patches[number] for number in range(training.step, training.steps))
    else:
        numbers = _sample_numbers(training.step, training.steps, batch, rank, world)
        patches = Patches(photos, size, seed, relative, schemes)
        stream = batches(patches, numbers, batch // world, workers)
    graphed = device.type == "cuda" and world == 1
    update = GraphedUpdate(training) if graphed else training.update
    meter, saved, started = Meter(training.step, batch), time.monotonic(), time.monotonic()
    spent, told = training.seconds, started
    title = f"{training.profile.name} {training.net.model.name}"
    terminal = sys.stderr.isatty()  # elsewhere (a notebook, a file) a bar would pile up
    training.net.train()
    with tqdm(total=training.steps, initial=training.step, desc=title, file=sys.stderr,
              mininterval=1, disable=rank > 0 or not terminal) as bar:  # fmt: skip
        for degraded, wanted, t in stream:
            meter.add(*update(*to_device(degraded, wanted, t, device)))
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
                state.save()
                saved = time.monotonic()
            bar.set_postfix(L=f"{means['L']:.2f}", psnr=f"{means['psnr']:.2f}", refresh=False)
            if rank == 0 and not terminal and (last or over or now - told > TELL_EVERY):
                say(f"{title}: step {training.step} of {training.steps}, {training.seconds:.0f} s, "
                    f"L {means['L']:.2f}, PSNR {means['psnr']:.2f} dB")  # fmt: skip
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

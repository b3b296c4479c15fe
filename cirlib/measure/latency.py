"""Table 1, latency: seconds for one imagery effect, averaged over M of them as in Eq. 4.

    seconds per effect = trunk / M + mean over the tasks of head_m

Every model gets the same treatment (the engine, same number format and threads), in rounds A B C
A B C, so that a busy or hot machine hits all alike. Tasks with the same architecture take the same
time, but for the first, which finds its memory cold: so two of each are timed. CResMD is also timed
as plain PyTorch would run it ("eager"), to show that the ratio is not won by a slow rival.

Latency hangs on the architecture, not on what weights say. ``published`` networks have random
weights and as many channels as the paper's FLOPs and shared layers leave (Table 3, 481 x 321),
the same share at every selection point of a part. Which channels is not published: here every point
keeps the same ones; ``scattered`` lets each point draw its own, the worst case for any runtime,
since then the residual stream keeps its full width. ``trained`` takes what is trained.
"""

import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cirlib import checkpoints
from cirlib.architecture import Architecture, full_architecture
from cirlib.base import memory
from cirlib.base.device import fast_dtype, format_name
from cirlib.base.files import UserError
from cirlib.base.process import told_by
from cirlib.cost import cost, split_flops
from cirlib.data import paper
from cirlib.data.limit import MAX_PIXELS
from cirlib.degradation import TASKS
from cirlib.engine.modulator import Modulator
from cirlib.networks import CResMD, selection_points
from cirlib.profiles import PROFILES

ARCHITECTURES = ("published", "scattered", "trained")
INPUT = {"seed": 0, "data": "random pixels"}  # of the image that is worked on, for provenance
PUBLISHED_SIZE = (481, 321)  # of the images of Table 3


class Untrained(nn.Module):
    """A super network with random weights and one given architecture for all tasks."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.net = CResMD(architecture.blocks, architecture.channels)
        self.given = architecture

    def architecture(self, task) -> Architecture:
        return self.given


def published(model: str, scattered: bool = False) -> Architecture:
    """An architecture with the shared layers and the FLOPs that Table 3 reports for a model.

    Raises UserError for a model that Table 3 does not have.
    """
    preset, three = PROFILES["paper"], paper.table("table3")
    B, C = preset.blocks, preset.channels
    if model == "cresmd":
        return full_architecture(B, C)
    if not (three["method"] == model).any():
        raise UserError(f"the paper has no FLOPs of {model}: there are cresmd, tsnet, ta-tsnet")
    one, many = (1e9 * paper.value(three, method=model, column="flops", effects=M) for M in (1, 27))
    N, shared, trunk = selection_points(B), 0, 0.0
    if model == "ta-tsnet":
        percent = paper.value(three, method=model, column="shared_layers")
        shared, trunk = round(N * percent / 100), (one - many) * 27 / 26
    head = many - trunk / 27  # R(f_s) of Eq. 4, as trunk is R(f_a)

    def build(keep_trunk: int, keep_head: int) -> Architecture:
        generator = np.random.default_rng(0)
        gates = np.zeros((N, C), bool)
        for n in range(N):
            order = generator.permutation(C) if scattered else np.arange(C)
            gates[n, order[: keep_trunk if n < shared else keep_head]] = True
        return Architecture(B, C, gates, np.arange(N) < shared)

    def flops(keep_trunk: int, keep_head: int) -> tuple[int, int]:
        return split_flops(build(keep_trunk, keep_head), PUBLISHED_SIZE)

    widths = range(1, C + 1)  # the trunk's FLOPs do not hang on the heads' width
    keep_trunk = min(widths, key=lambda width: abs(flops(width, 1)[0] - trunk))
    return build(keep_trunk, min(widths, key=lambda w: abs(flops(keep_trunk, w)[1] - head)))


def noise_image(size: tuple[int, int]) -> np.ndarray:
    """What is restored while it is timed: uint8 H x W x 3 of (width, height).

    Raises UserError for more pixels than an image file may have.
    """
    width, height = size
    if width * height > MAX_PIXELS:
        raise UserError(f"{width}x{height} is over {MAX_PIXELS // 1_000_000} megapixels: take less")
    return np.random.default_rng(INPUT["seed"]).integers(0, 256, (height, width, 3), np.uint8)


@dataclass
class Contestant:
    """Something to be timed: what an image costs once, and what each kind of effect costs."""

    model: str
    runtime: str
    dtype: torch.dtype
    once: Callable[[], object]
    heads: list[tuple[int, Callable[[], object]]]  # how many tasks, one of them run
    flops: float  # of an effect, the first convolution not counted


def kinds(modulator: Modulator, tasks: Sequence[tuple]) -> list[tuple[int, tuple]]:
    """How many of the tasks have the same channels, and one of them: what takes equally long."""
    same: dict[bytes, list] = {}
    for task in tasks:
        same.setdefault(modulator.plan(task).architecture.gates.tobytes(), []).append(task)
    return [(len(alike), alike[-1]) for alike in same.values()]


def contestant(net, model: str, image: np.ndarray, effects: int, dtype, device) -> Contestant:
    """A network in its fastest form."""
    modulator = Modulator(net, device, dtype)
    tasks = [tuple(map(float, TASKS[k % len(TASKS)])) for k in range(effects)]
    heads = [(n, lambda task=task: modulator.run(task)) for n, task in kinds(modulator, tasks)]
    size = image.shape[1], image.shape[0]
    flops = cost([modulator.plan(task).architecture for task in tasks], size).per_effect(effects)
    name = "oneDNN" if torch.device(device).type == "cpu" else "cuDNN"
    return Contestant(model, name, dtype, lambda: modulator.load(image), heads, flops)


def eager(net, model: str, image: np.ndarray, effects: int, dtype, device) -> Contestant:
    """The whole super network as PyTorch runs it without further ado, channels_last."""
    supernet = deepcopy(net.net).to(device, dtype, memory_format=torch.channels_last).eval()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)

    @torch.inference_mode()
    def effect() -> Tensor:
        x = pixels.to(dtype, memory_format=torch.channels_last) / 255
        y = supernet(x, torch.ones(1, 3, dtype=dtype, device=device))
        return y.mul(255).round().clamp(0, 255).to(torch.uint8).cpu()

    architecture = full_architecture(supernet.blocks, supernet.channels)
    flops = cost([architecture], (image.shape[1], image.shape[0])).per_effect(1)
    return Contestant(model, "eager", dtype, lambda: None, [(effects, effect)], flops)


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Time of one call, all work on the device included."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        function()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1e3
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def race(contestants: Sequence[Contestant], rounds: int, device: torch.device) -> np.ndarray:
    """Seconds of each contestant in each round for an image (once) and for an effect (mean head).

    contestants x rounds x 2, after one round to warm up. Of n tasks that are alike two are timed,
    and the second counts for all but the first.
    """
    times = np.zeros((len(contestants), rounds + 1, 2))
    for k in range(rounds + 1):
        for c, runner in enumerate(contestants):
            once, taken = seconds(runner.once, device), 0.0
            for n, head in runner.heads:
                taken += seconds(head, device)
                if n > 1 and k > 0:
                    taken += (n - 1) * seconds(head, device)
            times[c, k] = once, taken / sum(n for n, _ in runner.heads)
    return times[:, 1:]


def matmul_ceiling(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """FLOP/s of a large matrix product, a yardstick (packed convolutions pass it).

    The best of ten after one to warm up, or of as many as two seconds hold.
    """
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    torch.mm(a, b)
    times: list[float] = []
    while len(times) < 10 and sum(times) < 2:
        times.append(seconds(lambda: torch.mm(a, b), device))
    return 2 * size**3 / min(times)


def use_threads(threads: int) -> None:
    """Run torch on so many threads, on as many cores and no others.

    Raises UserError where there are fewer cores.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads > len(cores):
            raise UserError(f"{threads} threads on {len(cores)} cores: ask for fewer")
        os.sched_setaffinity(0, cores[:threads])
    torch.set_num_threads(threads)


def bench(
    size: tuple[int, int],
    models: Sequence[str],
    effects: int = 27,
    architecture: str = "published",
    profile: str = "compact",
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    rounds: int = 5,
) -> list[dict]:
    """Time models side by side on an image of (width, height); one dict a model.

    profile: of the trained models. Keys: those of :func:`pooled`, and ``times``, which it pools.

    Raises UserError for a model that is not trained, or not published, and for too large an image.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(f"no architecture {architecture!r}: {', '.join(ARCHITECTURES)}")
    memory.keep_large_blocks()  # as the command line and the demo do
    device = torch.device(device)
    dtype = dtype or fast_dtype(device)
    image = noise_image(size)
    ceiling = matmul_ceiling(dtype, device)
    contestants = []
    for model in models:
        if architecture == "trained":
            net = checkpoints.load(model, profile)
        else:
            net = Untrained(published(model, architecture == "scattered"))
        contestants.append(contestant(net, model, image, effects, dtype, device))
        if model == "cresmd":
            contestants.append(eager(net, model, image, effects, dtype, device))
    rows = [
        {"model": runner.model, "dtype": format_name(runner.dtype), "runtime": runner.runtime,
         "gflops_per_effect": runner.flops / 1e9, "ceiling_gflops": ceiling / 1e9,
         "times": times.tolist()}
        for runner, times in zip(contestants, race(contestants, rounds, device), strict=True)
    ]  # fmt: skip
    pairs = zip(rows, pooled([rows], effects), strict=True)
    return [row | {"times": raw["times"]} for raw, row in pairs]


def pooled(runs: Sequence[Sequence[dict]], effects: int) -> list[dict]:
    """Median and range over all rounds of all runs of a race, a row a model.

    runs: of bench(), with the same models; ``times`` of a row are seconds, rounds x 2 as race()
    has them. Keys: model, dtype, runtime, gflops_per_effect, times_faster (than CResMD by the same
    route, of the medians; None without it), seconds_per_effect (median), seconds_low, seconds_high
    (of the fastest and the slowest round), rounds (of all runs), runs, seconds_trunk, seconds_head
    (medians), share_of_ceiling (of what a large matrix product reaches), ceiling_gflops (a second).
    """
    rows = []
    for same in zip(*runs, strict=True):
        times = np.array([pair for row in same for pair in row["times"]])
        per_effect = times[:, 0] / effects + times[:, 1]
        median, first = float(np.median(per_effect)), same[0]
        ceiling = float(np.median([row["ceiling_gflops"] for row in same]))
        rows.append({key: first[key] for key in ("model", "dtype", "runtime", "gflops_per_effect")})
        rows[-1] |= {
            "times_faster": None,
            "seconds_per_effect": median,
            "seconds_low": float(per_effect.min()),
            "seconds_high": float(per_effect.max()),
            "rounds": len(times),
            "runs": len(runs),
            "seconds_trunk": float(np.median(times[:, 0])),
            "seconds_head": float(np.median(times[:, 1])),
            "share_of_ceiling": first["gflops_per_effect"] / median / ceiling,
            "ceiling_gflops": ceiling,
        }
    for full in rows:
        if full["model"] == "cresmd" and full["runtime"] != "eager":
            for row in rows:
                row["times_faster"] = full["seconds_per_effect"] / row["seconds_per_effect"]
    return rows


def measure(
    sizes: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    architecture: str,
    runs: int = 1,
    **options,
) -> pd.DataFrame:
    """Run ``bench latency`` for each size and number of threads, each run a process of its own.

    options: further ones of the command (effects, models, profile). Returns the rows of pooled(),
    with architecture, size, threads, effects and device before, and date, commit and torch after
    them.

    Raises UserError when a run fails.
    """
    rows = []
    for size, number in product(sizes, threads):
        flags = {"size": size, "threads": number, "rounds": rounds, "architecture": architecture}
        told = [_bench(flags | options) for _ in range(runs)]
        facts = told[-1]
        before = {key: facts[key] for key in ("architecture", "size", "threads", "effects",
                                              "device")}  # fmt: skip
        after = {key: facts[key] for key in ("date", "commit", "torch")}
        pool = pooled([run["results"] for run in told], facts["effects"])
        rows += [before | row | after for row in pool]
    return pd.DataFrame(rows)


def _bench(flags: dict[str, object]) -> dict:
    """What ``bench latency`` with these options prints."""
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return told_by("cirlib", "bench", "latency", "--json", *words)

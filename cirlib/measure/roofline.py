"""What each convolution reaches by itself, and how fast memory is copied."""

from collections import Counter
from functools import partial

import numpy as np
import torch

from cirlib import compact
from cirlib.architecture import Architecture
from cirlib.base import memory
from cirlib.engine.convolution import FusedConv, pixels_together, together
from cirlib.measure.latency import seconds


def copy_ceiling(device: torch.device, megabytes: int = 256) -> float:
    """Bytes a second, read and written, of copying a block too large for the cache; best of ten."""
    a, b = (torch.ones(megabytes * 2**20, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * a.nbytes / min(seconds(lambda: b.copy_(a), device) for _ in range(10))


def layer_rates(
    architecture: Architecture,
    size: tuple[int, int],
    dtype: torch.dtype,
    repeats: int = 9,
) -> list[dict]:
    """What each kind of convolution of an architecture reaches by itself: a row a kind.

    The convolutions are the engine's, on an image of (width, height) on the CPU, each alone on the
    whole image. In the engine the tail runs in strips that stay in the cache. Keys: part (trunk or
    head), layer, inputs, outputs, count, milliseconds, gflops (a second, of the selected
    channels), gbytes (a second, that it moves at least: ``conv2`` reads what it adds to).
    """
    plan = compact.plan(architecture)
    chain = zip(plan.architecture.chain, plan.architecture.widths, strict=True)
    kinds = Counter(
        ("trunk" if k < plan.cut else "head", conv.kind, ins, outs, conv.half)
        for k, (conv, (ins, outs)) in enumerate(chain)
        if ins and outs and conv.kind != "first"
    )
    memory.keep_large_blocks()  # as in latency.bench
    rows = []
    for (part, kind, ins, outs, half), count in kinds.items():
        W, H = ((n + 1) // 2 if half else n for n in size)
        x, y = (
            torch.rand(1, n, H, W).to(dtype, memory_format=torch.channels_last) for n in (ins, outs)
        )
        weight, bias = torch.rand(outs, ins, 3, 3), torch.rand(outs)
        if kind == "last" and W % 2 == 0:
            conv = together(weight, bias, pixels_together(W), dtype)
        else:
            conv = FusedConv(weight, bias, dtype)
        run = partial(conv.plus, x, y, True) if kind == "conv2" else partial(conv, x)
        run()
        with torch.inference_mode():
            times = [seconds(run, torch.device("cpu")) for _ in range(repeats)]
        taken = float(np.median(times))
        rows.append({
            "part": part, "layer": kind, "inputs": ins, "outputs": outs, "count": count,
            "milliseconds": 1e3 * taken, "gflops": 18 * ins * outs * H * W / taken / 1e9,
            "gbytes": (ins + outs * (1 + (kind == "conv2"))) * H * W * dtype.itemsize / taken / 1e9,
        })  # fmt: skip
    return rows
